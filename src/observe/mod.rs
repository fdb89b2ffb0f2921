//! What operators see: counters that are plain atomics, one set a hub, nothing global; and, for the program, health, log, and the text of
//! the counters.

#[cfg(feature = "server")]
mod health;
#[cfg(feature = "server")]
mod log;
mod metrics;
#[cfg(feature = "server")]
mod prometheus;

#[cfg(feature = "server")]
pub(crate) use health::{Health, Phase};
#[cfg(feature = "server")]
pub(crate) use log::log;
pub(crate) use metrics::HubMetrics;
pub use metrics::HubStats;
#[cfg(feature = "service")]
pub(crate) use metrics::ServerMetrics;
#[cfg(feature = "server")]
pub(crate) use prometheus::{Counted, Exposition};
