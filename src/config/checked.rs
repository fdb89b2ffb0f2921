//! What a configuration says once it has been found right.

use super::error::Place;
use super::hub::Hub;
use super::raw::{self, Raw};
use super::secret::{Secret, is_world_readable};
use super::{ConfigError, Format, Sources, Tls};
use crate::auth::{AccessKeyError, AccessKeys, DEVELOPMENT_KEY};
use crate::rest::RestOptions;
use crate::{Cors, ServeOptions, ServiceOptions};
use axum::http::Uri;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// A configuration that can be served.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) server: Server,
    /// Where metrics and health are served; nowhere if there is no address.
    pub(crate) admin: Vec<SocketAddr>,
    pub(crate) log: Log,
    /// What tokens of clients, REST calls and application servers are signed with; the first signs.
    pub(crate) keys: Vec<Secret>,
    /// The same, ready to use; `None`: nobody can sign.
    pub(crate) signing: Option<AccessKeys>,
    pub(crate) cors: Option<Cors>,
    pub(crate) rest: RestOptions,
    /// By their names, in lower case.
    pub(crate) hubs: BTreeMap<String, Hub>,
    /// Where application servers connect; `None`: nowhere.
    pub(crate) service: Option<ServiceOptions>,
    /// Nothing was configured: what runs is for development.
    pub(crate) preset: bool,
    /// What an operator should know before it is served.
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) public_url: Option<String>,
    /// Whose word counts for where a client is.
    pub(crate) trusted_proxies: Vec<IpAddr>,
    pub(crate) tls: Option<Tls>,
    /// From the word to stop to the first connection that is closed: a load balancer sees meanwhile that this node is not ready.
    pub(crate) drain_delay: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) worker_threads: Option<usize>,
    pub(crate) limits: ServeOptions,
}

#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) format: Format,
    pub(crate) filter: String,
}

/// Something that is wrong with one value.
pub(super) struct Problem {
    path: Vec<String>,
    what: String,
}

impl Problem {
    pub(super) fn new(path: &str, what: impl Into<String>) -> Self {
        Self { path: path.split('.').map(Into::into).collect(), what: what.into() }
    }

    /// A problem of something below a section whose name may have dots of its own.
    pub(super) fn below(section: &[&str], key: &str, what: impl Into<String>) -> Self {
        let keys = key.split('.').filter(|key| !key.is_empty());
        Self { path: section.iter().copied().chain(keys).map(Into::into).collect(), what: what.into() }
    }
}

impl Config {
    /// Reads and checks all of it. `connection_string` gives the access key where no other does.
    pub(crate) fn load(sources: &Sources, connection_key: Option<Secret>) -> Result<Self, ConfigError> {
        let raw = sources.merge()?;
        let mut warnings = Vec::new();
        Self::check(raw, sources.preset, connection_key, &mut warnings)
            .map(|config| Self { warnings, ..config })
            .map_err(|problem| {
                let place: Option<Place> = sources.nearest_place(&problem.path);
                ConfigError::new(problem.what).at_some(place)
            })
    }

    fn check(
        raw: Raw,
        preset: bool,
        connection_key: Option<Secret>,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Problem> {
        let server = Server::check(raw.server, warnings)?;
        let mut keys = keys(raw.keys, warnings)?;
        if let Some(key) = connection_key
            && (keys.is_empty() || preset)
        {
            keys = vec![key];
        }
        let admin = addresses(&raw.admin.listen, "admin.listen")?;
        if let Some(both) = admin.iter().find(|address| address.port() != 0 && server.listen.contains(address)) {
            return Err(Problem::new("admin.listen", format!("`admin.listen` and `server.listen` both name {both}")));
        }
        let signing = signing(&keys)?;
        let hubs = Hub::check_all(raw.hubs, signing.as_ref(), warnings)?;
        let config = Self {
            server,
            admin,
            log: Log { format: raw.log.format, filter: filter(raw.log.filter)? },
            keys,
            cors: cors(&raw.cors)?,
            rest: rest(raw.rest)?,
            service: service(raw.service, signing.as_ref(), &hubs)?,
            signing,
            hubs,
            preset,
            warnings: Vec::new(),
        };
        config.check_reach(&config.server.listen).map_err(|what| Problem::new("server.listen", what))?;
        Ok(config)
    }

    /// Whether these addresses may be served: what anybody can sign for stays on this machine.
    pub(crate) fn check_reach(&self, addresses: &[SocketAddr]) -> Result<(), String> {
        let Some(open) = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback()) else {
            return Ok(());
        };
        if self.keys.iter().any(|key| key.reveal() == DEVELOPMENT_KEY) {
            return Err(format!(
                "{open} can be reached by others, and the access key is the well-known one of the emulator: anybody could sign with it. \
                 Set `keys.primary` (or HUBWIRE_KEYS__PRIMARY) to one of your own, as `head -c 33 /dev/urandom | base64` prints, or listen on 127.0.0.1"
            ));
        }
        if self.preset {
            return Err(format!(
                "{open} can be reached by others, and the development preset is open to everybody: start from `hubwire default-config` \
                 and give it by --config, or listen on 127.0.0.1"
            ));
        }
        Ok(())
    }

