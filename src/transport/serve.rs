use super::Stream;
use crate::units;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::Version;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use serde::Deserialize;
use std::convert::Infallible;
use std::future::{Future, IntoFuture, pending};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use tracing::{debug, warn};

/// What the accept loop allows.
///
/// Read from a configuration, a duration is written `"30s"`, a size `"64KiB"`, and what is not named has its default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServeOptions {
    /// TCP connections at the same time, a hub's open WebSockets included; the next ones wait in the kernel's queue, before anything is
    /// allocated for them, until one ends. Default 65,536: clients can fill it, and then nobody else gets in, so set it to what the
    /// machine holds (each also takes a file descriptor). A WebSocket that other code than a hub has taken over is not counted.
    pub max_connections: usize,
    /// New TCP connections in a second; more wait in the kernel's queue. Default `None`: no limit.
    pub max_rate: Option<u32>,
    /// From a connection's start, or the end of its last answer, to the end of the next request's headers. Default 10 s.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub header_timeout: Duration,
    /// Bytes of a request's line and headers; more are answered 431. Default 16 KiB, at least 8 KiB.
    #[serde(deserialize_with = "units::size::deserialize")]
    pub max_header_bytes: usize,
    /// How long open requests may take to finish after the stop signal. Default 10 s.
    #[serde(deserialize_with = "units::duration::deserialize")]
    pub shutdown_timeout: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_connections: 65_536,
            max_rate: None,
            header_timeout: Duration::from_secs(10),
            max_header_bytes: 16 * 1024,
            shutdown_timeout: Duration::from_secs(10),
        }
    }
}

/// Serves a router on a bound listener, HTTP/1.1 and HTTP/2, with limits that `axum::serve` does not have: see [`ServeOptions`].
///
/// Awaiting it runs until the stop signal that was given with [`Serve::with_graceful_shutdown`], or for ever. `TCP_NODELAY` is set on each
/// connection. An accept that fails, as when the process has no more file descriptors, is logged and tried again after a pause.
///
/// ```no_run
/// # async fn run(router: axum::Router) -> std::io::Result<()> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:5000").await?;
/// hubwire::serve(listener, router).with_graceful_shutdown(async { tokio::signal::ctrl_c().await.unwrap_or(()) }).await
/// # }
/// ```
///
/// # Cancel safety
///
/// Dropping the future closes the listener; requests that are being answered go on.
pub fn serve(listener: TcpListener, router: Router) -> Serve {
    Serve { listener, router, options: ServeOptions::default(), stop: Box::pin(pending()), secure: None }
}

/// A server that is about to run: await it. Made by [`serve`].
#[must_use = "a server runs when it is awaited"]
pub struct Serve {
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    secure: Option<Arc<dyn Secure>>,
}

impl Serve {
    /// Stops when `signal` is ready: nothing new is accepted, requests that are being answered get the
    /// [shutdown timeout](ServeOptions::shutdown_timeout). Open WebSockets are not HTTP any more: drain their hubs in `signal`.
    pub fn with_graceful_shutdown(mut self, signal: impl Future<Output = ()> + Send + 'static) -> Self {
        self.stop = Box::pin(signal);
        self
    }

    /// Sets the limits.
    pub fn with_options(mut self, options: ServeOptions) -> Self {
        self.options = options;
        self
    }

    /// Speaks HTTP on what is made of each connection.
    #[cfg(feature = "server")]
    pub(crate) fn with_security(mut self, secure: Arc<dyn Secure>) -> Self {
        self.secure = Some(secure);
        self
    }

    /// Serves, and says how the end was.
    pub(crate) async fn run(mut self) -> io::Result<Served> {
        let http = Arc::new(builder(&self.options));
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(self.options.max_connections.min(Semaphore::MAX_PERMITS)));
        let mut pace = Pace::new(self.options.max_rate);
        // for connections that hyper, and so `graceful`, has not seen yet
        let stopping = CancellationToken::new();
        loop {
            let accepted = tokio::select! {
                accepted = accept(&self.listener, &room, &mut pace) => accepted,
                () = &mut self.stop => break,
            };
            let (socket, seat) = match accepted {
                Ok(accepted) => accepted,
                Err(e) if is_about_one_connection(&e) => continue,
                Err(e) => {
                    warn!(error = %e, "cannot accept connections");
                    sleep(PAUSE_AFTER_FAILURE).await;
                    continue;
                }
            };
            let connection = Connection {
                router: self.router.clone(),
                seat,
                http: http.clone(),
                header_timeout: self.options.header_timeout,
                stopping: stopping.clone(),
                secure: self.secure.clone(),
            };
            tokio::spawn(connection.run(socket, graceful.watcher()));
        }
        drop(self.listener);
        stopping.cancel();
        if timeout(self.options.shutdown_timeout, graceful.shutdown()).await.is_err() {
            warn!("requests were still being answered when the time to stop had passed");
            return Ok(Served::Cut);
        }
        Ok(Served::Whole)
    }
}

