//! Stateful reconnect: both directions number their messages of types 1 to 5, from the first after the handshake. The numbers never
//! travel with the messages; they are counted.

use super::Frame;
use std::collections::VecDeque;

/// What was sent and may have to be sent again: everything that the client has not acknowledged, as the very frames that were sent.
#[derive(Debug, Default)]
pub(crate) struct SentLog {
    kept: VecDeque<Frame>,
    bytes: usize,
    /// The number of the newest message.
    newest: i64,
}

impl SentLog {
    /// A message has left.
    pub(crate) fn sent(&mut self, frame: Frame) {
        self.bytes += frame.payload().len();
        self.kept.push_back(frame);
        self.newest += 1;
    }

    /// The client has everything up to this number. Numbers that were never sent, and older ones again, do no harm.
    pub(crate) fn acknowledge(&mut self, number: i64) {
        while self.oldest() <= number
            && let Some(frame) = self.kept.pop_front()
        {
            self.bytes -= frame.payload().len();
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new();
        }
    }

    /// The number of the oldest message that is kept, or of the next one if none is: what `Sequence` tells a client that is back.
    pub(crate) fn oldest(&self) -> i64 {
        self.newest - self.kept.len() as i64 + 1
    }

    /// Bytes that are kept, framing included.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is kept, oldest first.
    pub(crate) fn frames(&self) -> impl DoubleEndedIterator<Item = &Frame> {
        self.kept.iter()
    }
}

/// What was received, as numbers.
#[derive(Debug)]
pub(crate) struct ReceivedCount {
    /// The number of the next message that comes.
    next: i64,
    /// The highest that was processed.
    latest: i64,
    /// The highest that the client was told of.
    acknowledged: i64,
}

impl Default for ReceivedCount {
    fn default() -> Self {
        Self { next: 1, latest: 0, acknowledged: 0 }
    }
}

impl ReceivedCount {
    /// A message of types 1 to 5 has come, whatever comes of it: false if it was processed before and is to be dropped.
    pub(crate) fn receive(&mut self) -> bool {
        let number = self.next;
        self.next += 1;
        let is_new = number > self.latest;
        if is_new {
            self.latest = number;
        }
        is_new
    }

    /// The client is back, and says which number comes next. False if messages would be missing before that.
    ///
    /// It may be greater than the number expected on this socket: an acknowledgement that left during a replay, and was the last thing
    /// to arrive, has the client go on behind everything that was processed. The reference ends the connection there.
    #[must_use]
    pub(crate) fn resume_at(&mut self, number: i64) -> bool {
        if number > self.latest + 1 {
            return false;
        }
        self.next = number;
        true
    }

    /// What to acknowledge, if there is something new.
    pub(crate) fn acknowledgement(&mut self) -> Option<i64> {
        let due = self.latest > self.acknowledged;
        self.acknowledged = self.latest;
        due.then_some(self.latest)
    }

    /// The last acknowledgement, if there was anything to acknowledge, may have died with the socket: it is due again.
    pub(crate) fn forget_acknowledgement(&mut self) {
        self.acknowledged = self.acknowledged.min((self.latest - 1).max(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::hub::Protocol;

    fn log(messages: usize) -> SentLog {
        let mut log = SentLog::default();
        for i in 0..messages {
            log.sent(Frame::of_framed(Protocol::Json, format!("{i}").as_bytes()));
        }
        log
    }

    #[test]
    fn what_is_not_acknowledged_is_kept() {
        let mut log = log(5);
        log.acknowledge(3);
        assert_eq!((log.oldest(), log.frames().count(), log.bytes()), (4, 2, 2));
        for odd in [2, 3, -1, i64::MIN] {
            log.acknowledge(odd);
            assert_eq!(log.oldest(), 4);
        }
        log.acknowledge(i64::MAX);
        assert_eq!((log.oldest(), log.frames().count(), log.bytes()), (6, 0, 0));
        assert_eq!(SentLog::default().oldest(), 1);
    }

    #[test]
    fn a_message_that_comes_again_is_told_apart() {
        let mut count = ReceivedCount::default();
        count.forget_acknowledgement();
        assert_eq!(count.acknowledgement(), None);
        assert!((0..5).all(|_| count.receive()));
        assert_eq!(count.acknowledgement(), Some(5));
        assert_eq!(count.acknowledgement(), None);
        assert!(count.resume_at(4));
        assert_eq!([count.receive(), count.receive(), count.receive()], [false, false, true]);
        assert_eq!(count.acknowledgement(), Some(6));
        assert!(!count.resume_at(8));
        assert!(count.resume_at(7));
        count.forget_acknowledgement();
        assert_eq!(count.acknowledgement(), Some(6));
    }

    #[test]
    fn an_acknowledgement_during_a_replay_counts_when_the_client_is_back_once_more() {
        let mut count = ReceivedCount::default();
        assert!((0..9).all(|_| count.receive()));
        assert!(count.resume_at(2));
        assert!(!count.receive());
        assert_eq!(count.acknowledgement(), Some(9));
        assert!(count.resume_at(10));
        assert!(count.receive());
    }
}
