use super::{CloseReason, Link};
use crate::protocol::hub::{EncodeError, Frame, Message, append_frame};
use std::sync::Arc;
use std::task::Context;

/// Who owns the connections of one endpoint (a hub, a service): makes a receiver for each.
pub(crate) trait Tenant: Send + Sync + 'static {
    type Receive: Receive;
    /// A connection has shaken hands: its protocol is known, the response is on its way, nothing else was sent yet.
    fn open(self: &Arc<Self>, link: &Arc<Link>) -> Self::Receive;
}

/// What a connection does with the messages that its client sends. Called by the connection's own task only, which is woken for
/// reading by the socket and for [`resume`](Self::resume) by [`Link::resume`].
pub(crate) trait Receive: Send + Unpin + 'static {
    /// Called once, right after [`Tenant::open`].
    fn opened(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), CloseReason>;
    /// A message other than `Ping`, `Close`, `Ack` and `Sequence`, which the connection answers for.
    fn receive(&mut self, turn: &mut Turn<'_, '_>, message: Message<'_>) -> Result<(), CloseReason>;
    /// Somebody called [`Link::resume`]: go on with what was kept.
    fn resume(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), CloseReason>;
    /// Bytes of messages that are kept for later. Above the look-ahead limit the client is not read.
    fn held(&self) -> usize;
    /// Whether something runs for the client that may still finish before the server stops. [`Link::resume`] tells when that is over.
    fn is_busy(&self) -> bool {
        false
    }
    /// The connection has ended, whatever the reason; nothing can be sent any more. Runs what has to run after that on tasks of its own.
    fn closed(&mut self, link: &Arc<Link>, reason: &CloseReason);
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
