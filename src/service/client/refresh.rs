use super::{ClientFace, claims, terms};
use crate::protocol::service::Timestamp;
use crate::service::{Credentials, Refreshed};
use crate::transport::{ConnectionId, ConnectionToken, Identity, Renewal};

impl Credentials for ClientFace {
    fn refresh(&self, token: &str, given: &[(&str, &str)], expires: Timestamp) -> Refreshed {
        let Some((token, id, current)) = self.found(token) else { return Refreshed::NotFound };
        if !given.is_empty() && claims::user_id(given.iter().copied()) != current.user_id() {
            return Refreshed::Forbidden;
        }
        let renewed = renewed(&current, given, expires);
        // expiry is moved forward only, so it cannot be stale
        match self.registry().renew(token, &renewed, renewed.clone()) {
            Renewal::Foreign => return Refreshed::Forbidden,
            Renewal::Unknown => return Refreshed::NotFound,
            Renewal::Done | Renewal::Stale => {}
        }
        let changes = of_application(&renewed) != of_application(&current);
        let server = changes.then(|| self.clients().servers.client(id.as_str())).flatten();
        Refreshed::Done { claims: owned(&renewed), tell: server.map(|(server, _)| (server, id)) }
    }

    fn claims(&self, token: &str) -> Option<Vec<(String, String)>> {
        let (_, _, identity) = self.found(token)?;
        Some(owned(&identity))
    }
}

impl ClientFace {
    /// The connection of a secret token. One whose token is its public id, which anybody may know, has none.
    fn found(&self, token: &str) -> Option<(ConnectionToken, ConnectionId, Identity)> {
        let token = ConnectionToken::parse(token)?;
        let credential = self.registry().credential(token)?;
        (token != ConnectionToken::same_as(credential.id)).then_some((token, credential.id, credential.identity))
    }
}

/// The claims after a refresh: new ones take the place of the application's, those of the service stay unless they are given anew.
fn renewed(current: &Identity, given: &[(&str, &str)], expires: Timestamp) -> Identity {
    let is_given = |kind: &str| given.iter().any(|claim| claim.0 == kind);
    let kept = current
        .claims()
        .filter(|(kind, _)| given.is_empty() || (kind.starts_with(claims::OF_SERVICE) && !is_given(kind)));
    let deadline = seconds(expires).map(|at| at.max(seconds_of(current).unwrap_or(0)).to_string());
    let all: Vec<(&str, &str)> = kept
        .chain(given.iter().copied())
        .filter(|(kind, _)| deadline.is_none() || *kind != claims::EXPIRES)
        .chain(deadline.as_deref().map(|at| (claims::EXPIRES, at)))
        .collect();
    terms::identity(all.into_iter())
}

/// When the credential in force expires, by the claim.
fn seconds_of(identity: &Identity) -> Option<i64> {
    identity.claim(claims::EXPIRES)?.parse().ok()
}

/// `None`: the deadline is to stay.
fn seconds(expires: Timestamp) -> Option<i64> {
    (expires.seconds < LAST_DAY).then_some(expires.seconds)
}

fn of_application(identity: &Identity) -> Vec<(&str, &str)> {
    identity.claims().filter(|(kind, _)| !kind.starts_with(claims::OF_SERVICE)).collect()
}

fn owned(identity: &Identity) -> Vec<(String, String)> {
    claims::for_server(identity).into_iter().map(|(kind, value)| (kind.to_owned(), value.to_owned())).collect()
}

/// The year 9999, from its last day on, stands for a deadline that stays.
const LAST_DAY: i64 = 253_402_214_400;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn new_claims_replace_the_applications_and_the_deadline_moves_forward_only() {
        let ann = [("asrs.s.uid", "ann"), ("asrs.s.coae", "true"), ("asrs.s.aeo", "1000"), ("role", "a"), ("x", "1")];
        let ann = terms::identity(ann.into_iter());
        let at = |seconds| Timestamp { seconds, nanoseconds: 0 };
        let later = renewed(&ann, &[("role", "b")], at(2000));
        let want = [("asrs.s.uid", "ann"), ("asrs.s.coae", "true"), ("role", "b"), ("asrs.s.aeo", "2000")];
        assert!(later.claims().eq(want));
        assert_eq!(later.expires_at(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(2000)));
        let kept = renewed(&later, &[], at(500));
        assert!(kept.claims().eq(want), "an earlier deadline changes nothing");
        let stays = renewed(&later, &[], at(253_402_300_799));
        assert!(stays.claims().eq(want));
        assert_eq!(of_application(&later), [("role", "b")]);
    }
}
