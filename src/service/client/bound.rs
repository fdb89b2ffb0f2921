use crate::connection::{CloseReason, Link};
use crate::protocol::hub::{
    DecodeError, Frame, Kind, Protocol, decode_handshake_response, next_message, next_message_from,
};
use crate::protocol::service::message::DATA_CLOSE;
use crate::protocol::service::{Ext, Message};
use crate::service::{Client, ServerLink};
use crate::transport::ConnectionId;
use parking_lot::Mutex;
use std::cmp::Ordering;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// What a client's own task and its server connection share of it.
pub(super) struct Shared {
    pub(super) link: Arc<Link>,
    /// How the client has asked for the hub, as it came: any server that it moves to is to see it.
    pub(super) handshake: Box<[u8]>,
    /// Of what its server sends to it.
    limits: Limits,
    /// Its server is about to stop, and it has to move.
    leaves: AtomicBool,
    state: Mutex<State>,
}

/// Bytes of what a client's own server sends to it that may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// More ends the client.
    pub(super) relay: usize,
    /// At more the server is asked to pause.
    pub(super) pause: usize,
}

impl Limits {
    /// What counts: the server pauses well before the client ends.
    pub(super) fn settled(self, polls: bool) -> Self {
        let pause = if polls { self.pause.min(POLLED) } else { self.pause };
        Self { relay: self.relay, pause: pause.min(self.relay / 2) }
    }

    /// The server may go on when fewer bytes wait.
    fn ease(self) -> usize {
        (self.pause / 2).max(1)
    }
}

/// What may wait for a client over long polling before its server is asked to pause. The cloud ends one for which a megabyte waits; a few
/// large answers at once come to that, though it polls as fast as it can.
const POLLED: usize = 500_000;

#[derive(Default)]
struct State {
    phase: Phase,
    /// Which of those that were [made](Shared::next) carries it.
    number: u32,
    made: u32,
    /// The hub's last word to the client has been passed on.
    said_goodbye: bool,
    /// The server that carries it was asked to pause.
    is_paused: bool,
    /// A part of a message from the server, which came in pieces, and how much of it was searched for its end.
    part: Vec<u8>,
    scanned: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// No server knows of it.
    #[default]
    Waiting,
    /// A server was asked to answer its handshake.
    Asked,
    Greeted,
}

/// A client as one of the server connections sees it that carry it one after another: what comes from an earlier one counts for nothing.
pub(super) struct Bound {
    shared: Arc<Shared>,
    server: Weak<ServerLink>,
    number: u32,
    /// The server connection has ended, or is about to, before the client was [moved](Shared::move_to) to it.
    missed: AtomicBool,
}

impl Shared {
    pub(super) fn new(link: Arc<Link>, handshake: &[u8], limits: Limits) -> Self {
        Self { link, limits, handshake: handshake.into(), leaves: AtomicBool::new(false), state: Mutex::default() }
    }

    /// The client as the next server connection that carries it is to see it.
    pub(super) fn next(self: &Arc<Self>, server: &Arc<ServerLink>) -> Arc<Bound> {
        let mut state = self.state.lock();
        state.made += 1;
        let (shared, server, number) = (self.clone(), Arc::downgrade(server), state.made);
        Arc::new(Bound { shared, server, number, missed: AtomicBool::new(false) })
    }

    /// From now on this one carries it, and what comes from the one before counts for nothing. False, and nothing has changed, if the server
    /// connection has told it meanwhile that it goes.
    #[must_use]
    pub(super) fn move_to(&self, bound: &Bound) -> bool {
        let mut state = self.state.lock();
        if bound.missed.load(Relaxed) {
            return false;
        }
        state.number = bound.number;
        if state.phase == Phase::Waiting {
            state.phase = Phase::Asked;
        }
        self.leaves.store(false, Relaxed);
        (state.part, state.scanned) = (Vec::new(), 0);
        true
    }

    /// Asks the server to pause if too much waits for the client.
    fn pause(&self, bound: &Bound) {
        if self.link.relayed_bytes() <= self.limits.pause {
            return;
        }
        let Some(server) = bound.server.upgrade() else { return };
        {
            let mut state = self.state.lock();
            if state.is_paused || state.number != bound.number {
                return;
            }
            state.is_paused = true;
            server.send(&flow(&self.link, FLOW_PAUSE));
        }
        if !self.link.wait_for_ease(self.limits.ease()) {
            self.link.resume();
        }
    }

