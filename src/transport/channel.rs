use super::post::{Charge, ENTRY};
use super::serve::Line;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use tokio::sync::{Notify, Semaphore};

/// Where the HTTP requests of one connection meet its task: POSTs put bytes in, an event stream or a poll takes messages out.
///
/// ```text
///   Open --end (its goodbye may still be fetched)--> Ending --fetched, deleted, given up--> Over
/// ```
pub(crate) struct HttpChannel {
    state: Mutex<State>,
    /// The connection above, from the first GET on.
    source: OnceLock<Weak<dyn Source>>,
    /// POSTs have their turns in the order in which they came.
    pub(super) turns: Semaphore,
    /// Something that a waiting request looks at has changed.
    changed: Notify,
    /// The request that reads.
    reader: AtomicWaker,
    /// Bytes, and what keeping them takes, that may wait to be read by the hub before a POST has to wait.
    inbox_limit: usize,
}

/// What the requests of a client need of the connection above them.
pub(crate) trait Source: Send + Sync + 'static {
    /// Takes messages that wait for the client, whole and in order: the first whatever its size, and more up to `most` bytes. Empty if
    /// none waits.
    fn take(&self, most: usize) -> Bytes;
    /// Tells whether the client reads. Only stores it: it is called under a lock, so that the last one called counts.
    fn presence(&self, presence: Presence);
    /// The client has gone: it said so, or its event stream broke off. Not called under a lock.
    fn left(&self, said_so: bool);
    /// Has the connection's task look at the channel.
    fn wake(&self);
}

/// What a client does with what is sent to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// No request is there that could take it.
    Absent,
    /// A request waits for it.
    Waiting,
    /// A request has taken some, and since now it is being written.
    Writing,
}

#[derive(Default)]
struct State {
    phase: Phase,
    inbox: VecDeque<(Bytes, Charge)>,
    inbox_bytes: usize,
    /// The number of the latest poll: all others have to go.
    newest: u64,
    reading: Option<Active>,
}

/// The request that reads.
struct Active {
    line: Option<Line>,
    /// What it has taken and not written: kept here so that it goes when the client does not read it.
    taken: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Open,
    Ending,
    Over,
}

/// The connection has ended, and the request came too late for it.
#[derive(Debug)]
pub(super) struct Gone;

impl HttpChannel {
    pub(super) fn new(inbox_limit: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            source: OnceLock::new(),
            turns: Semaphore::new(1),
            changed: Notify::new(),
            reader: AtomicWaker::new(),
            inbox_limit,
        })
    }

    /// The connection above stands.
    pub(crate) fn open(&self, source: Weak<dyn Source>) {
        let _ = self.source.set(source);
        let state = self.state.lock();
        if let (Some(source), true) = (self.source(), state.reading.is_some()) {
            source.presence(Presence::Waiting);
        }
        drop(state);
        self.reader.wake();
    }

    pub(super) fn is_open(&self) -> bool {
        self.source.get().is_some()
    }

    /// Takes up to `most` bytes of what the client has posted.
    pub(crate) fn read(&self, most: usize) -> Option<Bytes> {
        let mut state = self.state.lock();
        let (first, _) = state.inbox.front_mut()?;
        let piece = first.split_to(most.min(first.len()));
        let is_read = first.is_empty();
        let before = state.inbox_bytes;
        state.inbox_bytes -= piece.len();
        if is_read {
            state.inbox.pop_front();
            state.inbox_bytes -= ENTRY;
        }
        let half = self.inbox_limit / 2;
        let roomy = before > half && state.inbox_bytes <= half;
        drop(state);
        if roomy {
            self.changed.notify_waiters();
        }
        Some(piece)
    }

    /// Appends a whole body to what the client has posted.
    pub(super) fn put(&self, body: Bytes, charge: Charge) -> Result<(), Gone> {
        let mut state = self.state.lock();
        if state.phase != Phase::Open {
            return Err(Gone);
        }
        if !body.is_empty() {
            state.inbox_bytes += body.len() + ENTRY;
            state.inbox.push_back((body, charge));
        }
        drop(state);
        self.wake_task();
        Ok(())
    }

    /// Waits while more than the limit is unread, until half of it is.
    pub(super) async fn room(&self) -> Result<(), Gone> {
        let mut enough = self.inbox_limit;
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let state = self.state.lock();
                if state.inbox_bytes <= enough {
                    return Ok(());
                }
                if state.phase != Phase::Open {
                    return Err(Gone);
                }
            }
            enough = self.inbox_limit / 2;
            changed.await;
        }
    }

    /// Something waits for the client.
    pub(crate) fn wake_reader(&self) {
        self.reader.wake();
    }

    /// A request reads, or what it has read is still being written.
    pub(crate) fn is_read(&self) -> bool {
        self.state.lock().reading.is_some()
    }

    /// The hub has ended the connection and takes nothing more in; what waits for the client may still be fetched.
    pub(crate) fn end(&self) {
        self.advance(Phase::Ending);
    }

    /// The connection is over, fetched or not.
    pub(crate) fn dispose(&self) {
        self.advance(Phase::Over);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().phase == Phase::Over
    }

    fn advance(&self, phase: Phase) {
        let mut state = self.state.lock();
        if state.phase != Phase::Over {
            state.phase = phase;
        }
        state.inbox = VecDeque::new();
        drop(state);
        self.turns.close();
        self.changed.notify_waiters();
        self.reader.wake();
    }

    /// The client has asked for the end. False if somebody was faster.
    pub(super) fn delete(&self) -> bool {
        if self.is_over() {
            return false;
        }
        self.dispose();
        if let Some(source) = self.source() {
            source.left(true);
        }
        true
    }

    /// Cuts the TCP connection of a client that does not take what is written to it, where that is ours to do: a response cannot end
    /// before it has been read. Over HTTP/2 it stays with what the connection has of it, and the rest goes.
    pub(crate) fn cut(&self) {
        let line = self.state.lock().reading.as_mut().and_then(|active| {
            active.taken = Bytes::new();
            active.line.clone()
        });
        if let Some(line) = line {
            line.cut();
        }
    }

    /// Becomes the only reader of a connection that has none.
    pub(super) fn enter(self: &Arc<Self>, line: Option<Line>) -> Option<Reading> {
        let mut state = self.state.lock();
        let free = state.phase != Phase::Over && state.reading.is_none();
        free.then(|| {
            state.newest += 1;
            self.start(&mut state, line)
        })
    }

    /// Becomes the reader once the one before has gone, which is sent away. `None`: a newer one came meanwhile, or the end.
    ///
    /// Cancel safe: whoever was sent away stays away.
    pub(super) async fn take_over(self: &Arc<Self>, line: Option<Line>) -> Option<Reading> {
        let number = {
            let mut state = self.state.lock();
            state.newest += 1;
            state.newest
        };
        self.reader.wake();
        self.changed.notify_waiters();
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.state.lock();
                if state.phase == Phase::Over || state.newest != number {
                    return None;
                }
                if state.reading.is_none() {
                    return Some(self.start(&mut state, line));
                }
            }
            changed.await;
        }
    }

    fn start(self: &Arc<Self>, state: &mut State, line: Option<Line>) -> Reading {
        let number = state.newest;
        state.reading = Some(Active { line, taken: Bytes::new() });
        if let Some(source) = self.source() {
            source.presence(Presence::Waiting);
        }
        Reading { channel: self.clone(), number }
    }

    fn source(&self) -> Option<Arc<dyn Source>> {
        self.source.get()?.upgrade()
    }

    fn wake_task(&self) {
        if let Some(source) = self.source() {
            source.wake();
        }
    }
}

