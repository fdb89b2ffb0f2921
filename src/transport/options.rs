use super::{AuthenticationRefresh, Origins, Transport};
use std::time::Duration;

/// What the HTTP side of a hub offers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TransportOptions {
    /// The transports that clients may use. Default: WebSockets.
    pub transports: Vec<Transport>,
    /// The lowest version of the negotiate protocol (0 or 1) that is served. Default 0.
    pub minimum_negotiate_version: i32,
    /// How long a negotiated connection waits for its transport. Default 15 s.
    pub negotiate_timeout: Duration,
    /// How many connections may have negotiated and not come yet, at some 150 bytes each; more are answered 503. Default 65,536.
    pub max_negotiated: usize,
    /// Bytes of the kernel's send buffer of a WebSocket, which the kernel doubles. Default 64 KiB; `None` leaves it to the kernel, which
    /// then takes in 4 MB for a client that has stopped reading, before the outbound limit counts the first byte.
    pub send_buffer: Option<usize>,
    /// The pages that may open a WebSocket; others are answered 403. Default every origin. A hub that knows its users by a cookie should name
    /// its origins, since browsers let any page open WebSockets, cookies and all.
    pub allowed_origins: Origins,
    /// Lets clients renew the credential of a connection. Default `None`: the route `refresh` does not exist.
    pub authentication_refresh: Option<AuthenticationRefresh>,
}

impl Default for TransportOptions {
    fn default() -> Self {
        Self {
            transports: vec![Transport::WebSockets],
            minimum_negotiate_version: 0,
            negotiate_timeout: Duration::from_secs(15),
            max_negotiated: 65_536,
            send_buffer: Some(64 * 1024),
            allowed_origins: Origins::Any,
            authentication_refresh: None,
        }
    }
}
