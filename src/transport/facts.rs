use super::{Identity, Transport};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

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
    /// What differs for this connection from what the options say.
    pub(crate) terms: Option<Arc<Terms>>,
}

/// What a request may have in its extensions: what its connection is granted, where that is not what the options say.
#[derive(Clone, Default)]
#[cfg_attr(not(feature = "service"), expect(dead_code, reason = "a hub treats all its clients alike"))]
pub(crate) struct Terms {
    /// Which of the transports it may use.
    pub(crate) transports: Option<Vec<Transport>>,
    /// It may be resumed, if it asks for that.
    pub(crate) stateful_reconnect: bool,
    pub(crate) handshake_timeout: Option<Duration>,
    pub(crate) disconnect_timeout: Option<Duration>,
    /// Errors are told to it in full.
    pub(crate) detailed_errors: bool,
    /// It is never told that it may connect again.
    pub(crate) is_final: bool,
    /// What the tenant keeps of the request, in a form of its own.
    pub(crate) kept: Box<str>,
}

/// Without what is kept of the request: cookies may be in it.
impl fmt::Debug for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terms")
            .field("transports", &self.transports)
            .field("stateful_reconnect", &self.stateful_reconnect)
            .field("detailed_errors", &self.detailed_errors)
            .finish_non_exhaustive()
    }
}
