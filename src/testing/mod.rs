//! For tests, ours and yours: what a program in production has no use for. Feature `testing`.

mod websocket_echo;

pub use websocket_echo::websocket_echo;
