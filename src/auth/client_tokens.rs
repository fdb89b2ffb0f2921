use super::bearer::Vouch;
use super::claims::ClaimNames;
use super::{AccessKeys, Token};
use crate::transport::{Identity, Query, ROLE};
use axum::http::Uri;
use std::time::{Duration, SystemTime};

/// Takes the tokens of clients that are signed with an access key: those that the REST API and the command line make, or a program that
/// has the key, for one hub.
pub(crate) struct ClientTokens {
    keys: AccessKeys,
    hub: String,
    path: String,
}

impl ClientTokens {
    /// For a hub of this name (in lower case) that is served at this path.
    pub(crate) fn new(keys: AccessKeys, hub: &str, path: &str) -> Self {
        Self { keys, hub: hub.into(), path: path.trim_end_matches('/').into() }
    }

    /// Whether a token is for this hub: by the service's address of its clients, or by the URL that it is served at. Scheme, host and port
    /// say nothing: a proxy has others.
    fn is_audience(&self, audience: &str) -> bool {
        let Ok(uri) = audience.parse::<Uri>() else { return false };
        let hub = Query::new(uri.query()).value("hub");
        let is_client = uri.path() == "/client/" && hub.is_some_and(|hub| hub.eq_ignore_ascii_case(&self.hub));
        is_client || uri.path().trim_end_matches('/') == self.path
    }
}

impl Vouch for ClientTokens {
    fn identify(&self, token: &str) -> Option<Identity> {
        let token = self.keys.verify(token, SystemTime::now(), SKEW).ok()?;
        token.audiences().any(|audience| self.is_audience(audience)).then(|| identity(&token))
    }
}

/// The user, and the claims that the application gave; roles under one name.
fn identity(token: &Token) -> Identity {
    let names = ClaimNames::default();
    let claims = token.claims().filter(|(kind, _)| !ABOUT_THE_TOKEN.contains(kind) && !kind.starts_with("asrs.s."));
    let claims = claims.map(|(kind, value)| {
        let kind = kind.strip_prefix("asrs.u.").unwrap_or(kind);
        (if names.roles.iter().any(|role| role == kind) { ROLE } else { kind }, value)
    });
    Identity::new(token.user_id(), claims).with_expiry(token.expires_at())
}

/// By how much clocks may differ, as the service's libraries expect it.
const SKEW: Duration = Duration::from_secs(300);
const ABOUT_THE_TOKEN: [&str; 5] = ["aud", "exp", "iat", "iss", "nbf"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Claims, DEVELOPMENT_KEY};

    fn of(audience: &str) -> Option<Identity> {
        let keys = AccessKeys::new([DEVELOPMENT_KEY]).unwrap();
        let claims = [("asrs.s.uid", "ann"), ("roles", "admin"), ("asrs.u.iss", "me"), ("tenant", "acme")];
        let lifetime = Duration::from_secs(60);
        let token = keys.sign(&Claims { claims: &claims, audience, now: SystemTime::now(), lifetime });
        ClientTokens::new(keys, "chat", "/hubs/chat").identify(&token)
    }

    #[test]
    fn a_token_opens_the_hub_that_it_is_for() {
        for good in [
            "http://localhost/client/?hub=chat",
            "https://x:1/client/?hub=Chat",
            "http://x/hubs/chat",
            "http://x/hubs/chat/",
        ] {
            let ann = of(good).expect(good);
            assert_eq!((ann.user_id(), ann.has_role("admin")), (Some("ann"), true));
            assert_eq!((ann.claim("iss"), ann.claim("tenant"), ann.claim("aud")), (Some("me"), Some("acme"), None));
        }
        for other in [
            "http://x/client/?hub=news",
            "http://x/client/",
            "http://x/server/?hub=chat",
            "http://x/api/hubs/chat",
            "chat",
            "",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
