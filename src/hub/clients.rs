use super::Connection;
use super::client_results::ClientCall;
use super::connection::Moment;
use super::pending::{Pending, failure};
use super::presence::Presence;
use super::shared::Shared;
use super::target::{Answers, Target};
use crate::backplane::{Audience, Closing, Found, Member, Page, Whom};
use crate::lifetime::Outgoing;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

/// The clients that a call may send to: a parameter of hub functions. Outside of them there is [`HubContext`](super::HubContext).
///
/// Nothing here waits for a receiver. What one task sends arrives in that order on every connection.
#[derive(Clone)]
pub struct Clients(Connection);

impl Clients {
    pub(super) fn of(connection: &Connection) -> Self {
        Self(connection.clone())
    }

    /// Makes them for a unit test; what is sent to the connection shows up where [`Connection::for_test`] says.
    pub fn for_test(connection: &Connection) -> Self {
        Self::of(connection)
    }

    /// Returns the connection that calls.
    pub fn caller(&self) -> Client {
        self.client(self.0.id())
    }

    /// Returns every connection.
    pub fn all(&self) -> Receivers {
        self.receivers(Audience::All)
    }

    /// Returns every connection but the caller.
    pub fn others(&self) -> Receivers {
        self.all_except([self.0.id()])
    }

    /// Returns every connection but these.
    pub fn all_except(&self, ids: impl IntoIterator<Item = impl Into<String>>) -> Receivers {
        self.receivers(Audience::AllExcept(texts(ids)))
    }

    /// Returns one connection, by its id.
    pub fn client(&self, id: impl Into<String>) -> Client {
        Client { hub: self.hub().clone(), id: id.into(), asker: Some(self.0.clone()) }
    }

    /// Returns some connections, by their ids.
    pub fn clients(&self, ids: impl IntoIterator<Item = impl Into<String>>) -> Receivers {
        self.receivers(Audience::Connections(texts(ids)))
    }

    /// Returns the members of a group.
    pub fn group(&self, name: impl Into<String>) -> Receivers {
        self.receivers(Audience::Group(name.into()))
    }

    /// Returns the members of some groups; one in two of them gets two copies.
    pub fn groups(&self, names: impl IntoIterator<Item = impl Into<String>>) -> Receivers {
        self.receivers(Audience::Groups(texts(names)))
    }

    /// Returns the members of a group but these connections.
    pub fn group_except(&self, name: impl Into<String>, ids: impl IntoIterator<Item = impl Into<String>>) -> Receivers {
        self.receivers(Audience::GroupExcept { group: name.into(), connections: texts(ids), users: Vec::new() })
    }

    /// Returns the members of a group but the caller.
    pub fn others_in_group(&self, name: impl Into<String>) -> Receivers {
        self.group_except(name, [self.0.id()])
    }

    /// Returns the connections of a user.
    pub fn user(&self, id: impl Into<String>) -> Receivers {
        self.receivers(Audience::User(id.into()))
    }

    /// Returns the connections of some users.
    pub fn users(&self, ids: impl IntoIterator<Item = impl Into<String>>) -> Receivers {
        self.receivers(Audience::Users(texts(ids)))
    }

    fn hub(&self) -> &Arc<Shared> {
        &self.0.state().hub
    }

    fn receivers(&self, audience: Audience) -> Receivers {
        Receivers::new(self.hub(), audience)
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("caller", &self.0.id()).finish_non_exhaustive()
    }
}

/// A selection of connections that get the same message.
#[derive(Clone)]
#[must_use = "nothing is sent before `send`"]
pub struct Receivers {
    hub: Arc<Shared>,
    audience: Audience,
    key: Option<String>,
}

impl Receivers {
    pub(super) fn new(hub: &Arc<Shared>, audience: Audience) -> Self {
        Self { hub: hub.clone(), audience, key: None }
    }

    /// Names what the message is about, for the policy [`Conflate`](crate::SlowReceiver::Conflate): on a receiver that is slow it takes the
    /// place of a waiting one with the same key. Without this the name of the client method is the key.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Calls a client method on all of them.
    ///
    /// The message is encoded and queued when this returns, so what it borrows may go; awaiting only waits for other nodes, and never for a
    /// receiver. A receiver that is gone is no error.
    ///
    /// # Errors
    ///
    /// If an argument cannot be encoded for one of the receivers; then none of them gets the message.
    ///
    /// # Cancel safety
    ///
    /// The message is sent even if what this returns is dropped.
    pub fn send<A: Serialize, M: Target<A>>(&self, method: M, arguments: A) -> Pending {
        send(&self.hub, &self.audience, method.name(), &arguments, self.key.as_deref())
    }
}

impl fmt::Debug for Receivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Receivers").field(&self.audience).finish()
    }
}

/// One connection: can be sent to, and asked.
#[derive(Clone)]
#[must_use = "nothing is sent before `send` or `invoke`"]
pub struct Client {
    hub: Arc<Shared>,
    id: String,
    /// The call that it was made in, which waits if the client is asked.
    asker: Option<Connection>,
}

impl Client {
    pub(super) fn new(hub: &Arc<Shared>, id: String) -> Self {
        Self { hub: hub.clone(), id, asker: None }
    }

    /// Returns the connection's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns it as a selection of one, for [`Receivers::key`].
    pub fn receivers(&self) -> Receivers {
        Receivers::new(&self.hub, Audience::Connection(self.id.clone()))
    }

