use super::SlowReceiver;
use crate::protocol::hub::{Frame, SentLog};
use bytes::Bytes;
use std::collections::VecDeque;
use std::num::NonZeroU64;

/// What may happen to a message on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Pings, closes, the handshake's answer: always sent.
    Control,
    /// Completions and stream items: never dropped; the client is not read while too many wait.
    Reply,
    /// Sends from others: bounded by a policy with a name.
    Push,
    /// Sent once already, and again since the client is back.
    Replay,
}

/// What waits for one connection, in order, in frames that its receivers share. Knows nothing of sockets.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    /// The usual queue holds one frame for a moment; it needs no allocation.
    first: Option<Entry>,
    rest: VecDeque<Entry>,
    /// Bytes of the first frame that have left.
    sent: usize,
    /// Frames at the front that are being written, and so stay whatever happens.
    in_flight: usize,
    push_bytes: usize,
    reply_bytes: usize,
    /// What has left and was not acknowledged, for a connection that may be resumed.
    log: Option<Box<Log>>,
    /// Somebody writes what is in flight.
    pub(super) writing: bool,
    /// The socket was full; only the connection's own task may go on, once it is writable.
    pub(super) blocked: bool,
    /// Nothing more is taken in.
    pub(super) finished: bool,
    /// Something was [taken](Self::take_some) before.
    greeted: bool,
    /// What waits may not leave yet: the answer to the handshake goes before it.
    held: bool,
    /// Somebody is to be told when fewer bytes of replies wait than this, unless it is zero.
    ease_below: usize,
}

#[derive(Debug)]
struct Log {
    sent: SentLog,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    frame: Frame,
    class: Class,
    key: Option<NonZeroU64>,
}

/// What became of a push.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    /// It is queued and this many others were dropped for it.
    Dropped(usize),
    /// There is no room and the policy is to disconnect: nothing was queued.
    Full,
}

impl Outbound {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Bytes of replies that wait.
    pub(super) fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    pub(super) fn control(&mut self, frame: Frame) {
        self.append(Entry { frame, class: Class::Control, key: None });
    }

    /// Queues a pong; an older one that still waits is replaced, as RFC 6455 5.5.3 allows, so that pings cannot fill the queue.
    pub(super) fn pong(&mut self, frame: Frame) {
        let busy = self.untouchable();
        let mut waiting = self.first.iter_mut().chain(&mut self.rest).skip(busy);
        match waiting.find(|e| e.key == Some(PONG)) {
            Some(waiting) => waiting.frame = frame,
            None => self.append(Entry { frame, class: Class::Control, key: Some(PONG) }),
        }
    }

    pub(super) fn reply(&mut self, frame: Frame) {
        self.append(Entry { frame, class: Class::Reply, key: None });
    }

    /// Puts what a turn could not write of its replies in front of everything that came after them.
    pub(super) fn unwritten_replies(&mut self, frame: Frame) {
        debug_assert!(self.sent == 0 && self.in_flight == 0);
        self.reply_bytes += frame.websocket().len();
        if let Some(second) = self.first.replace(Entry { frame, class: Class::Reply, key: None }) {
            self.rest.push_front(second);
        }
    }

    /// Queues a message from somebody else. A message larger than the limit passes when nothing else waits: it could never be sent otherwise.
    pub(super) fn push(
        &mut self,
        frame: &Frame,
        key: Option<NonZeroU64>,
        limit: usize,
        policy: SlowReceiver,
    ) -> Pushed {
        let mut dropped = 0;
        if policy == SlowReceiver::Conflate && key.is_some() {
            dropped += self.drop_pushes(|e| e.key == key, usize::MAX);
        }
        let size = frame.websocket().len();
        if self.push_bytes > 0 && self.push_bytes + size > limit {
            if policy == SlowReceiver::Disconnect {
                return Pushed::Full;
            }
            let excess = (self.push_bytes + size).saturating_sub(limit);
            dropped += self.drop_pushes(|_| true, excess);
        }
        self.append(Entry { frame: frame.clone(), class: Class::Push, key });
        if dropped == 0 { Pushed::Queued } else { Pushed::Dropped(dropped) }
    }

