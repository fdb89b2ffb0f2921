use crate::connection::{CloseReason, Link};
use crate::protocol::hub::{Frame, Kind, Protocol, decode_handshake_response, next_message};
use crate::protocol::service::message::DATA_CLOSE;
use crate::service::{Client, ServerLink};
use crate::transport::ConnectionId;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What a client's own task and its server connection share of it.
pub(super) struct Shared {
    pub(super) link: Arc<Link>,
    /// How the client has asked for the hub, as it came: any server that it moves to is to see it.
    pub(super) handshake: Box<[u8]>,
    /// Bytes of what its server sends to it that may wait.
    limit: usize,
    /// Its server is about to stop, and it has to move.
    leaves: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    /// The server connection that carries it, and how many did before.
    server: Option<Arc<ServerLink>>,
    number: u32,
    /// The hub's last word to the client has been passed on.
    said_goodbye: bool,
    /// A part of a message from the server, which came in pieces.
    part: Vec<u8>,
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
    number: u32,
}

impl Shared {
    pub(super) fn new(link: Arc<Link>, handshake: &[u8], limit: usize) -> Self {
        Self { link, limit, handshake: handshake.into(), leaves: AtomicBool::new(false), state: Mutex::default() }
    }

    /// The client as the next server connection that carries it is to see it.
    pub(super) fn next(self: &Arc<Self>) -> Bound {
        Bound { shared: self.clone(), number: self.state.lock().number + 1 }
    }

    /// From now on this server connection carries it, and what comes from the one before counts for nothing.
    pub(super) fn is_bound(&self, server: &Arc<ServerLink>) {
        let mut state = self.state.lock();
        state.number += 1;
        if state.phase == Phase::Waiting {
            state.phase = Phase::Asked;
        }
        self.leaves.store(false, Relaxed);
        state.part = Vec::new();
        state.server = Some(server.clone());
    }

    /// Nobody carries it any more.
    pub(super) fn leave(&self) {
        self.state.lock().server = None;
    }

    /// The server connection that carries it.
    pub(super) fn server(&self) -> Option<Arc<ServerLink>> {
        self.state.lock().server.clone()
    }

    /// It is to leave its server, and may: its handshake has been answered.
    pub(super) fn is_to_migrate(&self) -> bool {
        self.leaves.load(Relaxed) && {
            let state = self.state.lock();
            state.phase == Phase::Greeted && !state.said_goodbye
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.state.lock().phase == Phase::Waiting
    }

    pub(super) fn has_greeted(&self) -> bool {
        self.state.lock().phase == Phase::Greeted
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
        state.phase = Phase::Greeted;
        state.said_goodbye = refuses;
        drop(state);
        self.link.answer(Frame::of_framed(self.link.protocol(), &answer), refuses);
        if self.leaves.load(Relaxed) {
            self.link.resume();
        }
        Some(rest)
    }

    /// Passes on hub messages, as they came. Those of which only a part has come wait for the rest.
    fn pass(&self, number: u32, payload: &[u8], data_type: i32) {
        let (protocol, counts) = (self.link.protocol(), self.link.counts_messages());
        let mut state = self.state.lock();
        if state.number != number {
            return;
        }
        let joined = if state.part.is_empty() {
            None
        } else {
            let mut part = std::mem::take(&mut state.part);
            part.extend_from_slice(payload);
            Some(part)
        };
        let bytes = joined.as_deref().unwrap_or(payload);
        let Ok((whole, last)) = whole(protocol, bytes) else {
            drop(state);
            return self.link.close(CloseReason::ServerLost);
        };
        state.said_goodbye |= data_type == DATA_CLOSE || last == Some(Kind::Close);
        state.part.extend_from_slice(&bytes[whole..]);
        let too_much = state.part.len() > self.limit;
        drop(state);
        if too_much {
            self.link.close(CloseReason::ServerLost);
        } else if counts {
            self.relay_each(protocol, &bytes[..whole]);
        } else if whole > 0 {
            self.link.relay(Frame::of_framed(protocol, &bytes[..whole]), self.limit);
        }
    }

    /// A connection that can be resumed counts its messages: each has a frame of its own.
    fn relay_each(&self, protocol: Protocol, mut bytes: &[u8]) {
        while let Ok(Some(piece)) = next_message(protocol, bytes, None) {
            let frame = Frame::of_framed(protocol, &bytes[..piece.used]);
            if Kind::of(protocol, &bytes[piece.body]).is_numbered() {
                self.link.relay(frame, self.limit);
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
            Some(rest) if !rest.is_empty() => self.shared.pass(self.number, rest, data_type),
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
        let is_current = self.shared.state.lock().number == self.number;
        if is_current {
            self.shared.link.close(CloseReason::ServerLost);
        }
    }

    fn migrate(&self) {
        {
            let state = self.shared.state.lock();
            if state.number != self.number {
                return;
            }
            self.shared.leaves.store(true, Relaxed);
        }
        self.shared.link.resume();
    }
}

/// How many of the bytes are whole messages, and what the last of these is.
fn whole(protocol: Protocol, bytes: &[u8]) -> Result<(usize, Option<Kind>), crate::protocol::hub::DecodeError> {
    let (mut at, mut last) = (0, None);
    while let Some(piece) = next_message(protocol, &bytes[at..], None)? {
        last = Some(at + piece.body.start..at + piece.body.end);
        at += piece.used;
    }
    Ok((at, last.map(|body| Kind::of(protocol, &bytes[body]))))
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound").field("client", self.shared.link.id()).field("number", &self.number).finish()
    }
}

/// What ends an answer to a handshake, whatever the protocol.
const SEPARATOR: u8 = 0x1e;
/// Bytes of an answer to a handshake.
const LONGEST_ANSWER: usize = 64 * 1024;
