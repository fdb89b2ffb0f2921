use crate::ConnectionOptions;
use crate::transport::{Origins, TransportOptions};
use std::time::Duration;

/// Limits and times of the service's face towards clients.
#[derive(Debug, Clone)]
pub(crate) struct ClientOptions {
    /// Of each connection. Pings, and how long a client may be silent, are the application server's: their times count for nothing here.
    pub(crate) connection: ConnectionOptions,
    pub(crate) transport: TransportOptions,
    /// How long a client waits for an application server to connect, while there is none. Default none: it is told at once.
    pub(crate) server_grace: Duration,
    /// How long a client over long polling may have no poll here, where its token does not say it. Default 5 s.
    pub(crate) poll_interval: Duration,
    /// By how much clocks may differ: a token counts as long after `exp`, and before `nbf`. Default 5 min.
    pub(crate) skew: Duration,
    /// Takes a request's `X-Forwarded-For` at its word. Default off: for a service behind a proxy that sets it.
    pub(crate) trusts_forwarded: bool,
    /// How many clients may be connected to one hub; more are answered 429. Default no limit.
    pub(crate) max_connections: Option<usize>,
    /// The pages that may use it. Default all of them, as a token is needed anyway.
    pub(crate) origins: Origins,
    /// Scheme and host that a token's audience has to begin with, as `https://chat.example`. Default none: path and hub are looked at.
    pub(crate) audiences: Vec<String>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        let never = Duration::MAX;
        let mut connection = ConnectionOptions::default();
        connection.maximum_receive_message_size = Some(1024 * 1024);
        connection.keep_alive_interval = never;
        connection.client_timeout = never;
        connection.close_on_authentication_expiration = true;
        Self {
            connection,
            transport: TransportOptions::default(),
            server_grace: Duration::ZERO,
            poll_interval: Duration::from_secs(5),
            skew: Duration::from_secs(5 * 60),
            trusts_forwarded: false,
            max_connections: None,
            origins: Origins::Any,
            audiences: Vec::new(),
        }
    }
}