    /// Readies the front of the queue for one write: the first frame as it is, or several small ones joined. They stay in the queue until
    /// [`wrote`](Self::wrote) says how much has left; a single slice is cheaper to write than many, by more than the copy costs.
    pub(super) fn gather(&mut self, batch: &mut Batch) {
        batch.clear();
        self.let_control_pass();
        let mut room = self.log.as_ref().map(|log| (log.sent.bytes(), log.limit));
        let mut may_leave = |entry: &Entry, size: usize| match &mut room {
            Some((kept, limit)) if matches!(entry.class, Class::Push | Class::Reply) => {
                let fits = *kept <= *limit;
                *kept += size;
                fits
            }
            _ => true,
        };
        let Some(first) = self.first.as_ref().filter(|_| !self.is_kept_back()) else { return };
        let size = first.frame.websocket().len() - self.sent;
        // what has left in part has to go on
        if !may_leave(first, size) && self.sent == 0 {
            return;
        }
        self.in_flight = 1;
        if self.rest.is_empty() || size >= ENOUGH_BYTES || self.held {
            batch.single = first.frame.websocket().slice(self.sent..);
            return;
        }
        batch.joined.extend_from_slice(&first.frame.websocket()[self.sent..]);
        for entry in &self.rest {
            let frame = entry.frame.websocket();
            if batch.joined.len() + frame.len() > ENOUGH_BYTES || !may_leave(entry, frame.len()) {
                break;
            }
            batch.joined.extend_from_slice(frame);
            self.in_flight += 1;
        }
    }

    /// So many bytes of what was gathered have left.
    pub(super) fn wrote(&mut self, mut written: usize) {
        self.in_flight = 0;
        while let Some(first) = &self.first {
            let left = first.frame.websocket().len() - self.sent;
            if written < left {
                self.sent += written;
                self.uncharge(self.class_of_first(), written);
                return;
            }
            written -= left;
            self.uncharge(self.class_of_first(), left);
            if let Some(entry) = self.pop()
                && let Some(log) = &mut self.log
                && matches!(entry.class, Class::Push | Class::Reply)
            {
                log.sent.sent(entry.frame);
            }
            if written == 0 {
                return;
            }
        }
    }

    /// From here on what leaves is kept until it is acknowledged. While more than `limit` bytes are kept, only control messages leave.
    pub(super) fn keep_log(&mut self, limit: usize) {
        self.log = Some(Box::new(Log { sent: SentLog::default(), limit }));
    }

    /// The connection ends and will not be resumed: nothing is held back any more, or the end would be too.
    pub(super) fn forget_log(&mut self) {
        self.log = None;
    }

    /// The client has everything up to this message.
    pub(super) fn acknowledge(&mut self, number: i64) {
        if let Some(log) = &mut self.log {
            log.sent.acknowledge(number);
        }
    }

    /// The socket is gone: what was being written has not left.
    pub(super) fn unplug(&mut self) {
        self.in_flight = 0;
        let unsent = std::mem::take(&mut self.sent);
        self.charge(self.class_of_first(), unsent);
        self.blocked = false;
    }

    /// The client is back: `sequence` makes the message that tells it the number of what comes first, which is everything that it has not
    /// acknowledged, and then what has been queued meanwhile. What was said to the old socket about itself is forgotten.
    pub(super) fn replay(&mut self, sequence: impl FnOnce(i64) -> Frame) {
        self.unplug();
        let Some(log) = &self.log else { return };
        let waiting = self.first.take().into_iter().chain(std::mem::take(&mut self.rest));
        let waiting = waiting.filter(|entry| matches!(entry.class, Class::Push | Class::Reply));
        let again = log.sent.frames().map(|frame| Entry { frame: frame.clone(), class: Class::Replay, key: None });
        self.rest = again.chain(waiting).collect();
        self.first = Some(Entry { frame: sequence(log.sent.oldest()), class: Class::Control, key: None });
    }

