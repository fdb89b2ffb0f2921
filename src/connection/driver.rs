use super::deadlines::Due;
use super::lent::Lent;
use super::link::DUE;
use super::outbound::Batch;
use super::receive::MESSAGES_IN_A_TURN;
use super::resumption::Arrived;
use super::session::{Session, Stop};
use super::{CloseReason, Link, Tenant, Turn};
use crate::protocol::hub::Frame;
use crate::protocol::websocket::{self, FrameReader, Piece};
use crate::transport::{Registration, Seat, Stream};
use socket2::SockRef;
use std::future::Future;
use std::io::{self, Read};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tracing::debug;

/// The task of one connection over a WebSocket: a dull loop around [`FrameReader`] and [`Session`].
///
/// One future, written by hand. It holds no buffer between messages: reads go through one that its worker thread lends. What it was not
/// woken for it does not touch, so a wake for output makes no read call.
pub(super) struct Driver<T: Tenant> {
    link: Arc<Link>,
    session: Session<T>,
    reader: FrameReader,
    /// The stream, where it is not the link's raw socket.
    boxed: Option<Box<dyn Stream>>,
    /// The stream's place in the accept loop's count: kept as long as the stream.
    seat: Option<Seat>,
    /// Frames that came with the request, behind its end: the first to be read.
    early: Box<[u8]>,
    goodbye: Option<Goodbye>,
    /// The client's close frame came in the read that brought the end.
    heard: bool,
    /// Keeps the connection findable by its token until it has ended.
    _registration: Option<Registration>,
}

/// How far the closing handshake has come.
#[derive(Debug)]
struct Goodbye {
    /// The client's close frame has come, or will not be understood any more.
    heard: bool,
    /// The client broke the rules: what it still sends is not looked at, only drained, or the reset would overtake our close frame.
    deaf: bool,
    /// Ours has left.
    said: bool,
    /// Bytes that are still read past in search of the client's.
    patience: usize,
}

impl<T: Tenant> Driver<T> {
    pub(super) fn new(
        link: Arc<Link>,
        tenant: Arc<T>,
        boxed: Option<Box<dyn Stream>>,
        seat: Option<Seat>,
        early: Box<[u8]>,
        registration: Option<Registration>,
    ) -> Self {
        Self {
            link,
            session: Session::new(tenant),
            reader: FrameReader::default(),
            boxed,
            seat,
            early,
            goodbye: None,
            heard: false,
            _registration: registration,
        }
    }

    /// One turn of an open connection: what the socket has, what the receiver was resumed for, what is due; then out with the replies.
    fn run(&mut self, cx: &mut Context<'_>, lent: &mut Lent) -> Result<(), Stop> {
        let signals = self.link.take_signals();
        if let Some(reason) = self.link.close_reason() {
            return Err(reason.clone().into());
        }
        if let Some(arrived) = self.link.resumption.as_ref().and_then(|resumption| resumption.take_arrived()) {
            self.plug_in(arrived);
        }
        let direct = self.link.take_turn();
        let link = self.link.clone();
        let mut turn = Turn { link: &link, cx, replies: &mut lent.replies, direct, left: MESSAGES_IN_A_TURN };
        let outcome = self.read(&mut turn, signals, &mut lent.read);
        if direct {
            self.link.end_turn(&mut lent.replies, &mut lent.batch);
        } else {
            self.link.flush_with(&mut lent.batch);
        }
        outcome?;
        self.write(cx, &mut lent.batch);
        // a failed write, a receiver too slow, somebody's `close`: whatever came up during this turn
        self.link.close_reason().map_or(Ok(()), |reason| Err(reason.clone().into()))
    }

    fn read(&mut self, turn: &mut Turn<'_, '_>, signals: u8, buffer: &mut [u8]) -> Result<(), Stop> {
        if !self.early.is_empty() {
            let mut early = std::mem::take(&mut self.early);
            self.take_in(turn, &mut early)?;
        }
        self.session.go_on(turn, signals)?;
        for _ in 0..READS_IN_A_TURN {
            if self.session.pauses(turn) {
                return self.session.due(&self.link, signals);
            }
            match self.poll_read(turn.cx, buffer) {
                Poll::Pending => return self.session.due(&self.link, signals),
                Poll::Ready(Ok(n)) if n > 0 => self.take_in(turn, &mut buffer[..n])?,
                Poll::Ready(_) => return Err(CloseReason::TransportLost.into()),
            }
        }
        // there may be more, but others wait for this thread
        turn.cx.waker().wake_by_ref();
        self.session.due(&self.link, signals)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match (&mut self.boxed, &self.link.socket) {
            (Some(stream), _) => {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
                Poll::Ready(Ok(buffer.filled().len()))
            }
            (None, Some(socket)) => poll_read_socket(socket, cx, buffer),
            // it waits to be resumed
            (None, None) => Poll::Pending,
        }
    }

