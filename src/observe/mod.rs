//! What operators see: counters that are plain atomics, one set a hub, nothing global.

mod metrics;

pub(crate) use metrics::HubMetrics;
pub use metrics::HubStats;
#[cfg(feature = "service")]
pub(crate) use metrics::ServerMetrics;
