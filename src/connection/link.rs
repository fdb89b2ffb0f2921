use super::deadlines::Deadlines;
use super::outbound::{Batch, Outbound, Pushed};
use super::resumption::Resumption;
use super::{CloseReason, ConnectionOptions, Credential, Shared};
use crate::protocol::hub::{Frame, Protocol};
use crate::transport::{ConnectionId, Facts, HttpChannel, Identity, Standing, Terms, Transport};
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};
use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What everybody but its own task holds of a connection: sends to it, asks about it, ends it.
pub(crate) struct Link {
    id: ConnectionId,
    facts: Facts,
    pub(super) shared: Arc<Shared>,
    /// The raw socket, which senders write to from where they stand. `None`: a stream that only the connection's own task may touch.
    pub(super) socket: Option<TcpStream>,
    /// Where HTTP requests take what waits, if it is they who carry the connection.
    pub(super) http: Option<Arc<HttpChannel>>,
    outbound: Mutex<Outbound>,
    /// Only for a connection that may survive its socket.
    pub(super) resumption: Option<Box<Resumption>>,
    /// The connection's task.
    pub(super) task: AtomicWaker,
    signals: AtomicU8,
    /// It is to end as soon as none of its calls runs.
    retiring: AtomicBool,
    protocol: AtomicU8,
    pub(super) sweep_index: AtomicU32,
    pub(super) deadlines: Deadlines,
    pub(crate) credential: Credential,
    reason: OnceLock<CloseReason>,
    ended: OnceLock<CancellationToken>,
    room: Notify,
}

impl Link {
    pub(super) fn new(
        id: ConnectionId,
        facts: Facts,
        shared: Arc<Shared>,
        socket: Option<TcpStream>,
        http: Option<Arc<HttpChannel>>,
        resumption: Option<Box<Resumption>>,
    ) -> Arc<Self> {
        let deadlines =
            Deadlines::new(shared.sweep.now(), facts.transport == Transport::LongPolling, facts.terms.as_deref());
        let credential = Credential::of(&facts.identity);
        Arc::new(Self {
            id,
            facts,
            shared,
            socket,
            http,
            outbound: Mutex::default(),
            resumption,
            task: AtomicWaker::new(),
            signals: AtomicU8::new(0),
            retiring: AtomicBool::new(false),
            protocol: AtomicU8::new(Protocol::Json as u8),
            sweep_index: AtomicU32::new(0),
            deadlines,
            credential,
            reason: OnceLock::new(),
            ended: OnceLock::new(),
            room: Notify::new(),
        })
    }

    /// A link that no transport belongs to: what is sent to it waits for [`take_queued`](Self::take_queued). For unit tests of hub functions.
    pub(crate) fn detached(identity: Identity) -> Arc<Self> {
        let facts =
            Facts { identity, transport: Transport::WebSockets, address: None, query: Box::default(), terms: None };
        Self::new(ConnectionId::random(), facts, Arc::default(), None, None, None)
    }

    /// Takes everything that waits.
    pub(crate) fn take_queued(&self) -> Vec<Frame> {
        let mut outbound = self.outbound.lock();
        std::iter::from_fn(|| outbound.take()).collect()
    }

