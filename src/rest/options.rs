use crate::lifetime::Lifetime;
use crate::transport::Origins;
use crate::units;
use serde::Deserialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The hubs that the API is about, by their internal names: in lower case, `application_hub` for a hub of an application.
pub(crate) trait Hubs: Send + Sync + 'static {
    /// Looks a hub up. `None`: it is not there, so it has no connection; what is sent to it reaches nobody, which is no error.
    fn hub(&self, name: &str) -> Option<Arc<Lifetime>>;

    /// Finds the hub that a user's membership is to be remembered in, before anybody has connected to it. Where the set of hubs is fixed
    /// that is the same as looking it up.
    fn hub_to_keep(&self, name: &str) -> Option<Arc<Lifetime>> {
        self.hub(name)
    }

    /// The application servers of a hub, in the order of their ids. Only hubs of the service have any.
    fn servers(&self, _hub: &str) -> Vec<ServerSeen> {
        Vec::new()
    }

    /// The names of all hubs there are, in any order.
    fn names(&self) -> Vec<String>;

    /// The audience of a token with which a client connects to a hub. `base` is the address for clients and ends in a slash.
    fn client_audience(&self, base: &str, name: &str) -> String {
        format!("{base}client/?hub={name}")
    }
}

/// An application server, as whoever runs the service sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerSeen {
    pub(crate) id: String,
    pub(crate) connections: usize,
    pub(crate) clients: usize,
    /// It has announced that it goes away.
    pub(crate) leaving: bool,
}

/// Limits and habits of the REST API.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub(crate) struct RestOptions {
    /// Bytes of a request's body; more is answered 413. Default 1 MiB. A caller with a key can make the server hold that much for
    /// each of [`max_parallel_bodies`](Self::max_parallel_bodies).
    #[serde(deserialize_with = "units::size::deserialize")]
    pub(crate) body_limit: usize,
    /// How long a body may take to arrive; then the answer is 408. Default 30 s.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub(crate) body_timeout: Duration,
    /// Requests whose body is held at once; one more is answered 429. Default 256, which is 256 MiB of bodies at most.
    pub(crate) max_parallel_bodies: usize,
    /// Questions to clients that wait for their answers at once, each for [`invoke_timeout`](Self::invoke_timeout) at most; one more is
    /// answered 429. Default 1,024. What a client answers is held until it is passed on: up to the largest message of its hub each.
    pub(crate) max_parallel_invokes: usize,
    /// How long a client that is asked may take; then the answer is 504. Default 100 s, which is how long the libraries wait.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub(crate) invoke_timeout: Duration,
    /// By how much clocks may differ when a token's times are checked. Default 5 minutes.
    #[serde(deserialize_with = "units::duration_or_zero::deserialize")]
    pub(crate) clock_skew: Duration,
    /// Pages of which origins may call the API. Default none.
    pub(crate) allowed_origins: Origins,
    /// Where callers and clients reach this server, if that is not what the request's `Host` says: `https://host/` or with a path that
    /// ends in a slash. Links to further pages, the audience of client tokens, and the path that a token is for are made with it.
    #[serde(skip)]
    pub(crate) public_url: Option<String>,
    /// The server speaks TLS itself: a request over HTTP/1.1 does not say so.
    #[serde(skip)]
    pub(crate) https: bool,
    /// Take scheme and host from `X-Forwarded-Proto` and `X-Forwarded-Host`. Default no: anybody can send them, only a proxy that sets
    /// both makes them true.
    pub(crate) trust_forwarded: bool,
    /// Hosts that the audience of a token may name. Default any: proxies and libraries write what they like there, and the path is what
    /// a token is good for.
    pub(crate) audience_hosts: Vec<String>,
    /// Refuse (400) a date that is no known version. Default no.
    pub(crate) strict_version: bool,
    /// What `:drain` calls. Without it there is no such route.
    #[serde(skip)]
    pub(crate) drain: Option<Hook<()>>,
    /// Whether health is answered 200; without it, always.
    #[serde(skip)]
    pub(crate) ready: Option<Hook<bool>>,
}

/// A function that the API calls.
#[derive(Clone)]
pub(crate) struct Hook<T>(Arc<dyn Fn() -> T + Send + Sync>);

impl<T> Hook<T> {
    #[cfg_attr(not(feature = "server"), allow(dead_code, reason = "for what composes the server"))]
    pub(crate) fn new(f: impl Fn() -> T + Send + Sync + 'static) -> Self {
        Self(Arc::new(f))
    }

    pub(super) fn call(&self) -> T {
        (self.0)()
    }
}

impl<T> fmt::Debug for Hook<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hook")
    }
}

impl Default for RestOptions {
    fn default() -> Self {
        Self {
            body_limit: 1024 * 1024,
            body_timeout: Duration::from_secs(30),
            max_parallel_bodies: 256,
            max_parallel_invokes: 1024,
            invoke_timeout: Duration::from_secs(100),
            clock_skew: Duration::from_secs(5 * 60),
            allowed_origins: Origins::List(Vec::new()),
            public_url: None,
            https: false,
            trust_forwarded: false,
            audience_hosts: Vec::new(),
            strict_version: false,
            drain: None,
            ready: None,
        }
    }
}
