//! The pages of the standalone server: that of the development preset, and that of the admin address.

mod assets;
mod demo;
mod overview;

pub(crate) use demo::{DemoOptions, demo_routes};
pub(crate) use overview::Overview;
