use super::serve::Seat;
use super::{ConnectionId, ConnectionToken, Identity, Transport};
use dashmap::{DashMap, Entry};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Connections by their secret token, from negotiation to their end.
#[derive(Debug)]
pub(crate) struct Registry {
    connections: DashMap<ConnectionToken, Known>,
    /// Negotiated tokens in the order in which they lapse. Tokens that were used in time are passed over.
    lapsing: Mutex<VecDeque<(Instant, ConnectionToken)>>,
    lapse: Duration,
    most_waiting: usize,
}

#[derive(Debug)]
struct Known {
    id: ConnectionId,
    /// Who negotiated: nobody else may use the token.
    identity: Identity,
    /// `None` while no transport has started.
    transport: Option<Transport>,
}

/// Why a token cannot be used to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    Unknown,
    /// It belongs to another user.
    Foreign,
    /// A transport of this kind was started already.
    Started(Transport),
}

impl Registry {
    /// A negotiated token lapses when no transport has come within `lapse`; at most `most_waiting` are kept.
    pub(crate) fn new(lapse: Duration, most_waiting: usize) -> Arc<Self> {
        Arc::new(Self { connections: DashMap::new(), lapsing: Mutex::default(), lapse, most_waiting })
    }

    /// Makes room for a client that is about to connect. `None`: too many have negotiated and not come.
    pub(crate) fn negotiate(&self, id: ConnectionId, token: ConnectionToken, identity: Identity) -> Option<()> {
        let mut lapsing = self.lapsing.lock();
        let now = Instant::now();
        while lapsing.front().is_some_and(|(until, _)| *until <= now) {
            let (_, token) = lapsing.pop_front().expect("there is a front");
            self.connections.remove_if(&token, |_, known| known.transport.is_none());
        }
        if lapsing.len() >= self.most_waiting {
            return None;
        }
        lapsing.push_back((now + self.lapse, token));
        drop(lapsing);
        self.connections.insert(token, Known { id, identity, transport: None });
        Some(())
    }

    /// Starts the transport of a negotiated connection.
    pub(crate) fn start(
        self: &Arc<Self>,
        token: ConnectionToken,
        identity: &Identity,
        transport: Transport,
    ) -> Result<(ConnectionId, Registration), Unusable> {
        let mut known = self.connections.get_mut(&token).ok_or(Unusable::Unknown)?;
        if known.identity.user_id() != identity.user_id() {
            return Err(Unusable::Foreign);
        }
        if let Some(transport) = known.transport {
            return Err(Unusable::Started(transport));
        }
        known.transport = Some(transport);
        Ok((known.id, self.registration(token)))
    }

    /// Registers a connection that came without negotiation.
    pub(crate) fn add(self: &Arc<Self>, id: ConnectionId, identity: Identity, transport: Transport) -> Registration {
        let token = ConnectionToken::same_as(id);
        match self.connections.entry(token) {
            Entry::Vacant(vacant) => vacant.insert(Known { id, identity, transport: Some(transport) }),
            Entry::Occupied(_) => unreachable!("ids are drawn at random"),
        };
        self.registration(token)
    }

    /// The transport of a connection, if it is there and belongs to this user.
    pub(crate) fn transport(&self, token: ConnectionToken, identity: &Identity) -> Result<Option<Transport>, Unusable> {
        let known = self.connections.get(&token).ok_or(Unusable::Unknown)?;
        if known.identity.user_id() != identity.user_id() {
            return Err(Unusable::Foreign);
        }
        Ok(known.transport)
    }

    fn registration(self: &Arc<Self>, token: ConnectionToken) -> Registration {
        Registration { registry: self.clone(), token, _seat: None }
    }
}

/// Keeps a connection findable by its token for as long as it lives.
#[derive(Debug)]
pub(crate) struct Registration {
    registry: Arc<Registry>,
    token: ConnectionToken,
    /// Its place in the accept loop's count, if it has a TCP connection of its own that came from there.
    _seat: Option<Seat>,
}

impl Registration {
    /// Keeps the accept loop's place taken until the connection has ended.
    pub(super) fn keep(&mut self, seat: Option<Seat>) {
        self._seat = seat;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.connections.remove(&self.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(registry: &Registry, who: &Identity) -> Option<ConnectionToken> {
        let token = ConnectionToken::random();
        registry.negotiate(ConnectionId::random(), token, who.clone()).map(|()| token)
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_serves_once_its_own_user_and_in_time() {
        let registry = Registry::new(Duration::from_secs(15), 10);
        let (ann, bob) = (Identity::user("ann"), Identity::user("bob"));
        let token = negotiate(&registry, &ann).unwrap();
        let start = |token, who| registry.start(token, who, Transport::WebSockets);
        assert_eq!(start(token, &bob).unwrap_err(), Unusable::Foreign);
        let (_, registration) = start(token, &ann).unwrap();
        assert_eq!(start(token, &ann).unwrap_err(), Unusable::Started(Transport::WebSockets));
        drop(registration);
        assert_eq!(start(token, &ann).unwrap_err(), Unusable::Unknown);

        let late = negotiate(&registry, &ann).unwrap();
        tokio::time::advance(Duration::from_secs(16)).await;
        negotiate(&registry, &ann).unwrap();
        assert_eq!(start(late, &ann).unwrap_err(), Unusable::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_negotiate_and_never_come_are_bounded() {
        let registry = Registry::new(Duration::from_secs(15), 3);
        let who = Identity::anonymous();
        let waiting = (0..5).filter(|_| negotiate(&registry, &who).is_some()).count();
        assert_eq!(waiting, 3);
        tokio::time::advance(Duration::from_secs(16)).await;
        assert!(negotiate(&registry, &who).is_some());
        assert_eq!(registry.connections.len(), 1);
    }
}