    /// Takes the frames apart; their payload goes to the session as a stream of bytes.
    fn take_in(&mut self, turn: &mut Turn<'_, '_>, bytes: &mut [u8]) -> Result<(), Stop> {
        let mut at = 0;
        while at < bytes.len() {
            let (used, piece) = self.reader.next(&mut bytes[at..]).map_err(|v| CloseReason::TransportViolated(v.0))?;
            at += used;
            match piece {
                Some(Piece::Data { payload, .. }) => {
                    if let Err(stop) = self.session.feed(turn, payload) {
                        // the client's goodbye may be in the same read
                        self.heard = hears_close(&mut self.reader, &mut bytes[at..]);
                        return Err(stop);
                    }
                }
                Some(Piece::Ping(payload)) => turn.link.pong(websocket_frame(websocket::PONG, payload)),
                Some(Piece::Close(_)) => return Err(Stop::CloseFrame),
                Some(Piece::Pong) | None => {}
            }
        }
        Ok(())
    }

    /// Goes on writing where only this task may: on a boxed stream, and on a socket that was full.
    fn write(&mut self, cx: &mut Context<'_>, batch: &mut Batch) {
        if let Some(stream) = &mut self.boxed {
            if poll_write_stream(stream, &self.link, cx, batch).is_err() {
                if self.survives() {
                    self.unplug();
                } else {
                    self.link.close(CloseReason::TransportLost);
                }
            }
        } else if let Some(socket) = &self.link.socket {
            while self.link.is_blocked() {
                match socket.poll_write_ready(cx) {
                    Poll::Pending => return,
                    Poll::Ready(_) => {
                        self.link.unblock();
                        self.link.flush_with(batch);
                    }
                }
            }
        }
    }

    /// The connection can lose its socket and go on with another.
    fn survives(&self) -> bool {
        self.boxed.is_some() && self.goodbye.is_none() && self.link.is_armed() && !self.link.is_closed()
    }

    /// The socket is lost: the connection waits for its client to come back, within the disconnect timeout.
    fn unplug(&mut self) {
        self.boxed = None;
        self.seat = None;
        self.reader = FrameReader::default();
        self.session.unplug(&self.link);
        self.link.unplug();
        self.link.shared.waiting.add(&self.link);
        debug!(connection = %self.link.id(), "connection waits to be resumed");
    }

    /// The client is back. Whatever socket it had before is dropped, even if it is thought alive.
    fn plug_in(&mut self, arrived: Arrived) {
        // also where that was done when the socket was lost: an acknowledgement may have been queued for nobody since
        self.session.unplug(&self.link);
        self.reader = FrameReader::default();
        self.boxed = Some(arrived.stream);
        self.seat = arrived.seat;
        self.early = arrived.early;
        self.link.shared.waiting.remove(&self.link);
        self.link.replay();
        debug!(connection = %self.link.id(), "connection is resumed");
    }

    /// The connection ends: nobody reaches it any more, and it says what there is to say.
    fn begin_goodbye(&mut self, stop: Stop) {
        let reason = self.session.end(&self.link, &stop);
        let mut goodbye = Goodbye { heard: self.heard, deaf: false, said: false, patience: PATIENCE };
        match stop {
            Stop::Reason(CloseReason::TransportLost) => (goodbye.said, goodbye.heard) = (true, true),
            Stop::CloseFrame => goodbye.heard = true,
            Stop::Reason(CloseReason::TransportViolated(_)) => goodbye.deaf = true,
            Stop::Reason(_) | Stop::Refused(_) => {}
        }
        if self.boxed.is_none() && self.link.socket.is_none() {
            // there is nobody to say it to
            (goodbye.said, goodbye.heard) = (true, true);
        }
        if !goodbye.said {
            self.link.control(websocket_frame(websocket::CLOSE, &reason.websocket_code().to_be_bytes()));
        }
        self.goodbye = Some(goodbye);
    }