impl IntoFuture for Serve {
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.run().await.map(|_| ()) })
    }
}

impl std::fmt::Debug for Serve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serve")
            .field("listener", &self.listener)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// Every request was answered.
    Whole,
    /// Some had not been when the time was over.
    Cut,
}

/// Makes of a connection the stream that HTTP is spoken on: TLS.
pub(crate) trait Secure: Send + Sync + 'static {
    fn secure(&self, socket: TcpStream) -> Securing;
}

pub(crate) type Securing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// A place among the connections that are let in at a time, taken until the last clone is gone. Requests that can be upgraded carry one.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// One TCP connection that speaks HTTP.
struct Connection {
    router: Router,
    seat: Seat,
    http: Arc<auto::Builder<TokioExecutor>>,
    header_timeout: Duration,
    stopping: CancellationToken,
    secure: Option<Arc<dyn Secure>>,
}

impl Connection {
    async fn run(self, socket: TcpStream, watcher: hyper_util::server::graceful::Watcher) {
        // hyper allocates when it is polled: a connection that says nothing costs a task and a timer, and not for long. Peeked, since tokio
        // takes a socket that it has just accepted for readable
        let mut first_request = pin!(sleep(self.header_timeout));
        let mut first = [0];
        tokio::select! {
            first = socket.peek(&mut first) => if !matches!(first, Ok(1..)) { return },
            () = &mut first_request => return,
            () = self.stopping.cancelled() => return,
        }
        let from = socket.peer_addr().ok();
        let Some(secure) = &self.secure else { return self.speak(socket, from, watcher, first_request).await };
        let secured = tokio::select! {
            secured = secure.secure(socket) => secured,
            () = &mut first_request => return,
            () = self.stopping.cancelled() => return,
        };
        match secured {
            Ok(stream) => self.speak(stream, from, watcher, first_request).await,
            Err(e) => debug!(error = %e, "a connection could not be secured"),
        }
    }

    /// Speaks HTTP until the connection ends, or is taken over.
    async fn speak<S: Stream>(
        self,
        stream: S,
        from: Option<SocketAddr>,
        watcher: hyper_util::server::graceful::Watcher,
        first_request: Pin<&mut Sleep>,
    ) {
        let line = Line::default();
        let service = Requests { router: self.router, seat: self.seat, from, line: line.clone() };
        let served = self.http.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut served = pin!(watcher.watch(served.into_owned()));
        // hyper's header timeout starts when the protocol is known: the first bytes, which tell, could be dripped for ever
        let outcome = tokio::select! {
            outcome = &mut served => outcome,
            () = line.0.cut.notified() => return,
            () = first_request => {
                if !line.0.begun.load(Relaxed) {
                    return;
                }
                tokio::select! {
                    outcome = served => outcome,
                    () = line.0.cut.notified() => return,
                }
            }
        };
        if let Err(e) = outcome {
            debug!(error = %e, "a connection ended with an error");
        }
    }
}

/// Calls the router, and notes that a request has come.
#[derive(Clone)]
struct Requests {
    router: Router,
    line: Line,
    seat: Seat,
    from: Option<SocketAddr>,
}

impl hyper::service::Service<hyper::Request<Incoming>> for Requests {
    type Response = Response;
    type Error = Infallible;
    type Future = <Router as Service<Request>>::Future;

    fn call(&self, request: hyper::Request<Incoming>) -> Self::Future {
        self.line.0.begun.store(true, Relaxed);
        let mut request = request.map(Body::new);
        if let Some(from) = self.from {
            request.extensions_mut().insert(ConnectInfo(from));
        }
        if request.extensions().get::<OnUpgrade>().is_some() {
            request.extensions_mut().insert(self.seat.clone());
        }
        // over HTTP/2 others may share the connection, whose window is kept for each of them
        if request.version() < Version::HTTP_2 {
            request.extensions_mut().insert(self.line.clone());
        }
        self.router.clone().call(request)
    }
}

