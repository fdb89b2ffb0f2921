module hubwire.test/interop

go 1.23.0

require github.com/philippseith/signalr v0.7.0
