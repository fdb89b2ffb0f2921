//! The page of the standalone server, and its API.

#[allow(dead_code, reason = "the composition of the preset mounts it")]
pub(crate) mod demo;
