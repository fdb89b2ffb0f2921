use super::connection::ConnectionState;
use super::upload::Upload;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;

/// The calls of one connection that have become tasks, and the upload streams that are open for them.
#[derive(Default)]
pub(super) struct Calls {
    table: Mutex<Table>,
    /// Ordinary calls that run and have not given their place away.
    slots: AtomicUsize,
    /// Ordinary calls that run, those that have given their place away included.
    ordinary: AtomicUsize,
    /// Streams, and calls with uploads.
    streaming: AtomicUsize,
    /// Bytes that wait for calls: messages that are kept, and items of uploads.
    held: AtomicUsize,
    /// Kept messages wait for a place.
    waiting: AtomicBool,
    /// A task waits for the client to take what it was sent, and then resumes the connection.
    pub(super) awaits_room: AtomicBool,
    /// Calls that the client has cancelled, of those that were not over yet.
    cancelled: AtomicU64,
}

#[derive(Default)]
struct Table {
    running: Vec<Entry>,
    uploads: Vec<Arc<Upload>>,
}

struct Entry {
    id: Option<Box<str>>,
    streaming: bool,
    call: Arc<CallState>,
}

/// What others share with a call: its place among the ordinary calls, and its cancellation.
#[derive(Debug, Default)]
pub(super) struct CallState {
    slot: AtomicU8,
    cancelled: AtomicBool,
    token: OnceLock<CancellationToken>,
}

/// A running call's entry; dropping it is the end of the call.
pub(super) struct Seat {
    state: Arc<ConnectionState>,
    call: Arc<CallState>,
    ordinary: bool,
}

impl Calls {
    /// Whether one more ordinary call may start. Only the connection's own task starts calls.
    pub(super) fn has_slot(&self, parallel: usize, most: usize) -> bool {
        self.slots.load(Ordering::SeqCst) < parallel && self.ordinary.load(Ordering::SeqCst) < most
    }

    /// Whether one more call that streams may start. These are counted apart: streams that never end must not keep the line waiting.
    pub(super) fn may_stream(&self, most: usize) -> bool {
        self.streaming.load(Ordering::SeqCst) < most
    }

    pub(super) fn are_running(&self) -> bool {
        self.ordinary.load(Ordering::SeqCst) + self.streaming.load(Ordering::SeqCst) > 0
    }

