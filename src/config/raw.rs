//! The configuration as it is written. What has a default in a layer's own options has it from there.

use super::secret::Secret;
use crate::relay::RelayOptions;
use crate::rest::RestOptions;
use crate::service::{ClientOptions, ServiceOptions};
use crate::units;
use crate::{ConnectionOptions, HubOptions, ServeOptions, SlowReceiver, TransportOptions};
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) server: Server,
    pub(super) admin: Admin,
    pub(super) log: Log,
    pub(super) keys: Keys,
    pub(super) cors: Cors,
    pub(super) rest: RestOptions,
    pub(super) service: Service,
    pub(super) hubs: BTreeMap<String, Hub>,
}

/// What is needed to ask a server how it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct OnlyAdmin {
    pub(super) admin: Admin,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Server {
    #[serde(deserialize_with = "addresses")]
    pub(super) listen: Vec<String>,
    pub(super) public_url: Option<String>,
    pub(super) trusted_proxies: Vec<IpAddr>,
    pub(super) tls_certificate: Option<PathBuf>,
    pub(super) tls_key: Option<PathBuf>,
    #[serde(deserialize_with = "units::duration_or_zero::deserialize")]
    pub(super) drain_delay: Duration,
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub(super) drain_timeout: Duration,
    pub(super) worker_threads: Option<usize>,
    pub(super) limits: ServeOptions,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec!["127.0.0.1:8888".into()],
            public_url: None,
            trusted_proxies: Vec::new(),
            tls_certificate: None,
            tls_key: None,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
            worker_threads: None,
            limits: ServeOptions::default(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Admin {
    #[serde(deserialize_with = "addresses")]
    pub(super) listen: Vec<String>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: vec!["127.0.0.1:8889".into()] }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    pub(super) format: Format,
    pub(super) filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: Format::default(), filter: "info".into() }
    }
}

/// How a line of the log looks.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    #[default]
    Human,
    Json,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Keys {
    pub(super) primary: Option<Secret>,
    pub(super) primary_file: Option<PathBuf>,
    pub(super) secondary: Option<Secret>,
    pub(super) secondary_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Cors {
    pub(super) origins: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Service {
    pub(super) enabled: bool,
    pub(super) mode: Mode,
    pub(super) hubs: Vec<String>,
    pub(super) servers: ServiceOptions,
    pub(super) clients: ClientOptions,
    pub(super) connection: ServiceConnection,
}

/// Who serves the clients of the service.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    /// Application servers that are connected.
    #[default]
    Default,
}

/// What can be set of the connections of the service's clients: the rest is their application server's to say.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ServiceConnection {
    #[serde(deserialize_with = "units::size_or_none::deserialize")]
    pub(super) maximum_receive_message_size: Option<usize>,
    #[serde(deserialize_with = "units::size::deserialize")]
    pub(super) outbound_limit: usize,
    pub(super) slow_receiver: SlowReceiver,
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub(super) send_timeout: Duration,
    pub(super) max_resumable: usize,
    pub(super) max_resumable_per_owner: usize,
}

impl Default for ServiceConnection {
    fn default() -> Self {
        let connection = ClientOptions::default().connection;
        Self {
            maximum_receive_message_size: connection.maximum_receive_message_size,
            outbound_limit: connection.outbound_limit,
            slow_receiver: connection.slow_receiver,
            send_timeout: connection.send_timeout,
            max_resumable: connection.max_resumable,
            max_resumable_per_owner: connection.max_resumable_per_owner,
        }
    }
}

impl Service {
    pub(super) fn options(self) -> ServiceOptions {
        let Self { mut servers, mut clients, connection, hubs, mode: Mode::Default, .. } = self;
        servers.hubs = hubs;
        clients.connection.maximum_receive_message_size = connection.maximum_receive_message_size;
        clients.connection.outbound_limit = connection.outbound_limit;
        clients.connection.slow_receiver = connection.slow_receiver;
        clients.connection.send_timeout = connection.send_timeout;
        clients.connection.max_resumable = connection.max_resumable;
        clients.connection.max_resumable_per_owner = connection.max_resumable_per_owner;
        servers.clients = clients;
        servers
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Hub {
    pub(super) path: Option<String>,
    pub(super) anonymous: bool,
    pub(super) access_keys: bool,
    pub(super) issuer: Option<Issuer>,
    pub(super) authentication_refresh: bool,
    #[serde(deserialize_with = "units::duration_or_none::deserialize")]
    pub(super) maximum_authentication: Option<Duration>,
    pub(super) permissions: Vec<Permission>,
    pub(super) max_name_length: usize,
    pub(super) max_groups: usize,
    pub(super) max_members: usize,
    pub(super) max_parallel_invocations: usize,
    pub(super) max_running_calls: usize,
    pub(super) connection: ConnectionOptions,
    pub(super) transport: TransportOptions,
}

impl Default for Hub {
    fn default() -> Self {
        let RelayOptions { max_name_length, max_groups, max_members, .. } = RelayOptions::default();
        let HubOptions { connection, transport, max_parallel_invocations, max_running_calls } = HubOptions::default();
        Self {
            path: None,
            anonymous: false,
            access_keys: true,
            issuer: None,
            authentication_refresh: false,
            maximum_authentication: None,
            permissions: Vec::new(),
            max_name_length,
            max_groups,
            max_members,
            max_parallel_invocations,
            max_running_calls,
            connection,
            transport,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Issuer {
    pub(super) jwks_url: Option<String>,
    pub(super) jwks_file: Option<PathBuf>,
    pub(super) public_key_file: Option<PathBuf>,
    pub(super) secret: Option<Secret>,
    pub(super) secret_file: Option<PathBuf>,
    pub(super) audiences: Vec<String>,
    pub(super) issuers: Vec<String>,
    #[serde(deserialize_with = "units::duration_or_zero::deserialize")]
    pub(super) leeway: Duration,
    pub(super) user_claims: Vec<String>,
    pub(super) role_claims: Vec<String>,
}

impl Default for Issuer {
    fn default() -> Self {
        Self {
            jwks_url: None,
            jwks_file: None,
            public_key_file: None,
            secret: None,
            secret_file: None,
            audiences: Vec::new(),
            issuers: Vec::new(),
            leeway: Duration::from_secs(60),
            user_claims: Vec::new(),
            role_claims: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Permission {
    pub(super) who: Who,
    pub(super) may: OneOrMore,
    #[serde(default = "anything")]
    pub(super) names: OneOrMore,
}

/// Who has a permission.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Who {
    Everyone,
    Authenticated,
    Role(String),
    Claim(String, String),
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a text or a list of texts")]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    pub(super) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(more) => more,
        }
    }
}

/// One, or a list.
fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Addresses;
    impl<'de> Visitor<'de> for Addresses {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an address such as \"127.0.0.1:8888\", or a list of such")
        }

        fn visit_str<E: Error>(self, one: &str) -> Result<Vec<String>, E> {
            Ok(vec![one.into()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Vec<String>, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(list))
        }
    }
    deserializer.deserialize_any(Addresses)
}

fn anything() -> OneOrMore {
    OneOrMore::One("*".into())
}