    /// While the log is full, acknowledgements and pings go past what has to wait.
    fn let_control_pass(&mut self) {
        let full = self.log.as_ref().is_some_and(|log| log.sent.bytes() > log.limit);
        if !full || self.untouchable() > 0 || !matches!(self.class_of_first(), Class::Push | Class::Reply) {
            return;
        }
        let control = self.rest.iter().position(|e| e.class == Class::Control);
        if let Some(control) = control.and_then(|at| self.rest.remove(at))
            && let Some(first) = self.first.replace(control)
        {
            self.rest.push_front(first);
        }
    }

    /// Something could leave.
    pub(super) fn has_ready(&self) -> bool {
        !self.is_empty() && !self.is_kept_back()
    }

    /// Nothing may leave for now. The rest of a frame always may, or the client could never read on.
    fn is_kept_back(&self) -> bool {
        self.held && self.sent == 0
    }

    /// Takes the first frame, whole: for who is not a stream of bytes.
    pub(super) fn take(&mut self) -> Option<Frame> {
        debug_assert!(self.untouchable() == 0);
        let first = self.pop()?;
        self.uncharge(first.class, first.frame.websocket().len());
        Some(first.frame)
    }

    /// Takes the first frames, whole, up to a size; the very first one is what answers the handshake, and goes alone: three client
    /// libraries lose what stands behind it in one piece.
    pub(super) fn take_some(&mut self, most: usize) -> Vec<Frame> {
        let mut frames = Vec::new();
        let mut size = 0;
        while let Some(next) = self.first.as_ref().filter(|_| !self.held).map(|first| first.frame.websocket().len()) {
            if !frames.is_empty() && (size + next > most || !self.greeted) {
                break;
            }
            size += next;
            frames.extend(self.take());
        }
        self.greeted |= !frames.is_empty();
        frames
    }

    /// Lets nothing leave until [`release`](Self::release).
    #[cfg(feature = "service")]
    pub(super) fn hold(&mut self) {
        self.held = true;
    }

    /// Lets go what was held, behind the answer to the handshake; of one that refuses nothing else is left.
    #[cfg(feature = "service")]
    pub(super) fn release(&mut self, answer: Frame, keep: bool) {
        self.held = false;
        if !keep {
            self.discard();
        }
        let answer = Entry { frame: answer, class: Class::Control, key: None };
        match self.untouchable() {
            0 => {
                if let Some(second) = self.first.replace(answer) {
                    self.rest.push_front(second);
                }
            }
            // a pong from before the handshake is on its way
            busy => self.rest.insert(busy - 1, answer),
        }
    }

    /// What was held goes nowhere. Says whether anything was to be.
    pub(super) fn give_up(&mut self) -> bool {
        let was_held = std::mem::take(&mut self.held);
        if was_held {
            self.discard();
        }
        was_held
    }

    /// Has [`take_ease`](Self::take_ease) tell when fewer bytes of replies wait than this; false if it is so already.
    #[cfg(feature = "service")]
    pub(super) fn wait_for_ease(&mut self, below: usize) -> bool {
        let waits = self.reply_bytes >= below;
        self.ease_below = if waits { below } else { 0 };
        waits
    }

    /// Tells once that little enough waits.
    pub(super) fn take_ease(&mut self) -> bool {
        let eases = self.reply_bytes < self.ease_below;
        if eases {
            self.ease_below = 0;
        }
        eases
    }

    /// Forgets everything that waits but what is being written, or has left in part. What is still to be said comes with
    /// [`control`](Self::control).
    pub(super) fn discard(&mut self) {
        let busy = self.untouchable();
        if busy == 0 {
            self.first = None;
        }
        self.rest.truncate(busy.saturating_sub(1));
        self.rest.shrink_to_fit();
        (self.push_bytes, self.reply_bytes) = (0, 0);
        let mut sent = self.sent;
        for entry in self.first.iter().chain(&self.rest) {
            let left = entry.frame.websocket().len() - std::mem::take(&mut sent);
            match entry.class {
                Class::Push => self.push_bytes += left,
                Class::Reply => self.reply_bytes += left,
                Class::Control | Class::Replay => {}
            }
        }
    }

    fn append(&mut self, entry: Entry) {
        self.charge(entry.class, entry.frame.websocket().len());
        if self.first.is_none() {
            self.first = Some(entry);
        } else {
            self.rest.push_back(entry);
        }
    }

