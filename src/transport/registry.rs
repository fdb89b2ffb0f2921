use super::{ConnectionId, ConnectionToken, HttpChannel, Identity, Resume, Standing, Transport};
use dashmap::{DashMap, Entry};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Connections by their secret token, from negotiation to their end.
#[derive(Debug)]
pub(crate) struct Registry {
    connections: DashMap<ConnectionToken, Known>,
    lapsing: Mutex<Lapsing>,
    lapse: Duration,
    most_waiting: usize,
    /// Connections that have a transport.
    started: AtomicUsize,
    most_started: usize,
    inbox_limit: usize,
}

#[derive(Debug, Default)]
struct Lapsing {
    /// Negotiated tokens in the order in which they lapse. Tokens that were used in time are passed over.
    tokens: VecDeque<(Instant, ConnectionToken)>,
    /// A task throws away what has lapsed.
    swept: bool,
}

struct Known {
    id: ConnectionId,
    /// Who negotiated, by the latest credential: nobody else may use the token.
    identity: Identity,
    /// `None` while no transport has started.
    transport: Option<Transport>,
    /// Where its requests meet, once there are any.
    channel: Option<Arc<HttpChannel>>,
    resume: MayResume,
    /// The connection, once there is one.
    standing: Option<Weak<dyn Standing>>,
    /// A credential that came between the start of the transport and that of the connection.
    early: Option<Identity>,
}

impl Known {
    fn new(id: ConnectionId, identity: Identity, transport: Option<Transport>, resume: MayResume) -> Self {
        Self { id, identity, transport, channel: None, resume, standing: None, early: None }
    }

    fn standing(&self) -> Option<Arc<dyn Standing>> {
        self.standing.as_ref()?.upgrade()
    }
}

/// Who has shown what for a connection.
#[derive(Debug)]
pub(crate) struct Credential {
    pub(crate) id: ConnectionId,
    pub(crate) identity: Identity,
}

impl Credential {
    /// It expires later than another one, which then counts for nothing.
    pub(crate) fn outlives(&self, other: &Identity) -> bool {
        matches!((self.identity.expiry_millis(), other.expiry_millis()), (Some(own), Some(others)) if others < own)
    }
}

/// What became of a credential that was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    Done,
    /// One that lasts longer is in force.
    Stale,
    /// It belongs to another user.
    Foreign,
    Unknown,
}

/// Whether a WebSocket may be taken up again.
enum MayResume {
    No,
    /// It was negotiated so, and has not opened.
    Negotiated,
    Opened(Weak<dyn Resume>),
}

/// A connection that has just been started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) id: ConnectionId,
    pub(crate) registration: Registration,
    /// Where its requests meet, if it is not a WebSocket.
    pub(crate) channel: Option<Arc<HttpChannel>>,
}

/// Why a token cannot be used to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    Unknown,
    /// It belongs to another user.
    Foreign,
    /// A transport of this kind was started already.
    Started(Transport),
    /// There are as many connections as may be.
    Full,
}

impl Registry {
    /// A negotiated token lapses when no transport has come within `lapse`; at most `most_waiting` are kept, and at most `most_started` have a transport at a time. The limit is that of an [`HttpChannel`].
    pub(crate) fn new(lapse: Duration, most_waiting: usize, most_started: usize, inbox_limit: usize) -> Arc<Self> {
        Arc::new(Self {
            connections: DashMap::new(),
            lapsing: Mutex::default(),
            lapse,
            most_waiting,
            started: AtomicUsize::new(0),
            most_started,
            inbox_limit,
        })
    }

    /// Nobody is connected, or has negotiated and may still come.
    #[cfg(feature = "service")]
    pub(crate) fn is_idle(&self) -> bool {
        self.let_lapse(&mut self.lapsing.lock(), Instant::now());
        self.connections.is_empty()
    }

