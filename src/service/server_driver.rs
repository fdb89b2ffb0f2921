use super::operations::Operations;
use super::service::Service;
use super::{ServerGone, ServerLink, ServiceHub, ServiceOptions};
use crate::observe::ServerMetrics;
use crate::protocol::service::{Assembler, Ext, Message};
use crate::protocol::websocket::{self, FrameReader, Piece};
use crate::transport::Duplex;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout, timeout_at};
use tracing::{error, info, warn};

/// A server connection that was let in, before its first byte.
pub(super) struct Accepted {
    pub(super) hub: Arc<ServiceHub>,
    pub(super) server_id: Arc<str>,
    pub(super) id: String,
    /// Its place among the server connections that there may be.
    pub(super) place: OwnedSemaphorePermit,
}

/// The task of one server connection, from its upgrade to its end.
pub(super) async fn run(service: Service, accepted: Accepted, duplex: Duplex, early: Box<[u8]>) {
    match duplex {
        Duplex::Tcp(stream, seat) => {
            let (read, write) = stream.into_split();
            drive(service, accepted, read, write, early).await;
            drop(seat);
        }
        Duplex::Boxed(stream, seat) => {
            let (read, write) = tokio::io::split(stream);
            drive(service, accepted, read, write, early).await;
            drop(seat);
        }
        // an upgrade never comes to that
        Duplex::Http(_) => {}
    }
}

async fn drive(
    service: Service,
    accepted: Accepted,
    read: impl AsyncRead + Unpin,
    write: impl AsyncWrite + Unpin,
    early: Box<[u8]>,
) {
    let options = &service.0.options;
    let Accepted { hub, server_id, id, place } = accepted;
    let link = ServerLink::new(&id, server_id, &hub, options.outbound_limit);
    let counted = Counted::new(hub.server_metrics.clone(), place);
    let guard = Guard { hub: &hub, link: &link };
    let operations = Operations::new(service.clone(), hub.clone(), link.clone());
    let mut inlet = Inlet::new(read, early, operations, options);
    let mut outlet =
        Outlet { stream: write, link: link.clone(), batch: Vec::new(), at: 0, patience: options.silence_limit };
    let gone = tokio::select! {
        gone = link.closed() => gone,
        gone = inlet.reading(&link) => gone,
        gone = outlet.writing() => gone,
        gone = keep_alive(&hub, &link, &service) => gone,
    };
    link.close(gone);
    drop(guard);
    log_end(&link, gone);
    hub.server_metrics.ended(gone.label());
    if !matches!(gone, ServerGone::Lost | ServerGone::NotReading) {
        say_goodbye(&mut inlet, &mut outlet, gone, options.close_timeout).await;
    }
    link.forget_queued();
    drop(counted);
}

/// A server connection among those that are open, and its place among those that there may be, until its very end.
struct Counted {
    metrics: Arc<ServerMetrics>,
    _place: OwnedSemaphorePermit,
}

impl Counted {
    fn new(metrics: Arc<ServerMetrics>, place: OwnedSemaphorePermit) -> Self {
        metrics.connections.up();
        Self { metrics, _place: place }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.connections.down();
    }
}

/// However the task ends, at its end or dropped with its runtime, nobody finds the server connection any more.
struct Guard<'a> {
    hub: &'a ServiceHub,
    link: &'a Arc<ServerLink>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // it takes its clients with it: who operates the service has to see that
            self.link.close(ServerGone::Panicked);
            self.hub.server_metrics.ended(ServerGone::Panicked.label());
            let clients = self.link.client_count();
            error!(id = self.link.id(), server = %self.link.server_id(), hub = %self.link.hub(), clients, "the task of a server connection panicked");
        }
        self.link.close(ServerGone::Lost);
        self.hub.server_left(self.link);
    }
}

fn log_end(link: &ServerLink, gone: ServerGone) {
    let (id, server, hub) = (link.id(), link.server_id(), link.hub());
    match gone {
        ServerGone::Closed | ServerGone::Refused | ServerGone::Shutdown => {
            info!(id, %server, %hub, reason = %gone, "server connection ends");
        }
        _ => warn!(id, %server, %hub, reason = %gone, "server connection ends"),
    }
}

/// Pings on time, whatever else is said: the server only answers, and hangs up when it hears nothing.
async fn keep_alive(hub: &ServiceHub, link: &ServerLink, service: &Service) -> ServerGone {
    let options = &service.0.options;
    let refused = tokio::select! {
        biased;
        () = link.shaken() => None,
        () = service.0.closed.cancelled() => Some((ServerGone::Shutdown, SHUTTING_DOWN)),
        () = sleep(options.handshake_timeout) => {
            Some((ServerGone::HandshakeTimeout, "The handshake request did not come in time."))
        }
    };
    if let Some((gone, error)) = refused {
        link.send(&Message::HandshakeResponse { error, ext: Ext::default(), connection_id: None });
        return gone;
    }
    let mut ticks = interval_at(Instant::now() + options.ping_interval, options.ping_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        link.send(&Message::Ping(Vec::new()));
        hub.results.expire(options.client_result_timeout);
    }
}