    /// Calls a client method, as [`Receivers::send`] does.
    ///
    /// # Errors
    ///
    /// If an argument cannot be encoded. A connection that is gone is no error.
    ///
    /// # Cancel safety
    ///
    /// The message is sent even if what this returns is dropped.
    pub fn send<A: Serialize, M: Target<A>>(&self, method: M, arguments: A) -> Pending {
        self.receivers().send(method, arguments)
    }

    /// Calls a client method and gives its result.
    ///
    /// The question is on its way when this returns; await it, or first set a limit on what is returned. Inside a hub method the next call
    /// of the connection may start from now on, so that a method can ask its own caller. Inside `on_connected` it is refused.
    ///
    /// ```
    /// use hubwire::{Clients, HubResult};
    /// use std::time::Duration;
    ///
    /// async fn guess(clients: Clients, opponent: String) -> HubResult<bool> {
    ///     let number: u32 = clients.client(opponent).invoke("pickNumber", (1, 10)).timeout(Duration::from_secs(30)).await?;
    ///     Ok(number == 7)
    /// }
    /// # hubwire::Hub::with_state(()).method("Guess", guess).build();
    /// ```
    pub fn invoke<R, A>(&self, method: impl Target<A> + Answers<R>, arguments: A) -> ClientCall<R>
    where
        R: DeserializeOwned + 'static,
        A: Serialize,
    {
        if self.asker.as_ref().is_some_and(|asker| matches!(asker.moment(), Moment::Connecting | Moment::Refreshed)) {
            return ClientCall::refused();
        }
        ClientCall::ask(&self.hub, &self.id, method.name(), &arguments, self.asker.clone())
    }

    /// Ends the connection, without permission to connect again by itself.
    ///
    /// # Cancel safety
    ///
    /// It ends even if what this returns is dropped.
    pub fn close(&self) -> Pending {
        Pending::of(self.hub.lifetime.close(&Closing::of(Whom::Connection(self.id.clone()))))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.id).finish()
    }
}

/// Who is in what: a parameter of hub functions, and part of [`HubContext`](super::HubContext).
///
/// A membership ends with its connection. Group names are compared byte by byte.
#[derive(Clone)]
pub struct Groups(Arc<Shared>);

impl Groups {
    pub(super) fn of(hub: Arc<Shared>) -> Self {
        Self(hub)
    }

    /// Makes them for a unit test.
    pub fn for_test(connection: &Connection) -> Self {
        Self(connection.state().hub.clone())
    }

    /// Adds a connection, the caller's or any other. Adding one that does not exist does nothing.
    ///
    /// # Errors
    ///
    /// If other nodes have to be told and cannot be.
    ///
    /// # Cancel safety
    ///
    /// It is added even if what this returns is dropped.
    pub fn add(&self, connection: impl AsRef<str>, group: impl AsRef<str>) -> Pending {
        Pending::of(self.0.lifetime.add_to_group(connection.as_ref(), group.as_ref())).map(|_| ())
    }

    /// Removes a connection. Removing one that is not in the group does nothing.
    ///
    /// # Errors
    ///
    /// If other nodes have to be told and cannot be.
    ///
    /// # Cancel safety
    ///
    /// It is removed even if what this returns is dropped.
    pub fn remove(&self, connection: impl AsRef<str>, group: impl AsRef<str>) -> Pending {
        Pending::of(self.0.lifetime.remove_from_group(connection.as_ref(), group.as_ref())).map(|_| ())
    }

    /// Returns the ids of the connections in a group, in no order.
    ///
    /// # Errors
    ///
    /// If other nodes have to be asked and cannot be.
    pub fn members(&self, group: impl Into<String>) -> Pending<Vec<String>> {
        Pending::of(self.0.lifetime.connection_ids(Whom::Group(group.into())))
    }

    /// Returns who is in a group, with their users and in no order, up to a number. [`watch`](Self::watch) also tells how that changes.
    ///
    /// # Errors
    ///
    /// If other nodes have to be asked and cannot be.
    pub fn presence(&self, group: impl Into<String>, most: usize) -> Pending<Vec<Member>> {
        let page = Page { after: None, most };
        let found = Pending::of(self.0.lifetime.connections(Whom::Group(group.into()), page));
        found.map(|found| found.into_iter().map(|Found { id, user, .. }| Member::new(id, user)).collect())
    }

    /// Watches who is in a group: a list, and then who joins and who leaves, on all nodes. The group need not have a member.
    ///
    /// The server keeps a copy of the list as long as somebody watches, about 200 bytes for each member and once for all that watch the
    /// group. A group that nobody watches costs nothing more for this.
    ///
    /// # Errors
    ///
    /// If other nodes have to be asked and cannot be.
    pub fn watch(&self, group: impl AsRef<str>) -> Pending<Presence> {
        Pending::of(self.0.lifetime.watch(group.as_ref())).map(Presence::new)
    }

    /// Returns the groups that a connection is in, in no order.
    ///
    /// # Errors
    ///
    /// If other nodes have to be asked and cannot be.
    pub fn of_connection(&self, connection: impl Into<String>) -> Pending<Vec<String>> {
        Pending::of(self.0.lifetime.groups_of(connection.into()))
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Groups").finish_non_exhaustive()
    }
}

pub(super) fn send<A: Serialize>(
    hub: &Shared,
    audience: &Audience,
    target: &str,
    arguments: &A,
    key: Option<&str>,
) -> Pending {
    match hub.lifetime.send(audience, &Outgoing::new(target, arguments, key)) {
        Ok(reached) => Pending::of(reached),
        Err(e) => Pending::failed(failure(e)),
    }
}

pub(super) fn texts(texts: impl IntoIterator<Item = impl Into<String>>) -> Vec<String> {
    texts.into_iter().map(Into::into).collect()
}
