//! Connections that wait for their clients: their budget, their end, and what becomes of messages that find no room meanwhile.

use crate::client::{PATIENCE, serve_routes};
use crate::peer::{Event, Peer, text};
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use hubwire::{CloseReason, Hub, HubOptions, HubResult, Identity, SlowReceiver};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

struct Site {
    hub: Hub,
    addr: SocketAddr,
    reasons: mpsc::UnboundedReceiver<CloseReason>,
}

async fn left(State(left): State<mpsc::UnboundedSender<CloseReason>>, reason: CloseReason) -> HubResult {
    Ok(left.send(reason)?)
}

impl Site {
    /// A hub with these limits, whose users say in a header who they are.
    async fn start(set: impl FnOnce(&mut HubOptions)) -> Self {
        let (sender, reasons) = mpsc::unbounded_channel();
        let mut options = HubOptions::default().with_stateful_reconnect(true);
        set(&mut options);
        let hub = Hub::with_state(sender)
            .options(options)
            .on_disconnected(left)
            .method("Echo", |text: String| async move { Ok(text) })
            .build();
        let routes = hub.routes("/hub").layer(middleware::from_fn(async |mut request: Request, next: Next| {
            if let Some(user) = request.headers().get("x-user").and_then(|user| user.to_str().ok()) {
                let identity = Identity::user(user);
                request.extensions_mut().insert(identity);
            }
            next.run(request).await
        }));
        let addr = serve_routes(Router::new().merge(routes)).await;
        Self { hub, addr, reasons }
    }

    /// A client with a user, or with an address of its own.
    async fn client(&self, user: &'static str, from: Ipv4Addr) -> Client {
        let mut client = Client { addr: self.addr, user, from, token: String::new() };
        let negotiate = "POST /hub/negotiate?negotiateVersion=1&useStatefulReconnect=true HTTP/1.1\r\n\
            Host: test\r\nContent-Length: 0\r\n";
        let mut peer = client.request(negotiate).await;
        assert_eq!(peer.head().await, 200);
        client.token = peer.json().await["connectionToken"].as_str().unwrap().to_owned();
        client
    }

    /// One that has shaken hands.
    async fn open(&self, user: &'static str, from: Ipv4Addr) -> (Client, Peer) {
        let client = self.client(user, from).await;
        let (mut peer, status) = client.socket().await;
        assert_eq!(status, 101);
        peer.say(json!({"protocol": "json", "version": 2})).await;
        assert_eq!(peer.next().await, Event::Message(json!({})));
        (client, peer)
    }

    /// Waits until so many connections are left.
    async fn left_with(&self, connections: u64) {
        let settled = async {
            while self.hub.context().stats().connections != connections {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, settled).await.expect("the others end");
    }
}

struct Client {
    addr: SocketAddr,
    user: &'static str,
    from: Ipv4Addr,
    token: String,
}

impl Client {
    async fn request(&self, head: &str) -> Peer {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((self.from, 0).into()).unwrap();
        let mut peer = Peer::new(Box::new(socket.connect(self.addr).await.unwrap()));
        let user = if self.user.is_empty() { String::new() } else { format!("x-user: {}\r\n", self.user) };
        peer.write(format!("{head}{user}\r\n").as_bytes()).await;
        peer
    }

    /// Asks for a WebSocket.
    async fn socket(&self) -> (Peer, u16) {
        let upgrade = "Host: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let mut peer = self.request(&format!("GET /hub?id={} HTTP/1.1\r\n{upgrade}", self.token)).await;
        let status = peer.head().await;
        (peer, status)
    }

