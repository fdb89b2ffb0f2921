use crate::{Identity, Policy};
use std::borrow::Cow;
use std::sync::Arc;

/// Who may do what with which names: a list of rights for groups (or users, or anything with a name) that come from clients.
///
/// What no right allows is refused. A pattern is the name itself, with `*` for any characters, and `{user}` for the user id of whoever asks:
/// it fits nothing for somebody without one. Cheap to clone, so that it can be part of a hub's state.
///
/// ```
/// use axum::extract::State;
/// use hubwire::{Caller, Groups, HubError, HubResult, Identity, Permissions, Policy};
///
/// async fn join(caller: Caller, groups: Groups, State(rights): State<Permissions>, room: String) -> HubResult {
///     if !rights.allow(caller.identity(), "join", &room) {
///         return Err(HubError::client("that room is not for you"));
///     }
///     groups.add(caller.id(), room).await
/// }
///
/// let rights = Permissions::default()
///     .grant("join", "room-*", Policy::authenticated())
///     .grant("join", "inbox-{user}", Policy::authenticated())
///     .grant("*", "*", Policy::role("admin"));
/// let ann = Identity::user("ann");
/// assert!(rights.allow(&ann, "join", "room-7") && rights.allow(&ann, "join", "inbox-ann"));
/// assert!(!rights.allow(&ann, "join", "inbox-bob") && !rights.allow(&ann, "send", "room-7"));
/// # hubwire::Hub::with_state(rights).method("Join", join).build();
/// ```
#[derive(Debug, Clone, Default)]
pub struct Permissions(Arc<Vec<Right>>);

#[derive(Debug, Clone)]
struct Right {
    action: Box<str>,
    pattern: Box<str>,
    policy: Policy,
}

impl Permissions {
    /// Lets those whom a policy allows do something, `*` for anything, with the names that fit a pattern.
    #[must_use]
    pub fn grant(mut self, action: impl AsRef<str>, pattern: impl AsRef<str>, policy: Policy) -> Self {
        let right = Right { action: action.as_ref().into(), pattern: pattern.as_ref().into(), policy };
        Arc::make_mut(&mut self.0).push(right);
        self
    }

    /// Tells whether there is anybody who may do something with any name.
    #[cfg(feature = "server")]
    pub(crate) fn grants(&self, action: &str) -> bool {
        self.0.iter().any(|right| &*right.action == "*" || &*right.action == action)
    }

    /// Tells whether somebody may do something with a name.
    pub fn allow(&self, identity: &Identity, action: &str, name: &str) -> bool {
        self.0.iter().any(|right| {
            (&*right.action == "*" || &*right.action == action)
                && fits(&right.pattern, name, identity.user_id())
                && right.policy.allows(identity)
        })
    }
}

/// Compares a name with a pattern, part by part between the stars; the first fit of each part is as good as any other.
fn fits(pattern: &str, name: &str, user: Option<&str>) -> bool {
    if user.is_none() && pattern.contains(USER) {
        return false;
    }
    // a star in a user id is a star, so the id is put in part by part
    let part = |part: &'_ str| match user {
        Some(user) if part.contains(USER) => Cow::Owned(part.replace(USER, user)),
        _ => Cow::Owned::<str>(part.to_owned()),
    };
    let Some((first, rest)) = pattern.split_once('*') else { return *part(pattern) == *name };
    let Some(mut name) = name.strip_prefix(&*part(first)) else { return false };
    let (middle, last) = rest.rsplit_once('*').map_or((None, rest), |(middle, last)| (Some(middle), last));
    match name.strip_suffix(&*part(last)) {
        Some(left) => name = left,
        None => return false,
    }
    middle.into_iter().flat_map(|middle| middle.split('*')).all(|piece| {
        let piece = part(piece);
        name.find(&*piece).map(|at| name = &name[at + piece.len()..]).is_some()
    })
}

const USER: &str = "{user}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_names() {
        let cases = [
            ("room", "room", true),
            ("room", "rooms", false),
            ("room-*", "room-", true),
            ("room-*", "broom-1", false),
            ("*-room", "a-room", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("*", "", true),
            ("**", "x", true),
            ("a*x*x*z", "axz", false),
            ("ä*ö", "äüö", true),
        ];
        for (pattern, name, wanted) in cases {
            assert_eq!(fits(pattern, name, None), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn a_user_is_itself_and_no_pattern() {
        assert!(fits("of-{user}-*", "of-ann-1", Some("ann")));
        assert!(!fits("of-{user}", "of-bob", Some("ann")));
        assert!(!fits("of-{user}", "of-ann", Some("*")));
        assert!(fits("of-{user}", "of-*", Some("*")));
        assert!(!fits("of-{user}", "of-", None));
        assert!(!fits("{user}*", "anything", None));
    }
}
