//! The page of the standalone server, and its API.

pub(crate) mod demo;
