use super::calls::{CallState, Calls};
use super::items::ItemStore;
use super::life_cycle::LifeCycleState;
use super::shared::Shared;
use crate::connection::Link;
use crate::transport::{Identity, Query, Transport};
use crate::{CloseReason, Protocol};
use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// A connection at the moment of a call, as [`FromConnection`](super::FromConnection) sees it. Cheap to clone.
pub struct Connection {
    state: Arc<ConnectionState>,
    /// The call that it is about, made when somebody asks: most calls never need one.
    call: OnceLock<Arc<CallState>>,
    moment: Moment,
    /// The identity, where it is not the one that the connection began with: a call keeps the one it started with.
    renewed: Option<Identity>,
}

/// What the hub keeps of a connection as long as anybody holds it.
pub(super) struct ConnectionState {
    pub(super) link: Arc<Link>,
    pub(super) hub: Arc<Shared>,
    pub(super) items: ItemStore,
    pub(super) calls: Calls,
    pub(super) life_cycle: LifeCycleState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Connecting,
    Call,
    /// The client has renewed its credential.
    Refreshed,
    Disconnected,
}

impl Connection {
    pub(super) fn new(link: Arc<Link>, hub: Arc<Shared>) -> Self {
        let state = ConnectionState {
            link,
            hub,
            items: ItemStore::default(),
            calls: Calls::default(),
            life_cycle: LifeCycleState::default(),
        };
        Self::at(&Arc::new(state), Moment::Call)
    }

    pub(super) fn at(state: &Arc<ConnectionState>, moment: Moment) -> Self {
        Self { state: state.clone(), call: OnceLock::new(), moment, renewed: state.link.credential.renewed() }
    }

    /// Returns the public id.
    pub fn id(&self) -> &str {
        self.state.id()
    }

    /// Returns who it belongs to: by the credential in force when the call started.
    pub fn identity(&self) -> &Identity {
        self.renewed.as_ref().unwrap_or(self.state.identity())
    }

    /// Goes on with the identity that is in force now.
    pub(super) fn renew(&mut self) {
        self.renewed = self.state.link.credential.renewed();
    }

    pub(super) fn renewed(&self) -> Option<&Identity> {
        self.renewed.as_ref()
    }

    /// Returns the encoding that the client chose.
    pub fn protocol(&self) -> Protocol {
        self.state.link.protocol()
    }

    /// Returns how the client is connected.
    pub fn transport(&self) -> Transport {
        self.state.link.facts().transport
    }

    /// Returns the query of the request that opened the connection, decoded, without the tokens in it.
    pub fn query(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        self.state.query().pairs()
    }

    /// Returns the value of a name in that query, whose case does not matter.
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.state.query().value(name)
    }

    pub(super) fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }

    pub(super) fn moment(&self) -> Moment {
        self.moment
    }

    /// Why it ended, once it has.
    pub(super) fn close_reason(&self) -> Option<&CloseReason> {
        if self.moment == Moment::Disconnected { self.state.link.close_reason() } else { None }
    }

    /// The call that this is about.
    pub(super) fn call(&self) -> &Arc<CallState> {
        self.call.get_or_init(Arc::default)
    }

    /// Makes this about another call.
    pub(super) fn forget_call(&mut self) {
        self.call.take();
    }

    /// Cancelled when the call is, or the connection has ended.
    pub(super) fn cancellation(&self) -> CancellationToken {
        match self.moment {
            Moment::Call => self.call().token(),
            Moment::Connecting | Moment::Refreshed | Moment::Disconnected => self.state.link.ended(),
        }
    }
}

impl ConnectionState {
    pub(super) fn id(&self) -> &str {
        self.link.id().as_str()
    }

    /// The identity that the connection began with.
    pub(super) fn identity(&self) -> &Identity {
        &self.link.facts().identity
    }

    pub(super) fn query(&self) -> Query<'_> {
        Query::new(Some(&self.link.facts().query))
    }
}

impl Clone for Connection {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
            call: OnceLock::from(self.call().clone()),
            moment: self.moment,
            renewed: self.renewed.clone(),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id()).field("moment", &self.moment).finish_non_exhaustive()
    }
}
