use super::checked::{Problem, secret};
use super::error::nearest;
use super::raw::{self, Permission, Who};
use crate::auth::{AccessKeys, ClientTokens};
use crate::relay::{Action, RelayOptions};
use crate::{AuthenticationRefresh, BearerError, HubOptions, JwtBearer, JwtBearerBuilder, Permissions, Policy};
use std::collections::BTreeMap;

/// One hub that is served without code.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) path: String,
    pub(crate) options: RelayOptions,
    /// Clients without a token are let in.
    pub(crate) anonymous: bool,
    /// Finds out who a client is by its token: one that is signed with an access key, or of the issuer.
    pub(crate) bearer: Option<JwtBearer>,
}

impl Hub {
    pub(super) fn check_all(
        raw: BTreeMap<String, raw::Hub>,
        keys: Option<&AccessKeys>,
        warnings: &mut Vec<String>,
    ) -> Result<BTreeMap<String, Self>, Problem> {
        let mut hubs: BTreeMap<String, Self> = BTreeMap::new();
        for (name, raw) in raw {
            let internal = name.to_ascii_lowercase();
            check_name(&name)?;
            let hub = Self::check(&name, &internal, raw, keys, warnings)?;
            if let Some((other, _)) = hubs.iter().find(|(other, known)| **other == internal || known.path == hub.path) {
                let what = format!("[hubs.{name}] and [hubs.{other}] have the same name or path");
                return Err(Problem::below(&["hubs", &name], "", what));
            }
            hubs.insert(internal, hub);
        }
        Ok(hubs)
    }

    fn check(
        name: &str,
        internal: &str,
        raw: raw::Hub,
        keys: Option<&AccessKeys>,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Problem> {
        let section = ["hubs", name];
        let problem = |key: &str, what: String| Problem::below(&section, key, format!("[hubs.{name}]: {what}"));
        let path = raw.path.unwrap_or_else(|| format!("/hubs/{internal}"));
        check_path(&path).map_err(|what| problem("path", what))?;
        if raw.access_keys && keys.is_none() && !raw.anonymous && raw.issuer.is_none() {
            let what = "nobody could connect, as there is no access key: set `keys.primary` (or HUBWIRE_KEYS__PRIMARY, or \
                        Azure__SignalR__ConnectionString), or name an `issuer`, or set `anonymous = true`";
            return Err(problem("", what.into()));
        }
        if !raw.access_keys && !raw.anonymous && raw.issuer.is_none() {
            let what = "nobody could connect: set `access_keys = true`, name an `issuer`, or set `anonymous = true`";
            return Err(problem("access_keys", what.into()));
        }
        let mut options =
            options(name, raw.connection, raw.transport, raw.max_parallel_invocations, raw.max_running_calls, warnings)
                .map_err(|(key, what)| problem(key, what))?;
        if raw.authentication_refresh {
            let refresh = AuthenticationRefresh::default();
            options.transport.authentication_refresh = Some(match raw.maximum_authentication {
                Some(maximum) => refresh.with_maximum_expiration(maximum),
                None => refresh,
            });
        } else if raw.maximum_authentication.is_some() {
            let what = "`maximum_authentication` needs `authentication_refresh = true`";
            return Err(problem("maximum_authentication", what.into()));
        }
        let own = keys.filter(|_| raw.access_keys).map(|keys| ClientTokens::new(keys.clone(), internal, &path));
        let bearer = bearer(name, own, raw.issuer, warnings)?;
        if raw.permissions.is_empty() {
            warnings.push(format!(
                "[hubs.{name}] grants nothing: its clients receive what is sent over REST, and can do nothing themselves; see `permissions`"
            ));
        }
        let mut options = RelayOptions::default()
            .with_permissions(permissions(name, &raw.permissions)?)
            .with_hub(options)
            .with_max_name_length(raw.max_name_length)
            .with_max_groups(raw.max_groups);
        options.max_members = raw.max_members;
        Ok(Self { path, options, anonymous: raw.anonymous, bearer })
    }
}

fn check_name(name: &str) -> Result<(), Problem> {
    let mut chars = name.chars();
    let good = chars.next().is_some_and(|first| first.is_ascii_alphabetic())
        && chars.all(|c| c.is_ascii_alphanumeric() || "_`,.[]".contains(c))
        && name.len() <= 128;
    if good {
        return Ok(());
    }
    let what = format!(
        "`{name}` is no name of a hub: it has to begin with a letter, and to go on with letters, digits, or one of _ ` , . [ ], 128 at most"
    );
    Err(Problem::below(&["hubs", name], "", what))
}

fn check_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') || path.len() < 2 || path.contains(['{', '}', '*', '?', '#', ' ', '%', ':']) {
        return Err(format!("`path`: `{path}` has to begin with a slash and to be plain, such as \"/hubs/chat\""));
    }
    let first = path[1..].split('/').next().unwrap_or_default();
    if RESERVED.contains(&first) {
        return Err(format!("`path`: what is below /{first} is the server's own; \"/hubs{path}\" is free"));
    }
    Ok(())
}

