//! The ways in which a WebSocket gets its stream: each is used as it should be, and on each a hub works.

use crate::client::{PATIENCE, call, result};
use crate::peer::{Event, Peer, Stream, UPGRADE, close, handshake, text};
use axum::Router;
use axum::extract::State;
use futures_util::future::BoxFuture;
use hubwire::testing::{Upgrades, upgrades};
use hubwire::{Caller, Clients, CloseReason, Groups, Hub, HubOptions, HubResult};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A server with the hub in it.
struct Site {
    hub: Hub,
    way: Way,
    connect: Connect,
    reasons: mpsc::UnboundedReceiver<CloseReason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Serve,
    Axum,
    Http1,
    Pipe,
    Tls,
}

/// Bytes that a pipe holds: less than a large message, more than a small one.
const PIPE: usize = 8 * 1024;

type Connect = Box<dyn Fn() -> BoxFuture<'static, Box<dyn Stream>> + Send + Sync>;
type Left = mpsc::UnboundedSender<CloseReason>;

async fn tell(clients: Clients, text: String) -> HubResult {
    clients.all().send("told", (text,)).await
}

async fn abort(caller: Caller) -> HubResult {
    caller.abort();
    Ok(())
}

async fn left(State(left): State<Left>, reason: CloseReason) -> HubResult {
    Ok(left.send(reason)?)
}

fn hub() -> (Hub, mpsc::UnboundedReceiver<CloseReason>) {
    let (sender, reasons) = mpsc::unbounded_channel::<CloseReason>();
    let mut options = HubOptions::default();
    options.connection.maximum_receive_message_size = Some(4 * 1024 * 1024);
    options.connection.outbound_limit = 16 * 1024 * 1024;
    let hub = Hub::with_state(sender)
        .options(options)
        .on_disconnected(left)
        .method("Echo", |text: String| async move { Ok(text) })
        .method("Tell", tell)
        .method("Abort", abort)
        .build();
    (hub, reasons)
}

impl Site {
    async fn start(way: Way) -> Self {
        let (hub, reasons) = hub();
        let router = Router::new().merge(hub.routes("/hub"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connect = match way {
            Way::Serve => {
                tokio::spawn(async move { hubwire::serve(listener, router).await });
                over_tcp(addr)
            }
            Way::Axum => {
                tokio::spawn(async move { axum::serve(listener, router).await });
                over_tcp(addr)
            }
            Way::Http1 => {
                tokio::spawn(async move {
                    while let Ok((socket, _)) = listener.accept().await {
                        tokio::spawn(http1(socket, router.clone()));
                    }
                });
                over_tcp(addr)
            }
            Way::Pipe => over_pipes(router),
            Way::Tls => tls(listener, router),
        };
        Self { hub, way, connect, reasons }
    }

    async fn connect(&self) -> Box<dyn Stream> {
        timeout(PATIENCE, (self.connect)()).await.expect("a connection")
    }

    async fn open(&self) -> Peer {
        Peer::open(self.connect().await).await
    }

    async fn reason(&mut self) -> CloseReason {
        timeout(PATIENCE, self.reasons.recv()).await.expect("on_disconnected runs").unwrap()
    }

    /// The client may have read the answer before the hub has got the stream.
    async fn has_opened(&self, opened: u64) {
        let come = async {
            while upgrades(&self.hub).raw + upgrades(&self.hub).boxed < opened {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, come).await.expect("the hub gets its streams");
    }

    /// So many WebSockets were opened, all of them on the stream that this way should give; nothing is left of them.
    async fn end(self, opened: u64) {
        let want = match self.way {
            Way::Serve | Way::Axum | Way::Http1 => Upgrades { raw: opened, boxed: 0 },
            Way::Pipe | Way::Tls => Upgrades { raw: 0, boxed: opened },
        };
        self.has_opened(opened).await;
        assert_eq!(upgrades(&self.hub), want);
        assert!(self.hub.drain(PATIENCE).await, "everything has ended");
        assert_eq!(self.hub.context().connection_count(), 0);
    }
}

fn over_tcp(addr: SocketAddr) -> Connect {
    Box::new(move || Box::pin(async move { Box::new(TcpStream::connect(addr).await.unwrap()) as _ }))
}

fn over_pipes(router: Router) -> Connect {
    Box::new(move || {
        let (client, server) = tokio::io::duplex(PIPE);
        tokio::spawn(http1(server, router.clone()));
        Box::pin(async move { Box::new(client) as _ })
    })
}

async fn http1(stream: impl Stream + 'static, router: Router) {
    let service = TowerToHyperService::new(router);
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await.unwrap();
}

/// A server with TLS, as an embedder would write one.
fn tls(listener: TcpListener, router: Router) -> Connect {
    let addr = listener.local_addr().unwrap();
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = key.cert.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into()))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (acceptor, service) = (acceptor.clone(), TowerToHyperService::new(router.clone()));
            tokio::spawn(async move {
                let stream = TokioIo::new(acceptor.accept(socket).await.unwrap());
                auto::Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(stream, service).await
            });
        }
    });
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(client));
    Box::new(move || {
        let connector = connector.clone();
        Box::pin(async move {
            let socket = TcpStream::connect(addr).await.unwrap();
            Box::new(connector.connect("localhost".try_into().unwrap(), socket).await.unwrap()) as _
        })
    })
}

