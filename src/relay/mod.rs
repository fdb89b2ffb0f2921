//! The hub of the standalone server, which needs no code: written with the public API.