fn options(
    name: &str,
    connection: crate::ConnectionOptions,
    transport: crate::TransportOptions,
    parallel: usize,
    running: usize,
    warnings: &mut Vec<String>,
) -> Result<HubOptions, (&'static str, String)> {
    if parallel == 0 {
        return Err(("max_parallel_invocations", "`max_parallel_invocations` has to be at least 1".into()));
    }
    if running == 0 {
        return Err(("max_running_calls", "`max_running_calls` has to be at least 1".into()));
    }
    if connection.protocols.is_empty() {
        return Err((
            "connection.protocols",
            "`connection.protocols` has to name `json`, `messagepack` or both".into(),
        ));
    }
    if transport.transports.is_empty() {
        return Err(("transport.transports", "`transport.transports` has to name at least one".into()));
    }
    if transport.max_connections == 0 {
        return Err(("transport.max_connections", "`transport.max_connections` of 0 would let nobody in".into()));
    }
    if !(0..=1).contains(&transport.minimum_negotiate_version) {
        return Err(("transport.minimum_negotiate_version", "`transport.minimum_negotiate_version` is 0 or 1".into()));
    }
    if connection.client_timeout <= connection.keep_alive_interval {
        warnings.push(format!(
            "[hubs.{name}.connection]: clients usually ping as often as `keep_alive_interval` says; `client_timeout` should be twice that"
        ));
    }
    Ok(HubOptions::default()
        .with_connection(connection)
        .with_transport(transport)
        .with_max_parallel_invocations(parallel)
        .with_max_running_calls(running))
}

/// What takes a hub's tokens: the access keys' own, and those of an issuer.
fn bearer(
    name: &str,
    own: Option<ClientTokens>,
    raw: Option<raw::Issuer>,
    warnings: &mut Vec<String>,
) -> Result<Option<JwtBearer>, Problem> {
    let builder = match own {
        Some(own) => JwtBearer::builder().other(own),
        None if raw.is_none() => return Ok(None),
        None => JwtBearer::builder(),
    };
    match raw {
        Some(raw) => issuer(name, builder, raw, warnings).map(Some),
        // it has a source, which cannot fail
        None => Ok(builder.build().ok()),
    }
}

fn issuer(
    name: &str,
    builder: JwtBearerBuilder,
    raw: raw::Issuer,
    warnings: &mut Vec<String>,
) -> Result<JwtBearer, Problem> {
    let path = format!("hubs.{name}.issuer");
    let section = ["hubs", name, "issuer"];
    let problem = |key: &str, what: String| Problem::below(&section, key, format!("[{path}]: {what}"));
    let secret = secret(&format!("{path}.secret"), raw.secret, raw.secret_file.as_deref(), warnings)?;
    let keyless =
        secret.is_none() && raw.public_key_file.is_none() && raw.jwks_file.is_none() && raw.jwks_url.is_none();
    if keyless {
        let what = "name a key: `jwks_url`, `jwks_file`, `public_key_file`, `secret` or `secret_file`";
        return Err(problem("", what.into()));
    }
    let mut builder = builder.leeway(raw.leeway);
    if let Some(secret) = &secret {
        builder = builder.secret(secret.reveal());
    }
    if let Some(file) = &raw.public_key_file {
        builder = builder.public_key_file(file);
    }
    if let Some(file) = &raw.jwks_file {
        builder = builder.key_set_file(file, raw.issuers.clone());
    }
    if let Some(url) = &raw.jwks_url {
        builder = builder.key_set_url(url, raw.issuers.clone());
    }
    builder = raw.audiences.iter().fold(builder, |builder, audience| builder.audience(audience));
    builder = raw.issuers.iter().fold(builder, |builder, issuer| builder.issuer(issuer));
    if !raw.user_claims.is_empty() {
        builder = builder.user_claims(raw.user_claims);
    }
    if !raw.role_claims.is_empty() {
        builder = builder.role_claims(raw.role_claims);
    }
    if raw.audiences.is_empty() {
        warnings.push(format!(
            "[{path}] names no `audiences`: a token that was made for another program opens this hub too"
        ));
    }
    builder.build().map_err(|e| match e {
        BearerError::NoIssuer => problem("issuers", "a key set needs `issuers`: whom its keys may speak for".into()),
        BearerError::ShortSecret => problem("secret", "`secret` has to have at least 32 bytes".into()),
        other => {
            let key = [("jwks_file", raw.jwks_file.is_some()), ("public_key_file", raw.public_key_file.is_some())];
            let key = key.into_iter().find(|(_, given)| *given).map_or("jwks_url", |(key, _)| key);
            let cause = std::error::Error::source(&other).map(|cause| format!(": {cause}")).unwrap_or_default();
            problem(key, format!("`{key}`: {other}{cause}"))
        }
    })
}

fn permissions(name: &str, raw: &[Permission]) -> Result<Permissions, Problem> {
    let mut permissions = Permissions::default();
    for (at, permission) in raw.iter().enumerate() {
        for action in permission.may.as_slice() {
            check_action(action).map_err(|what| {
                let index = at.to_string();
                Problem::below(
                    &["hubs", name, "permissions", &index],
                    "may",
                    format!("[[hubs.{name}.permissions]]: {what}"),
                )
            })?;
            for pattern in permission.names.as_slice() {
                permissions = permissions.grant(action, pattern, policy(&permission.who));
            }
        }
    }
    Ok(permissions)
}

fn check_action(action: &str) -> Result<(), String> {
    if action == "*" || Action::named(action).is_some() {
        return Ok(());
    }
    let known: Vec<&str> = Action::ALL.iter().map(|action| action.name()).collect();
    Err(match nearest(action, &known) {
        Some(near) => format!("`may`: `{action}` is nothing that one may do: did you mean `{near}`?"),
        None => {
            format!("`may`: `{action}` is nothing that one may do: allowed are \"*\", {}", super::error::listed(&known))
        }
    })
}

fn policy(who: &Who) -> Policy {
    match who {
        Who::Everyone => Policy::custom(|_| true),
        Who::Authenticated => Policy::authenticated(),
        Who::Role(role) => Policy::role(role),
        Who::Claim(kind, value) => Policy::claim(kind, value),
    }
}

/// First parts of paths that are not a hub's.
const RESERVED: [&str; 3] = ["api", "client", "server"];