    /// Comes back, and is told so.
    async fn is_back(&self) -> bool {
        let (mut peer, status) = self.socket().await;
        if status != 101 {
            assert_eq!(status, 404);
            return false;
        }
        assert_eq!(peer.next().await, Event::Message(sequence(1)));
        peer.write(&text(&sequence(1))).await;
        peer.say(json!({"type": 1, "invocationId": "1", "target": "Echo", "arguments": ["back"]})).await;
        assert_eq!(peer.next().await, Event::Message(json!({"type": 3, "invocationId": "1", "result": "back"})));
        true
    }
}

fn sequence(number: i64) -> Value {
    json!({"type": 9, "sequenceId": number})
}

const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Each loses its socket, in order; only the first of the spender's ends.
async fn the_oldest_ends(site: &Site, owners: &[(&'static str, Ipv4Addr)], ends: usize) {
    let mut clients = Vec::new();
    for (user, from) in owners {
        clients.push(site.open(user, *from).await);
    }
    let mut waiting = Vec::new();
    for (client, peer) in clients {
        peer.lose().await;
        waiting.push(client);
    }
    site.left_with(owners.len() as u64 - 1).await;
    assert_eq!(site.hub.context().stats().resumable_evicted, 1);
    for (n, client) in waiting.iter().enumerate() {
        assert_eq!(client.is_back().await, n != ends, "client {n}");
    }
}

#[tokio::test]
async fn the_oldest_of_a_user_ends_when_its_budget_is_spent() {
    let mut site = Site::start(|options| options.connection.max_resumable_per_owner = 2).await;
    the_oldest_ends(&site, &[("bob", HOME), ("ann", HOME), ("ann", ELSEWHERE), ("bob", HOME), ("ann", HOME)], 1).await;
    assert_eq!(site.reasons.recv().await, Some(CloseReason::TransportLost));
}

#[tokio::test]
async fn the_oldest_of_an_address_ends_when_its_budget_is_spent() {
    let site = Site::start(|options| options.connection.max_resumable_per_owner = 2).await;
    let owners = [("", ELSEWHERE), ("ann", HOME), ("", HOME), ("", HOME), ("", ELSEWHERE), ("", HOME)];
    the_oldest_ends(&site, &owners, 2).await;
}

#[tokio::test]
async fn the_oldest_of_all_ends_when_the_budget_is_spent() {
    let site = Site::start(|options| options.connection.max_resumable = 3).await;
    the_oldest_ends(&site, &[("ann", HOME), ("bob", HOME), ("", HOME), ("ann", HOME)], 0).await;
}

/// The evicted leave the count before their tasks have ended.
#[tokio::test]
async fn the_budget_holds_when_many_sockets_are_lost_at_once() {
    let site = Site::start(|options| {
        options.connection.max_resumable = 5;
        options.connection.max_resumable_per_owner = 3;
    })
    .await;
    let mut clients = Vec::new();
    for n in 0..40 {
        clients.push(site.open(["ann", "bob"][n % 2], HOME).await);
    }
    let clients: Vec<_> = clients
        .into_iter()
        .map(|(client, peer)| {
            drop(peer);
            client
        })
        .collect();
    site.left_with(5).await;
    assert_eq!(site.hub.context().stats().resumable_evicted, 35);
    let mut back = 0;
    for client in &clients {
        back += usize::from(client.is_back().await);
    }
    assert_eq!(back, 5);
}

#[tokio::test]
async fn who_is_back_no_longer_counts() {
    let site = Site::start(|options| options.connection.max_resumable = 1).await;
    let (ann, peer) = site.open("ann", HOME).await;
    let (bob, others) = site.open("bob", HOME).await;
    peer.lose().await;
    let (mut peer, _) = ann.socket().await;
    assert_eq!(peer.next().await, Event::Message(sequence(1)));
    others.lose().await;
    assert!(bob.is_back().await);
    peer.write(&text(&sequence(1))).await;
    peer.say(json!({"type": 1, "invocationId": "1", "target": "Echo", "arguments": ["here"]})).await;
    assert_eq!(
        peer.next().await,
        Event::Message(json!({"type": 3, "invocationId": "1", "result": "here"})),
        "unharmed"
    );
    assert_eq!(site.hub.context().stats().resumable_evicted, 0);
}

#[tokio::test]
async fn who_does_not_come_back_departs_once() {
    let mut site = Site::start(|options| options.connection.disconnect_timeout = Duration::from_millis(500)).await;
    let (client, peer) = site.open("ann", HOME).await;
    peer.lose().await;
    let reason = timeout(PATIENCE, site.reasons.recv()).await.expect("it departs");
    assert_eq!(reason, Some(CloseReason::TransportLost));
    site.left_with(0).await;
    assert_eq!(client.socket().await.1, 404);
    assert!(site.hub.drain(PATIENCE).await);
    assert!(site.reasons.try_recv().is_err(), "once");
}

/// A number belongs to what has left, so what was dropped before leaves no gap.
#[tokio::test]
async fn what_the_policy_drops_meanwhile_is_counted_and_never_gets_a_number() {
    let site = Site::start(|options| {
        options.connection.slow_receiver = SlowReceiver::DropOldest;
        options.connection.outbound_limit = 1_000;
    })
    .await;
    let (client, peer) = site.open("ann", HOME).await;
    peer.lose().await;
    let everybody = site.hub.context();
    for n in 0..100 {
        everybody.all().send("tick", (n,)).await.unwrap();
    }
    let dropped = everybody.stats().messages_dropped;
    assert!((50..100).contains(&dropped), "{dropped}");
    for _ in 0..2 {
        let (mut peer, status) = client.socket().await;
        assert_eq!(status, 101);
        assert_eq!(peer.next().await, Event::Message(sequence(1)));
        for n in dropped..100 {
            let tick = json!({"type": 1, "target": "tick", "arguments": [n]});
            assert_eq!(peer.next().await, Event::Message(tick));
        }
        peer.lose().await;
    }
    // acknowledged to the last one that came, by the count of those that came
    let (mut peer, _) = client.socket().await;
    peer.say(json!({"type": 8, "sequenceId": 100 - dropped})).await;
    peer.say(json!({"type": 1, "invocationId": "1", "target": "Echo", "arguments": ["x"]})).await;
    while peer.next().await != Event::Message(json!({"type": 3, "invocationId": "1", "result": "x"})) {}
    peer.lose().await;
    let (mut peer, _) = client.socket().await;
    assert_eq!(peer.next().await, Event::Message(sequence(100 - dropped as i64 + 1)));
    assert_eq!(everybody.stats().messages_dropped, dropped);
}
