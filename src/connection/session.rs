use super::deadlines::Due;
use super::link::{DUE, RESUME};
use super::machine::{Machine, Refusal, Step};
use super::receive::{Sort, Sorted};
use super::{CLOSED, CloseReason, Link, Receive, Tenant, Turn};
use crate::protocol::hub::{Frame, HandshakeError, HandshakeRequest, Protocol, ReceivedCount, next_message};
use crate::transport::Transport;
use std::sync::Arc;
use tracing::debug;

/// The hub protocol's side of a driver: what the frames carried, message by message.
pub(super) struct Session<T: Tenant> {
    tenant: Arc<T>,
    pub(super) receiver: Option<T::Receive>,
    machine: Machine<T::Receive>,
    /// Bytes that could not be used yet: part of a message, or messages that came while reading paused.
    kept: Vec<u8>,
    /// Counts what has come, if the connection can be resumed.
    received: Option<Box<ReceivedCount>>,
}

impl<T: Tenant> Session<T> {
    pub(super) fn new(tenant: Arc<T>) -> Self {
        Self { tenant, receiver: None, machine: Machine::default(), kept: Vec::new(), received: None }
    }

    /// What came over the transport, in pieces of any size.
    pub(super) fn feed(&mut self, turn: &mut Turn<'_, '_>, payload: &[u8]) -> Result<(), Stop> {
        if self.kept.is_empty() {
            let used = self.steps(turn, payload)?;
            self.kept.extend_from_slice(&payload[used..]);
            return Ok(());
        }
        self.kept.extend_from_slice(payload);
        self.use_kept(turn)
    }

    /// Goes on with what the receiver was resumed for, and with what was kept.
    pub(super) fn go_on(&mut self, turn: &mut Turn<'_, '_>, signals: u8) -> Result<(), Stop> {
        if signals & RESUME != 0
            && let Some(receiver) = &mut self.receiver
        {
            receiver.resume(turn)?;
        }
        self.use_kept(turn)
    }

