use super::{Action, Relay, RelayOptions};
use crate::{Caller, Connection, FromConnection, HubError, HubResult, Items};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// Asks the permission table in the name of the caller.
pub(super) struct Guard {
    relay: Relay,
    caller: Caller,
    items: Items,
}

/// How often a connection was refused.
#[derive(Default)]
struct Refusals(AtomicU32);

impl FromConnection<Relay> for Guard {
    fn from_connection(connection: &Connection, relay: &Relay) -> HubResult<Self> {
        let caller = Caller::from_connection(connection, relay)?;
        Ok(Self { relay: relay.clone(), caller, items: Items::from_connection(connection, relay)? })
    }
}

impl Guard {
    pub(super) fn relay(&self) -> &Relay {
        &self.relay
    }

    pub(super) fn options(&self) -> &RelayOptions {
        self.relay.options()
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Lets who has the right pass.
    pub(super) fn check(&self, action: Action, name: &str) -> HubResult {
        if self.relay.options().permissions.allow(self.caller.identity(), action.name(), name) {
            return Ok(());
        }
        self.log(action, name);
        Err(HubError::client(self.refusal(action, name)))
    }

    /// The log sees who, at a level that operators look at; neither a client that tries for ever is to fill it, nor are many that try once.
    fn log(&self, action: Action, name: &str) {
        let refusals = self.items.get_or_default::<Refusals>().0.fetch_add(1, Ordering::Relaxed);
        let (connection, user, action) = (self.caller.id(), self.caller.user_id(), action.name());
        if refusals < LOGGED
            && let Some(unlogged) = self.relay.warnings().take(Instant::now())
        {
            warn!(connection, user, action, name = ?name, unlogged, "a permission was refused");
        } else {
            debug!(connection, user, action, name = ?name, "a permission was refused again");
        }
    }

    fn refusal(&self, action: Action, name: &str) -> String {
        let who = match self.caller.user_id() {
            Some(user) => format!("The user '{user}'"),
            None if self.caller.identity().is_authenticated() => "This client".to_owned(),
            None => "A client that has not signed in".to_owned(),
        };
        let on = if name.is_empty() { String::new() } else { format!(" on '{name}'") };
        format!("{who} has no permission '{action}'{on}. The permissions of this hub are the server's configuration.")
    }
}

/// Warnings of a hub: so many a minute.
#[derive(Debug, Default)]
pub(super) struct Warnings(Mutex<Minute>);

#[derive(Debug, Default)]
struct Minute {
    began: Option<Instant>,
    logged: u32,
    /// Those that were left out since the last that was logged.
    unlogged: u64,
}

impl Warnings {
    /// Whether there is room for one more; then how many had none before it.
    fn take(&self, now: Instant) -> Option<u64> {
        let mut minute = self.0.lock();
        if minute.began.is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(60)) {
            (minute.began, minute.logged) = (Some(now), 0);
        }
        if minute.logged == LOGGED_IN_A_MINUTE {
            minute.unlogged += 1;
            return None;
        }
        minute.logged += 1;
        Some(std::mem::take(&mut minute.unlogged))
    }
}

/// Refusals of one connection that are logged for everybody to see.
const LOGGED: u32 = 10;
/// The same of all connections of a hub together.
const LOGGED_IN_A_MINUTE: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::hub;
    use crate::{Identity, Permissions, Policy};

    fn guard(identity: Identity) -> Guard {
        let rights = Permissions::default().grant("join", "inbox-{user}", Policy::authenticated());
        let relay = Relay::new(&RelayOptions::default().with_permissions(rights));
        let (connection, _) = Connection::for_test_in(&hub(RelayOptions::default()).build(), identity);
        Guard::from_connection(&connection, &relay).unwrap()
    }

    fn refused(guard: &Guard, action: Action, name: &str) -> String {
        guard.check(action, name).unwrap_err().client_text().unwrap().to_owned()
    }

    #[test]
    fn warnings_of_all_clients_together_have_a_limit_and_what_is_left_out_is_counted() {
        let (warnings, start) = (Warnings::default(), Instant::now());
        let taken = (0..100).filter(|_| warnings.take(start) == Some(0)).count();
        assert_eq!(taken, 60);
        assert_eq!(warnings.take(start + Duration::from_secs(59)), None);
        assert_eq!(warnings.take(start + Duration::from_secs(60)), Some(41));
        assert_eq!(warnings.take(start + Duration::from_secs(60)), Some(0));
    }

    #[tokio::test]
    async fn who_is_refused_is_told_what_is_missing() {
        let ann = guard(Identity::user("ann"));
        assert!(ann.check(Action::Join, "inbox-ann").is_ok());
        let text = refused(&ann, Action::Join, "inbox-bob");
        assert!(text.starts_with("The user 'ann' has no permission 'join' on 'inbox-bob'."), "{text}");
        let text = refused(&guard(Identity::new(None, [])), Action::SendToAll, "");
        assert!(text.starts_with("This client has no permission 'send-to-all'."), "{text}");
        let text = refused(&guard(Identity::anonymous()), Action::SeePresence, "a");
        assert!(text.starts_with("A client that has not signed in has no permission 'see-presence'"), "{text}");
    }
}
