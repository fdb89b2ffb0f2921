//! The accept loop: what it allows, and how it stops.

use crate::client::{Gate, PATIENCE, call, result};
use crate::peer::{Event, Peer, UPGRADE, close, handshake};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use futures_util::FutureExt;
use hubwire::testing::upgrades;
use hubwire::{Hub, HubOptions, HubResult, ServeOptions};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A server that the test can stop.
struct Server {
    addr: SocketAddr,
    hub: Hub,
    gate: Arc<Gate>,
    /// The method that waited at the gate has returned.
    passed: Arc<AtomicBool>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<io::Result<()>>,
}

#[derive(Clone, axum::extract::FromRef)]
struct App {
    gate: Arc<Gate>,
    passed: Arc<AtomicBool>,
}

async fn wait(State(App { gate, passed }): State<App>) -> HubResult {
    gate.pass().await;
    passed.store(true, Relaxed);
    Ok(())
}

impl Server {
    async fn start(options: ServeOptions) -> Self {
        Self::start_with_drain(options, PATIENCE).await
    }

    /// A server that drains its hub for so long when it is told to stop.
    async fn start_with_drain(options: ServeOptions, drain: Duration) -> Self {
        let app = App { gate: Arc::default(), passed: Arc::default() };
        let (gate, passed) = (app.gate.clone(), app.passed.clone());
        let mut hub_options = HubOptions::default();
        hub_options.transport.stateful_reconnect = true;
        let hub = Hub::with_state(app.clone())
            .options(hub_options)
            .method("Now", async |n: u32| Ok(n))
            .method("Wait", wait)
            .build();
        let slow = get(|State(gate): State<Arc<Gate>>| async move {
            gate.pass().await;
            "slow"
        });
        let router = Router::new()
            .route("/slow", slow)
            .route("/quick", get(|| async { "quick" }))
            .with_state(app)
            .merge(hub.routes("/hub"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let draining = hub.clone();
        let signal = async move {
            if stopped.await.is_err() {
                pending::<()>().await;
            }
            draining.drain(drain).await;
        };
        let serve = hubwire::serve(listener, router).with_options(options).with_graceful_shutdown(signal);
        Self { addr, hub, gate, passed, stop: Some(stop), serving: tokio::spawn(serve.into_future()) }
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    async fn open(&self) -> Peer {
        Peer::open(Box::new(self.tcp().await)).await
    }

    fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    async fn stopped(self) {
        timeout(PATIENCE, self.serving).await.expect("the server stops").unwrap().unwrap();
    }
}

/// No limit that is not the test's own is ever reached.
fn patient() -> ServeOptions {
    let mut options = ServeOptions::default();
    options.header_timeout = FOREVER;
    options.shutdown_timeout = FOREVER;
    options
}

fn impatient() -> ServeOptions {
    let mut options = patient();
    options.header_timeout = SOON;
    options
}

async fn ask(peer: &mut Peer) {
    peer.say(call("1", "Now", json!([1]))).await;
    assert_eq!(peer.next().await, Event::Message(result("1", json!(1))));
}

/// Waits for the end of a stream while a neighbour's calls are answered; gives what came before it.
async fn end_of(mut stream: TcpStream, neighbour: &mut Peer) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ended = async {
        // a reset is an end like any other
        let _ = stream.read_to_end(&mut bytes).await;
    };
    let asking = async {
        loop {
            ask(neighbour).await;
        }
    };
    tokio::select! {
        ended = timeout(PATIENCE, ended) => ended.expect("the server ends the connection"),
        () = asking => {}
    }
    bytes
}

/// Sends bytes one by one, a neighbour's call being answered after each, until the server has ended the connection.
async fn drip(stream: &mut TcpStream, bytes: &[u8], neighbour: &mut Peer) {
    for byte in bytes {
        if stream.write_all(&[*byte]).await.is_err() || matches!(stream.try_read(&mut [0; 64]), Ok(0)) {
            return;
        }
        ask(neighbour).await;
    }
}

#[tokio::test]
async fn who_says_nothing_is_let_go() {
    let server = Server::start(impatient()).await;
    let mut neighbour = server.open().await;
    let silent = server.tcp().await;
    assert_eq!(end_of(silent, &mut neighbour).await, b"");
}

#[tokio::test]
async fn who_drips_its_request_is_let_go() {
    let server = Server::start(impatient()).await;
    let mut neighbour = server.open().await;
    let mut stream = server.tcp().await;
    let request = [b"GET /quick HTTP/1.1\r\nHost: test\r\nX: ".as_slice(), &[b'x'; 12_000]].concat();
    drip(&mut stream, &request, &mut neighbour).await;
    let answer = end_of(stream, &mut neighbour).await;
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn who_drips_the_preface_of_http2_is_let_go() {
    let server = Server::start(impatient()).await;
    let mut neighbour = server.open().await;
    for length in [1, PREFACE.len() - 1] {
        let mut stream = server.tcp().await;
        drip(&mut stream, &PREFACE[..length], &mut neighbour).await;
        assert_eq!(end_of(stream, &mut neighbour).await, b"");
    }
}

#[tokio::test]
async fn who_speaks_http2_and_asks_for_nothing_is_let_go() {
    let server = Server::start(impatient()).await;
    let mut neighbour = server.open().await;
    let mut stream = server.tcp().await;
    let empty_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream.write_all(&[PREFACE, &empty_settings].concat()).await.unwrap();
    end_of(stream, &mut neighbour).await;
}

#[tokio::test]
async fn who_asks_once_and_then_no_more_is_let_go() {
    let server = Server::start(impatient()).await;
    let mut neighbour = server.open().await;
    let mut stream = server.tcp().await;
    stream.write_all(QUICK).await.unwrap();
    let answer = end_of(stream, &mut neighbour).await;
    assert!(answer.ends_with(b"quick"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn an_open_websocket_is_no_request_that_takes_long() {
    let server = Server::start(impatient()).await;
    let mut peer = server.open().await;
    // by its end the time for a request has passed several times
    for _ in 0..3 {
        end_of(server.tcp().await, &mut peer).await;
    }
    ask(&mut peer).await;
}

#[tokio::test]
async fn headers_have_a_limit() {
    let mut options = patient();
    options.max_header_bytes = 32 * 1024;
    let server = Server::start(options).await;
    let status = async |header: usize| {
        let mut peer = Peer::new(Box::new(server.tcp().await));
        let filler = "x".repeat(header);
        peer.write(format!("GET /quick HTTP/1.1\r\nHost: test\r\nX: {filler}\r\n\r\n").as_bytes()).await;
        peer.head().await
    };
    assert_eq!(status(100).await, 200);
    assert_eq!(status(31 * 1024).await, 200);
    assert_eq!(status(33 * 1024).await, 431);
}

#[tokio::test]
async fn headers_over_http2_have_a_limit_in_number_too() {
    let server = Server::start(patient()).await;
    let (mut sender, connection) =
        http2::handshake::<_, _, Body>(TokioExecutor::new(), TokioIo::new(server.tcp().await)).await.unwrap();
    tokio::spawn(connection);
    let mut status = async |headers: usize| {
        let request = axum::http::Request::get(format!("http://{}/quick", server.addr));
        let request = (0..headers).fold(request, |request, n| request.header(format!("x-{n}"), "y"));
        sender.send_request(request.body(Body::empty()).unwrap()).await.unwrap().status()
    };
    assert_eq!(status(100).await, 200);
    assert_eq!(status(101).await, 431);
    assert_eq!(status(1).await, 200, "nothing else on the connection suffers");
}

#[tokio::test]
async fn an_http2_connection_is_told_how_many_requests_it_may_have() {
    let mut options = patient();
    options.max_http2_streams = 7;
    let server = Server::start(options).await;
    let mut stream = server.tcp().await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the first frame has the settings");
    let mut settings = vec![0; usize::from(head[2])];
    stream.read_exact(&mut settings).await.unwrap();
    assert!(settings.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 7]), "{settings:?}");
}

#[tokio::test]
async fn websockets_count_among_the_connections() {
    let mut options = patient();
    options.max_connections = 2;
    let server = Server::start(options).await;
    let (mut first, mut second) = (server.open().await, server.open().await);
    for round in 0..4 {
        // the kernel takes it; the server does not
        let mut waiting = Peer::new(Box::new(server.tcp().await));
        waiting.write(UPGRADE.as_bytes()).await;
        for _ in 0..50 {
            ask(&mut first).await;
            ask(&mut second).await;
        }
        assert_eq!(upgrades(&server.hub).raw, 2 + round);
        if round % 2 == 0 {
            first.write(&close(1000)).await;
            assert_eq!(first.next().await, Event::Close(1000));
        }
        drop(first);
        assert_eq!(waiting.head().await, 101);
        waiting.write(&handshake()).await;
        assert_eq!(waiting.next().await, Event::Message(json!({})));
        first = second;
        second = waiting;
    }
}

/// Whoever comes back would otherwise wait for the place that its own lost socket has.
#[tokio::test]
async fn a_connection_that_waits_to_be_resumed_takes_no_place() {
    let mut options = patient();
    options.max_connections = 1;
    let server = Server::start(options).await;
    let mut stream = server.tcp().await;
    let negotiate = "POST /hub/negotiate?negotiateVersion=1&useStatefulReconnect=true HTTP/1.1\r\nHost: test\r\n\
        Connection: close\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(negotiate.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    drop(stream);
    let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(body["useStatefulReconnect"], true);
    let upgrade = UPGRADE.replace("/hub", &format!("/hub?id={}", body["connectionToken"].as_str().unwrap()));

    let mut peer = Peer::new(Box::new(server.tcp().await));
    peer.write(upgrade.as_bytes()).await;
    assert_eq!(peer.head().await, 101);
    peer.say(json!({"protocol": "json", "version": 2})).await;
    assert_eq!(peer.next().await, Event::Message(json!({})));
    for _ in 0..2 {
        drop(peer);
        peer = Peer::new(Box::new(server.tcp().await));
        peer.write(upgrade.as_bytes()).await;
        assert_eq!(peer.head().await, 101);
        // resumed: it goes on with the next sequence
        assert_eq!(peer.next().await, Event::Message(json!({"type": 9, "sequenceId": 1})));
    }
    assert_eq!(server.hub.context().connection_count(), 1);
}

#[tokio::test]
async fn a_request_gives_its_place_back() {
    let mut options = patient();
    options.max_connections = 1;
    let server = Server::start(options).await;
    let mut kept = Peer::new(Box::new(server.tcp().await));
    kept.write(QUICK).await;
    assert_eq!(kept.head().await, 200);
    let mut waiting = Peer::new(Box::new(server.tcp().await));
    waiting.write(QUICK).await;
    drop(kept);
    assert_eq!(waiting.head().await, 200);
    drop(waiting);
    // an upgrade that is refused is a request like any other
    let mut refused = Peer::new(Box::new(server.tcp().await));
    refused.write(UPGRADE.replace("/hub", "/hub?id=unknown").as_bytes()).await;
    assert_eq!(refused.head().await, 404);
    drop(refused);
    ask(&mut server.open().await).await;
}

#[tokio::test]
async fn no_limit_on_connections_can_be_asked_for() {
    let mut options = patient();
    options.max_connections = usize::MAX;
    ask(&mut Server::start(options).await.open().await).await;
}

#[tokio::test]
async fn a_rate_lets_everybody_in_in_the_end() {
    let mut options = patient();
    options.max_rate = Some(200);
    let server = Server::start(options).await;
    let mut peers = Vec::new();
    for _ in 0..50 {
        peers.push(server.open().await);
    }
    for peer in &mut peers {
        ask(peer).await;
    }
}

#[tokio::test]
async fn requests_under_way_are_finished_after_the_stop() {
    let mut server = Server::start(patient()).await;
    let mut slow = Peer::new(Box::new(server.tcp().await));
    slow.write(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").await;
    server.gate.reached().await;
    server.stop();
    let refused = async {
        // a connection that the kernel took before the listener was closed is reset
        while TcpStream::connect(server.addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.expect("the listener is closed");
    assert!(!server.serving.is_finished());
    server.gate.open();
    assert_eq!(slow.head().await, 200);
    server.stopped().await;
}

#[tokio::test]
async fn who_has_nothing_to_be_finished_does_not_delay_the_stop() {
    let mut server = Server::start(patient()).await;
    let _silent = server.tcp().await;
    let mut idle = Peer::new(Box::new(server.tcp().await));
    idle.write(QUICK).await;
    assert_eq!(idle.head().await, 200);
    let mut preface = server.tcp().await;
    preface.write_all(&PREFACE[..5]).await.unwrap();
    ask(&mut server.open().await).await;
    server.stop();
    server.stopped().await;
}

#[tokio::test]
async fn a_request_that_does_not_end_is_not_waited_for_for_ever() {
    let mut options = patient();
    options.shutdown_timeout = SOON;
    let mut server = Server::start(options).await;
    let mut slow = Peer::new(Box::new(server.tcp().await));
    slow.write(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").await;
    server.gate.reached().await;
    server.stop();
    server.stopped().await;
}

#[tokio::test]
async fn a_drain_sends_everybody_elsewhere_and_waits_for_running_calls() {
    let mut server = Server::start(patient()).await;
    let mut peer = server.open().await;
    peer.say(call("1", "Wait", json!([]))).await;
    server.gate.reached().await;
    let mut idle = server.open().await;
    server.stop();
    assert_eq!(idle.next().await, Event::Message(json!({"type": 7, "allowReconnect": true})));
    assert_eq!(idle.next().await, Event::Close(1000));
    drop(idle);
    // the call still runs, and meanwhile nobody new gets in
    for request in [UPGRADE, "POST /hub/negotiate HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n"] {
        let mut late = Peer::new(Box::new(server.tcp().await));
        late.write(request.as_bytes()).await;
        assert_eq!(late.head().await, 503);
    }
    assert!(!server.serving.is_finished() && !server.passed.load(Relaxed));
    server.gate.open();
    let passed = server.passed.clone();
    assert_eq!(peer.next().await, Event::Message(result("1", json!(null))));
    assert_eq!(peer.next().await, Event::Message(json!({"type": 7, "allowReconnect": true})));
    assert_eq!(peer.next().await, Event::Close(1000));
    peer.write(&close(1000)).await;
    assert_eq!(peer.next().await, Event::End);
    server.stopped().await;
    assert!(passed.load(Relaxed));
}

#[tokio::test]
async fn a_drain_reaches_all_of_many() {
    let mut server = Server::start_with_drain(patient(), Duration::from_secs(1)).await;
    let mut peers = Vec::new();
    for _ in 0..100 {
        peers.push(server.open().await);
    }
    server.stop();
    for mut peer in peers {
        assert_eq!(peer.next().await, Event::Message(json!({"type": 7, "allowReconnect": true})));
        assert_eq!(peer.next().await, Event::Close(1000));
    }
    server.stopped().await;
}

#[tokio::test]
async fn a_call_that_does_not_end_is_not_waited_for_for_ever() {
    let mut server = Server::start_with_drain(patient(), SOON).await;
    let mut peer = server.open().await;
    peer.say(call("1", "Wait", json!([]))).await;
    server.gate.reached().await;
    server.stop();
    let (hub, gate, passed) = (server.hub.clone(), server.gate.clone(), server.passed.clone());
    server.stopped().await;
    assert!(!passed.load(Relaxed));
    assert!(!hub.drain(SOON).await, "it still runs");
    gate.open();
    drop(peer);
    assert!(hub.drain(PATIENCE).await);
    assert!(passed.load(Relaxed) && hub.drain(SOON).now_or_never() == Some(true));
}

/// Long enough for whatever a test has to see before, and not longer than needed.
const SOON: Duration = Duration::from_millis(300);
const FOREVER: Duration = Duration::from_secs(3600);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const QUICK: &[u8] = b"GET /quick HTTP/1.1\r\nHost: test\r\n\r\n";