    fn use_kept(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), Stop> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let mut kept = std::mem::take(&mut self.kept);
        let used = self.steps(turn, &kept)?;
        if used < kept.len() {
            self.kept = if used == 0 { kept } else { kept.split_off(used) };
        }
        Ok(())
    }

    /// Takes as many steps as there are whole messages, and says how many bytes they were. Stops early when the turn has to.
    fn steps(&mut self, turn: &mut Turn<'_, '_>, bytes: &[u8]) -> Result<usize, Stop> {
        let mut at = 0;
        while at < bytes.len() && !self.pauses(turn) {
            let Some((used, step)) = self.machine.step(&bytes[at..], turn.link.options())? else { break };
            turn.left -= 1;
            match step {
                Step::Handshake(request) => self.open(turn, &request, &bytes[at..at + used])?,
                Step::Message(message) => self.message(turn, message)?,
            }
            at += used;
        }
        Ok(at)
    }

    fn open(&mut self, turn: &mut Turn<'_, '_>, request: &HandshakeRequest, raw: &[u8]) -> Result<(), Stop> {
        let link = turn.link;
        let text_only = link.facts().transport == Transport::ServerSentEvents;
        let protocol = self.tenant.accept(link, request, text_only).map_err(Stop::Refused)?;
        self.machine.open(protocol);
        link.choose(protocol);
        link.deadlines.opened(link.shared.sweep.now(), link.options(), link.id().spread());
        if request.version >= RESUMING_VERSION && link.resumption.is_some() {
            link.arm();
            self.received = Some(Box::default());
        }
        let receiver = self.receiver.insert(self.tenant.open(link, raw));
        receiver.opened(turn)?;
        Ok(())
    }

    fn message(&mut self, turn: &mut Turn<'_, '_>, message: <T::Receive as Receive>::Message<'_>) -> Result<(), Stop> {
        let link = turn.link;
        link.deadlines.seen(link.shared.sweep.now());
        let receiver = self.receiver.as_mut().expect("a message comes after the handshake");
        match message.sort() {
            Sorted::Ping => link.deadlines.client_pinged(),
            Sorted::Close(error) => return Err(CloseReason::ClientClosed(error.map(Into::into)).into()),
            // the reference stops reading for ever here
            Sorted::Unknown => link.shared.metrics.unknown_messages.add(1),
            Sorted::Ack(number) => link.acknowledge(number),
            Sorted::Sequence(number) => {
                if let Some(received) = &mut self.received
                    && !received.resume_at(number)
                {
                    let text = "Sequence ID greater than amount of messages we've received.";
                    return Err(CloseReason::MisplacedMessage(text.into()).into());
                }
            }
            Sorted::Numbered => {
                if let Some(received) = &mut self.received {
                    if !received.receive() {
                        return Ok(());
                    }
                    link.deadlines.owe_acknowledgement();
                }
                receiver.receive(turn, message)?;
            }
            Sorted::Other => receiver.receive(turn, message)?,
        }
        Ok(())
    }

    /// Ends what retires, and asks the deadlines, once what the client sent has been read.
    pub(super) fn due(&mut self, link: &Link, signals: u8) -> Result<(), Stop> {
        if link.is_retiring() && !self.receiver.as_ref().is_some_and(|receiver| receiver.is_busy()) {
            return Err(CloseReason::Shutdown.into());
        }
        if signals & DUE == 0 {
            return Ok(());
        }
        if link.deadlines.take_acknowledgement()
            && let Some(number) = self.received.as_mut().and_then(|received| received.acknowledgement())
        {
            link.control(Frame::ack(link.protocol(), number));
        }
        let now = link.shared.sweep.now();
        match link.deadlines.due(now, link.options()) {
            Some(Due::Ping) => {
                link.control(Frame::ping(link.protocol()));
                link.deadlines.pinged(now);
                Ok(())
            }
            Some(Due::HandshakeTimeout) => Err(Stop::Refused(HandshakeError::Canceled)),
            // a client whose messages wait for us is not silent
            Some(Due::ClientTimeout) if self.is_held_up(link) || self.holds() => Ok(()),
            Some(Due::ClientTimeout) => Err(CloseReason::ClientTimeout.into()),
            Some(Due::DisconnectTimeout) => Err(CloseReason::TransportLost.into()),
            Some(Due::SendTimeout) => Err(CloseReason::SlowReceiver.into()),
            Some(Due::CloseTimeout | Due::Acknowledgement) | None => Ok(()),
        }
    }

    /// The socket is gone, and with it the rest of a message that had come in part. The client sends it again.
    pub(super) fn unplug(&mut self, link: &Link) {
        let mut whole = 0;
        while let Ok(Some(piece)) = next_message(link.protocol(), &self.kept[whole..], None) {
            whole += piece.used;
        }
        self.kept.truncate(whole);
        self.machine.forget_part();
        if let Some(received) = &mut self.received {
            // the last acknowledgement may have died with the socket
            received.forget_acknowledgement();
            link.deadlines.owe_acknowledgement();
        }
    }

    /// The connection ends: nobody reaches it any more, and what there is to say to the client is queued. Gives the reason.
    pub(super) fn end(&mut self, link: &Arc<Link>, stop: &Stop) -> CloseReason {
        let reason = match stop {
            Stop::Reason(reason) => reason.clone(),
            Stop::CloseFrame => CloseReason::ClientClosed(None),
            Stop::Refused(HandshakeError::Canceled) => CloseReason::HandshakeTimeout,
            Stop::Refused(e) => CloseReason::HandshakeRefused(e.to_string().into()),
        };
        link.close(reason.clone());
        let fetches = link.facts().transport == Transport::LongPolling && reason != CloseReason::Shutdown;
        let patience = if fetches { link.disconnect_timeout() } else { link.options().close_timeout };
        let keep_queued = match stop {
            Stop::Refused(_) => true,
            Stop::CloseFrame => false,
            Stop::Reason(
                CloseReason::TransportLost | CloseReason::TransportViolated(_) | CloseReason::SlowReceiver,
            ) => false,
            Stop::Reason(_) => true,
        };
        // the client has shaken hands, and knows it
        let is_open = !link.finish(keep_queued) && self.machine.is_open();
        // after that no answer to the handshake comes, which would begin other times
        link.deadlines.closing(link.shared.sweep.now(), patience);
        let detailed = link.has_detailed_errors();
        match stop {
            Stop::Refused(_) if is_open => {}
            Stop::Refused(e) => link.control(Frame::handshake_response(Protocol::Json, Some(&e.text(detailed)))),
            Stop::Reason(reason) if reason.says_goodbye() && is_open => {
                let error = link.told(reason);
                let may_reconnect = reason.allows_reconnect() && !link.is_final();
                link.control(Frame::close(link.protocol(), error.as_deref(), may_reconnect));
            }
            // it waits for an answer to its handshake
            Stop::Reason(CloseReason::HandshakeRefused(text)) if !is_open => {
                link.control(Frame::handshake_response(link.protocol(), Some(text)));
            }
            Stop::Reason(reason) if reason.says_goodbye() && self.machine.is_open() => {
                let error = link.told(reason).unwrap_or_else(|| CLOSED.to_owned());
                link.control(Frame::handshake_response(link.protocol(), Some(&error)));
            }
            Stop::Reason(_) | Stop::CloseFrame => {}
        }
        link.shared.metrics.ended(reason.label());
        debug!(connection = %link.id(), %reason, "connection closes");
        if let Some(mut receiver) = self.receiver.take() {
            receiver.closed(link, &reason);
        }
        reason
    }

    /// However the connection's task ends, at its end or dropped with its runtime, nobody finds the connection any more.
    pub(super) fn leave(&mut self, link: &Arc<Link>) {
        link.close(CloseReason::Shutdown);
        link.finish(false);
        if let (Some(mut receiver), Some(reason)) = (self.receiver.take(), link.close_reason()) {
            receiver.closed(link, reason);
        }
        link.shared.sweep.remove(link);
        link.shared.metrics.connections.down();
    }

    /// Tells whether nothing more may be taken in during this turn. Whoever makes that untrue wakes the task.
    pub(super) fn pauses(&self, turn: &mut Turn<'_, '_>) -> bool {
        if turn.left == 0 || turn.replies.len() > turn.link.options().reply_limit {
            // the next turn comes at once, after the replies have been written and others had the thread
            turn.cx.waker().wake_by_ref();
            return true;
        }
        self.is_held_up(turn.link) || self.receiver.as_ref().is_some_and(Receive::is_stalled)
    }

    /// Messages of the client wait for a call to end.
    pub(super) fn holds(&self) -> bool {
        self.receiver.as_ref().is_some_and(|r| r.held() > 0)
    }

    /// The client is not read, since what it sent has to wait for us, or it does not take our replies.
    pub(super) fn is_held_up(&self, link: &Link) -> bool {
        self.receiver.as_ref().is_some_and(|r| r.held() > link.options().look_ahead) || link.has_no_room()
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Handshake(e) => Self::Refused(e),
            Refusal::Message(e) => Self::Reason(e.into()),
        }
    }
}

/// The first version of the protocols that permits stateful reconnect.
const RESUMING_VERSION: i32 = 2;

/// Why a connection stops.
pub(super) enum Stop {
    Reason(CloseReason),
    /// The client closed its WebSocket.
    CloseFrame,
    /// The answer to the handshake is the goodbye.
    Refused(HandshakeError),
}

impl From<CloseReason> for Stop {
    fn from(reason: CloseReason) -> Self {
        Self::Reason(reason)
    }
}
