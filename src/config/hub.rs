use super::checked::{Problem, Warnings, secret};
use super::error::nearest;
use super::raw::{self, Permission, Who};
use super::secret::Secret;
use crate::auth::{AccessKeys, ClientTokens, DEVELOPMENT_KEY};
use crate::relay::{Action, RelayOptions, Subject};
use crate::{AuthenticationRefresh, BearerError, HubOptions, JwtBearer, JwtBearerBuilder, Permissions, Policy};
use std::collections::BTreeMap;
use std::time::Duration;

/// One hub that is served without code.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) path: String,
    pub(crate) options: RelayOptions,
    /// Clients without a token are let in.
    pub(crate) anonymous: bool,
    /// Finds out who a client is by its token: one that is signed with an access key, or of the issuer.
    pub(crate) bearer: Option<JwtBearer>,
    /// The issuer's secret is the one that everybody knows.
    pub(crate) well_known_issuer: bool,
}

impl Hub {
    pub(super) fn check_all(
        raw: BTreeMap<String, raw::Hub>,
        keys: Option<&AccessKeys>,
        warnings: &mut Warnings,
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
        warnings: &mut Warnings,
    ) -> Result<Self, Problem> {
        let problem = |(key, what): Wrong| Problem::below(&["hubs", name], key, format!("[hubs.{name}]: {what}"));
        check_entrance(&raw, keys.is_some()).map_err(problem)?;
        let path = path(raw.path.as_deref(), internal).map_err(problem)?;
        let permissions = permissions(name, &raw.permissions)?;
        if raw.permissions.is_empty() {
            warnings.push(format!(
                "[hubs.{name}] grants nothing: its clients receive what is sent over REST, and can do nothing themselves; see `permissions`"
            ));
        }
        let own = keys.filter(|_| raw.access_keys).map(|keys| ClientTokens::new(keys.clone(), internal, &path));
        let mut options = RelayOptions::default()
            .with_permissions(permissions)
            .with_max_name_length(raw.max_name_length)
            .with_max_groups(raw.max_groups);
        options.max_members = raw.max_members;
        let anonymous = raw.anonymous;
        let (issuer, hub) = hub_options(name, raw, warnings).map_err(problem)?;
        let secret = match &issuer {
            Some(raw) => issuer_secret(name, raw, warnings)?,
            None => None,
        };
        let well_known_issuer = secret.as_ref().is_some_and(|secret| secret.reveal() == DEVELOPMENT_KEY);
        let bearer = bearer(name, own, issuer, secret, warnings)?;
        Ok(Self { path, options: options.with_hub(hub), anonymous, bearer, well_known_issuer })
    }
}