    fn pop(&mut self) -> Option<Entry> {
        self.sent = 0;
        let popped = std::mem::replace(&mut self.first, self.rest.pop_front());
        if self.rest.is_empty() && self.rest.capacity() > 0 {
            // an idle connection holds no queue
            self.rest = VecDeque::new();
        }
        popped
    }

    fn class_of_first(&self) -> Class {
        self.first.as_ref().map_or(Class::Control, |e| e.class)
    }

    fn charge(&mut self, class: Class, size: usize) {
        match class {
            Class::Push => self.push_bytes += size,
            Class::Reply => self.reply_bytes += size,
            Class::Control | Class::Replay => {}
        }
    }

    fn uncharge(&mut self, class: Class, size: usize) {
        match class {
            Class::Push => self.push_bytes -= size,
            Class::Reply => self.reply_bytes -= size,
            Class::Control | Class::Replay => {}
        }
    }

    /// Frames at the front that may not be dropped or replaced any more.
    fn untouchable(&self) -> usize {
        self.in_flight.max(usize::from(self.sent > 0))
    }

    /// Drops pushes that match, oldest first, until `enough` bytes are gone.
    fn drop_pushes(&mut self, matches: impl Fn(&Entry) -> bool, enough: usize) -> usize {
        let mut busy = self.untouchable();
        let (mut freed, mut dropped) = (0, 0);
        let mut keep = |e: &Entry| {
            let spared = busy > 0;
            busy = busy.saturating_sub(1);
            let goes = !spared && freed < enough && e.class == Class::Push && matches(e);
            if goes {
                freed += e.frame.websocket().len();
                dropped += 1;
            }
            !goes
        };
        if self.first.as_ref().is_some_and(|e| !keep(e)) {
            self.first = None;
        }
        self.rest.retain(keep);
        if self.first.is_none() {
            self.first = self.rest.pop_front();
        }
        self.push_bytes -= freed;
        dropped
    }
}

/// What one write sends, held outside of the lock. To be kept for the next write: it keeps its buffer.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    single: Bytes,
    joined: Vec<u8>,
}

impl Batch {
    pub(super) fn bytes(&self) -> &[u8] {
        if self.joined.is_empty() { &self.single } else { &self.joined }
    }

    fn clear(&mut self) {
        self.single = Bytes::new();
        self.joined.clear();
    }
}

