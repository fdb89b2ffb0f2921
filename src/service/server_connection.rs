use super::{Client, ClientResults, ServiceHub};
use crate::connection::Link;
use crate::observe::ServerMetrics;
use crate::protocol::service::{Message, append};
use crate::protocol::websocket::{self, BINARY};
use crate::transport::ConnectionId;
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What everybody but its own task holds of a server connection: one WebSocket of an application server, for one hub, which has shaken hands.
pub(crate) struct ServerLink {
    id: Box<str>,
    server_id: Arc<str>,
    hub: Arc<str>,
    facts: OnceLock<ServerFacts>,
    results: Arc<ClientResults>,
    metrics: Arc<ServerMetrics>,
    /// `None` once it has ended: nobody is bound to it any more.
    clients: Mutex<Option<HashMap<ConnectionId, Arc<dyn Client>>>>,
    /// It announced that it is going away.
    leaving: AtomicBool,
    outbound: Mutex<Outbound>,
    limit: usize,
    /// Something waits to be written.
    filled: Notify,
    /// Something was written.
    freed: Notify,
    shaken: Notify,
    reason: OnceLock<ServerGone>,
    ended: CancellationToken,
}

/// What the server said about the connection when it shook hands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ServerFacts {
    pub(crate) kind: ServerKind,
    /// 0: its clients cannot be moved; 1: they can, when it says that it goes away; 2: also when it is lost.
    pub(crate) migration_level: i32,
    /// Its clients may be offered stateful reconnect.
    pub(crate) stateful_reconnect: bool,
}

/// What a server connection is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum ServerKind {
    #[default]
    Default,
    /// Opened because we asked for it.
    OnDemand,
    /// Carries no clients.
    Weak,
}

/// What waits for a server to read it.
#[derive(Default)]
struct Outbound {
    /// Messages, behind room for a WebSocket header: what waits together leaves in one frame.
    queued: Vec<u8>,
    /// Bytes that are being written.
    in_flight: usize,
    /// Of what is queued, the bytes of what has to be said.
    said: usize,
    /// The same of what is being written, and no less than there are.
    said_in_flight: usize,
    /// The last answer to a WebSocket ping; a newer one takes its place.
    pong: Option<Vec<u8>>,
    /// Clients that are not read until there is room, each once.
    waiting: HashMap<ConnectionId, Weak<Link>>,
    /// Nothing more is taken in.
    finished: bool,
}

/// Why something cannot be sent to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendRefused {
    /// Too much waits: the client that wanted to send will be [resumed](Link::resume) when there is room.
    Full,
    /// The server connection has ended.
    Gone,
}

/// Why a server connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ServerGone {
    #[error("the server closed it")]
    Closed,
    #[error("it broke off")]
    Lost,
    #[error("the server did not shake hands in time")]
    HandshakeTimeout,
    #[error("its handshake was refused")]
    Refused,
    #[error("the server was silent")]
    Silent,
    #[error("the server did not read")]
    NotReading,
    #[error("the server broke the rules of WebSockets")]
    Violated,
    #[error("the server sent a broken message")]
    Broken,
    #[error("the service is shutting down")]
    Shutdown,
    #[error("a defect of the service")]
    Panicked,
}

impl ServerLink {
    /// `limit` is for the bytes that may wait for the server: see [`try_send`](Self::try_send), [`offer`](Self::offer) and
    /// [`send`](Self::send).
    pub(super) fn new(id: &str, server_id: Arc<str>, hub: &ServiceHub, limit: usize) -> Arc<Self> {
        Arc::new(Self {
            id: id.into(),
            server_id,
            hub: hub.name().clone(),
            facts: OnceLock::new(),
            results: hub.results.clone(),
            metrics: hub.server_metrics.clone(),
            clients: Mutex::new(Some(HashMap::new())),
            leaving: AtomicBool::new(false),
            outbound: Mutex::default(),
            limit,
            filled: Notify::new(),
            freed: Notify::new(),
            shaken: Notify::new(),
            reason: OnceLock::new(),
            ended: CancellationToken::new(),
        })
    }