    #[cfg(feature = "service")]
    pub(super) fn outbound(&self) -> MutexGuard<'_, Outbound> {
        self.outbound.lock()
    }

    pub(crate) fn id(&self) -> &ConnectionId {
        &self.id
    }

    /// Known once the connection has shaken hands.
    pub(crate) fn protocol(&self) -> Protocol {
        Protocol::KNOWN[self.protocol.load(Ordering::Relaxed) as usize]
    }

    pub(super) fn choose(&self, protocol: Protocol) {
        self.protocol.store(protocol as u8, Ordering::Relaxed);
    }

    /// Identity, query, transport.
    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn options(&self) -> &ConnectionOptions {
        &self.shared.options
    }

    /// Queues a message from somebody else; the policy decides when too many wait. [`flush`](Self::flush) writes it.
    pub(crate) fn push(&self, frame: &Frame, key: Option<NonZeroU64>) {
        let outbound = self.outbound.lock();
        self.push_within(outbound, frame, key, self.options().outbound_limit);
    }

    /// Queues several with nothing in between. As to the limit they are one message.
    pub(crate) fn push_together(&self, frames: &[(Frame, Option<NonZeroU64>)]) {
        let Some(((first, key), behind)) = frames.split_first() else { return };
        let size: usize = behind.iter().map(|(frame, _)| frame.websocket().len()).sum();
        let limit = self.options().outbound_limit.saturating_sub(size);
        let mut outbound = self.push_within(self.outbound.lock(), first, *key, limit);
        for (frame, key) in behind {
            let Some(locked) = outbound else { return };
            outbound = self.push_within(locked, frame, *key, usize::MAX);
        }
    }

    /// Gives the lock back unless the connection has ended, or ends by this.
    fn push_within<'l>(
        &'l self,
        mut outbound: MutexGuard<'l, Outbound>,
        frame: &Frame,
        key: Option<NonZeroU64>,
        limit: usize,
    ) -> Option<MutexGuard<'l, Outbound>> {
        if outbound.finished {
            return None;
        }
        match outbound.push(frame, key, limit, self.shared.options.slow_receiver) {
            Pushed::Queued => {}
            Pushed::Dropped(n) => self.shared.metrics.pushes_dropped.add(n as u64),
            Pushed::Full => {
                drop(outbound);
                self.shared.metrics.pushes_dropped.add(1);
                self.close(CloseReason::SlowReceiver);
                return None;
            }
        }
        Some(outbound)
    }

    /// Queues a completion or a stream item, which is never dropped, and writes it if the socket is free.
    pub(crate) fn reply(&self, frame: Frame) {
        {
            let mut outbound = self.outbound.lock();
            if outbound.finished {
                return;
            }
            outbound.reply(frame);
        }
        self.flush();
    }

    /// Answers the handshake: the client may speak the protocol that it asked for.
    pub(crate) fn greet(&self) {
        // a frame of its own: three client libraries lose what stands in one frame behind the response
        self.control(Frame::handshake_response(self.protocol(), None));
    }

    /// How long the client may be away.
    pub(super) fn disconnect_timeout(&self) -> Duration {
        self.terms().and_then(|terms| terms.disconnect_timeout).unwrap_or(self.options().disconnect_timeout)
    }

    /// What the client is told of the reason.
    pub(super) fn told(&self, reason: &CloseReason) -> Option<String> {
        let detailed = self.has_detailed_errors();
        let is_private = matches!(reason, CloseReason::Requested { .. }) && self.terms().is_some() && !detailed;
        if is_private { None } else { reason.error(detailed) }
    }

    pub(super) fn has_detailed_errors(&self) -> bool {
        self.options().detailed_errors || self.terms().is_some_and(|terms| terms.detailed_errors)
    }

    /// Its client is never told that it may come back.
    pub(super) fn is_final(&self) -> bool {
        self.terms().is_some_and(|terms| terms.is_final)
    }

    fn terms(&self) -> Option<&Terms> {
        self.facts.terms.as_deref()
    }

    /// Queues what the connection itself has to say.
    pub(super) fn control(&self, frame: Frame) {
        self.outbound.lock().control(frame);
    }

    pub(super) fn pong(&self, frame: Frame) {
        self.outbound.lock().pong(frame);
    }

    /// Writes what is queued, from where the caller stands, if the socket takes it and nobody else writes.
    pub(crate) fn flush(&self) {
        self.flush_with(&mut Batch::default());
    }

    /// [`flush`](Self::flush) with a batch that the caller keeps for the next connection.
    pub(crate) fn flush_with(&self, batch: &mut Batch) {
        let Some(socket) = &self.socket else { return self.wake_writer() };
        let mut outbound = self.outbound.lock();
        if outbound.writing || outbound.blocked || !outbound.has_ready() {
            return;
        }
        outbound.writing = true;
        self.write_out(socket, outbound, batch);
    }

    /// Whoever writes where senders cannot.
    fn wake_writer(&self) {
        match &self.http {
            None => self.task.wake(),
            Some(channel) if self.has_queued() => channel.wake_reader(),
            Some(_) => {}
        }
    }

    /// Takes whole messages for a request that reads: see [`Source::take`](crate::transport::Source::take).
    pub(super) fn take_some(&self, most: usize) -> Bytes {
        let mut outbound = self.outbound.lock();
        let mut frames = outbound.take_some(most);
        if frames.is_empty() {
            return Bytes::new();
        }
        self.after_progress(outbound);
        if frames.len() == 1 {
            return frames.pop().map(Frame::into_payload).unwrap_or_default();
        }
        let mut joined = Vec::with_capacity(frames.iter().map(|frame| frame.payload().len()).sum());
        frames.iter().for_each(|frame| joined.extend_from_slice(frame.payload()));
        joined.into()
    }

    /// The connection's own task takes the right to write for a turn, if nothing waits: what it replies may then leave before it is queued.
    pub(super) fn take_turn(&self) -> bool {
        if self.socket.is_none() {
            return false;
        }
        let mut outbound = self.outbound.lock();
        let free = !outbound.writing && !outbound.blocked && outbound.is_empty();
        outbound.writing |= free;
        free
    }

    /// Ends a turn that was [taken](Self::take_turn): writes the replies, then what others have queued meanwhile.
    pub(super) fn end_turn(&self, replies: &mut Vec<u8>, batch: &mut Batch) {
        let socket = self.socket.as_ref().expect("a turn is taken on a raw socket only");
        let mut unwritten = None;
        if !replies.is_empty() {
            match socket.try_write(replies) {
                Ok(n) if n == replies.len() => {}
                Ok(n) => unwritten = Some(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => unwritten = Some(0),
                Err(_) => self.close(CloseReason::TransportLost),
            }
        }
        let mut outbound = self.outbound.lock();
        if let Some(n) = unwritten {
            outbound.unwritten_replies(Frame::of_websocket(replies[n..].to_vec()));
        }
        replies.clear();
        if !outbound.has_ready() {
            outbound.writing = false;
        } else {
            self.write_out(socket, outbound, batch);
        }
    }

    /// Writes batches until nothing waits, the socket is full, or a bounded number has gone. The caller holds the right to write.
    fn write_out<'a>(&'a self, socket: &TcpStream, mut outbound: MutexGuard<'a, Outbound>, batch: &mut Batch) {
        for _ in 0..BATCHES_IN_A_ROW {
            outbound.gather(batch);
            drop(outbound);
            let result = socket.try_write(batch.bytes());
            outbound = self.outbound.lock();
            match result {
                Ok(n) => outbound.wrote(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    outbound.wrote(0);
                    outbound.blocked = true;
                    self.deadlines.blocked(Some(self.shared.sweep.now()));
                    break;
                }
                Err(_) => {
                    outbound.wrote(0);
                    outbound.discard();
                    outbound.finished = true;
                    self.close(CloseReason::TransportLost);
                    break;
                }
            }
            if !outbound.has_ready() {
                break;
            }
        }
        outbound.writing = false;
        self.after_writing(outbound);
    }

    /// Wakes the task if it has to go on writing, and whoever waits for room.
    fn after_writing(&self, outbound: MutexGuard<'_, Outbound>) {
        let unfinished = outbound.has_ready();
        self.after_progress(outbound);
        if unfinished {
            self.task.wake();
        }
    }

    /// Wakes whoever waits for room. The task itself, which goes on writing, is not woken for that: a full stream does it when it is writable.
    fn after_progress(&self, mut outbound: MutexGuard<'_, Outbound>) {
        let roomy = outbound.reply_bytes() <= self.shared.options.reply_limit / 2;
        let eases = outbound.take_ease();
        drop(outbound);
        if eases {
            self.resume();
        }
        if roomy {
            self.room.notify_waiters();
            if self.signals.load(Ordering::Relaxed) & WAITING != 0 {
                self.task.wake();
            }
        }
    }

    /// Several replies may leave in one frame of [`Frame::of_websocket`]: not where each message is taken, or counted, by itself.
    pub(crate) fn joins_replies(&self) -> bool {
        self.facts.transport == Transport::WebSockets && self.resumption.is_none()
    }

    /// From here on what is sent is kept until the client acknowledges it.
    pub(super) fn arm(&self) {
        if let Some(resumption) = &self.resumption {
            resumption.arm();
            self.outbound.lock().keep_log(self.shared.options.stateful_reconnect_buffer);
        }
    }

    pub(super) fn is_armed(&self) -> bool {
        self.resumption.as_ref().is_some_and(|resumption| resumption.is_armed())
    }

    /// The client has everything up to this message.
    pub(super) fn acknowledge(&self, number: i64) {
        self.outbound.lock().acknowledge(number);
        self.flush();
    }

    /// The socket is gone, with what was being written.
    pub(super) fn unplug(&self) {
        self.outbound.lock().unplug();
        self.deadlines.blocked(None);
        self.deadlines.absent(Some(self.shared.sweep.now()));
    }

    /// The client is back: tells it where we go on, and sends again what it may not have.
    pub(super) fn replay(&self) {
        let protocol = self.protocol();
        self.outbound.lock().replay(|oldest| Frame::sequence(protocol, oldest));
        // its silence while it had no socket does not count
        self.deadlines.seen(self.shared.sweep.now());
        self.deadlines.absent(None);
    }

    /// For the connection's own task: the socket was full and may be writable again.
    pub(super) fn is_blocked(&self) -> bool {
        self.outbound.lock().blocked
    }

    pub(super) fn unblock(&self) {
        self.outbound.lock().blocked = false;
        self.deadlines.blocked(None);
    }

    /// For a stream that only the connection's own task writes: what it should write next. Nothing if `batch` is empty then.
    pub(super) fn gather(&self, batch: &mut Batch) {
        self.outbound.lock().gather(batch);
    }

    /// So much of what was gathered has left.
    pub(super) fn wrote(&self, written: usize) {
        let mut outbound = self.outbound.lock();
        outbound.wrote(written);
        self.after_progress(outbound);
    }

    /// For the send timeout of a boxed stream: it took everything, or is full since now unless it was before.
    pub(super) fn note_progress(&self, full: bool) {
        let mut outbound = self.outbound.lock();
        if full != outbound.blocked {
            outbound.blocked = full;
            self.deadlines.blocked(full.then(|| self.shared.sweep.now()));
        }
    }

    /// Takes in nothing more, and keeps or drops what waits. [`control`](Self::control) still works: for the goodbye. Says whether the
    /// client still waits for an answer to its handshake, which is the goodbye then.
    pub(super) fn finish(&self, keep_queued: bool) -> bool {
        let mut outbound = self.outbound.lock();
        outbound.finished = true;
        outbound.forget_log();
        let is_unanswered = outbound.give_up();
        if !keep_queued {
            outbound.discard();
        }
        drop(outbound);
        self.room.notify_waiters();
        if let Some(token) = self.ended.get() {
            token.cancel();
        }
        is_unanswered
    }

    /// Replies wait, more than the limit allows.
    pub(super) fn has_no_room(&self) -> bool {
        let outbound = self.outbound.lock();
        let full = outbound.reply_bytes() > self.shared.options.reply_limit;
        if full {
            // under the lock, so that the writer who makes room sees it
            self.signals.fetch_or(WAITING, Ordering::Relaxed);
        }
        full
    }

    /// Waits until there is room for replies, or the connection has ended. Streams await it before each item.
    ///
    /// Cancel safe.
    pub(crate) async fn reply_room(&self) {
        loop {
            let mut freed = std::pin::pin!(self.room.notified());
            freed.as_mut().enable();
            {
                let outbound = self.outbound.lock();
                if outbound.finished || outbound.reply_bytes() <= self.shared.options.reply_limit {
                    return;
                }
            }
            freed.await;
        }
    }

    pub(crate) fn has_queued(&self) -> bool {
        self.outbound.lock().has_ready()
    }

    /// Ends the connection; the first reason stands. Returns at once: the connection's own task does it.
    pub(crate) fn close(&self, reason: CloseReason) {
        if self.reason.set(reason).is_ok() {
            self.task.wake();
        }
    }

    /// Ends the connection, with permission to connect again, once its receiver is not busy any more; a receiver that stops being so calls
    /// [`resume`](Self::resume).
    pub(super) fn retire(&self) {
        self.retiring.store(true, Ordering::SeqCst);
        self.resume();
    }

    pub(crate) fn is_retiring(&self) -> bool {
        self.retiring.load(Ordering::SeqCst)
    }

    /// Why the connection ends or has ended, if it does.
    pub(crate) fn close_reason(&self) -> Option<&CloseReason> {
        self.reason.get()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.reason.get().is_some()
    }

    /// Cancelled when the connection ends. Made on first use: most connections never need one.
    pub(crate) fn ended(&self) -> CancellationToken {
        let token = self.ended.get_or_init(CancellationToken::new).clone();
        if self.outbound.lock().finished {
            // it ended before there was a token that could have been cancelled
            token.cancel();
        }
        token
    }

    /// Has the connection's task call `Receive::resume`.
    pub(crate) fn resume(&self) {
        self.signal(RESUME);
    }

    /// The sweep found something that is due.
    pub(super) fn due(&self) {
        self.signal(DUE);
    }

    fn signal(&self, what: u8) {
        if self.signals.fetch_or(what, Ordering::AcqRel) & what == 0 {
            self.task.wake();
        }
    }

    /// What the task was woken for, besides its socket.
    pub(super) fn take_signals(&self) -> u8 {
        if self.signals.load(Ordering::Relaxed) == 0 { 0 } else { self.signals.swap(0, Ordering::AcqRel) }
    }
}