/// The size at which a write starts to cost more: the first 16 KiB of a write are nearly free.
const ENOUGH_BYTES: usize = 16 * 1024;
const PONG: NonZeroU64 = NonZeroU64::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::hub::Protocol;

    fn frame(text: &str) -> Frame {
        Frame::of_framed(Protocol::Json, text.as_bytes())
    }

    fn push(queue: &mut Outbound, text: &str, key: u64, policy: SlowReceiver) -> Pushed {
        queue.push(&frame(text), NonZeroU64::new(key), 20, policy)
    }

    fn drain(queue: &mut Outbound) -> String {
        let (mut batch, mut all) = (Batch::default(), Vec::new());
        while !queue.is_empty() {
            queue.gather(&mut batch);
            // as a socket would that takes a few bytes at a time
            let n = batch.bytes().len().min(3);
            all.extend_from_slice(&batch.bytes()[..n]);
            queue.wrote(n);
        }
        assert_eq!((queue.push_bytes, queue.reply_bytes), (0, 0));
        // the headers are two bytes that are no letters
        String::from_utf8_lossy(&all).chars().filter(char::is_ascii_alphanumeric).collect()
    }

    #[test]
    fn disconnect_refuses_what_does_not_fit() {
        let mut queue = Outbound::default();
        assert_eq!(push(&mut queue, "0123456789", 0, SlowReceiver::Disconnect), Pushed::Queued);
        assert_eq!(push(&mut queue, "0123456789", 0, SlowReceiver::Disconnect), Pushed::Full);
    }

    #[test]
    fn a_message_above_the_limit_passes_an_empty_queue() {
        let mut queue = Outbound::default();
        assert_eq!(push(&mut queue, &"x".repeat(99), 0, SlowReceiver::Disconnect), Pushed::Queued);
    }

    #[test]
    fn drop_oldest_spares_replies_and_control() {
        let mut queue = Outbound::default();
        queue.control(frame("ping"));
        push(&mut queue, "old", 0, SlowReceiver::DropOldest);
        queue.reply(frame("reply"));
        assert_eq!(push(&mut queue, "0123456789abcdefg", 0, SlowReceiver::DropOldest), Pushed::Dropped(1));
        assert_eq!(drain(&mut queue), "pingreply0123456789abcdefg");
    }

    #[test]
    fn conflate_keeps_the_newest_of_a_key() {
        let mut queue = Outbound::default();
        push(&mut queue, "a1", 1, SlowReceiver::Conflate);
        push(&mut queue, "b1", 2, SlowReceiver::Conflate);
        assert_eq!(push(&mut queue, "a2", 1, SlowReceiver::Conflate), Pushed::Dropped(1));
        assert_eq!(drain(&mut queue), "b1a2");
    }

    #[test]
    fn what_has_left_in_part_and_what_is_being_written_is_not_dropped() {
        let mut queue = Outbound::default();
        for text in ["one", "two", "three"] {
            push(&mut queue, text, 7, SlowReceiver::DropOldest);
        }
        let mut batch = Batch::default();
        queue.gather(&mut batch);
        assert_eq!(batch.bytes().len(), 5 + 5 + 7);
        assert_eq!(push(&mut queue, "four", 7, SlowReceiver::Conflate), Pushed::Queued);
        queue.wrote(7);
        assert_eq!(queue.push_bytes, 3 + 7 + 6);
        assert_eq!(push(&mut queue, "five", 7, SlowReceiver::Conflate), Pushed::Dropped(2));
        queue.discard();
        queue.gather(&mut batch);
        assert_eq!(batch.bytes(), b"two");
        queue.wrote(3);
        assert!(queue.is_empty());
    }

    #[test]
    fn whole_frames_are_taken_up_to_a_size_and_the_first_alone() {
        let mut queue = Outbound::default();
        for text in ["{}", "a", "b", "a long one", "c"] {
            queue.reply(frame(text));
        }
        let mut taken =
            |most| queue.take_some(most).iter().map(|f| f.payload().escape_ascii().to_string()).collect::<String>();
        assert_eq!([taken(99), taken(9), taken(9), taken(9), taken(9)], ["{}", "ab", "a long one", "c", ""]);
        assert_eq!(queue.reply_bytes, 0);
    }

    #[cfg(feature = "service")]
    #[test]
    fn the_answer_to_the_handshake_follows_a_frame_that_has_left_in_part() {
        for keep in [true, false] {
            let (mut queue, mut batch) = (Outbound::default(), Batch::default());
            queue.pong(frame("a pong"));
            queue.gather(&mut batch);
            queue.wrote(3);
            queue.hold();
            queue.reply(frame("early"));
            assert!(queue.has_ready(), "the rest of the pong");
            queue.gather(&mut batch);
            assert_eq!(batch.bytes(), b" pong");
            queue.wrote(2);
            queue.release(frame("answer"), keep);
            queue.gather(&mut batch);
            assert_eq!(drain(&mut queue), if keep { "onganswerearly" } else { "onganswer" });
        }
    }

    #[cfg(feature = "service")]
    #[test]
    fn nothing_but_the_rest_of_a_frame_leaves_before_the_answer_to_the_handshake() {
        let (mut queue, mut batch) = (Outbound::default(), Batch::default());
        queue.pong(frame("a pong"));
        queue.gather(&mut batch);
        queue.wrote(3);
        queue.hold();
        queue.reply(frame("early"));
        queue.gather(&mut batch);
        queue.wrote(batch.bytes().len());
        assert!(!queue.has_ready());
        queue.gather(&mut batch);
        assert!(batch.bytes().is_empty());
        queue.wrote(0);
        queue.release(frame("answer"), true);
        assert_eq!(drain(&mut queue), "answerearly");
    }

    #[test]
    fn pings_cannot_fill_the_queue_with_pongs() {
        let mut queue = Outbound::default();
        for text in ["a", "b", "c"] {
            queue.pong(frame(text));
        }
        assert_eq!(drain(&mut queue), "c");
    }
}