    /// The URL that clients use, if it is not another one's to say (a proxy's).
    pub(crate) fn url(&self) -> String {
        self.url_at(&self.server.listen)
    }

    /// The same for a server that listens here: its port may have been free to choose.
    pub(crate) fn url_at(&self, listen: &[SocketAddr]) -> String {
        if let Some(url) = &self.server.public_url {
            return url.clone();
        }
        let scheme = if self.server.tls.is_some() { "https" } else { "http" };
        let address = listen.first().copied().unwrap_or(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8888));
        match address.ip() {
            // what is everywhere is here as well, and this machine's own name is what local settings say
            ip if ip.is_unspecified() || ip == IpAddr::V4(Ipv4Addr::LOCALHOST) => {
                format!("{scheme}://localhost:{}", address.port())
            }
            _ => format!("{scheme}://{address}"),
        }
    }
}

/// A hub is either here, or somebody's who connects.
fn service(
    options: Option<ServiceOptions>,
    signing: Option<&AccessKeys>,
    hubs: &BTreeMap<String, Hub>,
) -> Result<Option<ServiceOptions>, Problem> {
    let Some(options) = options else { return Ok(None) };
    if signing.is_none() {
        let what = "`service` needs an access key, which its application servers have in their connection strings: set `keys.primary`";
        return Err(Problem::new("service", what));
    }
    if let Some(twice) = options.hubs.iter().find(|hub| hubs.contains_key(&hub.to_ascii_lowercase())) {
        let what = format!(
            "the hub `{twice}` is also in the section `hubs`: it is either served here, or by application servers"
        );
        return Err(Problem::new("service.hubs", what));
    }
    for (key, value) in [
        ("max_hubs", options.max_hubs),
        ("max_server_connections", options.max_server_connections),
        ("max_message_size", options.max_message_size),
        ("outbound_limit", options.outbound_limit),
    ] {
        if value == 0 {
            return Err(Problem::new(&format!("service.{key}"), format!("`service.{key}` has to be more than 0")));
        }
    }
    Ok(Some(options))
}

impl Server {
    fn check(raw: raw::Server, warnings: &mut Vec<String>) -> Result<Self, Problem> {
        let problem = |key: &str, what: String| Err(Problem::new(&format!("server.{key}"), what));
        if raw.listen.is_empty() {
            return problem("listen", "`server.listen` has to name an address, such as \"127.0.0.1:8888\"".into());
        }
        let tls = match (&raw.tls_certificate, &raw.tls_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                if is_world_readable(key) {
                    warnings.push(readable(key));
                }
                Some(Tls::read(certificate, key).map_err(|e| {
                    let at = if e.is_about_key() { "server.tls_key" } else { "server.tls_certificate" };
                    Problem::new(at, e.to_string())
                })?)
            }
            (Some(_), None) => {
                return problem("tls_certificate", "`server.tls_certificate` needs `server.tls_key`".into());
            }
            (None, Some(_)) => return problem("tls_key", "`server.tls_key` needs `server.tls_certificate`".into()),
        };
        if raw.worker_threads == Some(0) {
            return problem("worker_threads", "`server.worker_threads` has to be at least 1".into());
        }
        if raw.limits.max_connections == 0 || raw.limits.max_rate == Some(0) {
            let key = if raw.limits.max_connections == 0 { "max_connections" } else { "max_rate" };
            return problem(&format!("limits.{key}"), format!("`server.limits.{key}` of 0 would let nobody in"));
        }
        if raw.limits.max_header_bytes < 8 * 1024 {
            return problem(
                "limits.max_header_bytes",
                "`server.limits.max_header_bytes` has to be at least 8KiB".into(),
            );
        }
        Ok(Self {
            listen: addresses(&raw.listen, "server.listen")?,
            public_url: raw.public_url.map(public_url).transpose()?,
            trusted_proxies: raw.trusted_proxies,
            tls,
            drain_delay: raw.drain_delay,
            drain_timeout: raw.drain_timeout,
            worker_threads: raw.worker_threads,
            limits: raw.limits,
        })
    }
}

