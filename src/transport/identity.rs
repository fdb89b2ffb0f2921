use std::fmt;
use std::sync::Arc;

/// Who a connection belongs to: a user id, if there is one, and claims.
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
}

impl Identity {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self(None)
    }

    /// Makes the identity of a user. User ids are compared byte by byte.
    pub fn user(id: impl AsRef<str>) -> Self {
        Self::pack(Some(id.as_ref()), std::iter::empty())
    }

    /// Adds a claim; a type may have several values.
    pub fn with_claim(self, kind: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        Self::pack(self.user_id(), self.claims().chain([(kind.as_ref(), value.as_ref())]))
    }

    /// Makes an identity in one go, which for many claims is cheaper than one by one.
    pub fn new<'a>(user: Option<&'a str>, claims: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self::pack(user, claims.into_iter())
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

    fn pack<'a>(user: Option<&str>, claims: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut text = String::from(user.unwrap_or_default());
        let ends: Box<[_]> = claims
            .map(|(kind, value)| {
                text.push_str(kind);
                let middle = text.len() as u32;
                text.push_str(value);
                (middle, text.len() as u32)
            })
            .collect();
        Self(Some(Arc::new(Packed { user: user.map(|u| u.len() as u32), text: text.into(), ends })))
    }
}

/// Shows that there is a user and how many claims, not what they say.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("user", &self.user_id().is_some())
            .field("claims", &self.claims().count())
            .finish()
    }
}
