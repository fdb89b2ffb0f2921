//! What takes the place of Azure SignalR Service: application servers connect on one face, their clients on the other.

#![allow(unused_imports, reason = "the faces that use it are being built")]

mod client;
mod clients;
mod routing;
mod server_connection;

pub(crate) use client::{ClientFace, ClientFaces, ClientOptions, routes as client_routes};
pub(crate) use clients::{Client, Credentials, Refreshed};
pub(crate) use routing::{Servers, Sticky};
pub(crate) use server_connection::{SendRefused, ServerFacts, ServerGone, ServerKind, ServerLink};
