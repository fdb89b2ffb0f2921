//! Configuration: as written, then checked, so that it can no longer be wrong.
//!
//! One TOML file, variables `HUBWIRE_SECTION__KEY`, flags; flags over variables over the file. [`raw`] is what may be written, [`checked`]
//! what is left when nothing in it can fail any more.

mod checked;
mod error;
mod hub;
mod memory;
mod raw;
mod secret;
mod sources;
#[cfg(test)]
mod tests;
mod tls;

pub(crate) use checked::{Config, reachable};
pub(crate) use error::ConfigError;
pub(crate) use hub::Hub;
pub(crate) use memory::Memory;
pub(crate) use raw::Format;
pub(crate) use secret::Secret;
pub(crate) use sources::{File, Setting, Sources};
pub(crate) use tls::Tls;

/// Every key with its default, explained.
pub(crate) const DEFAULT: &str = include_str!("default.toml");