    /// Lets a server go on that the client leaves: it waits at least for a while, with the end of the client as well, for what it may not send.
    pub(super) fn end_pause(&self, server: &ServerLink) {
        if std::mem::take(&mut self.state.lock().is_paused) {
            server.send(&flow(&self.link, FLOW_RESUME));
        }
    }

    /// Lets the server that carries the client go on, if it was asked to pause and the client has taken enough.
    pub(super) fn ease(&self, server: &ServerLink) {
        let mut state = self.state.lock();
        if state.is_paused && !self.link.wait_for_ease(self.limits.ease()) {
            state.is_paused = false;
            server.send(&flow(&self.link, FLOW_RESUME));
        }
    }

    /// It is to leave its server, and may: its handshake has been answered.
    pub(super) fn is_to_migrate(&self) -> bool {
        self.leaves.load(Relaxed) && {
            let state = self.state.lock();
            state.phase == Phase::Greeted && !state.said_goodbye
        }
    }

    /// The server's answer to the handshake, in front of everything else that it says; gives what stands behind it.
    fn greet<'a>(&self, number: u32, payload: &'a [u8]) -> Option<&'a [u8]> {
        let mut state = self.state.lock();
        if state.number != number {
            return None;
        }
        if state.phase == Phase::Greeted {
            return Some(payload);
        }
        let end = memchr::memchr(SEPARATOR, payload);
        let (piece, rest) = payload.split_at(end.map_or(payload.len(), |end| end + 1));
        state.part.extend_from_slice(piece);
        if end.is_none() {
            if state.part.len() > LONGEST_ANSWER {
                self.link.close(CloseReason::ServerLost);
            }
            return None;
        }
        let answer = std::mem::take(&mut state.part);
        let refuses = !matches!(decode_handshake_response(&answer[..answer.len() - 1]), Ok(None));
        // under the lock: it may move only when the answer is under way
        self.link.answer(Frame::of_framed(self.link.protocol(), &answer), refuses);
        state.phase = Phase::Greeted;
        state.said_goodbye = refuses;
        drop(state);
        if self.leaves.load(Relaxed) {
            self.link.resume();
        }
        Some(rest)
    }

    /// Passes on hub messages, as they came. Those of which only a part has come wait for the rest.
    fn pass(&self, bound: &Bound, payload: &[u8], data_type: i32) {
        let mut state = self.state.lock();
        if state.number != bound.number {
            return;
        }
        let Ok((joined, whole)) = state.join(self.link.protocol(), payload) else {
            drop(state);
            return self.link.close(CloseReason::ServerLost);
        };
        state.said_goodbye |= data_type == DATA_CLOSE || whole.last == Some(Kind::Close);
        let too_much = state.part.len() > self.limits.relay;
        drop(state);
        if too_much {
            return self.link.close(CloseReason::ServerLost);
        }
        self.relay(&joined.as_deref().unwrap_or(payload)[..whole.bytes]);
        self.pause(bound);
    }

    fn relay(&self, bytes: &[u8]) {
        let protocol = self.link.protocol();
        if self.link.counts_messages() {
            self.relay_each(protocol, bytes);
        } else if !bytes.is_empty() {
            self.link.relay(Frame::of_framed(protocol, bytes), self.limits.relay);
        }
    }

    /// A connection that can be resumed counts its messages: each has a frame of its own.
    fn relay_each(&self, protocol: Protocol, mut bytes: &[u8]) {
        while let Ok(Some(piece)) = next_message(protocol, bytes, None) {
            let frame = Frame::of_framed(protocol, &bytes[..piece.used]);
            if Kind::of(protocol, &bytes[piece.body]).is_numbered() {
                self.link.relay(frame, self.limits.relay);
            } else {
                self.link.relay_control(frame);
            }
            bytes = &bytes[piece.used..];
        }
    }
}

impl Client for Bound {
    fn id(&self) -> &ConnectionId {
        self.shared.link.id()
    }

    fn data(&self, payload: &[u8], data_type: i32) {
        match self.shared.greet(self.number, payload) {
            Some(rest) if !rest.is_empty() => self.shared.pass(self, rest, data_type),
            _ => {}
        }
    }

    fn close(&self, error: &str) {
        // also if it is about to be another's: the hub has ended it
        let said_goodbye = self.shared.state.lock().said_goodbye;
        let error = (!error.is_empty()).then(|| error.into());
        self.shared.link.close(CloseReason::ServerClosed { error, said_goodbye });
    }