impl fmt::Debug for HttpChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpChannel").finish_non_exhaustive()
    }
}

/// The right to read, for as long as it is kept: one request of a connection has it.
pub(super) struct Reading {
    channel: Arc<HttpChannel>,
    number: u64,
}

/// What a reader comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Whole messages.
    Messages(Bytes),
    /// A newer poll takes over.
    Superseded,
    /// Nothing more will come.
    Ended,
}

impl Reading {
    /// Waits for messages, and takes them: see [`Source::take`].
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, most: usize) -> Poll<Read> {
        let channel = &self.channel;
        channel.reader.register(cx.waker());
        let phase = {
            let state = channel.state.lock();
            if state.phase == Phase::Over {
                return Poll::Ready(Read::Ended);
            }
            if state.newest != self.number {
                return Poll::Ready(Read::Superseded);
            }
            state.phase
        };
        let messages = channel.source().map(|source| source.take(most)).unwrap_or_default();
        if !messages.is_empty() {
            self.presence(Presence::Writing);
            return Poll::Ready(Read::Messages(messages));
        }
        // looked at before what waits: an end that comes now wakes us again
        if phase == Phase::Ending { Poll::Ready(Read::Ended) } else { Poll::Pending }
    }

    /// What was taken has been written as far as one can see, or goes on to be.
    pub(super) fn presence(&self, presence: Presence) {
        let _state = self.channel.state.lock();
        if let Some(source) = self.channel.source() {
            source.presence(presence);
        }
    }

    /// Keeps what was taken, to be written [piece](Self::piece) by piece.
    pub(super) fn keep(&self, messages: Bytes) {
        if let Some(active) = &mut self.channel.state.lock().reading {
            active.taken = messages;
        }
    }

    /// The next bytes of what was kept; `None`: there are none, or the connection has been [cut](HttpChannel::cut).
    pub(super) fn piece(&self, most: usize) -> Option<Bytes> {
        let mut state = self.channel.state.lock();
        let taken = &mut state.reading.as_mut()?.taken;
        let size = taken.len().min(most);
        (size > 0).then(|| taken.split_to(size))
    }

    /// The client will not read again.
    pub(super) fn left(&self) {
        if let Some(source) = self.channel.source() {
            source.left(false);
        }
    }

    pub(super) fn channel(&self) -> &Arc<HttpChannel> {
        &self.channel
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut state = self.channel.state.lock();
        state.reading = None;
        if let Some(source) = self.channel.source() {
            source.presence(Presence::Absent);
        }
        drop(state);
        self.channel.changed.notify_waiters();
        self.channel.wake_task();
    }
}