fn echo(id: &str, text: &str) -> Value {
    call(id, "Echo", json!([text]))
}

fn told(text: &str) -> Event {
    Event::Message(json!({"type": 1, "target": "told", "arguments": [text]}))
}

fn answer(id: &str, text: &str) -> Event {
    Event::Message(result(id, json!(text)))
}

async fn a_call_is_answered(way: Way) {
    let site = Site::start(way).await;
    let mut peer = site.open().await;
    for text in ["", "hello", "grüße", &"x".repeat(200)] {
        peer.say(echo("1", text)).await;
        assert_eq!(peer.next().await, answer("1", text));
    }
    drop(peer);
    site.end(1).await;
}

async fn a_broadcast_reaches_everybody(way: Way) {
    let site = Site::start(way).await;
    let mut peers = [site.open().await, site.open().await, site.open().await];
    peers[1].say(call("1", "Tell", json!(["hello"]))).await;
    for peer in &mut peers {
        assert_eq!(peer.next().await, told("hello"));
    }
    assert_eq!(peers[1].next().await, Event::Message(json!({"type": 3, "invocationId": "1", "result": null})));
    for n in 0..100 {
        site.hub.context().all().send("told", (n.to_string(),)).await.unwrap();
    }
    for peer in &mut peers {
        for n in 0..100 {
            assert_eq!(peer.next().await, told(&n.to_string()));
        }
    }
    drop(peers);
    site.end(3).await;
}

async fn large_messages_pass_both_ways(way: Way) {
    let site = Site::start(way).await;
    let mut peers = [site.open().await, site.open().await];
    let large: String = ('a'..='z').cycle().take(2_000_000).collect();
    for id in ["1", "2"] {
        assert_eq!(peers[0].say_and_hear(echo(id, &large)).await, answer(id, &large));
    }
    site.hub.context().all().send("told", (&*large,)).await.unwrap();
    site.hub.context().all().send("told", ("small",)).await.unwrap();
    for peer in &mut peers {
        assert_eq!(peer.next().await, told(&large));
        assert_eq!(peer.next().await, told("small"));
    }
    drop(peers);
    site.end(2).await;
}

async fn what_comes_right_behind_the_request_is_not_lost(way: Way) {
    let site = Site::start(way).await;
    // the second is larger than what hyper reads at first, so it comes in part with the request
    for long in ["short".to_owned(), "x".repeat(20_000), "y".repeat(200_000)] {
        let mut peer = Peer::new(site.connect().await);
        let frames = [handshake(), text(&echo("1", "first")), text(&echo("2", &long))].concat();
        let (now, later) = frames.split_at(frames.len() - 3);
        peer.write(&[UPGRADE.as_bytes(), now].concat()).await;
        assert_eq!(peer.head().await, 101);
        assert_eq!(peer.next().await, Event::Message(json!({})));
        assert_eq!(peer.next().await, answer("1", "first"));
        peer.write(later).await;
        assert_eq!(peer.next().await, answer("2", &long));
    }
    site.end(3).await;
}