fn signing(keys: &[Secret]) -> Result<Option<AccessKeys>, Problem> {
    if keys.is_empty() {
        return Ok(None);
    }
    AccessKeys::new(keys.iter().map(Secret::reveal)).map(Some).map_err(|e| {
        let at = match e {
            AccessKeyError::Short { number: 2, .. } => "keys.secondary",
            _ => "keys.primary",
        };
        Problem::new(at, format!("[keys]: {e}, as `head -c 33 /dev/urandom | base64` prints them"))
    })
}

pub(super) fn readable(path: &Path) -> String {
    format!("{} can be read by everybody on this machine: chmod o-r {0}", path.display())
}

fn keys(raw: raw::Keys, warnings: &mut Vec<String>) -> Result<Vec<Secret>, Problem> {
    let primary = secret("keys.primary", raw.primary, raw.primary_file.as_deref(), warnings)?;
    let secondary = secret("keys.secondary", raw.secondary, raw.secondary_file.as_deref(), warnings)?;
    if primary.is_none() && secondary.is_some() {
        return Err(Problem::new(
            "keys.secondary",
            "`keys.secondary` needs `keys.primary`: tokens are signed with that",
        ));
    }
    Ok(primary.into_iter().chain(secondary).collect())
}

/// A secret that is written out, or in a file of its own.
pub(super) fn secret(
    path: &str,
    inline: Option<Secret>,
    file: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Result<Option<Secret>, Problem> {
    let Some(file) = file else { return Ok(inline) };
    let at_file = format!("{path}_file");
    if inline.is_some() {
        return Err(Problem::new(&at_file, format!("`{path}` and `{at_file}` are both given: leave one out")));
    }
    let found =
        Secret::read(file).map_err(|e| Problem::new(&at_file, format!("`{at_file}`: {} {e}", file.display())))?;
    if is_world_readable(file) {
        warnings.push(readable(file));
    }
    Ok(Some(found))
}

fn addresses(written: &[String], path: &str) -> Result<Vec<SocketAddr>, Problem> {
    let mut found = Vec::with_capacity(written.len());
    for (at, text) in written.iter().enumerate() {
        let numeric = text.strip_prefix("localhost:").map_or_else(|| text.clone(), |port| format!("127.0.0.1:{port}"));
        let address: SocketAddr = numeric.parse().map_err(|_| {
            let what = format!("`{path}`: `{text}` is no address: write an IP address and a port, such as \"0.0.0.0:8888\" or \"[::]:8888\"");
            Problem::new(&format!("{path}.{at}"), what)
        })?;
        if address.port() != 0 && found.contains(&address) {
            return Err(Problem::new(&format!("{path}.{at}"), format!("`{path}` names {address} twice")));
        }
        found.push(address);
    }
    Ok(found)
}

fn public_url(text: String) -> Result<String, Problem> {
    let uri = text.parse::<Uri>().ok();
    let good = uri.filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
    });
    if good.is_none() {
        let what = format!("`server.public_url`: `{text}` has to be scheme and host, such as \"https://hub.example\"");
        return Err(Problem::new("server.public_url", what));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn filter(text: String) -> Result<String, Problem> {
    match text.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) => Ok(text),
        Err(e) => {
            let what =
                format!("`log.filter` cannot be read: {e}; write a level such as \"info\", or \"warn,hubwire=debug\"");
            Err(Problem::new("log.filter", what))
        }
    }
}

fn rest(raw: RestOptions) -> Result<RestOptions, Problem> {
    if raw.max_parallel_bodies == 0 {
        return Err(Problem::new("rest.max_parallel_bodies", "`rest.max_parallel_bodies` has to be at least 1"));
    }
    Ok(raw)
}

fn cors(raw: &raw::Cors) -> Result<Option<Cors>, Problem> {
    if raw.origins.is_empty() {
        return Ok(None);
    }
    if raw.origins.iter().any(|origin| origin == "*") {
        let alone = raw.origins.len() == 1;
        let what = "`cors.origins`: \"*\" is every origin, and stands alone";
        return if alone { Ok(Some(Cors::any_origin())) } else { Err(Problem::new("cors.origins", what)) };
    }
    for (at, origin) in raw.origins.iter().enumerate() {
        let good = origin == "null"
            || origin
                .split_once("://")
                .is_some_and(|(_, host)| !host.is_empty() && !host.trim_end_matches('/').contains('/'));
        if !good {
            let what = format!(
                "`cors.origins`: `{origin}` is no origin: write scheme, host and port, such as \"https://app.example\""
            );
            return Err(Problem::new(&format!("cors.origins.{at}"), what));
        }
    }
    Ok(Some(Cors::origins(raw.origins.iter().cloned())))
}