/// A key, and what is wrong with its value.
type Wrong = (&'static str, String);

/// Somebody has to be able to come in.
fn check_entrance(raw: &raw::Hub, has_keys: bool) -> Result<(), Wrong> {
    if raw.anonymous || raw.issuer.is_some() || (raw.access_keys && has_keys) {
        return Ok(());
    }
    Err(match raw.access_keys {
        true => (
            "",
            "nobody could connect, as there is no access key: set `keys.primary` (or HUBWIRE_KEYS__PRIMARY, or \
             Azure__SignalR__ConnectionString), or name an `issuer`, or set `anonymous = true`"
                .into(),
        ),
        false => (
            "access_keys",
            "nobody could connect: set `access_keys = true`, name an `issuer`, or set `anonymous = true`".into(),
        ),
    })
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

/// Where it is served: without a slash at the end, and apart from what the server has of its own.
fn path(written: Option<&str>, name: &str) -> Result<String, Wrong> {
    let Some(written) = written else { return Ok(format!("/hubs/{name}")) };
    let wrong = |what: String| Err(("path", format!("`path`: {what}")));
    let path = written.trim_end_matches('/');
    if !path.starts_with('/') || path.contains("//") || path.contains(['{', '}', '*', '?', '#', ' ', '%', ':']) {
        return wrong(format!("`{written}` has to begin with a slash and to be plain, such as \"/hubs/chat\""));
    }
    let mut parts = path[1..].split('/');
    let (first, last) = (parts.next().unwrap_or_default(), parts.next_back().unwrap_or_default());
    if RESERVED.iter().any(|own| own.eq_ignore_ascii_case(first)) {
        return wrong(format!("what is below /{first} is the server's own; \"/hubs{path}\" is free"));
    }
    if ["negotiate", "refresh"].contains(&last) {
        return wrong(format!("/{last} at the end is where clients negotiate or refresh"));
    }
    Ok(path.to_owned())
}

/// The options of the hub itself, and what is left: the issuer.
fn hub_options(name: &str, raw: raw::Hub, warnings: &mut Warnings) -> Result<(Option<raw::Issuer>, HubOptions), Wrong> {
    let raw::Hub { connection, mut transport, max_parallel_invocations, max_running_calls, .. } = raw;
    for (key, is_nothing) in [
        ("max_parallel_invocations", max_parallel_invocations == 0),
        ("max_running_calls", max_running_calls == 0),
        ("connection.protocols", connection.protocols.is_empty()),
        ("transport.transports", transport.transports.is_empty()),
        ("transport.max_connections", transport.max_connections == 0),
    ] {
        if is_nothing {
            return Err((key, format!("`{key}` has to allow one at least")));
        }
    }
    if !(0..=1).contains(&transport.minimum_negotiate_version) {
        return Err(("transport.minimum_negotiate_version", "`transport.minimum_negotiate_version` is 0 or 1".into()));
    }
    if connection.client_timeout <= connection.keep_alive_interval {
        warnings.push(format!(
            "[hubs.{name}.connection]: clients usually ping as often as `keep_alive_interval` says; `client_timeout` should be twice that"
        ));
    }
    transport.authentication_refresh = refresh(raw.authentication_refresh, raw.maximum_authentication)?;
    let options = HubOptions::default()
        .with_connection(connection)
        .with_transport(transport)
        .with_max_parallel_invocations(max_parallel_invocations)
        .with_max_running_calls(max_running_calls);
    Ok((raw.issuer, options))
}

fn refresh(allowed: bool, maximum: Option<Duration>) -> Result<Option<AuthenticationRefresh>, Wrong> {
    match (allowed, maximum) {
        (false, Some(_)) => {
            Err(("maximum_authentication", "`maximum_authentication` needs `authentication_refresh = true`".into()))
        }
        (false, None) => Ok(None),
        (true, None) => Ok(Some(AuthenticationRefresh::default())),
        (true, Some(maximum)) => Ok(Some(AuthenticationRefresh::default().with_maximum_expiration(maximum))),
    }
}

/// What takes a hub's tokens: the access keys' own, and those of an issuer.
fn bearer(
    name: &str,
    own: Option<ClientTokens>,
    raw: Option<raw::Issuer>,
    secret: Option<Secret>,
    warnings: &mut Warnings,
) -> Result<Option<JwtBearer>, Problem> {
    let builder = match own {
        Some(own) => JwtBearer::builder().other(own),
        None if raw.is_none() => return Ok(None),
        None => JwtBearer::builder(),
    };
    match raw {
        Some(raw) => issuer(name, builder, raw, secret, warnings).map(Some),
        // it has a source, which cannot fail
        None => Ok(builder.build().ok()),
    }
}

fn issuer_secret(name: &str, raw: &raw::Issuer, warnings: &mut Warnings) -> Result<Option<Secret>, Problem> {
    secret(&format!("hubs.{name}.issuer.secret"), raw.secret.clone(), raw.secret_file.as_deref(), warnings)
}

fn issuer(
    name: &str,
    builder: JwtBearerBuilder,
    raw: raw::Issuer,
    secret: Option<Secret>,
    warnings: &mut Warnings,
) -> Result<JwtBearer, Problem> {
    let path = format!("hubs.{name}.issuer");
    let section = ["hubs", name, "issuer"];
    let problem = |key: &str, what: String| Problem::below(&section, key, format!("[{path}]: {what}"));
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
            check_action(action).and_then(|()| check_names(action, permission.names.as_slice())).map_err(|what| {
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

/// What is about nothing cannot be limited to names: it would grant nothing.
fn check_names(action: &str, names: &[String]) -> Result<(), String> {
    let has_names = Action::named(action).is_none_or(|action| action.subject() != Subject::Nothing);
    if has_names || names.iter().any(|name| name == "*") {
        return Ok(());
    }
    Err(format!(
        "`names`: `{action}` is about no name, so this would grant nothing: grant it in an entry of its own, without `names`"
    ))
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
