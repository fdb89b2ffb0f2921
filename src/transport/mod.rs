//! HTTP to a duplex of bytes: the accept loop, negotiate, WebSocket, server-sent events, long polling. Sees no hub message.

mod channel;
mod cors;
mod duplex;
mod facts;
mod guard;
mod id;
mod identity;
mod long_polling;
mod options;
mod origins;
mod policy;
mod post;
mod query;
mod refresh;
mod registry;
mod routes;
mod serve;
mod sse;
mod websocket;

pub(crate) use channel::{HttpChannel, Presence, Source};
pub use cors::{Cors, CorsFuture, CorsService};
pub(crate) use duplex::{Duplex, Stream};
pub(crate) use facts::{Facts, Terms};
#[cfg(feature = "auth")]
pub(crate) use guard::unauthorized;
pub(crate) use id::{ConnectionId, ConnectionToken};
pub use identity::Identity;
#[cfg(feature = "auth")]
pub(crate) use identity::ROLE;
pub(crate) use identity::unix_millis;
pub use options::TransportOptions;
pub use origins::Origins;
pub use policy::Policy;
pub(crate) use query::Query;
pub use refresh::{AuthenticationRefresh, RefreshRequest};
#[cfg(feature = "service")]
pub(crate) use registry::Renewal;
pub(crate) use registry::{Registration, Registry};
pub(crate) use routes::{Endpoints, routes};
#[cfg(feature = "service")]
pub(crate) use routes::{address, wanted_transport};
pub(crate) use serve::Seat;
#[cfg(feature = "server")]
pub(crate) use serve::{Secure, Securing, Served};
pub use serve::{Serve, ServeOptions, serve};
#[cfg(any(feature = "service", feature = "testing"))]
pub(crate) use websocket::{UpgradeRequest, upgrade};

use std::fmt;
use std::num::NonZeroU64;

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[non_exhaustive]
pub enum Transport {
    /// A WebSocket.
    WebSockets,
    /// Server-sent events one way, POST the other.
    ServerSentEvents,
    /// A waiting GET one way, POST the other.
    LongPolling,
}

impl Transport {
    /// Returns the name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSockets => "WebSockets",
            Self::ServerSentEvents => "ServerSentEvents",
            Self::LongPolling => "LongPolling",
        }
    }
}

/// What takes over a connection once its transport stands: the layer above.
pub(crate) trait Accept: Send + Sync + 'static {
    fn accept(&self, opening: Opening);
}

/// A connection that a token stands for, as the registry sees it.
pub(crate) trait Standing: fmt::Debug + Send + Sync {
    /// Its user has shown a new credential, which takes the place of the one in force.
    fn renew(&self, identity: Identity);
    /// The credential expires then, in milliseconds since 1970.
    fn expire(&self, at: Option<NonZeroU64>);
    /// Its client may not go on.
    fn refuse(&self);
}

/// A connection that may survive its socket: the layer above, as the transport sees it when the client is back.
pub(crate) trait Resume: Send + Sync + 'static {
    fn resumable(&self) -> Resumable;
    /// Goes on with a new socket; the old one, if it is thought alive, is dropped at once.
    fn resume(&self, duplex: Duplex, early: Box<[u8]>);
}

/// Whether a connection can go on with a new socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resumable {
    Yes,
    /// Its client did not shake hands so that it could.
    No,
    /// It is about to go.
    Ended,
}

/// A connection whose transport stands.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) id: ConnectionId,
    pub(crate) facts: Facts,
    pub(crate) duplex: Duplex,
    /// Bytes that came behind the request, in the same read.
    pub(crate) early: Box<[u8]>,
    /// Keeps the connection findable by its token; to be dropped when it has ended.
    pub(crate) registration: Option<Registration>,
}