    fn lost(&self) {
        self.goes(|link| link.close(CloseReason::ServerLost));
    }

    fn migrate(&self) {
        self.goes(|link| {
            self.shared.leaves.store(true, Relaxed);
            link.resume();
        });
    }
}

impl Bound {
    /// Its server connection goes: tells the client, if it is its own. One that is about to be finds out when it moves.
    fn goes(&self, tell: impl FnOnce(&Link)) {
        let state = self.shared.state.lock();
        match self.number.cmp(&state.number) {
            Ordering::Less => {}
            Ordering::Equal => tell(&self.shared.link),
            Ordering::Greater => self.missed.store(true, Relaxed),
        }
    }
}

impl State {
    /// Looks for whole messages in what has come. What stands behind them is kept for the next time. Gives what they stand at the front of, if
    /// that is not the payload. Each byte is looked at and copied once, however small the pieces.
    fn join(&mut self, protocol: Protocol, payload: &[u8]) -> Result<(Option<Vec<u8>>, Whole), DecodeError> {
        if self.part.is_empty() {
            let whole = Whole::of(protocol, payload, &mut self.scanned)?;
            self.part.extend_from_slice(&payload[whole.bytes..]);
            return Ok((None, whole));
        }
        self.part.extend_from_slice(payload);
        let whole = Whole::of(protocol, &self.part, &mut self.scanned)?;
        if whole.bytes == 0 {
            return Ok((Some(Vec::new()), whole));
        }
        let rest = self.part.split_off(whole.bytes);
        Ok((Some(std::mem::replace(&mut self.part, rest)), whole))
    }
}

/// How many bytes are whole messages, and what the last of these is.
#[derive(Debug, PartialEq)]
struct Whole {
    bytes: usize,
    last: Option<Kind>,
}

impl Whole {
    fn of(protocol: Protocol, bytes: &[u8], scanned: &mut usize) -> Result<Self, DecodeError> {
        let (mut at, mut last) = (0, None);
        while let Some(piece) = next_message_from(protocol, &bytes[at..], None, scanned)? {
            last = Some(at + piece.body.start..at + piece.body.end);
            at += piece.used;
        }
        Ok(Self { bytes: at, last: last.map(|body| Kind::of(protocol, &bytes[body])) })
    }
}

fn flow(link: &Link, operation: i32) -> Message<'_> {
    let connection_id = link.id().as_str();
    Message::ConnectionFlowControl { connection_id, connection_type: FLOW_CLIENT, operation, ext: Ext::default() }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("client", self.shared.link.id()).field("number", &self.number).finish()
    }
}

/// What the service asks of a server for one client: spec section 19.
const FLOW_CLIENT: i32 = 1;
const FLOW_PAUSE: i32 = 1;
const FLOW_RESUME: i32 = 3;
/// What ends an answer to a handshake, whatever the protocol.
const SEPARATOR: u8 = 0x1e;
/// Bytes of an answer to a handshake.
const LONGEST_ANSWER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_pieces_is_looked_through_once_and_joined() {
        let mut state = State::default();
        let mut join = |piece: &str| {
            let (joined, whole) = state.join(Protocol::Json, piece.as_bytes()).unwrap();
            let bytes = joined.as_deref().unwrap_or(piece.as_bytes())[..whole.bytes].to_vec();
            (String::from_utf8(bytes).unwrap(), whole.last, state.part.len(), state.scanned)
        };
        assert_eq!(join("{\"type\":6}\u{1e}{\"ty"), ("{\"type\":6}\u{1e}".into(), Some(Kind::Ping), 4, 4));
        for (length, piece) in [(5, "p"), (8, "e\":")] {
            assert_eq!(join(piece), (String::new(), None, length, length));
        }
        assert_eq!(join("7}\u{1e}{"), ("{\"type\":7}\u{1e}".into(), Some(Kind::Close), 1, 1));
        assert_eq!(join("}\u{1e}").2, 0);
    }

    #[test]
    fn the_threshold_of_a_pause_lies_below_the_limit() {
        let limits = Limits { relay: 16_000, pause: 1_000 };
        assert_eq!((limits.settled(false).pause, limits.settled(true).ease()), (1_000, 500));
        assert_eq!(Limits { relay: 1_000, pause: 1_000 }.settled(false).pause, 500);
        assert_eq!(Limits { relay: 0, pause: 1_000 }.settled(false).ease(), 1);
        assert_eq!(Limits { relay: 16_000_000, pause: 1_000_000 }.settled(true).pause, POLLED);
    }
}
