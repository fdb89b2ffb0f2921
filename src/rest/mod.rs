//! The data-plane REST API, on the lifetimes of hubs: how programs that have no connection send, manage groups, close and ask.
//!
//! A request goes down a line: its path is cut and decoded ([`request`]), a route is found ([`routes`]), the token is checked against the
//! very path ([`auth`]), names and body are read ([`names`], [`payload`]), and the operation is a few lines on a
//! [`Lifetime`](crate::lifetime::Lifetime) ([`operations`]). The description that is served ([`openapi`]) is made of the same table of routes.

mod auth;
mod cors;
mod errors;
mod execute;
mod filter;
mod invoke;
mod listing;
mod names;
mod openapi;
mod operations;
mod options;
mod payload;
mod request;
mod routes;
mod server;

#[cfg_attr(
    not(feature = "server"),
    allow(unused_imports, reason = "what composes the server implements and sets them")
)]
pub(crate) use options::{Hook, Hubs, RestOptions, ServerSeen};
#[cfg_attr(not(feature = "server"), allow(unused_imports, reason = "what composes the server mounts it"))]
pub(crate) use server::routes;