    /// Flushes, then waits for the client's half of the closing handshake, reading past everything else.
    fn finish(&mut self, cx: &mut Context<'_>, lent: &mut Lent) -> Poll<()> {
        let signals = self.link.take_signals();
        self.link.flush_with(&mut lent.batch);
        self.write(cx, &mut lent.batch);
        let Some(mut goodbye) = self.goodbye.take() else { return Poll::Ready(()) };
        if !goodbye.said && !self.link.has_queued() {
            goodbye.said = true;
            if goodbye.deaf
                && let Some(socket) = &self.link.socket
            {
                let _ = SockRef::from(socket).shutdown(Shutdown::Write);
            }
        }
        let late = signals & DUE != 0
            && self.link.deadlines.due(self.link.shared.sweep.now(), self.link.options()) == Some(Due::CloseTimeout);
        let mut lost = self.link.close_reason() == Some(&CloseReason::TransportLost);
        for _ in 0..READS_IN_A_TURN {
            if lost || (goodbye.said && goodbye.heard && self.poll_shutdown(cx).is_ready()) {
                return Poll::Ready(());
            }
            match self.poll_read(cx, &mut lent.read) {
                Poll::Pending => {
                    self.goodbye = Some(goodbye);
                    return if late { Poll::Ready(()) } else { Poll::Pending };
                }
                Poll::Ready(Ok(n)) if n > 0 && n <= goodbye.patience => {
                    goodbye.patience -= n;
                    goodbye.heard |= !goodbye.deaf && hears_close(&mut self.reader, &mut lent.read[..n]);
                }
                Poll::Ready(_) => lost = true,
            }
        }
        self.goodbye = Some(goodbye);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Both sides have said goodbye. A boxed stream may hold bytes of ours, and have an end of its own to send (TLS has).
    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.boxed {
            Some(stream) => Pin::new(stream).poll_shutdown(cx).map(drop),
            None => Poll::Ready(()),
        }
    }
}

impl<T: Tenant> Future for Driver<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = &mut *self;
        me.link.task.register(cx.waker());
        let mut lent = Lent::take();
        let mut outcome = Poll::Pending;
        if me.goodbye.is_none()
            && let Err(stop) = me.run(cx, &mut lent)
        {
            match stop {
                Stop::Reason(CloseReason::TransportLost) if me.survives() => me.unplug(),
                stop => me.begin_goodbye(stop),
            }
        }
        if me.goodbye.is_some() {
            outcome = me.finish(cx, &mut lent);
        }
        lent.give_back();
        outcome
    }
}

impl<T: Tenant> Drop for Driver<T> {
    fn drop(&mut self) {
        self.link.shared.waiting.remove(&self.link);
        self.session.leave(&self.link);
        if let Some(socket) = &self.link.socket {
            // others may hold the link for a while; the client need not wait for them
            let _ = SockRef::from(socket).shutdown(Shutdown::Both);
        }
    }
}

/// Reads what is there. A short read clears the readiness at once, or each message would cost a second call that finds nothing. The
/// event is the one seen before the read, so data that comes in between is not lost.
fn poll_read_socket(socket: &TcpStream, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_read_ready(cx))?;
        let mut short = None;
        let result = socket.try_io(Interest::READABLE, || {
            let n = (&*SockRef::from(socket)).read(buffer)?;
            if n == 0 || n == buffer.len() {
                return Ok(n);
            }
            short = Some(n);
            Err(io::ErrorKind::WouldBlock.into())
        });
        match (short, result) {
            (Some(n), _) | (None, Ok(n)) => return Poll::Ready(Ok(n)),
            (None, Err(e)) if e.kind() == io::ErrorKind::WouldBlock => {}
            (None, Err(e)) => return Poll::Ready(Err(e)),
        }
    }
}

/// Writes to a boxed stream until nothing waits or it is full.
fn poll_write_stream(
    stream: &mut Box<dyn Stream>,
    link: &Link,
    cx: &mut Context<'_>,
    batch: &mut Batch,
) -> io::Result<()> {
    let mut full = false;
    while !full {
        link.gather(batch);
        if batch.bytes().is_empty() {
            break;
        }
        match Pin::new(&mut *stream).poll_write(cx, batch.bytes()) {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(n)) => link.wrote(n),
            Poll::Ready(Err(e)) => return Err(e),
            Poll::Pending => {
                link.wrote(0);
                full = true;
            }
        }
    }
    link.note_progress(full);
    match Pin::new(stream).poll_flush(cx) {
        Poll::Ready(result) => result,
        Poll::Pending => Ok(()),
    }
}

fn hears_close(reader: &mut FrameReader, bytes: &mut [u8]) -> bool {
    let mut at = 0;
    while at < bytes.len() {
        match reader.next(&mut bytes[at..]) {
            Ok((_, Some(Piece::Close(_)))) | Err(_) => return true,
            Ok((used, _)) => at += used,
        }
    }
    false
}

fn websocket_frame(opcode: u8, payload: &[u8]) -> Frame {
    let mut bytes = Vec::with_capacity(payload.len() + 2);
    websocket::write_frame(&mut bytes, opcode, payload);
    Frame::of_websocket(bytes)
}

/// Reads before others on the thread have their turn.
const READS_IN_A_TURN: usize = 4;
/// Who still sends more than this when we have said goodbye will not listen.
const PATIENCE: usize = 256 * 1024;