    /// The name that the server gave the connection, or one that we made up.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// All connections with the same one are of one application server.
    pub(crate) fn server_id(&self) -> &Arc<str> {
        &self.server_id
    }

    pub(crate) fn hub(&self) -> &Arc<str> {
        &self.hub
    }

    pub(crate) fn facts(&self) -> ServerFacts {
        self.facts.get().copied().unwrap_or_default()
    }

    /// It has shaken hands. Called once.
    pub(super) fn shake_hands(&self, facts: ServerFacts) {
        let _ = self.facts.set(facts);
        self.shaken.notify_one();
    }

    /// Waits until it has; by one task.
    pub(super) async fn shaken(&self) {
        self.shaken.notified().await;
    }

    /// New clients may be bound to it.
    pub(crate) fn is_routable(&self) -> bool {
        self.facts.get().is_some_and(|facts| facts.kind != ServerKind::Weak) && !self.is_leaving() && !self.is_closed()
    }

    /// It has announced that it goes away, or its server no longer wants clients here.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Has it carry a client from now on; false if it has ended. A client that is bound hears of everything that [`Client`] has.
    #[must_use]
    pub(crate) fn bind(&self, client: Arc<dyn Client>) -> bool {
        match self.clients.lock().as_mut() {
            Some(clients) => {
                clients.insert(*client.id(), client);
                true
            }
            None => false,
        }
    }

    /// It no longer carries a client, which has gone or moved: what still comes for it is ignored, and nobody waits for its answers. Says
    /// whether it did.
    pub(crate) fn unbind(&self, client: &ConnectionId) -> bool {
        let unbound = self.clients.lock().as_mut().is_some_and(|clients| clients.remove(client).is_some());
        self.results.left(client, self);
        unbound
    }

    /// A client that it carries.
    pub(crate) fn client(&self, id: &str) -> Option<Arc<dyn Client>> {
        self.clients.lock().as_ref()?.get(&ConnectionId::parse(id)?).cloned()
    }

    pub(crate) fn client_count(&self) -> usize {
        self.clients.lock().as_ref().map_or(0, HashMap::len)
    }

    pub(super) fn clients(&self) -> Vec<Arc<dyn Client>> {
        self.clients.lock().iter().flat_map(HashMap::values).cloned().collect()
    }

    pub(super) fn take_client(&self, id: &str) -> Option<Arc<dyn Client>> {
        let id = ConnectionId::parse(id)?;
        let client = self.clients.lock().as_mut()?.remove(&id);
        self.results.left(&id, self);
        client
    }

    /// Takes all clients; those who come later are still bound.
    pub(super) fn take_clients(&self) -> Vec<Arc<dyn Client>> {
        let clients = self.clients.lock().as_mut().map(std::mem::take).unwrap_or_default();
        self.results.all_left(self);
        clients.into_values().collect()
    }

    /// Sends what `client` has to say, unless too much waits already: the client is not read then until it is resumed.
    pub(crate) fn try_send(&self, message: &Message<'_>, client: &Arc<Link>) -> Result<(), SendRefused> {
        let mut outbound = self.outbound.lock();
        if outbound.finished {
            return Err(SendRefused::Gone);
        }
        if outbound.size() > self.limit {
            outbound.wait(client);
            return Err(SendRefused::Full);
        }
        outbound.queue(message);
        self.queued(outbound);
        Ok(())
    }

    /// Sends what another server caused, unless twice the limit waits: that must not cost this server its connection.
    pub(super) fn offer(&self, message: &Message<'_>) -> Result<(), SendRefused> {
        let mut outbound = self.outbound.lock();
        if outbound.finished {
            return Err(SendRefused::Gone);
        }
        if outbound.size() > self.limit.saturating_mul(2) {
            return Err(SendRefused::Full);
        }
        outbound.queue(message);
        self.queued(outbound);
        Ok(())
    }

