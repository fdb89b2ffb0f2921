use crate::ConnectionOptions;
use crate::transport::{Origins, TransportOptions};
use crate::units;
use serde::Deserialize;
use std::time::Duration;

/// Limits and times of the service's face towards clients.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ClientOptions {
    /// Of each connection. Pings, how long a client may be silent, and when it is not read are the application server's: the times for that
    /// and [`reply_limit`](ConnectionOptions::reply_limit) count for nothing here. Bytes of one message from a client: 16 MiB by default, the
    /// largest that the cloud passes on, of which a POST brings no more than [`transport`](Self::transport) lets it.
    #[serde(skip)]
    pub connection: ConnectionOptions,
    /// Bytes of what its own server has sent to one client that may wait: answers, streams. More ends the client. What others send has the
    /// limit of [`connection`](Self::connection). Default 16 MiB, the largest message that the cloud passes on.
    #[serde(deserialize_with = "units::size::deserialize")]
    pub relay_limit: usize,
    /// Bytes of the same from which on the application server is asked to pause what it sends to this client, until the client has taken
    /// half of them. Servers with libraries that do not know the request go on, up to [`relay_limit`](Self::relay_limit). Default 1 MiB,
    /// never more than half of that limit, and over long polling never more than 500 KB.
    #[serde(deserialize_with = "units::size::deserialize")]
    pub pause_above: usize,
    /// Of the HTTP side. Stateful reconnect is offered where the application server allows it, whatever it says there.
    pub transport: TransportOptions,
    /// How long a negotiated connection waits for its transport, whatever [`transport`](Self::transport) says. Default 5 s.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub negotiate_timeout: Duration,
    /// How long a client waits for an application server to connect, while there is none. Default none: it is told at once. While there are
    /// some and all have too much to read it waits for 15 s, or as long as this if that is longer.
    #[serde(deserialize_with = "units::duration_or_zero::deserialize")]
    pub server_grace: Duration,
    /// How long a client over long polling may have no poll here, where its token does not say it. Default 5 s.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub poll_interval: Duration,
    /// Takes a request's `X-Forwarded-For` at its word. Default off: for a service behind a proxy that sets it.
    pub trusts_forwarded: bool,
    /// How many clients may be connected to one hub, those counted whose handshake is not over; more are answered 429. Default no limit but
    /// that of [`transport`](Self::transport).
    pub max_connections: Option<usize>,
    /// The pages that may use it. Default all of them, as a token is needed anyway.
    pub origins: Origins,
}

impl Default for ClientOptions {
    fn default() -> Self {
        let never = Duration::MAX;
        let connection = ConnectionOptions {
            maximum_receive_message_size: Some(16 * 1024 * 1024),
            reply_limit: usize::MAX,
            keep_alive_interval: never,
            client_timeout: never,
            close_on_authentication_expiration: true,
            ..ConnectionOptions::default()
        };
        Self {
            connection,
            relay_limit: 16 * 1024 * 1024,
            pause_above: 1024 * 1024,
            transport: TransportOptions::default(),
            negotiate_timeout: Duration::from_secs(5),
            server_grace: Duration::ZERO,
            poll_interval: Duration::from_secs(5),
            trusts_forwarded: false,
            max_connections: None,
            origins: Origins::Any,
        }
    }
}
