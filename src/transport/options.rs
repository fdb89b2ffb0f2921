use super::{AuthenticationRefresh, Origins, Transport};
use crate::units;
use serde::Deserialize;
use std::time::Duration;

/// What the HTTP side of a hub offers.
///
/// Read from a configuration, a duration is written `"30s"`, a size `"64KiB"`, and what is not named has its default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TransportOptions {
    /// The transports that clients may use; they try them in the order of [`Transport`]. Default: all three.
    pub transports: Vec<Transport>,
    /// Connections of the hub at the same time, whatever carries them; more are answered 429. Default 65,536. A client over long polling
    /// need not have a TCP connection, so [`ServeOptions::max_connections`](crate::ServeOptions::max_connections) does not count it.
    pub max_connections: usize,
    /// The lowest version of the negotiate protocol (0 or 1) that is served. Default 0.
    pub minimum_negotiate_version: i32,
    /// Lets clients that ask for it resume a WebSocket connection on a new socket, with no message lost or doubled ("stateful reconnect").
    /// Default off: each such connection keeps what its client has not acknowledged.
    pub stateful_reconnect: bool,
    /// How long a negotiated connection waits for its transport. Default 15 s.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub negotiate_timeout: Duration,
    /// How many connections may have negotiated and not come yet, at some 150 bytes each and what is kept of who negotiated; more are
    /// answered 503. Default 65,536.
    pub max_negotiated: usize,
    /// Bytes of the kernel's send buffer of a WebSocket, which the kernel doubles. Default 64 KiB; `None` leaves it to the kernel, which
    /// then takes in 4 MB for a client that has stopped reading, before the outbound limit counts the first byte.
    #[serde(deserialize_with = "units::size_or_none::deserialize")]
    pub send_buffer: Option<usize>,
    /// The pages that may open a WebSocket; others are answered 403. Default every origin. A hub that knows its users by a cookie should name
    /// its origins, since browsers let any page open WebSockets, cookies and all.
    pub allowed_origins: Origins,
    /// Lets clients renew the credential of a connection. Default `None`: the route `refresh` does not exist.
    #[serde(skip)]
    pub authentication_refresh: Option<AuthenticationRefresh>,
    /// How long a poll waits for messages until it is answered without any, and the client polls again. Default 90 s; clients give up
    /// after 100. What may wait for a poll is bounded by the limits of [`ConnectionOptions`](crate::ConnectionOptions).
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub poll_timeout: Duration,
    /// Bytes of one POST; more are answered 413. Default 1 MiB. A body is kept until it is whole, so a client can make the server hold
    /// this much and [`inbox_limit`](Self::inbox_limit) for each connection, within [`post_budget`](Self::post_budget).
    #[serde(deserialize_with = "units::size::deserialize")]
    pub max_post_bytes: usize,
    /// From the turn of a POST to the end of its body; longer is answered 408. Default 30 s. POSTs of a connection take turns, so one
    /// that a client does not finish keeps its own others waiting for so long.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub post_timeout: Duration,
    /// Bytes that a client has posted and the hub has not read from which on a POST is not answered, until the hub has read half of
    /// them; each body counts as 128 more. Default 64 KiB.
    #[serde(deserialize_with = "units::size::deserialize")]
    pub inbox_limit: usize,
    /// Bytes of POST bodies that are held at a time over all connections, each with 128 more; one that would exceed them is answered 503.
    /// Bodies of up to 4 KiB count only while their connection has no transport yet. Default 128 MiB.
    #[serde(deserialize_with = "units::size::deserialize")]
    pub post_budget: usize,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            transports: vec![Transport::WebSockets, Transport::ServerSentEvents, Transport::LongPolling],
            max_connections: 65_536,
            minimum_negotiate_version: 0,
            stateful_reconnect: false,
            negotiate_timeout: Duration::from_secs(15),
            max_negotiated: 65_536,
            send_buffer: Some(64 * 1024),
            allowed_origins: Origins::Any,
            authentication_refresh: None,
            poll_timeout: Duration::from_secs(90),
            max_post_bytes: 1024 * 1024,
            post_timeout: Duration::from_secs(30),
            inbox_limit: 64 * 1024,
            post_budget: 128 * 1024 * 1024,
        }
    }
}
