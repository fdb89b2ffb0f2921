//! What takes the place of Azure SignalR Service: application servers connect on one face, their clients on the other.

mod audience;
mod client;
mod client_calls;
mod client_results;
mod clients;
mod hub;
mod operations;
mod options;
mod pings;
mod relayed;
mod routing;
mod server_connection;
mod server_driver;
mod server_endpoint;
#[allow(clippy::module_inception, reason = "the type that the room is named for")]
mod service;

pub(crate) use audience::{Entrance, hub_name};
pub use client::ClientOptions;
pub(crate) use client::{ClientFace, client_routes};
pub(crate) use client_results::ClientResults;
pub(crate) use clients::{Client, Credentials, Refreshed};
pub(crate) use hub::ServiceHub;
pub use options::{ServiceMode, ServiceOptions};
pub(crate) use routing::{Servers, Sticky};
pub(crate) use server_connection::{SendRefused, ServerFacts, ServerGone, ServerKind, ServerLink};
pub(crate) use service::NoHub;
pub use service::Service;
