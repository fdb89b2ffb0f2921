use super::clients::{Client, Groups, Receivers, texts};
use super::pending::Pending;
use super::shared::Shared;
use crate::backplane::{Audience, Closing, Existence, Whom};
use crate::observe::HubStats;
use std::fmt;
use std::sync::Arc;

/// A hub from outside of its calls: sends from anywhere, asks who is there, ends connections. Cheap to clone.
///
/// ```
/// use hubwire::{Hub, HubContext, HubResult};
///
/// async fn announce(news: &HubContext, text: &str) -> HubResult {
///     news.group("readers").send("Announce", (text,)).await
/// }
/// # let mut runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let hub = Hub::with_state(()).build();
/// announce(&hub.context(), "hello").await.unwrap();
/// # });
/// ```
#[derive(Clone)]
pub struct HubContext(Arc<Shared>);

impl HubContext {
    pub(super) fn of(hub: &Arc<Shared>) -> Self {
        Self(hub.clone())
    }

    /// Returns what has happened to the hub's connections on this node.
    pub fn stats(&self) -> HubStats {
        self.0.metrics.stats()
    }

    /// Returns every connection.
    pub fn all(&self) -> Receivers {
        self.receivers(Audience::All)
    }

    /// Returns every connection but these.
    pub fn all_except(&self, ids: impl IntoIterator<Item = impl Into<String>>) -> Receivers {
        self.receivers(Audience::AllExcept(texts(ids)))
    }

    /// Returns one connection, by its id.
    pub fn client(&self, id: impl Into<String>) -> Client {
        Client::new(&self.0, id.into())
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

    /// Returns the connections of a user.
    pub fn user(&self, id: impl Into<String>) -> Receivers {
        self.receivers(Audience::User(id.into()))
    }

    /// Returns the connections of some users.
    pub fn users(&self, ids: impl IntoIterator<Item = impl Into<String>>) -> Receivers {
        self.receivers(Audience::Users(texts(ids)))
    }

    /// Returns who is in what, to be asked and changed.
    pub fn membership(&self) -> Groups {
        Groups::of(self.0.clone())
    }

    /// Tells whether there is such a connection.
    ///
    /// # Errors
    ///
    /// If other nodes have to be asked and cannot be.
    pub fn is_connected(&self, connection: impl Into<String>) -> Pending<bool> {
        Pending::of(self.0.lifetime.exists(Existence::Of(Whom::Connection(connection.into()))))
    }

    /// Returns the ids of a user's connections, in no order.
    ///
    /// # Errors
    ///
    /// If other nodes have to be asked and cannot be.
    pub fn connections_of_user(&self, user: impl Into<String>) -> Pending<Vec<String>> {
        Pending::of(self.0.lifetime.connection_ids(Whom::User(user.into())))
    }

    /// Returns how many connections this node has.
    pub fn connection_count(&self) -> usize {
        self.0.lifetime.connection_count()
    }

    /// Ends all connections of a user, without permission to connect again by themselves.
    ///
    /// # Errors
    ///
    /// If other nodes have to be told and cannot be.
    ///
    /// # Cancel safety
    ///
    /// They end even if what this returns is dropped.
    pub fn close_user(&self, user: impl Into<String>) -> Pending {
        Pending::of(self.0.lifetime.close(&Closing::of(Whom::User(user.into()))))
    }

    /// Ends a connection, without permission to connect again by itself.
    ///
    /// # Errors
    ///
    /// If other nodes have to be told and cannot be.
    ///
    /// # Cancel safety
    ///
    /// It ends even if what this returns is dropped.
    pub fn close_connection(&self, connection: impl Into<String>) -> Pending {
        Pending::of(self.0.lifetime.close(&Closing::of(Whom::Connection(connection.into()))))
    }

    fn receivers(&self, audience: Audience) -> Receivers {
        Receivers::new(&self.0, audience)
    }
}

impl fmt::Debug for HubContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HubContext").field(&self.0).finish()
    }
}