    /// Makes room for a client that is about to connect. `None`: too many have negotiated and not come.
    pub(crate) fn negotiate(
        self: &Arc<Self>,
        id: ConnectionId,
        token: ConnectionToken,
        identity: Identity,
        may_resume: bool,
    ) -> Option<()> {
        let now = Instant::now();
        let mut lapsing = self.lapsing.lock();
        self.let_lapse(&mut lapsing, now);
        if lapsing.tokens.len() >= self.most_waiting {
            return None;
        }
        lapsing.tokens.push_back((now + self.lapse, token));
        if !std::mem::replace(&mut lapsing.swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self), self.lapse));
        }
        drop(lapsing);
        let resume = if may_resume { MayResume::Negotiated } else { MayResume::No };
        self.connections.insert(token, Known::new(id, identity, None, resume));
        Some(())
    }

    /// Throws away what has lapsed.
    fn let_lapse(&self, lapsing: &mut Lapsing, now: Instant) {
        while lapsing.tokens.front().is_some_and(|(until, _)| *until <= now) {
            let (_, token) = lapsing.tokens.pop_front().expect("there is a front");
            let lapsed = self.connections.remove_if(&token, |_, known| known.transport.is_none());
            if let Some(channel) = lapsed.and_then(|(_, known)| known.channel) {
                channel.dispose();
            }
        }
    }

    /// Starts the transport of a negotiated connection.
    pub(crate) fn start(
        self: &Arc<Self>,
        token: ConnectionToken,
        identity: &Identity,
        transport: Transport,
    ) -> Result<Started, Unusable> {
        self.let_lapse(&mut self.lapsing.lock(), Instant::now());
        let mut known = self.connections.get_mut(&token).ok_or(Unusable::Unknown)?;
        if !known.identity.is_same_user(identity) {
            return Err(Unusable::Foreign);
        }
        if let Some(transport) = known.transport {
            return Err(Unusable::Started(transport));
        }
        let registration = self.registration(token).ok_or(Unusable::Full)?;
        known.transport = Some(transport);
        known.identity = identity.clone();
        let channel = match transport {
            // what was posted before is no frame
            Transport::WebSockets => known.channel.take().and(None),
            _ => Some(known.channel.get_or_insert_with(|| HttpChannel::new(self.inbox_limit)).clone()),
        };
        known.identity = identity.clone();
        Ok(Started { id: known.id, registration, channel })
    }

    /// Where the requests of a connection meet, if it is not a WebSocket's.
    pub(crate) fn channel(
        &self,
        token: ConnectionToken,
        identity: &Identity,
    ) -> Result<Option<Arc<HttpChannel>>, Unusable> {
        let mut known = self.connections.get_mut(&token).ok_or(Unusable::Unknown)?;
        if !known.identity.is_same_user(identity) {
            return Err(Unusable::Foreign);
        }
        if known.transport == Some(Transport::WebSockets) {
            return Ok(None);
        }
        Ok(Some(known.channel.get_or_insert_with(|| HttpChannel::new(self.inbox_limit)).clone()))
    }

    /// The connection to resume, if this token's WebSocket was opened so that it can be.
    pub(crate) fn resume(
        &self,
        token: ConnectionToken,
        identity: &Identity,
    ) -> Result<Option<Arc<dyn Resume>>, Unusable> {
        let known = self.connections.get(&token).ok_or(Unusable::Unknown)?;
        if !known.identity.is_same_user(identity) {
            return Err(Unusable::Foreign);
        }
        match &known.resume {
            MayResume::Opened(connection) => Ok(connection.upgrade()),
            _ => Ok(None),
        }
    }

    /// Forgets a connection whose client has had the last it gets.
    pub(crate) fn remove(&self, token: &ConnectionToken) {
        self.connections.remove(token);
    }

    /// Registers a connection that came without negotiation. `None`: there are as many as may be.
    pub(crate) fn add(
        self: &Arc<Self>,
        id: ConnectionId,
        identity: Identity,
        transport: Transport,
    ) -> Option<Registration> {
        let token = ConnectionToken::same_as(id);
        let registration = self.registration(token)?;
        match self.connections.entry(token) {
            Entry::Vacant(vacant) => vacant.insert(Known::new(id, identity, Some(transport), MayResume::No)),
            Entry::Occupied(_) => unreachable!("ids are drawn at random"),
        };
        Some(registration)
    }

    /// The transport of a connection, if it is there and belongs to this user.
    pub(crate) fn transport(&self, token: ConnectionToken, identity: &Identity) -> Result<Option<Transport>, Unusable> {
        let known = self.connections.get(&token).ok_or(Unusable::Unknown)?;
        if !known.identity.is_same_user(identity) {
            return Err(Unusable::Foreign);
        }
        Ok(known.transport)
    }

    /// Who a connection belongs to, if it is there.
    pub(crate) fn credential(&self, token: ConnectionToken) -> Option<Credential> {
        let known = self.connections.get(&token)?;
        Some(Credential { id: known.id, identity: known.identity.clone() })
    }

    /// Replaces the credential of a connection; `limited` is how it counts.
    pub(crate) fn renew(&self, token: ConnectionToken, shown: &Identity, limited: Identity) -> Renewal {
        let Some(mut known) = self.connections.get_mut(&token) else { return Renewal::Unknown };
        let current = Credential { id: known.id, identity: known.identity.clone() };
        if !current.identity.is_same_user(shown) {
            return Renewal::Foreign;
        }
        if current.outlives(shown) {
            return Renewal::Stale;
        }
        known.identity = shown.clone();
        match (known.standing(), known.transport) {
            (Some(standing), _) => standing.renew(limited),
            (None, Some(_)) => known.early = Some(limited),
            (None, None) => {}
        }
        Renewal::Done
    }

    /// The credential of a connection's latest GET: it is the one that expires, and nothing else changes.
    pub(crate) fn show(&self, token: ConnectionToken, shown: &Identity) {
        if let Some(mut known) = self.connections.get_mut(&token) {
            known.identity = shown.clone();
            if let Some(standing) = known.standing() {
                standing.expire(shown.expiry_millis());
            }
        }
    }

    /// Ends a connection whose client has shown a credential that the application refuses.
    pub(crate) fn refuse(&self, token: ConnectionToken) {
        let standing = self.connections.get(&token).and_then(|known| known.standing());
        if let Some(standing) = standing {
            standing.refuse();
        }
    }

    /// No more connections may have a transport.
    #[cfg(feature = "service")]
    pub(crate) fn is_full(&self) -> bool {
        self.started.load(Relaxed) >= self.most_started
    }

    /// A place among the connections that have a transport, if there is one.
    fn registration(self: &Arc<Self>, token: ConnectionToken) -> Option<Registration> {
        let one_more = |started: usize| (started < self.most_started).then_some(started + 1);
        self.started.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        Some(Registration { registry: self.clone(), token })
    }
}