async fn goodbyes_are_answered_and_the_stream_ends(way: Way) {
    let mut site = Site::start(way).await;
    for code in [1000, 1001, 4000] {
        let mut peer = site.open().await;
        peer.write(&close(code)).await;
        assert_eq!(peer.next().await, Event::Close(1000));
        assert_eq!(peer.next().await, Event::End);
        assert_eq!(site.reason().await, CloseReason::ClientClosed(None));
    }
    let mut peer = site.open().await;
    peer.say(call("1", "Abort", json!([]))).await;
    assert_eq!(peer.next().await, Event::Message(json!({"type": 7})));
    assert_eq!(peer.next().await, Event::Close(1000));
    assert_eq!(site.reason().await, CloseReason::Aborted);
    peer.write(&close(1000)).await;
    assert_eq!(peer.next().await, Event::End);
    site.end(4).await;
}

async fn who_vanishes_is_noticed(way: Way) {
    let mut site = Site::start(way).await;
    let (mut stays, vanishes) = (site.open().await, site.open().await);
    drop(vanishes);
    assert_eq!(site.reason().await, CloseReason::TransportLost);
    stays.say(echo("1", "hello")).await;
    assert_eq!(stays.next().await, answer("1", "hello"));
    // before it has shaken hands it has never been there
    let mut early = Peer::new(site.connect().await);
    early.write(UPGRADE.as_bytes()).await;
    assert_eq!(early.head().await, 101);
    site.has_opened(3).await;
    drop((early, stays));
    assert_eq!(site.reason().await, CloseReason::TransportLost);
    assert!(site.hub.drain(PATIENCE).await);
    assert!(site.reasons.try_recv().is_err());
    site.end(3).await;
}

macro_rules! on_every_way {
    ($($way:ident $variant:ident),*) => { $(
        mod $way {
            use super::Way::$variant as WAY;

            on_every_way!(@ WAY a_call_is_answered a_broadcast_reaches_everybody large_messages_pass_both_ways
                what_comes_right_behind_the_request_is_not_lost goodbyes_are_answered_and_the_stream_ends
                who_vanishes_is_noticed);
        }
    )* };
    (@ $way:ident $($scenario:ident)*) => { $(
        #[tokio::test]
        async fn $scenario() {
            super::$scenario($way).await;
        }
    )* };
}

on_every_way!(serve Serve, axum_serve Axum, bare_http1 Http1, pipe Pipe, tls Tls);

#[tokio::test]
async fn an_upgrade_that_is_finished_after_a_drain_began_is_closed_again() {
    let (hub, mut reasons) = hub();
    // the answer does not fit, so the upgrade waits until it has been read
    let (mut client, server) = tokio::io::duplex(64);
    tokio::spawn(http1(server, Router::new().merge(hub.routes("/hub"))));
    client.write_all(UPGRADE.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    timeout(PATIENCE, client.read_exact(&mut status)).await.expect("an answer").unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
    assert!(hub.drain(PATIENCE).await);
    let mut peer = Peer::new(Box::new(client)).having_read(&status);
    assert_eq!(peer.head().await, 101);
    assert_eq!(peer.next().await, Event::Close(1000));
    peer.write(&close(1000)).await;
    assert_eq!(peer.next().await, Event::End);
    assert!(hub.drain(PATIENCE).await);
    assert!(reasons.try_recv().is_err());
}

#[tokio::test]
async fn what_was_sent_to_a_large_group_reaches_who_leaves_it_next() {
    // more than a sender writes to by itself: a task of its own does it, and by then the group is another
    const MEMBERS: usize = 70;
    async fn send_and_take_out(clients: Clients, groups: Groups, members: Vec<String>) -> HubResult {
        clients.group("room").send("told", ("goodbye",)).await?;
        for member in &members {
            groups.remove(member, "room").await?;
        }
        Ok(())
    }
    let hub = Hub::with_state(())
        .method("Join", |caller: Caller, groups: Groups| async move {
            groups.add(caller.id(), "room").await?;
            Ok(caller.id().to_owned())
        })
        .method("SendAndTakeOut", send_and_take_out)
        .build();
    let addr = crate::client::serve(&hub).await;
    let mut peers = Vec::new();
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        let mut peer = Peer::open(Box::new(TcpStream::connect(addr).await.unwrap())).await;
        peer.say(call("1", "Join", json!([]))).await;
        let Event::Message(joined) = peer.next().await else { panic!("an answer") };
        members.push(joined["result"].clone());
        peers.push(peer);
    }
    peers[0].say(call("2", "SendAndTakeOut", json!([members]))).await;
    for peer in &mut peers {
        assert_eq!(peer.next().await, told("goodbye"));
    }
}