/// What comes from the server.
struct Inlet<R> {
    stream: R,
    /// Bytes that came with the request, behind its end.
    early: Vec<u8>,
    frames: FrameReader,
    messages: Assembler,
    operations: Operations,
    silence_limit: Duration,
    /// The server's close frame has come.
    heard: bool,
}

impl<R: AsyncRead + Unpin> Inlet<R> {
    fn new(stream: R, early: Box<[u8]>, operations: Operations, options: &ServiceOptions) -> Self {
        Self {
            stream,
            early: early.into_vec(),
            frames: FrameReader::default(),
            messages: Assembler::new(options.max_message_size),
            operations,
            silence_limit: options.silence_limit,
            heard: false,
        }
    }

    async fn reading(&mut self, link: &ServerLink) -> ServerGone {
        let mut early = std::mem::take(&mut self.early);
        let mut buffer = vec![0; READ_SIZE];
        let gone = async {
            self.take_in(link, &mut early).await?;
            loop {
                // a server that is not read is not silent: the time runs while we read
                let n = match timeout(self.silence_limit, self.stream.read(&mut buffer)).await {
                    Err(_) => return Err(ServerGone::Silent),
                    Ok(Ok(0) | Err(_)) => return Err(ServerGone::Lost),
                    Ok(Ok(n)) => n,
                };
                self.take_in(link, &mut buffer[..n]).await?;
            }
        };
        let gone: Result<(), ServerGone> = gone.await;
        gone.err().unwrap_or(ServerGone::Lost)
    }

    /// Takes the frames apart; where they end means nothing.
    async fn take_in(&mut self, link: &ServerLink, bytes: &mut [u8]) -> Result<(), ServerGone> {
        let mut at = 0;
        while at < bytes.len() {
            let (used, piece) = self.frames.next(&mut bytes[at..]).map_err(|_| ServerGone::Violated)?;
            at += used;
            match piece {
                Some(Piece::Data { opcode: websocket::TEXT, .. }) => return Err(ServerGone::Violated),
                Some(Piece::Data { mut payload, .. }) => {
                    while let Some(body) = self.messages.next(&mut payload).map_err(|e| broken(link, e))? {
                        if link.is_full() {
                            hold(link).await;
                        }
                        self.operations.handle(body).await?;
                        // one read can hold thousands of messages, and others wait for this thread
                        tokio::task::consume_budget().await;
                    }
                }
                Some(Piece::Ping(payload)) => link.pong(payload),
                Some(Piece::Close(_)) => {
                    self.heard = true;
                    return Err(ServerGone::Closed);
                }
                Some(Piece::Pong) | None => {}
            }
        }
        Ok(())
    }

    /// Reads past everything up to the server's close frame, or the end.
    async fn until_closed(&mut self) {
        let mut buffer = vec![0; READ_SIZE];
        while !self.heard {
            let Ok(n @ 1..) = self.stream.read(&mut buffer).await else { return };
            let mut at = 0;
            while at < n {
                match self.frames.next(&mut buffer[at..n]) {
                    Ok((_, Some(Piece::Close(_)))) | Err(_) => return,
                    Ok((used, _)) => at += used,
                }
            }
        }
    }
}

/// Reads on when the server has taken half of what waits for it, and tells it why it was not read.
async fn hold(link: &ServerLink) {
    link.send(&Message::ServiceEvent {
        object: SERVER_CONNECTION,
        id: link.id(),
        kind: BUFFER_FULL,
        message: "the answers to this connection are not read, so it is not read either",
        ext: Ext::default(),
    });
    link.room().await;
}

pub(super) fn broken(link: &ServerLink, error: crate::protocol::service::DecodeError) -> ServerGone {
    warn!(id = link.id(), server = %link.server_id(), hub = %link.hub(), %error, "an application server's message cannot be read");
    // its library shows this in the application's log
    link.send(&Message::ServiceError { error: &format!("The service closes the connection: {error}.") });
    ServerGone::Broken
}

/// What goes to the server. Keeps what was begun, so that a write which is dropped can be finished.
struct Outlet<W> {
    stream: W,
    link: Arc<ServerLink>,
    batch: Vec<u8>,
    at: usize,
    /// How long the server may take for each [`STRETCH`] that was begun.
    patience: Duration,
}