    /// Tells whether so much waits that no new client should be announced: the client is [resumed](Link::resume) then when there is room.
    pub(crate) fn is_crowded(&self, client: &Arc<Link>) -> bool {
        let mut outbound = self.outbound.lock();
        let is_crowded = !outbound.finished && outbound.is_crowded(self.limit);
        if is_crowded {
            outbound.wait(client);
        }
        is_crowded
    }

    /// Clients that wait for room here.
    #[cfg(test)]
    pub(crate) fn waiting_count(&self) -> usize {
        self.outbound.lock().waiting.len()
    }

    /// A client no longer waits for room here.
    pub(crate) fn waits_no_more(&self, client: &ConnectionId) {
        let waiting = &mut self.outbound.lock().waiting;
        waiting.remove(client);
        if waiting.is_empty() {
            *waiting = HashMap::new();
        }
    }

    /// It takes no new client for now.
    pub(super) fn is_stuck(&self) -> bool {
        self.outbound.lock().is_crowded(self.limit)
    }

    /// Sends what has to be said whatever waits: answers, who has come and gone. Nothing, if the server connection has ended. A server that
    /// reads so little that twice the limit of it would wait loses its connection.
    pub(crate) fn send(&self, message: &Message<'_>) {
        let mut outbound = self.outbound.lock();
        if outbound.finished {
            return;
        }
        if outbound.said() > self.limit.saturating_mul(2) {
            drop(outbound);
            return self.close(ServerGone::NotReading);
        }
        outbound.said += outbound.queue(message);
        self.queued(outbound);
    }

    fn queued(&self, outbound: MutexGuard<'_, Outbound>) {
        drop(outbound);
        self.metrics.sent_messages.add(1);
        self.filled.notify_one();
    }

    /// Ends it; the first reason stands. Returns at once: its own task does it.
    pub(crate) fn close(&self, reason: ServerGone) {
        if self.reason.set(reason).is_ok() {
            self.ended.cancel();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.reason.get().is_some()
    }

    pub(super) async fn closed(&self) -> ServerGone {
        self.ended.cancelled().await;
        *self.reason.get().expect("a reason comes first")
    }

    /// More answers wait than the limit allows. What clients say does not count: a server that writes where it reads would never take it if it
    /// was not read for that.
    pub(super) fn is_full(&self) -> bool {
        self.outbound.lock().said() > self.limit
    }

    /// Waits until there is room for answers again: half of the limit.
    pub(super) async fn room(&self) {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.outbound.lock().said() <= self.limit / 2 {
                return;
            }
            freed.await;
        }
    }

    pub(super) fn pong(&self, payload: &[u8]) {
        let mut frame = Vec::with_capacity(2 + payload.len());
        websocket::write_frame(&mut frame, websocket::PONG, payload);
        self.outbound.lock().pong = Some(frame);
        self.filled.notify_one();
    }

    /// Waits for something to write, and takes all of it, in WebSocket frames: from `position` on.
    pub(super) async fn take(&self) -> (Vec<u8>, usize) {
        loop {
            if let Some(taken) = self.take_queued() {
                return taken;
            }
            self.filled.notified().await;
        }
    }

    /// Takes what waits, if anything does.
    pub(super) fn take_queued(&self) -> Option<(Vec<u8>, usize)> {
        let mut outbound = self.outbound.lock();
        if let Some(pong) = outbound.pong.take() {
            outbound.in_flight += pong.len();
            return Some((pong, 0));
        }
        if outbound.queued.is_empty() {
            return None;
        }
        let mut queued = std::mem::take(&mut outbound.queued);
        let start = write_header_in_front(&mut queued);
        outbound.in_flight += queued.len() - start;
        outbound.said_in_flight += std::mem::take(&mut outbound.said);
        Some((queued, start))
    }

    /// So many bytes of what was taken have left.
    pub(super) fn wrote(&self, bytes: usize) {
        self.metrics.sent_bytes.add(bytes as u64);
        let mut outbound = self.outbound.lock();
        outbound.in_flight = outbound.in_flight.saturating_sub(bytes);
        outbound.said_in_flight = outbound.said_in_flight.min(outbound.in_flight);
        if outbound.said() <= self.limit / 2 {
            self.freed.notify_waiters();
        }
        if outbound.size() > self.limit / 2 {
            return;
        }
        let waiting = std::mem::take(&mut outbound.waiting);
        drop(outbound);
        resume(&waiting);
    }