/// The TCP connection that a request came by, in the request's extensions: to cut it when what is written to it is not read. A response
/// that is under way has no other way to end. Other servers than ours give none.
#[derive(Debug, Clone, Default)]
pub(super) struct Line(Arc<LineState>);

#[derive(Debug, Default)]
struct LineState {
    /// A request has come.
    begun: AtomicBool,
    cut: Notify,
}

impl Line {
    pub(super) fn cut(&self) {
        self.0.cut.notify_one();
    }
}

fn builder(options: &ServeOptions) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(options.max_header_bytes.max(8 * 1024));
    http.http2()
        .timer(TokioTimer::new())
        .max_header_list_size(options.max_header_bytes.try_into().unwrap_or(u32::MAX))
        .initial_stream_window_size(HTTP2_WINDOW)
        .initial_connection_window_size(HTTP2_WINDOW * 4)
        .max_send_buf_size(HTTP2_WINDOW as usize)
        .keep_alive_interval(Some(Duration::from_secs(20)));
    http
}

/// Waits for room, for the pace, and for a connection, in this order, so that none is taken from the kernel before it can be served.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>, pace: &mut Pace) -> io::Result<(TcpStream, Seat)> {
    let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
    pace.wait().await;
    let (socket, _) = listener.accept().await?;
    pace.count();
    // fails when the client is gone already
    let _ = socket.set_nodelay(true);
    limit_unsent(&socket);
    Ok((socket, Seat { _permit: Arc::new(permit) }))
}

/// Keeps to a number of connections a second, without saving up for a burst of more than a tenth of a second.
struct Pace {
    each: Option<Duration>,
    next: Instant,
}

impl Pace {
    fn new(rate: Option<u32>) -> Self {
        Self { each: rate.map(|rate| Duration::from_secs(1) / rate.max(1)), next: Instant::now() }
    }

    async fn wait(&self) {
        if self.each.is_some() {
            sleep_until(self.next).await;
        }
    }

    fn count(&mut self) {
        if let Some(each) = self.each {
            let earliest = Instant::now().checked_sub(BURST).unwrap_or(self.next);
            self.next = self.next.max(earliest) + each;
        }
    }
}

/// Limits what the kernel takes in and cannot send yet: a client that has stopped reading would hide 4 MB there.
fn limit_unsent(socket: &TcpStream) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket2::SockRef::from(socket).set_tcp_notsent_lowat(64 * 1024);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = socket;
}

/// The client hung up before it was accepted: its own affair.
fn is_about_one_connection(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(200);
/// Bytes that an HTTP/2 client may send, and a response may hold, before anybody reads them: for each request, and four times that in all.
const HTTP2_WINDOW: u32 = 64 * 1024;
const BURST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of so many connections was let in that all came at once.
    async fn let_in(rate: Option<u32>, connections: usize) -> Vec<u128> {
        let start = Instant::now();
        let mut pace = Pace::new(rate);
        let mut times = Vec::new();
        for _ in 0..connections {
            pace.wait().await;
            pace.count();
            times.push(start.elapsed().as_millis());
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_spreads_connections_over_the_second() {
        assert_eq!(let_in(None, 1_000).await, [0; 1_000]);
        assert_eq!(let_in(Some(4), 9).await, [0, 250, 500, 750, 1000, 1250, 1500, 1750, 2000]);
        let many = let_in(Some(1_000), 5_000).await;
        assert!(many.is_sorted() && many[4_999] >= 4_998, "{:?}", many.last());
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_time_is_saved_up_for_a_tenth_of_a_second_at_most() {
        let mut pace = Pace::new(Some(100));
        tokio::time::advance(Duration::from_secs(3600)).await;
        let start = Instant::now();
        for _ in 0..10 {
            pace.wait().await;
            pace.count();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..100 {
            pace.wait().await;
            pace.count();
        }
        assert!(start.elapsed() >= Duration::from_millis(980), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn what_is_accepted_has_a_seat_and_sends_without_delay() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let room = Arc::new(Semaphore::new(1));
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, seat) = accept(&listener, &room, &mut Pace::new(None)).await.unwrap();
        assert!(socket.nodelay().unwrap());
        let kept = seat.clone();
        drop(seat);
        assert_eq!(room.available_permits(), 0);
        drop(kept);
        assert_eq!(room.available_permits(), 1);
    }
}