    fn counter(&self, ordinary: bool) -> &AtomicUsize {
        if ordinary { &self.ordinary } else { &self.streaming }
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    pub(super) fn charge(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Messages are, or are no longer, kept. Whoever makes room after this has been set calls `resume`.
    pub(super) fn wait(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::SeqCst);
    }

    /// How many calls the client has cancelled.
    pub(super) fn cancelled(&self) -> u64 {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Cancels the calls with this id; false if there is none.
    pub(super) fn cancel(&self, id: &str) -> bool {
        let calls: Vec<_> = {
            let table = self.table.lock();
            table
                .running
                .iter()
                .filter(|entry| entry.id.as_deref() == Some(id))
                .map(|entry| entry.call.clone())
                .collect()
        };
        for call in &calls {
            if call.cancel() {
                self.count_cancelled();
            }
        }
        !calls.is_empty()
    }

    pub(super) fn count_cancelled(&self) {
        self.cancelled.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a stream with this id runs.
    pub(super) fn streams(&self, id: &str) -> bool {
        self.table.lock().running.iter().any(|entry| entry.streaming && entry.id.as_deref() == Some(id))
    }

    /// The open upload stream with this id.
    pub(super) fn upload(&self, id: &str) -> Option<Arc<Upload>> {
        self.table.lock().uploads.iter().find(|upload| upload.id() == id).cloned()
    }

    /// The same, for its end: its id is free again.
    pub(super) fn take_upload(&self, id: &str) -> Option<Arc<Upload>> {
        let mut table = self.table.lock();
        let at = table.uploads.iter().position(|upload| upload.id() == id)?;
        Some(table.uploads.swap_remove(at))
    }

    /// The connection has ended: cancels what runs, and ends the uploads.
    pub(super) fn end(&self) {
        let (running, uploads) = {
            let mut table = self.table.lock();
            let running: Vec<_> = table.running.iter().map(|entry| entry.call.clone()).collect();
            (running, std::mem::take(&mut table.uploads))
        };
        for call in running {
            call.cancel();
        }
        uploads.iter().for_each(|upload| upload.disconnect());
    }
}

impl ConnectionState {
    /// Bytes wait no longer. The client is read again, if that was what held it up.
    pub(super) fn release(&self, bytes: usize) {
        let before = self.calls.held.fetch_sub(bytes, Ordering::AcqRel);
        let limit = self.link.options().look_ahead;
        if before > limit && before - bytes <= limit {
            self.link.resume();
        }
    }

    /// The call waits for a client, or is over: the next one may have its place.
    pub(super) fn give_slot_back(&self, call: &CallState) {
        if call.slot.swap(GIVEN, Ordering::AcqRel) == COUNTED {
            self.calls.slots.fetch_sub(1, Ordering::SeqCst);
            self.resume_waiting();
        }
    }

    fn resume_waiting(&self) {
        if self.calls.waiting.load(Ordering::SeqCst) || self.link.is_retiring() {
            self.link.resume();
        }
    }
}

impl CallState {
    /// Its token, already cancelled if the call is.
    pub(super) fn token(&self) -> CancellationToken {
        let token = self.token.get_or_init(CancellationToken::new).clone();
        if self.cancelled.load(Ordering::SeqCst) {
            token.cancel();
        }
        token
    }

    /// True the first time.
    fn cancel(&self) -> bool {
        let first = !self.cancelled.swap(true, Ordering::SeqCst);
        if let Some(token) = self.token.get() {
            token.cancel();
        }
        first
    }
}

impl Seat {
    /// Enters a call that goes on as a task: from here on it counts, can be cancelled, and its uploads are open.
    pub(super) fn take(
        state: &Arc<ConnectionState>,
        call: &Arc<CallState>,
        id: Option<&str>,
        streaming: bool,
        ordinary: bool,
        uploads: Vec<Arc<Upload>>,
    ) -> Self {
        let calls = &state.calls;
        calls.counter(ordinary).fetch_add(1, Ordering::SeqCst);
        if ordinary {
            // counted first: it may be given back in this moment
            calls.slots.fetch_add(1, Ordering::SeqCst);
            if call.slot.compare_exchange(NOT_COUNTED, COUNTED, Ordering::AcqRel, Ordering::Acquire).is_err() {
                calls.slots.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let mut table = calls.table.lock();
        table.running.push(Entry { id: id.map(Into::into), streaming, call: call.clone() });
        table.uploads.extend(uploads);
        drop(table);
        Self { state: state.clone(), call: call.clone(), ordinary }
    }

    pub(super) fn state(&self) -> &Arc<ConnectionState> {
        &self.state
    }

    pub(super) fn call(&self) -> &CallState {
        &self.call
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let calls = &self.state.calls;
        let uploads: Vec<_> = {
            let mut table = calls.table.lock();
            if let Some(at) = table.running.iter().position(|entry| Arc::ptr_eq(&entry.call, &self.call)) {
                table.running.swap_remove(at);
            }
            table.uploads.extract_if(.., |upload| upload.belongs_to(&self.call)).collect()
        };
        uploads.iter().for_each(|upload| upload.stop());
        calls.counter(self.ordinary).fetch_sub(1, Ordering::SeqCst);
        self.state.give_slot_back(&self.call);
        self.state.resume_waiting();
    }
}

/// A call that is polled in its connection's turn holds up the others anyway.
const NOT_COUNTED: u8 = 0;
/// It runs on a task, and holds a slot.
const COUNTED: u8 = 1;
/// It had a slot, or never needed one.
const GIVEN: u8 = 2;
