//! Bytes to messages and back. Pure: no runtime, no clock, no logging of content.

pub(crate) mod hub;
pub(crate) mod negotiate;
#[cfg(feature = "service")]
pub(crate) mod service;
pub(crate) mod sse;
pub(crate) mod websocket;

pub use hub::{Binary, Protocol, Value, ValueError};