impl Standing for Link {
    fn renew(&self, identity: Identity) {
        self.credential.renew(identity);
        self.resume();
    }

    fn expire(&self, at: Option<NonZeroU64>) {
        self.credential.expire(at);
    }

    fn refuse(&self) {
        self.close(CloseReason::Aborted);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("id", &self.id).field("transport", &self.facts.transport).finish_non_exhaustive()
    }
}

/// Call `Receive::resume`.
pub(super) const RESUME: u8 = 1;
/// Ask the deadlines.
pub(super) const DUE: u8 = 2;
/// The task does not read because too many replies wait: wake it when they have gone.
const WAITING: u8 = 4;
/// One sender writes at most this many batches (one frame or 16 KiB each) of somebody else's queue; the connection's task goes on.
const BATCHES_IN_A_ROW: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_stream_that_is_full_does_not_wake_its_own_task() {
        let link = Link::detached(Identity::anonymous());
        link.reply(Frame::of_framed(Protocol::Json, b"some reply"));
        let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
        link.task.register(&wakes.clone().into());
        link.gather(&mut Batch::default());
        link.wrote(3);
        link.wrote(0);
        assert!(link.has_queued());
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn messages_that_go_together_are_one_as_to_the_limit() {
        let link = Link::detached(Identity::anonymous());
        let frame = |size| Frame::of_framed(Protocol::Json, &vec![b'x'; size]);
        let large = link.options().outbound_limit * 2 / 3;
        link.push_together(&[(frame(large), None), (frame(large), None), (frame(1), None)]);
        assert!(!link.is_closed(), "nothing else waited");
        assert_eq!(link.take_queued().len(), 3);
        link.push(&frame(large), None);
        link.push_together(&[(frame(1), None), (frame(large), None)]);
        assert!(link.is_closed());
        assert_eq!(link.take_queued().len(), 1, "none of them is queued");
    }
}
