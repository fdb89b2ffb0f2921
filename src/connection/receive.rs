use super::{CloseReason, Link};
use crate::protocol::hub::{DecodeError, EncodeError, Frame, HandshakeError, HandshakeRequest, Protocol, append_frame};
use std::ops::Range;
use std::sync::Arc;
use std::task::Context;

/// Who owns the connections of one endpoint (a hub, a service): makes a receiver for each.
pub(crate) trait Tenant: Send + Sync + 'static {
    type Receive: Receive;
    /// The protocol that a client may speak which asked for one. `text_only`: what its transport carries.
    fn accept(&self, link: &Link, request: &HandshakeRequest, text_only: bool) -> Result<Protocol, HandshakeError>;
    /// A connection has asked for a protocol that was accepted; nothing was sent yet. Who answers for the hub answers, by
    /// [`Link::greet`]; who passes on what clients say has the request as it came, its separator included.
    fn open(self: &Arc<Self>, link: &Arc<Link>, request: &[u8]) -> Self::Receive;
}

/// What a connection does with the messages that its client sends. Called by the connection's own task only, which is woken for
/// reading by the socket and for [`resume`](Self::resume) by [`Link::resume`].
pub(crate) trait Receive: Send + Unpin + 'static {
    /// A message as it is taken in.
    type Message<'a>: Sort;
    /// Makes one of the bytes of a whole message: `body` is where it stands without its separator or length prefix.
    fn read<'a>(protocol: Protocol, framed: &'a [u8], body: Range<usize>) -> Result<Self::Message<'a>, DecodeError>;
    /// Called once, right after [`Tenant::open`].
    fn opened(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), CloseReason>;
    /// A message that the connection does not answer for: one that was [sorted](Sort) out to be passed on.
    fn receive(&mut self, turn: &mut Turn<'_, '_>, message: Self::Message<'_>) -> Result<(), CloseReason>;
    /// Somebody called [`Link::resume`]: go on with what was kept.
    fn resume(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), CloseReason>;
    /// Bytes of messages that are kept for later. Above the look-ahead limit the client is not read.
    fn held(&self) -> usize;
    /// Whether something runs for the client that may still finish before the server stops. [`Link::resume`] tells when that is over.
    fn is_busy(&self) -> bool {
        false
    }
    /// Whether nothing may be taken in now, for another reason. Whoever makes that untrue [resumes](Link::resume) the connection.
    fn is_stalled(&self) -> bool {
        false
    }
    /// The connection has ended, whatever the reason; nothing can be sent any more. Runs what has to run after that on tasks of its own.
    fn closed(&mut self, link: &Arc<Link>, reason: &CloseReason);
}

/// What the connection itself has to do with a message.
pub(crate) trait Sort {
    fn sort(&self) -> Sorted<'_>;
}

/// A message in the eyes of its connection.
pub(crate) enum Sorted<'a> {
    /// The client lives, and expects to be timed out when it stops to say so.
    Ping,
    /// The client has said goodbye.
    Close(Option<&'a str>),
    /// A type that is not known, which is skipped.
    Unknown,
    Ack(i64),
    Sequence(i64),
    /// For the receiver, and counted for stateful reconnect.
    Numbered,
    /// For the receiver.
    #[cfg_attr(not(feature = "service"), expect(dead_code, reason = "a hub answers for the rest by itself"))]
    Other,
}

/// One turn of a connection's task: the context to poll with, and a place for replies that leaves in one write at its end.
pub(crate) struct Turn<'a, 'b> {
    pub(crate) link: &'a Arc<Link>,
    pub(crate) cx: &'a mut Context<'b>,
    /// Replies that precede everything that is queued; written straight from here.
    pub(super) replies: &'a mut Vec<u8>,
    /// This task holds the right to write, so replies may be collected.
    pub(super) direct: bool,
    /// Messages that may still be handled before others on the thread have their turn.
    pub(super) left: u32,
}

impl Turn<'_, '_> {
    /// Appends one reply behind all that was sent before; `encode` writes the message's body (JSON object or MessagePack array). If it
    /// fails, nothing was sent.
    pub(crate) fn reply(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let protocol = self.link.protocol();
        if self.direct && !self.link.has_queued() {
            return append_frame(self.replies, protocol, encode);
        }
        let mut bytes = Vec::new();
        append_frame(&mut bytes, protocol, encode)?;
        self.link.reply(Frame::of_single(bytes));
        Ok(())
    }
}

/// A megabyte can hold 350,000 pings: a turn ends inside a read, too.
pub(super) const MESSAGES_IN_A_TURN: u32 = 256;
