//! Bytes to messages and back. Pure: no runtime, no clock, no logging of content.

pub(crate) mod hub;
pub(crate) mod negotiate;
#[cfg(feature = "service")]
#[allow(dead_code, unused_imports, reason = "the faces that use it are being built")]
pub(crate) mod service;
pub(crate) mod sse;
pub(crate) mod websocket;

pub use hub::{Binary, Protocol, Value, ValueError};
