use super::ClientOptions;
use crate::units;
use serde::Deserialize;
use std::time::Duration;

/// Limits and times of the service. The defaults are those of the libraries where they have one.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServiceOptions {
    /// The hubs that there may be, without regard to case; tokens for others are answered 404. Default none: any hub that there is a valid
    /// token for.
    #[serde(skip)]
    pub hubs: Vec<String>,
    /// Names that are taken by somebody else, in lower case: no hub here has them.
    #[serde(skip)]
    pub reserved: Vec<String>,
    /// Lets application servers carry clients. Without, their handshakes are refused with a text for their logs, and only the connections of
    /// management libraries, which carry no clients, are accepted. Default on.
    #[serde(skip)]
    pub app_servers: bool,
    /// Scheme and host that the audience of a token may name, as `https://signalr.example`. Default none: any, since the key vouches for it,
    /// and what application servers think the service is called need not be what it is called here.
    pub endpoints: Vec<String>,
    /// By how much clocks may differ: a token counts as long after its expiry. Default 5 minutes.
    #[serde(deserialize_with = "units::duration_or_zero::deserialize")]
    pub token_skew: Duration,
    /// Hubs that there may be, each made by the first valid token for it and kept until there is no room for a new one and nobody uses it;
    /// tokens for more are answered 503. Default 1,024.
    pub max_hubs: usize,
    /// Connections of application servers that there may be, of all hubs; more are answered 503. Each has a read buffer of 32 KiB, and can make
    /// the service hold a message that has come in part, and four times [`outbound_limit`](Self::outbound_limit). Default 4,096.
    pub max_server_connections: usize,
    /// Bytes of one message from an application server: what holds one payload for each protocol of a hub. Default 32 MiB.
    #[serde(deserialize_with = "units::size::deserialize")]
    pub max_message_size: usize,
    /// Bytes that may wait for one application server to read them, what the kernel holds apart. Above it the clients that it carries are not
    /// read; when so many bytes of answers wait the server is not read either, and at twice as many of those its connection ends. What other
    /// servers ask its clients is refused at twice as many bytes. Default 4 MiB.
    #[serde(deserialize_with = "units::size::deserialize")]
    pub outbound_limit: usize,
    /// From an accepted connection of an application server to its whole handshake. Default 15 s.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub handshake_timeout: Duration,
    /// Between two pings to an application server, which answers them and hangs up when 30 s pass without one. Default 5 s.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub ping_interval: Duration,
    /// An application server from which nothing comes for so long, or which does not take within it what is sent to it, for each MiB of what
    /// leaves at once, is lost. Default 30 s.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub silence_limit: Duration,
    /// How long to wait for the other half of a closing handshake. Default 5 s.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub close_timeout: Duration,
    /// Questions of application servers to clients that may wait for their answers, in each hub; more are answered with an error. Default
    /// 65,536.
    pub max_client_results: usize,
    /// How long such a question waits. Default 10 minutes.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub client_result_timeout: Duration,
    /// Of the face towards clients.
    #[serde(skip)]
    pub clients: ClientOptions,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            hubs: Vec::new(),
            reserved: Vec::new(),
            app_servers: true,
            endpoints: Vec::new(),
            token_skew: Duration::from_secs(300),
            max_hubs: 1024,
            max_server_connections: 4096,
            max_message_size: 32 * 1024 * 1024,
            outbound_limit: 4 * 1024 * 1024,
            handshake_timeout: Duration::from_secs(15),
            ping_interval: Duration::from_secs(5),
            silence_limit: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            max_client_results: 65_536,
            client_result_timeout: Duration::from_secs(600),
            clients: ClientOptions::default(),
        }
    }
}
