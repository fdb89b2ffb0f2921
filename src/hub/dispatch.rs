use super::Connection;
use super::call::{self, cancelled_before_start};
use super::connection::ConnectionState;
use super::kept::{Item, Kept, KeptCall, error_of, is_ordinary};
use super::shared::Shared;
use crate::connection::{CloseReason, Link, Receive, Sort, Sorted, Tenant, Turn};
use crate::protocol::hub::{
    Completed, DecodeError, HandshakeError, HandshakeRequest, Invocation, Message, Protocol, RawValue,
};
use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// One connection's side of the hub: decides what each message means, what runs at once and what has to wait.
///
/// Ordinary calls share a number of places, by default one. While none is free, or `on_connected` has not returned, calls are kept, and
/// whatever comes behind a kept call and depends on its order. Everything else goes on: items of open uploads, answers of the client,
/// cancellations.
pub(crate) struct Receiver {
    connection: Connection,
    kept: Kept,
    /// `on_connected` has returned.
    open: bool,
}

impl Tenant for Shared {
    type Receive = Receiver;

    fn accept(&self, link: &Link, request: &HandshakeRequest, text_only: bool) -> Result<Protocol, HandshakeError> {
        request.accept(&link.options().protocols, text_only)
    }

    fn open(self: &Arc<Self>, link: &Arc<Link>, _: &[u8]) -> Receiver {
        link.greet();
        // what was renewed before the handshake is what the connection begins with
        link.credential.take_news();
        Receiver { connection: Connection::new(link.clone(), self.clone()), kept: Kept::default(), open: false }
    }
}

impl Receive for Receiver {
    type Message<'a> = Message<'a>;

    fn read<'a>(protocol: Protocol, framed: &'a [u8], body: Range<usize>) -> Result<Message<'a>, DecodeError> {
        protocol.decode(&framed[body])
    }

    fn opened(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), CloseReason> {
        let state = self.connection.state();
        state.hub.lifetime.add(turn.link);
        self.open = state.connect(turn.cx)?;
        Ok(())
    }

    fn receive(&mut self, turn: &mut Turn<'_, '_>, message: Message<'_>) -> Result<(), CloseReason> {
        match message {
            Message::Invocation(invocation) if self.must_wait(&invocation) => self.keep(turn, &invocation),
            Message::Invocation(invocation) => {
                self.call(turn, &invocation);
            }
            Message::StreamItem { id, item } => self.item(&id, item),
            Message::Completion { id, outcome } => self.completion(turn.link, &id, &outcome)?,
            Message::CancelInvocation { id } => self.cancel(turn, &id),
            // the connection answers for these
            Message::Ping
            | Message::Close { .. }
            | Message::Ack { .. }
            | Message::Sequence { .. }
            | Message::Unknown => {}
        }
        Ok(())
    }

    fn resume(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), CloseReason> {
        self.open = self.open || self.state().life_cycle.is_connected();
        self.tell_of_refresh(turn);
        let (mut calls, mut bytes) = (0, 0);
        while let Some(next) = self.kept.front() {
            if !self.open || (next.is_ordinary() && !self.has_slot()) {
                return Ok(());
            }
            if calls == CALLS_IN_A_TURN || bytes >= BYTES_IN_A_TURN {
                turn.link.resume();
                return Ok(());
            }
            if !self.has_room(turn) {
                return Ok(());
            }
            if let Some(call) = self.kept.pop() {
                self.state().release(call.cost());
                bytes += self.call(turn, &call.invocation());
                self.deliver(&call);
                calls += 1;
            }
        }
        self.state().calls.wait(turn.link.credential.has_news());
        Ok(())
    }

    fn held(&self) -> usize {
        self.state().calls.held()
    }

    fn is_busy(&self) -> bool {
        !self.kept.is_empty() || self.state().calls.are_running()
    }

    fn closed(&mut self, link: &Arc<Link>, _: &CloseReason) {
        let state = self.state();
        state.hub.lifetime.remove(link);
        state.calls.end();
        state.disconnect();
        self.kept = Kept::default();
    }
}

impl Sort for Message<'_> {
    #[inline]
    fn sort(&self) -> Sorted<'_> {
        match self {
            Message::Ping => Sorted::Ping,
            Message::Close { error, .. } => Sorted::Close(error.as_deref()),
            Message::Unknown => Sorted::Unknown,
            Message::Ack { sequence_id } => Sorted::Ack(*sequence_id),
            Message::Sequence { sequence_id } => Sorted::Sequence(*sequence_id),
            Message::Invocation(_)
            | Message::StreamItem { .. }
            | Message::Completion { .. }
            | Message::CancelInvocation { .. } => Sorted::Numbered,
        }
    }
}

