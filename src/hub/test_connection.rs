use super::{Connection, Hub};
use crate::connection::Link;
use crate::protocol::hub::{Message, next_message};
use crate::{Identity, Value};
use std::fmt;
use std::sync::Arc;

impl Connection {
    /// Makes a connection for unit tests of hub functions, on a hub of its own, and what it is sent. Every extractor can be made of it.
    ///
    /// ```
    /// use hubwire::{Caller, Clients, Connection, HubResult, Identity};
    ///
    /// async fn wave(caller: Caller, clients: Clients) -> HubResult {
    ///     clients.all().send("waved", (caller.user_id(),)).await
    /// }
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let (connection, inbox) = Connection::for_test(Identity::user("ann"));
    /// wave(Caller::for_test(&connection), Clients::for_test(&connection)).await.unwrap();
    /// let (target, arguments) = inbox.take().remove(0);
    /// assert_eq!((&*target, arguments[0].as_str().as_deref()), ("waved", Some("ann")));
    /// # });
    /// ```
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn for_test(identity: Identity) -> (Self, Inbox) {
        Self::for_test_in(&Hub::with_state(()).build(), identity)
    }

    /// Makes a connection to a hub for unit tests: several of them can send to each other. Neither its `on_connected` nor any other function
    /// runs by itself.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn for_test_in(hub: &Hub, identity: Identity) -> (Self, Inbox) {
        let link = Link::detached(identity);
        hub.shared.lifetime.add(&link);
        let connection = Self::new(link.clone(), hub.shared.clone());
        (connection, Inbox { link, hub: hub.clone() })
    }
}

/// What a connection for unit tests is sent. Dropping it ends the connection.
pub struct Inbox {
    link: Arc<Link>,
    hub: Hub,
}

impl Inbox {
    /// Takes the calls of client methods that have come, in order, as name and arguments.
    pub fn take(&self) -> Vec<(String, Vec<Value>)> {
        self.link.take_queued().iter().filter_map(|frame| self.call(frame.payload())).collect()
    }

    /// Tells whether the connection was ended, by [`Caller::abort`](super::Caller::abort) or from elsewhere.
    pub fn is_closed(&self) -> bool {
        self.link.is_closed()
    }

    fn call(&self, framed: &[u8]) -> Option<(String, Vec<Value>)> {
        let protocol = self.link.protocol();
        let piece = next_message(protocol, framed, None).ok()??;
        let Ok(Message::Invocation(call)) = protocol.decode(&framed[piece.body]) else { return None };
        let arguments = call.arguments.ok()?.map(|raw| raw.decode().unwrap_or_default());
        Some((call.target.into_owned(), arguments.collect()))
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.hub.shared.lifetime.remove(&self.link);
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("connection", &self.link.id()).finish_non_exhaustive()
    }
}
