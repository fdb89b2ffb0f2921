//! For tests, ours and yours: what a program in production has no use for. Feature `testing`.

mod upgrades;
mod websocket_echo;

pub use upgrades::{Upgrades, upgrades};
pub use websocket_echo::websocket_echo;
