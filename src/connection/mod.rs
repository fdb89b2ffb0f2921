//! One client connection: handshake, keep-alive, timeouts, what waits on the way out, why it ended.

mod close;
mod credential;
mod deadlines;
mod driver;
mod endpoint;
mod http_driver;
mod lent;
mod link;
mod machine;
mod options;
mod outbound;
mod receive;
#[cfg(feature = "service")]
mod relayed;
mod resumption;
mod session;
mod sweep;

pub(crate) use close::CLOSED;
pub use close::CloseReason;
use credential::Credential;
pub(crate) use endpoint::Endpoint;
use endpoint::Shared;
pub(crate) use link::Link;
pub use options::{ConnectionOptions, SlowReceiver};
pub(crate) use outbound::Batch;
pub(crate) use receive::{Receive, Sort, Sorted, Tenant, Turn};
use sweep::Sweep;