    /// It has ended: takes nothing in any more, and gives the clients that it carried.
    pub(super) fn finish(&self) -> Vec<Arc<dyn Client>> {
        let waiting = {
            let mut outbound = self.outbound.lock();
            outbound.finished = true;
            std::mem::take(&mut outbound.waiting)
        };
        resume(&waiting);
        let clients = self.clients.lock().take().unwrap_or_default();
        self.results.all_left(self);
        clients.into_values().collect()
    }

    /// Its last word was written, or nobody is there to hear it: whoever still remembers the server connection remembers no bytes.
    pub(super) fn forget_queued(&self) {
        *self.outbound.lock() = Outbound { finished: true, ..Outbound::default() };
    }
}

impl ServerGone {
    /// The label in metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Lost => "lost",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::NotReading => "not_reading",
            Self::Violated => "violated",
            Self::Broken => "broken",
            Self::Shutdown => "shutdown",
            Self::Panicked => "panicked",
        }
    }
}

impl Outbound {
    fn size(&self) -> usize {
        self.queued.len() + self.in_flight
    }

    /// Of it, what has to be said.
    fn said(&self) -> usize {
        self.said + self.said_in_flight
    }

    /// New clients are announced by what has to be said: half of the limit is left to answers, or a storm of clients would have their server
    /// not read.
    fn is_crowded(&self, limit: usize) -> bool {
        self.size() > limit || self.said() > limit / 2
    }

    /// Says how many bytes it was.
    fn queue(&mut self, message: &Message<'_>) -> usize {
        if self.queued.is_empty() {
            self.queued.extend_from_slice(&[0; LONGEST_HEADER]);
        }
        let before = self.queued.len();
        append(&mut self.queued, message);
        self.queued.len() - before
    }

    fn wait(&mut self, client: &Arc<Link>) {
        if self.waiting.len() == self.waiting.capacity() {
            self.waiting.retain(|_, client| client.strong_count() > 0);
        }
        self.waiting.insert(*client.id(), Arc::downgrade(client));
    }
}

fn resume(waiting: &HashMap<ConnectionId, Weak<Link>>) {
    waiting.values().filter_map(Weak::upgrade).for_each(|client| client.resume());
}

/// Makes one frame of what stands behind the room for its header, and says where it starts.
fn write_header_in_front(bytes: &mut [u8]) -> usize {
    let mut header = Vec::with_capacity(LONGEST_HEADER);
    websocket::write_header(&mut header, BINARY, bytes.len() - LONGEST_HEADER);
    let start = LONGEST_HEADER - header.len();
    bytes[start..LONGEST_HEADER].copy_from_slice(&header);
    start
}

impl fmt::Debug for ServerLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerLink")
            .field("id", &self.id)
            .field("server", &self.server_id)
            .field("hub", &self.hub)
            .field("clients", &self.client_count())
            .finish_non_exhaustive()
    }
}

