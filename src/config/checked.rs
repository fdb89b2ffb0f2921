//! What a configuration says once it has been found right.

use super::error::Place;
use super::hub::Hub;
use super::raw::{self, Raw};
use super::secret::{Secret, is_world_readable};
use super::{ConfigError, Format, Sources, Tls};
use crate::auth::{AccessKeyError, AccessKeys, DEVELOPMENT_KEY};
use crate::rest::RestOptions;
use crate::service::ServiceOptions;
use crate::{Cors, ServeOptions};
use axum::http::Uri;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
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
    /// What application servers connect to, if they may.
    pub(crate) service: Option<ServiceOptions>,
    /// By their names, in lower case.
    pub(crate) hubs: BTreeMap<String, Hub>,
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

    fn at_its_place(self, sources: &Sources) -> ConfigError {
        let place: Option<Place> = sources.nearest_place(&self.path);
        ConfigError::new(self.what).at_some(place)
    }
}

/// What an operator should know.
pub(super) struct Warnings<'s> {
    texts: Vec<String>,
    guarded: &'s [PathBuf],
}

impl<'s> Warnings<'s> {
    fn new(guarded: &'s [PathBuf]) -> Self {
        Self { texts: Vec::new(), guarded }
    }

    pub(super) fn push(&mut self, text: String) {
        self.texts.push(text);
    }

    /// A secret has been read from here.
    fn read_secret(&mut self, path: &Path) {
        if is_world_readable(path) && !self.guarded.iter().any(|folder| path.starts_with(folder)) {
            self.push(format!("{} can be read by everybody on this machine: chmod o-r {0}", path.display()));
        }
    }
}

impl Config {
    /// Reads and checks all of it. A connection string gives the access key where no other does but the preset's.
    pub(crate) fn load(sources: &Sources, connection_key: Option<Secret>) -> Result<Self, ConfigError> {
        let raw = sources.merge()?;
        let mut warnings = Warnings::new(&sources.guarded);
        let connection_key = connection_key.filter(|_| !sources.preset || !sources.sets("keys"));
        Self::check(raw, sources.preset, connection_key, &mut warnings)
            .map(|config| Self { warnings: warnings.texts, ..config })
            .map_err(|problem| problem.at_its_place(sources))
    }

    /// Reads where metrics and health are served, and nothing else.
    pub(crate) fn admin(sources: &Sources) -> Result<Vec<SocketAddr>, ConfigError> {
        let raw = sources.admin()?;
        addresses(&raw.listen, "admin.listen").map_err(|problem| problem.at_its_place(sources))
    }