impl<W: AsyncWrite + Unpin> Outlet<W> {
    async fn writing(&mut self) -> ServerGone {
        loop {
            if let Err(gone) = self.write_out().await {
                return gone;
            }
            (self.batch, self.at) = self.link.take().await;
        }
    }

    /// Writes what was taken, to its end. The time for that is bounded, and not the time between two bytes: who takes one now and then does
    /// not read.
    ///
    /// Cancel safe.
    async fn write_out(&mut self) -> Result<(), ServerGone> {
        if self.at == self.batch.len() {
            return Ok(());
        }
        let stretches = 1 + (self.batch.len() - self.at) / STRETCH;
        let patience = self.patience.saturating_mul(u32::try_from(stretches).unwrap_or(u32::MAX));
        match timeout(patience, self.write_rest()).await {
            Err(_) => Err(ServerGone::NotReading),
            Ok(written) => written.map_err(|_| ServerGone::Lost),
        }
    }

    async fn write_rest(&mut self) -> io::Result<()> {
        while self.at < self.batch.len() {
            match self.stream.write(&self.batch[self.at..]).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => {
                    self.at += n;
                    self.link.wrote(n);
                }
            }
        }
        self.stream.flush().await
    }

    /// Writes everything that waits, and then the close frame.
    async fn close(&mut self, code: u16) -> io::Result<()> {
        let lost = |_| io::ErrorKind::BrokenPipe;
        self.write_out().await.map_err(lost)?;
        while let Some(taken) = self.link.take_queued() {
            (self.batch, self.at) = taken;
            self.write_out().await.map_err(lost)?;
        }
        let mut frame = Vec::new();
        websocket::write_frame(&mut frame, websocket::CLOSE, &code.to_be_bytes());
        self.stream.write_all(&frame).await?;
        self.stream.flush().await
    }
}

/// Says what there is left to say, and waits for the other half of the closing handshake.
async fn say_goodbye<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    inlet: &mut Inlet<R>,
    outlet: &mut Outlet<W>,
    gone: ServerGone,
    patience: Duration,
) {
    let end = Instant::now() + patience;
    let code = match gone {
        ServerGone::Violated => websocket::PROTOCOL_ERROR,
        _ => 1000,
    };
    // a server that is gone by now has nobody to be told about it
    if matches!(timeout_at(end, outlet.close(code)).await, Ok(Ok(()))) {
        let _ = timeout_at(end, inlet.until_closed()).await;
    }
    let _ = timeout_at(end, outlet.stream.shutdown()).await;
}

/// What the handshake of a server is answered with when it comes too late.
pub(super) const SHUTTING_DOWN: &str = "The service is shutting down.";
const READ_SIZE: usize = 32 * 1024;
/// What a service event is about, and what has happened: spec section 16.
const SERVER_CONNECTION: i32 = 4;
const BUFFER_FULL: i32 = 3;
/// Bytes that a server has to take in the time of its silence: 35 KiB/s, by the presets.
const STRETCH: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::ClientOptions;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn a_server_connection_whose_task_panics_is_counted_and_found_no_more() {
        let hub = ServiceHub::new("hub", &"i".into(), &ClientOptions::default());
        let link = ServerLink::new("", "a".into(), &hub, 1024);
        link.shake_hands(Default::default());
        hub.servers.add(&link);
        let task = AssertUnwindSafe(|| {
            let _guard = Guard { hub: &hub, link: &link };
            std::panic::resume_unwind(Box::new("a bug"));
        });
        assert!(catch_unwind(task).is_err());
        assert_eq!(hub.server_metrics.endings().get("panicked"), Some(&1));
        assert!(link.is_closed() && hub.servers.count() == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_a_byte_now_and_then_is_cut_in_time() {
        let hub = ServiceHub::new("hub", &"i".into(), &ClientOptions::default());
        let link = ServerLink::new("", "a".into(), &hub, 1 << 20);
        let (stream, mut server) = tokio::io::duplex(16);
        let patience = Duration::from_secs(30);
        let mut outlet = Outlet { stream, link: link.clone(), batch: Vec::new(), at: 0, patience };
        let slow = async {
            loop {
                server.read_u8().await.unwrap();
                tokio::time::sleep(patience - Duration::from_secs(1)).await;
            }
        };
        link.send(&Message::ServiceError { error: &"x".repeat(100) });
        let start = Instant::now();
        let gone = tokio::select! {
            gone = outlet.writing() => gone,
            () = slow => unreachable!(),
        };
        assert_eq!(gone, ServerGone::NotReading);
        assert_eq!(start.elapsed(), patience);
    }
}
