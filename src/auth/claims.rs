use crate::transport::{Identity, ROLE};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::time::{Duration, SystemTime};

/// Which claims of a token say what.
#[derive(Debug, Clone)]
pub(super) struct ClaimNames {
    /// The first of them that a token has is its user's id.
    pub(super) user: Vec<String>,
    pub(super) roles: Vec<String>,
}

impl ClaimNames {
    /// The identity that a verified token stands for.
    pub(super) fn identity(&self, claims: &Map<String, Value>) -> Identity {
        let user = self
            .user
            .iter()
            .filter_map(|name| claims.get(name))
            .find_map(|value| texts(value).next().filter(|text| !text.is_empty()));
        let kept = claims.iter().filter(|(name, _)| !TIMES.contains(&&***name));
        let flat: Vec<(&str, Cow<'_, str>)> = kept
            .flat_map(|(name, value)| {
                let kind = if self.roles.contains(name) { ROLE } else { &**name };
                texts(value).map(move |text| (kind, text))
            })
            .collect();
        let identity = Identity::new(user.as_deref(), flat.iter().map(|(kind, text)| (*kind, &**text)));
        match claims.get("exp").and_then(Value::as_f64).map(Duration::try_from_secs_f64) {
            Some(Ok(since)) => match SystemTime::UNIX_EPOCH.checked_add(since) {
                Some(at) => identity.with_expiry(at),
                None => identity,
            },
            _ => identity,
        }
    }
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self { user: USER.map(Into::into).to_vec(), roles: ROLES.map(Into::into).to_vec() }
    }
}

/// A claim's values: a list has several.
fn texts(value: &Value) -> impl Iterator<Item = Cow<'_, str>> {
    let list: &[Value] = match value {
        Value::Array(list) => list,
        Value::Null => &[],
        one => std::slice::from_ref(one),
    };
    list.iter().map(|one| match one {
        Value::String(text) => Cow::Borrowed(&**text),
        other => Cow::Owned(other.to_string()),
    })
}

/// How .NET's handler maps them by default.
const USER: [&str; 3] = ["sub", "nameid", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"];
const ROLES: [&str; 3] = ["role", "roles", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"];
/// Not about the user, and different in every token of the same user.
const TIMES: [&str; 4] = ["exp", "nbf", "iat", "jti"];