/// Bytes of the longest header of an unmasked WebSocket frame.
const LONGEST_HEADER: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::service::{Assembler, decode};
    use crate::protocol::websocket::header_length;
    use crate::service::{ClientOptions, ServiceHub};
    use crate::transport::Identity;

    fn link(limit: usize) -> Arc<ServerLink> {
        ServerLink::new("", "a".into(), &ServiceHub::new("hub", &"i".into(), &ClientOptions::default()), limit)
    }

    fn data(length: usize) -> Message<'static> {
        Message::ConnectionData { connection_id: "c", payload: &[7; 1000][..length], ext: Default::default() }
    }

    #[test]
    fn what_waits_together_leaves_in_one_frame() {
        let link = link(10_000);
        for length in [0, 1, 100, 120, 1000] {
            link.send(&data(length));
            link.send(&Message::Ping(vec![]));
            let (bytes, start) = link.take_queued().unwrap();
            let frame = &bytes[start..];
            assert_eq!(frame[0], 0x82);
            let (mut rest, mut messages) = (&frame[header_length(frame)..], Assembler::new(2000));
            let first = messages.next(&mut rest).unwrap().map(|body| decode(body).unwrap() == data(length));
            assert_eq!(first, Some(true));
            let second = messages.next(&mut rest).unwrap().map(|body| decode(body).unwrap() == Message::Ping(vec![]));
            assert_eq!((second, rest), (Some(true), &[][..]));
            link.wrote(frame.len());
        }
        assert!(link.take_queued().is_none());
        assert_eq!(link.outbound.lock().size(), 0);
    }

    #[test]
    fn a_client_waits_for_room_and_is_resumed_when_half_is_free() {
        let link = link(1000);
        let client = Link::detached(Identity::anonymous());
        assert_eq!(link.try_send(&data(900), &client), Ok(()));
        // what fits in part is taken, or a large message could never be
        assert_eq!(link.try_send(&data(900), &client), Ok(()));
        assert_eq!(link.try_send(&data(0), &client), Err(SendRefused::Full));
        let (bytes, start) = link.take_queued().unwrap();
        link.wrote(1000);
        assert_eq!(link.outbound.lock().waiting.len(), 1);
        link.wrote(bytes.len() - start - 1000);
        assert_eq!(link.outbound.lock().waiting.len(), 0);
        assert_eq!(link.try_send(&data(900), &client), Ok(()));
        link.finish();
        assert_eq!(link.try_send(&data(0), &client), Err(SendRefused::Gone));
    }

    #[test]
    fn a_client_waits_once_and_is_forgotten_when_it_has_gone() {
        let link = link(1000);
        link.send(&data(1000));
        link.send(&data(1000));
        let client = Link::detached(Identity::anonymous());
        for _ in 0..3 {
            assert_eq!(link.try_send(&data(0), &client), Err(SendRefused::Full));
            assert!(link.is_crowded(&client));
        }
        assert_eq!(link.outbound.lock().waiting.len(), 1);
        for _ in 0..1000 {
            assert!(link.is_crowded(&Link::detached(Identity::anonymous())));
        }
        let waiting = link.outbound.lock().waiting.len();
        assert!(waiting < 20, "{waiting}");
        assert!(link.outbound.lock().waiting.contains_key(client.id()));
    }

    #[test]
    fn what_clients_say_does_not_have_their_server_unread() {
        let link = link(1000);
        let client = Link::detached(Identity::anonymous());
        assert_eq!(link.try_send(&data(1000), &client), Ok(()));
        assert_eq!(link.offer(&data(1000)), Ok(()));
        assert_eq!(link.offer(&data(0)), Err(SendRefused::Full));
        assert!(!link.is_full() && link.is_stuck());
        for _ in 0..2 {
            assert!(!link.is_full());
            link.send(&data(600));
        }
        assert!(link.is_full() && !link.is_closed());
        // and while it is being written
        let (bytes, start) = link.take_queued().unwrap();
        assert!(link.is_full());
        link.wrote(bytes.len() - start - 600);
        assert!(!link.is_full());
        link.wrote(600);
        let outbound = link.outbound.lock();
        assert_eq!([outbound.size(), outbound.said()], [0, 0]);
    }

    #[test]
    fn a_server_that_reads_nothing_loses_its_connection() {
        let link = link(1000);
        for _ in 0..3 {
            assert!(!link.is_closed());
            link.send(&data(900));
        }
        link.send(&data(0));
        assert_eq!(link.reason.get(), Some(&ServerGone::NotReading));
        assert!(link.outbound.lock().size() < 3000);
        link.finish();
        assert!(link.outbound.lock().size() > 0, "there may be somebody to hear it");
        link.forget_queued();
        assert_eq!(link.outbound.lock().size(), 0);
        link.send(&data(0));
        assert!(link.take_queued().is_none());
    }
}
