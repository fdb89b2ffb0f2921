use super::{Identity, Transport};
use std::net::IpAddr;

/// What is kept of the request that opened a connection. Everything is copied: one kept header value would pin the whole read buffer
/// of the HTTP stack (10 KB a connection).
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) identity: Identity,
    pub(crate) transport: Transport,
    /// Where the TCP connection comes from, if the server says so in an axum `ConnectInfo`: the client, or a proxy.
    pub(crate) address: Option<IpAddr>,
    /// The query as the client wrote it, without the connection token and the access token.
    pub(crate) query: Box<str>,
}