impl Receiver {
    /// Runs a call, and gives the bytes of its result, if it has one already.
    fn call(&mut self, turn: &mut Turn<'_, '_>, invocation: &Invocation<'_>) -> usize {
        self.connection.renew();
        let written = call::run(&self.connection, turn, invocation);
        self.connection.forget_call();
        written
    }

    /// Whether the client takes what it is sent: a client that does not is not worked for. Otherwise the connection is resumed when it does.
    fn has_room(&self, turn: &mut Turn<'_, '_>) -> bool {
        if pin!(turn.link.reply_room()).poll(turn.cx).is_ready() {
            return true;
        }
        let state = self.state();
        if !state.calls.awaits_room.swap(true, Ordering::SeqCst) {
            let state = state.clone();
            self.state().hub.tasks.spawn(async move {
                state.link.reply_room().await;
                state.calls.awaits_room.store(false, Ordering::SeqCst);
                state.link.resume();
            });
        }
        false
    }

    /// Runs `on_authentication_refreshed`, if there is something to tell and a place for it, which it takes as a call would.
    fn tell_of_refresh(&self, turn: &Turn<'_, '_>) {
        let credential = &turn.link.credential;
        if !credential.has_news() {
            return;
        }
        if self.state().hub.refreshed.is_none() {
            credential.take_news();
        } else if self.open {
            self.state().calls.wait(true);
            if self.has_slot() && credential.take_news() {
                self.state().refreshed();
            }
        }
    }

    fn must_wait(&self, invocation: &Invocation<'_>) -> bool {
        !self.open
            || !self.kept.is_empty()
            || (is_ordinary(invocation.streaming, invocation.stream_ids.len()) && !self.has_slot())
    }

    fn has_slot(&self) -> bool {
        let hub = &self.state().hub;
        self.state().calls.has_slot(hub.max_parallel_invocations, hub.max_running_calls)
    }

    fn keep(&mut self, turn: &mut Turn<'_, '_>, invocation: &Invocation<'_>) {
        let cost = self.kept.push(invocation);
        let calls = &self.state().calls;
        calls.charge(cost);
        calls.wait(true);
        // a call may have ended before it could see that somebody waits
        if self.open && self.has_slot() {
            turn.link.resume();
        }
    }

    fn item(&mut self, id: &str, item: RawValue<'_>) {
        if let Some(upload) = self.state().calls.upload(id) {
            upload.push(item.bytes);
        } else if let Some(cost) = self.kept.receive(id, || Item::value(item)) {
            self.state().calls.charge(cost);
        }
    }

    fn completion(&mut self, link: &Link, id: &str, outcome: &Completed<'_>) -> Result<(), CloseReason> {
        if let Some(upload) = self.state().calls.take_upload(id) {
            upload.complete(error_of(outcome));
        } else if !self.state().hub.lifetime.complete(link, id, outcome)?
            && let Some(cost) = self.kept.receive(id, || Item::end(outcome))
        {
            self.state().calls.charge(cost);
        }
        Ok(())
    }

    fn cancel(&mut self, turn: &mut Turn<'_, '_>, id: &str) {
        if self.state().calls.cancel(id) {
            return;
        }
        if let Some(call) = self.kept.remove(id) {
            let state = self.state();
            state.calls.count_cancelled();
            state.release(call.cost());
            cancelled_before_start(turn, &call);
            if self.kept.is_empty() {
                state.calls.wait(turn.link.credential.has_news());
            }
        }
    }

    /// Gives the streams of a call that has started what they have received before.
    fn deliver(&self, call: &KeptCall) {
        let calls = &self.state().calls;
        for (id, item) in call.items() {
            match item {
                Item::Value(bytes) => {
                    if let Some(upload) = calls.upload(id) {
                        upload.push(bytes);
                    }
                }
                Item::End(error) => {
                    if let Some(upload) = calls.take_upload(id) {
                        upload.complete(error.as_deref());
                    }
                }
            }
        }
    }

    fn state(&self) -> &Arc<ConnectionState> {
        self.connection.state()
    }
}

/// Kept calls that start in one turn; others on the thread have their turn in between.
const CALLS_IN_A_TURN: usize = 64;
/// Bytes of results from which on no more of them start in one turn.
const BYTES_IN_A_TURN: usize = 16 * 1024;
