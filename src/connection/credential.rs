use crate::transport::Identity;
use parking_lot::Mutex;
use std::num::NonZeroU64;
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// What can change about who a connection belongs to: when its credential expires, and the identity by which it was renewed. The user
/// never changes.
#[derive(Debug)]
pub(crate) struct Credential {
    /// Milliseconds since 1970, or 0 for never.
    expires: AtomicU64,
    /// Made by the first renewal: most connections never see one.
    renewed: OnceLock<Mutex<Identity>>,
    /// There was a renewal that the hub has not been told of.
    news: AtomicBool,
}

impl Credential {
    pub(super) fn of(identity: &Identity) -> Self {
        let expires = AtomicU64::new(identity.expiry_millis().map_or(0, NonZeroU64::get));
        Self { expires, renewed: OnceLock::new(), news: AtomicBool::new(false) }
    }

    pub(super) fn renew(&self, identity: Identity) {
        self.expire(identity.expiry_millis());
        let mut new = Some(identity);
        let renewed = self.renewed.get_or_init(|| Mutex::new(new.take().unwrap_or_default()));
        if let Some(identity) = new {
            *renewed.lock() = identity;
        }
        self.news.store(true, Release);
    }

    pub(super) fn expire(&self, at: Option<NonZeroU64>) {
        self.expires.store(at.map_or(0, NonZeroU64::get), Relaxed);
    }

    pub(super) fn is_expired(&self, now: u64) -> bool {
        let expires = self.expires.load(Relaxed);
        expires != 0 && expires <= now
    }

    /// The identity in force, if it is no longer the one that the connection began with.
    pub(crate) fn renewed(&self) -> Option<Identity> {
        self.renewed.get().map(|renewed| renewed.lock().clone())
    }

    pub(crate) fn has_news(&self) -> bool {
        self.news.load(Acquire)
    }

    /// Whether there is news, which is none any more.
    pub(crate) fn take_news(&self) -> bool {
        self.has_news() && self.news.swap(false, AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn until(seconds: u64) -> Identity {
        Identity::user("ann").with_expiry(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    #[test]
    fn the_latest_credential_decides_when_it_is_over() {
        let credential = Credential::of(&Identity::user("ann"));
        assert!(!credential.is_expired(u64::MAX));
        credential.renew(until(10));
        assert!(!credential.is_expired(9_999) && credential.is_expired(10_000));
        credential.renew(until(20));
        assert!(!credential.is_expired(10_000) && credential.renewed() == Some(until(20)));
        assert!(credential.take_news() && !credential.take_news());
        credential.expire(None);
        assert!(!credential.is_expired(u64::MAX) && credential.renewed() == Some(until(20)));
    }
}
