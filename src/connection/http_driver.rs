use super::deadlines::Due;
use super::link::DUE;
use super::receive::MESSAGES_IN_A_TURN;
use super::session::{Session, Stop};
use super::{CloseReason, Link, Tenant, Turn};
use crate::transport::{HttpChannel, Presence, Registration, Source, Transport};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The task of one connection over HTTP requests: reads what they posted. What waits for the client the requests take themselves, from
/// the [`Link`], without waking this task.
pub(super) struct HttpDriver<T: Tenant> {
    link: Arc<Link>,
    session: Session<T>,
    channel: Arc<HttpChannel>,
    /// It has ended, and the client may fetch its goodbye.
    closing: bool,
    /// Keeps the connection findable by its token until it has ended.
    _registration: Option<Registration>,
}

impl<T: Tenant> HttpDriver<T> {
    pub(super) fn new(
        link: Arc<Link>,
        tenant: Arc<T>,
        channel: Arc<HttpChannel>,
        registration: Option<Registration>,
    ) -> Self {
        Self { link, session: Session::new(tenant), channel, closing: false, _registration: registration }
    }

    /// One turn of an open connection: what was posted, what the receiver was resumed for, what is due.
    fn run(&mut self, cx: &mut Context<'_>) -> Result<(), Stop> {
        let link = self.link.clone();
        let signals = link.take_signals();
        if let Some(reason) = link.close_reason() {
            return Err(reason.clone().into());
        }
        let mut turn = Turn { link: &link, cx, replies: &mut Vec::new(), direct: false, left: MESSAGES_IN_A_TURN };
        let outcome = self.read(&mut turn, signals);
        link.flush();
        outcome?;
        // a receiver too slow, somebody's `close`: whatever came up during this turn
        link.close_reason().map_or(Ok(()), |reason| Err(reason.clone().into()))
    }

    fn read(&mut self, turn: &mut Turn<'_, '_>, signals: u8) -> Result<(), Stop> {
        self.session.go_on(turn, signals)?;
        for _ in 0..READS_IN_A_TURN {
            if self.session.pauses(turn) {
                return self.session.due(&self.link, signals);
            }
            match self.channel.read(READ_SIZE) {
                None => return self.session.due(&self.link, signals),
                Some(bytes) => self.session.feed(turn, &bytes)?,
            }
        }
        // there may be more, but others wait for this thread
        turn.cx.waker().wake_by_ref();
        self.session.due(&self.link, signals)
    }

    /// Waits until the client has fetched what there is, or has not for too long.
    fn finish(&mut self) -> Poll<()> {
        let signals = self.link.take_signals();
        let is_stream = self.link.facts().transport == Transport::ServerSentEvents;
        let fetched = (is_stream || self.channel.is_over()) && !self.channel.is_read();
        let now = self.link.shared.sweep.now();
        let late = signals & DUE != 0 && self.link.deadlines.due(now, self.link.options()) == Some(Due::CloseTimeout);
        if late {
            // what is still being written is not read
            self.channel.cut();
        }
        if fetched || late { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<T: Tenant> Future for HttpDriver<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = &mut *self;
        me.link.task.register(cx.waker());
        if !me.closing {
            let Err(stop) = me.run(cx) else { return Poll::Pending };
            me.closing = true;
            match me.session.end(&me.link, &stop) {
                CloseReason::TransportLost => me.channel.dispose(),
                _ => me.channel.end(),
            }
        }
        me.finish()
    }
}

impl<T: Tenant> Drop for HttpDriver<T> {
    fn drop(&mut self) {
        self.session.leave(&self.link);
        self.channel.dispose();
    }
}

impl Source for Link {
    fn take(&self, most: usize) -> Bytes {
        self.take_some(most)
    }

    fn presence(&self, presence: Presence) {
        let since = |is| (presence == is).then(|| self.shared.sweep.now());
        self.deadlines.blocked(since(Presence::Writing));
        if self.facts().transport == Transport::LongPolling {
            self.deadlines.absent(since(Presence::Absent));
        }
    }

    fn left(&self, said_so: bool) {
        self.close(if said_so { CloseReason::ClientClosed(None) } else { CloseReason::TransportLost });
    }

    fn wake(&self) {
        self.task.wake();
    }
}

/// Bytes that are read at a time: what is not read counts as waiting, and holds up the POST that brought it.
const READ_SIZE: usize = 16 * 1024;
/// Reads before others on the thread have their turn.
const READS_IN_A_TURN: usize = 4;
