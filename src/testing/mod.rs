//! For tests, ours and yours: what a program in production has no use for. Feature `testing`.

#[cfg(feature = "service")]
mod rest;
#[cfg(feature = "service")]
mod service;
mod upgrades;
mod websocket_echo;

#[cfg(feature = "service")]
#[doc(hidden)]
pub use rest::RestRoutes;
#[cfg(feature = "service")]
pub use service::service;
pub use upgrades::{Upgrades, upgrades};
pub use websocket_echo::websocket_echo;
