use crate::protocol::hub::Protocol;
use crate::units;
use serde::Deserialize;
use std::time::Duration;

/// What happens to messages from others when more of them wait for a connection than its outbound limit allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SlowReceiver {
    /// The connection ends, with permission to connect again.
    #[default]
    Disconnect,
    /// The oldest waiting messages make room. Counted.
    DropOldest,
    /// A newer message takes the place of a waiting one with the same key (the target, unless the sender named one); when that is not
    /// enough the oldest make room. Counted.
    Conflate,
}

/// Limits and times of a hub's connections. The defaults are the reference's where it has one.
///
/// Read from a configuration, a duration is written `"30s"`, a size `"64KiB"`, and what is not named has its default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ConnectionOptions {
    /// From the start of a connection to its whole handshake request. Default 15 s.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub handshake_timeout: Duration,
    /// A ping goes out when more than this has passed since the last. Default 15 s; checked once a second.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub keep_alive_interval: Duration,
    /// A client that has pinged at least once and then is silent for this long is closed. Default 30 s; at least twice the client's
    /// ping interval.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub client_timeout: Duration,
    /// Bytes of one message from a client, its framing included. Default 32 768; `None` lets a client make the server hold any amount.
    #[serde(deserialize_with = "units::size_or_none::deserialize")]
    pub maximum_receive_message_size: Option<usize>,
    /// Bytes of messages that are kept while they wait for a call, a stream or `on_connected`; above it the client is not read.
    /// Default 64 KiB: with the receive limit what one client can make the server hold on the way in.
    #[serde(deserialize_with = "units::size::deserialize")]
    pub look_ahead: usize,
    /// Bytes of messages from others that may wait for one connection, what the kernel holds apart. Default 1 MiB.
    #[serde(deserialize_with = "units::size::deserialize")]
    pub outbound_limit: usize,
    /// What happens when they are more. Default [`SlowReceiver::Disconnect`].
    pub slow_receiver: SlowReceiver,
    /// Bytes of completions and stream items that may wait; above it the client is not read and its streams pause. Default 64 KiB.
    #[serde(deserialize_with = "units::size::deserialize")]
    pub reply_limit: usize,
    /// How long one write may take. Default 10 s.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub send_timeout: Duration,
    /// How long a client over long polling may have no poll at the server, and one that can resume no socket, before it counts as gone;
    /// what is queued for it is kept as long. Default 15 s.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub disconnect_timeout: Duration,
    /// How long to wait for the client's half of a closing handshake. Default 5 s.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub close_timeout: Duration,
    /// Ends a connection when the credential of its latest GET, or of a refresh since, expires: the client may connect again, with a new
    /// one. Default off, as in the reference; looked at once a second.
    pub close_on_authentication_expiration: bool,
    /// Bytes of messages that are kept, for a client that may resume, until it acknowledges them; above it only pings, acknowledgements and
    /// the end are sent. Default 100 000.
    #[serde(deserialize_with = "units::size::deserialize")]
    pub stateful_reconnect_buffer: usize,
    /// Connections without a socket that are kept for their clients to resume; the oldest end when there are more. Each holds up to the
    /// buffer above and [`outbound_limit`](Self::outbound_limit). Default 10,000.
    pub max_resumable: usize,
    /// The same, of one user, or of one address for clients without a user. Default 100.
    pub max_resumable_per_owner: usize,
    /// The encodings that clients may ask for. Default both.
    pub protocols: Vec<Protocol>,
    /// Errors that were not meant for clients are told to them in full: for development. Default off.
    pub detailed_errors: bool,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(15),
            keep_alive_interval: Duration::from_secs(15),
            client_timeout: Duration::from_secs(30),
            maximum_receive_message_size: Some(32 * 1024),
            look_ahead: 64 * 1024,
            outbound_limit: 1024 * 1024,
            slow_receiver: SlowReceiver::default(),
            reply_limit: 64 * 1024,
            send_timeout: Duration::from_secs(10),
            disconnect_timeout: Duration::from_secs(15),
            close_timeout: Duration::from_secs(5),
            close_on_authentication_expiration: false,
            stateful_reconnect_buffer: 100_000,
            max_resumable: 10_000,
            max_resumable_per_owner: 100,
            protocols: Protocol::ALL.to_vec(),
            detailed_errors: false,
        }
    }
}
