use super::Identity;
use std::fmt;
use std::sync::Arc;

/// Who may do something: a rule on an [`Identity`]. Cheap to clone.
///
/// A hub asks it before anything else happens ([`HubBuilder::authorize`](crate::HubBuilder::authorize)), or for one of its methods
/// ([`HubBuilder::authorize_method`](crate::HubBuilder::authorize_method)); [`Permissions`](crate::Permissions) ask it about names.
///
/// ```
/// use hubwire::{Identity, Policy};
/// let staff = Policy::role("admin").or(Policy::role("editor")).and(Policy::claim("tenant", "acme"));
/// let ann = Identity::user("ann").with_claim("role", "editor").with_claim("tenant", "acme");
/// assert!(staff.allows(&ann));
/// assert!(!staff.allows(&Identity::anonymous()));
/// ```
#[derive(Clone)]
pub struct Policy(Arc<Rule>);

enum Rule {
    Authenticated,
    Claim(Box<str>, Box<str>),
    Custom(Box<dyn Fn(&Identity) -> bool + Send + Sync>),
    Both(Policy, Policy),
    Either(Policy, Policy),
}

impl Policy {
    /// Allows everybody who was authenticated.
    pub fn authenticated() -> Self {
        Self::of(Rule::Authenticated)
    }

    /// Allows who is authenticated and has a role.
    pub fn role(role: impl AsRef<str>) -> Self {
        Self::claim(super::identity::ROLE, role)
    }

    /// Allows who is authenticated and has a claim with this value among its values.
    pub fn claim(kind: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        Self::of(Rule::Claim(kind.as_ref().into(), value.as_ref().into()))
    }

    /// Allows whom a function allows, which is called often and should not block. It is asked about anonymous callers, too.
    pub fn custom(allows: impl Fn(&Identity) -> bool + Send + Sync + 'static) -> Self {
        Self::of(Rule::Custom(Box::new(allows)))
    }

    /// Allows whom both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::of(Rule::Both(self, other))
    }

    /// Allows whom either allows.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::of(Rule::Either(self, other))
    }

    /// Tells whether it allows somebody.
    pub fn allows(&self, identity: &Identity) -> bool {
        match &*self.0 {
            Rule::Authenticated => identity.is_authenticated(),
            Rule::Claim(kind, value) => identity.is_authenticated() && identity.has_claim(kind, value),
            Rule::Custom(allows) => allows(identity),
            Rule::Both(a, b) => a.allows(identity) && b.allows(identity),
            Rule::Either(a, b) => a.allows(identity) || b.allows(identity),
        }
    }

    fn of(rule: Rule) -> Self {
        Self(Arc::new(rule))
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Rule::Authenticated => f.write_str("Authenticated"),
            Rule::Claim(kind, value) => f.debug_tuple("Claim").field(kind).field(value).finish(),
            Rule::Custom(_) => f.write_str("Custom"),
            Rule::Both(a, b) => f.debug_tuple("Both").field(a).field(b).finish(),
            Rule::Either(a, b) => f.debug_tuple("Either").field(a).field(b).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_nobody_vouched_for_gives_no_right() {
        let pretender = Identity::anonymous().with_claim("role", "admin");
        assert!(!Policy::role("admin").allows(&pretender));
        assert!(!Policy::authenticated().allows(&pretender));
        assert!(Policy::authenticated().allows(&Identity::new(None, [])), "a program without a user id");
        assert!(Policy::custom(|_| true).allows(&pretender));
    }
}