/// Throws away what has lapsed while nobody negotiates, until nothing is left that could. Ends with the registry.
async fn sweep(registry: Weak<Registry>, lapse: Duration) {
    loop {
        tokio::time::sleep(lapse / 4).await;
        let Some(registry) = registry.upgrade() else { return };
        let mut lapsing = registry.lapsing.lock();
        registry.let_lapse(&mut lapsing, Instant::now());
        if lapsing.tokens.is_empty() {
            lapsing.tokens = VecDeque::new();
            lapsing.swept = false;
            return;
        }
    }
}

/// Keeps a connection findable by its token for as long as it lives.
#[derive(Debug)]
pub(crate) struct Registration {
    registry: Arc<Registry>,
    token: ConnectionToken,
}

impl Registration {
    /// The connection is there, and hears of credentials from now on.
    pub(crate) fn attach<S: Standing + 'static>(&self, connection: Weak<S>) {
        if let Some(mut known) = self.registry.connections.get_mut(&self.token) {
            if let (Some(early), Some(standing)) = (known.early.take(), connection.upgrade()) {
                standing.renew(early);
            }
            known.standing = Some(connection);
        }
    }

    /// Whether this connection was negotiated so that it may be resumed.
    pub(crate) fn may_resume(&self) -> bool {
        let known = self.registry.connections.get(&self.token);
        known.is_some_and(|known| matches!(known.resume, MayResume::Negotiated))
    }

    /// Who goes on when the client is back.
    pub(crate) fn resumed_by(&self, connection: Weak<dyn Resume>) {
        if let Some(mut known) = self.registry.connections.get_mut(&self.token) {
            known.resume = MayResume::Opened(connection);
        }
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("id", &self.id).field("transport", &self.transport).finish_non_exhaustive()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.connections.remove(&self.token);
        self.registry.started.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(registry: &Arc<Registry>, who: &Identity) -> Option<ConnectionToken> {
        let token = ConnectionToken::random();
        registry.negotiate(ConnectionId::random(), token, who.clone(), false).map(|()| token)
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_serves_once_its_own_user_and_in_time() {
        let registry = Registry::new(Duration::from_secs(15), 10, 10, 0);
        let (ann, bob) = (Identity::user("ann"), Identity::user("bob"));
        let token = negotiate(&registry, &ann).unwrap();
        let start = |token, who| registry.start(token, who, Transport::WebSockets);
        assert_eq!(start(token, &bob).unwrap_err(), Unusable::Foreign);
        let registration = start(token, &ann).unwrap().registration;
        assert_eq!(start(token, &ann).unwrap_err(), Unusable::Started(Transport::WebSockets));
        drop(registration);
        assert_eq!(start(token, &ann).unwrap_err(), Unusable::Unknown);

        let late = negotiate(&registry, &ann).unwrap();
        tokio::time::advance(Duration::from_secs(16)).await;
        negotiate(&registry, &ann).unwrap();
        assert_eq!(start(late, &ann).unwrap_err(), Unusable::Unknown);
    }

    #[tokio::test]
    async fn connections_at_the_same_time_are_bounded() {
        let registry = Registry::new(Duration::from_secs(15), 10, 2, 0);
        let nobody = Identity::anonymous();
        let start = |token| registry.start(token, &nobody, Transport::LongPolling);
        let first = start(negotiate(&registry, &nobody).unwrap()).unwrap().registration;
        let second = registry.add(ConnectionId::random(), nobody.clone(), Transport::WebSockets);
        assert!(
            second.is_some() && registry.add(ConnectionId::random(), nobody.clone(), Transport::WebSockets).is_none()
        );
        let third = negotiate(&registry, &nobody).unwrap();
        assert_eq!(start(third).unwrap_err(), Unusable::Full);
        drop(first);
        assert!(start(third).is_ok(), "there is room again, and the token is still good");
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_negotiate_and_never_come_are_bounded() {
        let registry = Registry::new(Duration::from_secs(15), 3, 10, 0);
        let who = Identity::anonymous();
        let waiting = (0..5).filter(|_| negotiate(&registry, &who).is_some()).count();
        assert_eq!(waiting, 3);
        tokio::time::advance(Duration::from_secs(16)).await;
        assert!(negotiate(&registry, &who).is_some());
        assert_eq!(registry.connections.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_lapsed_goes_though_nobody_negotiates_any_more() {
        let registry = Registry::new(Duration::from_secs(15), 10, 10, 1024);
        let who = Identity::anonymous();
        for _ in 0..2 {
            let token = negotiate(&registry, &who).unwrap();
            let channel = registry.channel(token, &who).unwrap().unwrap();
            tokio::time::sleep(Duration::from_secs(20)).await;
            assert!(registry.connections.is_empty() && channel.is_over());
            assert!(!registry.lapsing.lock().swept, "the task has ended as well");
        }
        negotiate(&registry, &who).unwrap();
        let left = Arc::downgrade(&registry);
        drop(registry);
        assert!(left.upgrade().is_none(), "the task keeps nothing alive");
    }
}
