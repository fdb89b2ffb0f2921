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
    /// Of each connection. Pings, and how long a client may be silent, are the application server's: their times count for nothing here.
    pub connection: ConnectionOptions,
    /// Bytes of what its own server has sent to one client that may wait: answers, streams. More ends the client. What others send has the
    /// limit of [`connection`](Self::connection). Default 16 MiB, the largest message that the cloud passes on.
    #[serde(deserialize_with = "units::size::deserialize")]
    pub relay_limit: usize,
    /// Of the HTTP side. Stateful reconnect is offered where the application server allows it, whatever it says there.
    pub transport: TransportOptions,
    /// How long a client waits for an application server to connect, while there is none. Default none: it is told at once.
    #[serde(deserialize_with = "units::duration_or_zero::deserialize")]
    pub server_grace: Duration,
    /// How long a client over long polling may have no poll here, where its token does not say it. Default 5 s.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub poll_interval: Duration,
    /// Takes a request's `X-Forwarded-For` at its word. Default off: for a service behind a proxy that sets it.
    pub trusts_forwarded: bool,
    /// How many clients may be connected to one hub; more are answered 429. Default no limit.
    pub max_connections: Option<usize>,
    /// The pages that may use it. Default all of them, as a token is needed anyway.
    pub origins: Origins,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connection: ConnectionOptions {
                maximum_receive_message_size: Some(1024 * 1024),
                ..ConnectionOptions::default()
            },
            relay_limit: 16 * 1024 * 1024,
            transport: TransportOptions::default(),
            server_grace: Duration::ZERO,
            poll_interval: Duration::from_secs(5),
            trusts_forwarded: false,
            max_connections: None,
            origins: Origins::Any,
        }
    }
}

impl ClientOptions {
    /// What counts of [`connection`](Self::connection).
    pub(super) fn connection(&self) -> ConnectionOptions {
        let never = Duration::MAX;
        ConnectionOptions {
            keep_alive_interval: never,
            client_timeout: never,
            // only tokens that say so bring a time along
            close_on_authentication_expiration: true,
            ..self.connection.clone()
        }
    }
}
