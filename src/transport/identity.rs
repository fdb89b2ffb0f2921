use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Who a connection belongs to: a user id, if there is one, claims, and until when that is known.
///
/// An axum layer in front of the hub puts one into the request's extensions, after it has checked whatever it checks; without one a
/// connection is anonymous. Cheap to clone.
///
/// ```
/// use hubwire::Identity;
/// let ann = Identity::user("ann").with_claim("role", "admin").with_claim("role", "editor");
/// assert_eq!(ann.user_id(), Some("ann"));
/// assert_eq!(ann.claim("role"), Some("admin"));
/// assert!(ann.has_claim("role", "editor"));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Identity(Option<Arc<Packed>>);

/// All texts in one allocation: with six claims, a fifth of what strings of their own would hold for each connection.
#[derive(Clone, Default, PartialEq, Eq)]
struct Packed {
    text: Box<str>,
    /// Length of the user id at the start of the text.
    user: Option<u32>,
    /// Where each claim's type and value end.
    ends: Box<[(u32, u32)]>,
    authenticated: bool,
    /// Milliseconds since 1970. `None`: never.
    expires: Option<NonZeroU64>,
}

impl Identity {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self(None)
    }

    /// Makes the identity of a user. User ids are compared byte by byte.
    pub fn user(id: impl AsRef<str>) -> Self {
        Self::pack(Some(id.as_ref()), std::iter::empty(), true)
    }

    /// Adds a claim; a type may have several values. Nobody becomes [authenticated](Self::is_authenticated) by a claim.
    pub fn with_claim(self, kind: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let claims = self.claims().chain([(kind.as_ref(), value.as_ref())]);
        let packed = Self::pack(self.user_id(), claims, self.is_authenticated());
        packed.expiring(self.0.as_ref().and_then(|p| p.expires))
    }

    /// Makes an identity that was authenticated in one go, which for many claims is cheaper than one by one. It need not have a user id:
    /// a program that calls for itself may have none.
    pub fn new<'a>(user: Option<&'a str>, claims: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::pack(user, claims.into_iter(), true)
    }

    /// Sets when the credential expires. Connections outlive it, unless
    /// [`close_on_authentication_expiration`](crate::ConnectionOptions::close_on_authentication_expiration) says otherwise.
    pub fn with_expiry(self, at: SystemTime) -> Self {
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.expiring(NonZeroU64::new(millis.max(1)))
    }

    /// Returns when the credential expires, if that is known.
    pub fn expires_at(&self) -> Option<SystemTime> {
        let millis = self.expiry_millis()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis.get()))
    }

    /// Tells whether somebody vouched for it. The identity of a request that nobody looked at is anonymous.
    pub fn is_authenticated(&self) -> bool {
        self.0.as_ref().is_some_and(|p| p.authenticated)
    }

    /// Returns the user id: what `Clients::user` finds a connection by.
    pub fn user_id(&self) -> Option<&str> {
        let packed = self.0.as_deref()?;
        Some(&packed.text[..packed.user? as usize])
    }

    /// Returns the claims in their order, as type and value.
    pub fn claims(&self) -> impl Iterator<Item = (&str, &str)> {
        let packed = self.0.as_deref();
        packed.into_iter().flat_map(|p| {
            let starts = std::iter::once(p.user.unwrap_or(0)).chain(p.ends.iter().map(|(_, end)| *end));
            starts.zip(&p.ends).map(|(start, (middle, end))| {
                (&p.text[start as usize..*middle as usize], &p.text[*middle as usize..*end as usize])
            })
        })
    }

    /// Returns the first value of a claim.
    pub fn claim(&self, kind: &str) -> Option<&str> {
        self.claims().find(|(k, _)| *k == kind).map(|(_, v)| v)
    }

    /// Tells whether a claim has this value among its values.
    pub fn has_claim(&self, kind: &str, value: &str) -> bool {
        self.claims().any(|claim| claim == (kind, value))
    }

    /// Tells whether it has a role: the claim type `role`, under which `JwtBearer` puts roles of any name.
    pub fn has_role(&self, role: &str) -> bool {
        self.has_claim(ROLE, role)
    }

    /// Whether a request with `other` may touch what belongs to this one. What has no user belongs to nobody else either.
    pub(crate) fn is_same_user(&self, other: &Self) -> bool {
        self.user_id() == other.user_id()
    }

    pub(crate) fn expiry_millis(&self) -> Option<NonZeroU64> {
        self.0.as_ref()?.expires
    }

    /// Bytes that are held for it. A list of many short values under a long name is far longer than it was in its token.
    #[cfg(feature = "auth")]
    pub(crate) fn size(&self) -> usize {
        self.0.as_ref().map_or(0, |packed| size_of::<Packed>() + packed.text.len() + size_of_val(&*packed.ends))
    }

    fn expiring(self, expires: Option<NonZeroU64>) -> Self {
        let mut packed = self.0.unwrap_or_default();
        if packed.expires != expires {
            Arc::make_mut(&mut packed).expires = expires;
        }
        Self(Some(packed))
    }

    fn pack<'a>(user: Option<&str>, claims: impl Iterator<Item = (&'a str, &'a str)>, authenticated: bool) -> Self {
        let mut text = String::from(user.unwrap_or_default());
        let ends: Box<[_]> = claims
            .map(|(kind, value)| {
                text.push_str(kind);
                let middle = text.len() as u32;
                text.push_str(value);
                (middle, text.len() as u32)
            })
            .collect();
        let user = user.map(|u| u.len() as u32);
        Self(Some(Arc::new(Packed { user, text: text.into(), ends, authenticated, expires: None })))
    }
}

/// Shows that there is a user and how many claims, not what they say.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("user", &self.user_id().is_some())
            .field("claims", &self.claims().count())
            .finish_non_exhaustive()
    }
}

/// Milliseconds since 1970 of the system's clock.
pub(crate) fn unix_millis() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}

/// The type under which roles are found.
pub(crate) const ROLE: &str = "role";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_neither_authenticates_nor_forgets() {
        let nobody = Identity::anonymous().with_claim("language", "en");
        assert!(!nobody.is_authenticated());
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        let ann = Identity::user("ann").with_expiry(at).with_claim("role", "admin");
        assert!(ann.is_authenticated() && ann.has_role("admin"));
        assert_eq!((ann.user_id(), ann.expires_at()), (Some("ann"), Some(at)));
    }
}
