use super::claims;
use crate::transport::{Identity, Terms, Transport};
use std::time::{Duration, SystemTime};

/// Who the holder of a token is.
pub(crate) fn identity<'a>(claims: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Identity {
    let identity = Identity::new(claims::user_id(claims.clone()), claims);
    let expires =
        seconds(&identity, claims::EXPIRES).filter(|_| claims::is_set(&identity, claims::CLOSE_ON_EXPIRATION));
    match expires.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(since))) {
        Some(at) => identity.with_expiry(at),
        None => identity,
    }
}

/// What a client is granted by its token. `kept`: what the application server is to know of its request.
pub(crate) fn terms(identity: &Identity, stateful_reconnect: bool, kept: Box<str>) -> Terms {
    let within = |kind, longest| seconds(identity, kind).filter(|s| (1..=longest).contains(s)).map(Duration::from_secs);
    Terms {
        transports: seconds(identity, claims::TRANSPORTS).map(transports),
        stateful_reconnect,
        handshake_timeout: within(claims::HANDSHAKE_TIMEOUT, LONGEST_HANDSHAKE),
        disconnect_timeout: within(claims::POLL_INTERVAL, LONGEST_POLL_INTERVAL),
        detailed_errors: claims::is_set(identity, claims::DETAILED_ERRORS),
        is_final: claims::is_set(identity, claims::DIAGNOSTIC),
        kept,
    }
}

fn seconds(identity: &Identity, kind: &str) -> Option<u64> {
    identity.claim(kind)?.parse().ok()
}

fn transports(bits: u64) -> Vec<Transport> {
    let named = [(1, Transport::WebSockets), (2, Transport::ServerSentEvents), (4, Transport::LongPolling)];
    named.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, transport)| transport).collect()
}

/// Seconds, as a server's library checks them.
const LONGEST_HANDSHAKE: u64 = 30;
const LONGEST_POLL_INTERVAL: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_grants() {
        let claims = [
            ("asrs.s.uid", "ann"),
            ("asrs.s.htt", "5"),
            ("asrs.s.ttl", "60"),
            ("asrs.s.cht", "31"),
            ("asrs.s.derror", "True"),
            ("asrs.s.aeo", "1000"),
        ];
        let ann = identity(claims.into_iter());
        assert_eq!((ann.user_id(), ann.expires_at()), (Some("ann"), None), "it was not asked to close");
        let granted = terms(&ann, true, "?".into());
        assert_eq!(granted.transports, Some(vec![Transport::WebSockets, Transport::LongPolling]));
        assert_eq!((granted.disconnect_timeout, granted.handshake_timeout), (Some(Duration::from_secs(60)), None));
        assert!(granted.detailed_errors && granted.stateful_reconnect && !granted.is_final);
        let closing = identity(claims.into_iter().chain([("asrs.s.coae", "true")]));
        assert_eq!(closing.expires_at(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1000)));
        assert_eq!(terms(&Identity::anonymous(), false, Box::default()).transports, None);
    }
}