    fn check(raw: Raw, preset: bool, connection_key: Option<Secret>, warnings: &mut Warnings) -> Result<Self, Problem> {
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
            cors: cors(&raw.cors)?,
            rest: rest(raw.rest)?,
            service: service(raw.service, signing.is_some(), &hubs)?,
            hubs,
            signing,
            keys,
            preset,
            warnings: Vec::new(),
        };
        config.check_reach(&config.server.listen).map_err(|Reach { key, what }| Problem::new(key, what))?;
        Ok(config)
    }

    /// Whether these addresses may be served: what anybody can sign for stays on this machine.
    pub(crate) fn check_reach(&self, addresses: &[SocketAddr]) -> Result<(), Reach> {
        let Some((key, open)) = self.reached_by_others(addresses) else { return Ok(()) };
        let refuse = |what: String| Err(Reach { key, what });
        if self.keys.iter().any(|key| key.reveal() == DEVELOPMENT_KEY) {
            return refuse(format!(
                "{open}, and the access key is the well-known one of the emulator: anybody could sign with it. \
                 Set `keys.primary` (or HUBWIRE_KEYS__PRIMARY) to one of your own, as `head -c 33 /dev/urandom | base64` prints, or serve \
                 this machine only"
            ));
        }
        if let Some((name, _)) = self.hubs.iter().find(|(_, hub)| hub.well_known_issuer) {
            return refuse(format!(
                "{open}, and `secret` of [hubs.{name}.issuer] is the well-known key of the emulator: anybody could sign with it. Take \
                 another, or serve this machine only"
            ));
        }
        if self.preset {
            return refuse(format!(
                "{open}, and the development preset is open to everybody: start from `hubwire default-config` \
                 and give it by --config, or serve this machine only"
            ));
        }
        Ok(())
    }

    /// Whether everybody can sign what this server signs: only then a token may be shown.
    pub(crate) fn signs_for_anybody(&self) -> bool {
        self.keys.first().is_some_and(|key| key.reveal() == DEVELOPMENT_KEY)
    }

    /// Whether others than this machine get here, and which setting says so.
    fn reached_by_others(&self, addresses: &[SocketAddr]) -> Option<(&'static str, String)> {
        if let Some(open) = addresses.iter().find(|address| !address.ip().to_canonical().is_loopback()) {
            return Some(("server.listen", format!("{open} can be reached by others")));
        }
        let public_url = self.server.public_url.as_deref().filter(|url| !is_of_this_machine(url));
        if let Some(url) = public_url {
            return Some(("server.public_url", format!("`server.public_url` says that others come by {url}")));
        }
        if self.server.trusted_proxies.is_empty() {
            return None;
        }
        Some(("server.trusted_proxies", "`server.trusted_proxies` says that a proxy brings others".into()))
    }

    /// The URL that clients use: that of a proxy, if there is one.
    pub(crate) fn url(&self) -> String {
        self.url_at(&self.server.listen)
    }

    /// Where this machine reaches its own server, whatever is in front of that.
    pub(crate) fn own_url(&self) -> String {
        let scheme = if self.server.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", reachable(self.server.listen[0]))
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

/// Why something may not be served.
#[derive(Debug)]
pub(crate) struct Reach {
    key: &'static str,
    pub(crate) what: String,
}

fn is_of_this_machine(url: &str) -> bool {
    let uri = url.parse::<Uri>().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Where to ask a server that listens everywhere.
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}

impl Server {
    fn check(raw: raw::Server, warnings: &mut Warnings) -> Result<Self, Problem> {
        let problem = |key: &str, what: String| Err(Problem::new(&format!("server.{key}"), what));
        if raw.listen.is_empty() {
            return problem("listen", "`server.listen` has to name an address, such as \"127.0.0.1:8888\"".into());
        }
        let tls = match (&raw.tls_certificate, &raw.tls_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                warnings.read_secret(key);
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
        for (key, is_nothing) in [
            ("max_connections", raw.limits.max_connections == 0),
            ("max_rate", raw.limits.max_rate == Some(0)),
            ("max_http2_streams", raw.limits.max_http2_streams == 0),
        ] {
            if is_nothing {
                return problem(&format!("limits.{key}"), format!("`server.limits.{key}` of 0 would let nobody in"));
            }
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
    let unprintable = |key: &Secret| key.reveal().contains(';') || key.reveal().trim() != key.reveal();
    if let Some(number) = keys.iter().position(unprintable) {
        let what = format!(
            "[keys]: access key {} has a `;` in it, or blanks around it: no connection string could hold it, as `;` ends a value there",
            number + 1
        );
        return Err(Problem::new(["keys.primary", "keys.secondary"][number.min(1)], what));
    }
    AccessKeys::new(keys.iter().map(Secret::reveal)).map(Some).map_err(|e| {
        let at = match e {
            AccessKeyError::Short { number: 2, .. } => "keys.secondary",
            _ => "keys.primary",
        };
        Problem::new(at, format!("[keys]: {e}, as `head -c 33 /dev/urandom | base64` prints them"))
    })
}

fn keys(raw: raw::Keys, warnings: &mut Warnings) -> Result<Vec<Secret>, Problem> {
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
    warnings: &mut Warnings,
) -> Result<Option<Secret>, Problem> {
    let Some(file) = file else { return Ok(inline) };
    let at_file = format!("{path}_file");
    if inline.is_some() {
        return Err(Problem::new(&at_file, format!("`{path}` and `{at_file}` are both given: leave one out")));
    }
    let found =
        Secret::read(file).map_err(|e| Problem::new(&at_file, format!("`{at_file}`: {} {e}", file.display())))?;
    warnings.read_secret(file);
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
        // a name and a password may stand before the host
        let shown = if text.contains('@') { "it".into() } else { format!("`{text}`") };
        let what = format!("`server.public_url`: {shown} has to be scheme and host, such as \"https://hub.example\"");
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

/// A hub is either here, or somebody's who connects.
fn service(raw: raw::Service, has_keys: bool, hubs: &BTreeMap<String, Hub>) -> Result<Option<ServiceOptions>, Problem> {
    if !raw.enabled {
        return Ok(None);
    }
    if !has_keys {
        let what =
            "[service]: application servers sign with an access key: set `keys.primary` (or HUBWIRE_KEYS__PRIMARY)";
        return Err(Problem::new("service.enabled", what));
    }
    for (key, is_nothing) in [
        ("servers.max_hubs", raw.servers.max_hubs == 0),
        ("servers.max_server_connections", raw.servers.max_server_connections == 0),
        ("clients.max_connections", raw.clients.max_connections == Some(0)),
        ("clients.transport.transports", raw.clients.transport.transports.is_empty()),
    ] {
        if is_nothing {
            return Err(Problem::new(&format!("service.{key}"), format!("`service.{key}` has to allow one at least")));
        }
    }
    if let Some(twice) = raw.hubs.iter().find(|hub| hubs.contains_key(&hub.to_ascii_lowercase())) {
        let what = format!(
            "the hub `{twice}` is in the section `hubs` as well: either it is served here, or by application servers"
        );
        return Err(Problem::new("service.hubs", what));
    }
    Ok(Some(raw.options()))
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
