use super::{Action, Relay};
use crate::{Caller, Connection, FromConnection, HubError, HubResult, Items};
use std::sync::atomic::{AtomicU32, Ordering};
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

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Lets who has the right pass.
    pub(super) fn check(&self, action: Action, name: &str) -> HubResult {
        if self.relay.permissions().allow(self.caller.identity(), action.name(), name) {
            return Ok(());
        }
        self.log(action, name);
        Err(HubError::client(self.refusal(action, name)))
    }

    /// The log sees who, at a level that operators look at; a client that tries for ever is not to fill it.
    fn log(&self, action: Action, name: &str) {
        let refusals = self.items.get_or_default::<Refusals>().0.fetch_add(1, Ordering::Relaxed);
        let (connection, user, action) = (self.caller.id(), self.caller.user_id(), action.name());
        if refusals < LOGGED {
            warn!(connection, user, action, name = ?name, "a permission was refused");
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

/// Refusals of one connection that are logged for everybody to see.
const LOGGED: u32 = 10;
