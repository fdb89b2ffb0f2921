use super::{CloseReason, Link};
use crate::protocol::hub::Frame;
use std::time::Duration;

/// What only a connection needs whose hub is somewhere else: what is sent to it comes from there, ready made.
impl Link {
    /// Keeps back whatever is sent to the client until its handshake is [answered](Self::answer): a message in front of the answer would
    /// end the client.
    pub(crate) fn hold(&self) {
        self.outbound().hold();
    }

    /// The hub was asked for its answer to the handshake: the time for that runs from now on.
    pub(crate) fn expect_answer(&self) {
        self.deadlines.asked(self.shared.sweep.now());
    }

    /// Sends the hub's answer to the handshake, and then what was kept back. `refuses`: the answer carries an error, and nothing follows.
    pub(crate) fn answer(&self, answer: Frame, refuses: bool) {
        let mut outbound = self.outbound();
        if outbound.finished {
            return;
        }
        self.deadlines.opened(self.shared.sweep.now(), self.options(), self.id().spread());
        outbound.release(answer, !refuses);
        drop(outbound);
        self.flush();
    }

    /// Queues what the hub has written to this very connection, which is never dropped. A client that does not take it ends: whoever
    /// sent it has others to serve, and does not wait. `limit` is for the bytes of it that wait.
    pub(crate) fn relay(&self, frame: Frame, limit: usize) {
        let mut outbound = self.outbound();
        if outbound.finished {
            return;
        }
        if outbound.reply_bytes() > 0 && outbound.reply_bytes() + frame.websocket().len() > limit {
            drop(outbound);
            self.close(CloseReason::SlowReceiver);
            return;
        }
        outbound.reply(frame);
        drop(outbound);
        self.flush();
    }

    /// Bytes of what was [relayed](Self::relay) that wait for the client to take them.
    pub(crate) fn relayed_bytes(&self) -> usize {
        self.outbound().reply_bytes()
    }

    /// Has the connection's task call `Receive::resume` once fewer bytes wait than this; false if it is so already.
    pub(crate) fn wait_for_ease(&self, below: usize) -> bool {
        self.outbound().wait_for_ease(below)
    }

    /// Queues what the hub has to say about the connection itself, which no client acknowledges.
    pub(crate) fn relay_control(&self, frame: Frame) {
        let mut outbound = self.outbound();
        if !outbound.finished {
            outbound.control(frame);
            drop(outbound);
            self.flush();
        }
    }

    /// For how long the client has said nothing.
    pub(crate) fn silence(&self) -> Duration {
        let since = self.deadlines.silence(self.shared.sweep.now());
        Duration::from_millis(since.into())
    }

    /// Tells whether the connection counts its messages, each in a frame of its own.
    pub(crate) fn counts_messages(&self) -> bool {
        self.is_armed()
    }
}
