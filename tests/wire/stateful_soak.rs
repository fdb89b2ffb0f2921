//! Stateful reconnect under a proxy that cuts at random bytes, again and again, with numbered messages both ways at once.
//!
//! Two clients send to each other through the hub, each message a call that is completed, and each reads an endless stream. Everything
//! passes a proxy that forwards so many bytes of a direction and cuts there: in a header, in a message, in the Sequence, in a replay, in
//! the answer to the upgrade. `HUBWIRE_SOAK_SECONDS` says for how long (15), `HUBWIRE_SEED` repeats the choices.

use crate::stateful::{handshake, negotiate};
use crate::support::hub::{Message, Protocol, Splitter, encode};
use crate::support::rng::Rng;
use crate::support::server::TestServer;
use crate::support::ws::{BINARY, CLOSE, RawPeer, Received, TEXT, upgrade_request};
use crate::support::{PATIENCE, guard_for};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

#[tokio::test]
async fn nothing_is_lost_or_doubled_under_cuts_at_random_bytes_json() {
    soak(Protocol::Json).await;
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_under_cuts_at_random_bytes_messagepack() {
    soak(Protocol::MessagePack).await;
}

async fn soak(protocol: Protocol) {
    let seconds = std::env::var("HUBWIRE_SOAK_SECONDS").map_or(15, |text| text.parse().expect("a number of seconds"));
    let duration = Duration::from_secs(seconds);
    // calls that run one at a time are completed in order
    let Some(server) = TestServer::ours_with("a soak of stateful reconnect", &["--parallel", "1"]) else { return };
    let mut rng = Rng::announced(&format!("stateful reconnect, {}", protocol.name()));
    guard_for(duration + Duration::from_secs(60), async {
        let proxy = Proxy::start(server.addr(), rng.bits()).await;
        let mut pair = [None, None];
        for client in &mut pair {
            let path = negotiate(&server, "/conformance").await;
            *client = Some(Soaked::open(proxy.addr, path, protocol, rng.bits()).await);
        }
        let [Some(mut ann), Some(mut bob)] = pair else { unreachable!("both were opened") };
        (ann.other, bob.other) = (bob.id.clone(), ann.id.clone());
        proxy.cuts.store(true, Relaxed);
        let end = Instant::now() + duration;
        tokio::join!(ann.send_until(end), bob.send_until(end));
        proxy.cuts.store(false, Relaxed);
        let sent = [ann.calls, bob.calls];
        tokio::join!(ann.settle(sent[1]), bob.settle(sent[0]));
        let cut = proxy.cut.load(Relaxed);
        for (name, client) in [("ann", &ann), ("bob", &bob)] {
            println!(
                "{name}, {}: {} calls, {} completions, {} pushes, {} items, {} messages again from the server, {} from the client, {} resumed, {} refused sockets",
                protocol.name(),
                client.calls,
                client.completions.seen,
                client.pushes.seen,
                client.items.seen,
                client.again,
                client.sent_again,
                client.resumed,
                client.broken_upgrades,
            );
        }
        let faults = [&ann, &bob].map(|client| [client.completions, client.pushes, client.items]);
        let lost: i64 = faults.iter().flatten().map(|tally| tally.lost).sum();
        let doubled: i64 = faults.iter().flatten().map(|tally| tally.doubled).sum();
        println!(
            "{}: {} messages to the server, {} from it, {cut} cuts, {lost} lost, {doubled} doubled",
            protocol.name(),
            ann.log.newest + bob.log.newest,
            ann.latest + bob.latest
        );
        assert_eq!((lost, doubled), (0, 0));
        assert_eq!((ann.pushes.seen, bob.pushes.seen), (sent[1], sent[0]));
        assert!(seconds < 5 || cut > 20, "the proxy cut {cut} times only");
    })
    .await;
}

/// A count of something that comes numbered from 0.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    seen: i64,
    lost: i64,
    doubled: i64,
}

impl Tally {
    fn count(&mut self, number: i64) {
        if number < self.seen {
            self.doubled += 1;
            return;
        }
        self.lost += number - self.seen;
        self.seen = number + 1;
    }
}

/// What was sent and is not acknowledged.
#[derive(Default)]
struct Log {
    kept: VecDeque<Vec<u8>>,
    bytes: usize,
    newest: i64,
}

/// A client with the client's half of section 10 of the hub protocol.
struct Soaked {
    proxy: SocketAddr,
    path: String,
    protocol: Protocol,
    rng: Rng,
    /// `None` while it has no socket.
    peer: Option<RawPeer>,
    splitter: Splitter,
    /// The Sequence of this socket has come.
    placed: bool,
    id: String,
    other: String,
    log: Log,
    next: i64,
    latest: i64,
    acknowledged: i64,
    ack_at: Instant,
    ping_at: Instant,
    calls: i64,
    completions: Tally,
    pushes: Tally,
    items: Tally,
    streaming: bool,
    again: u64,
    sent_again: u64,
    resumed: u64,
    broken_upgrades: u64,
}

impl Soaked {
    async fn open(proxy: SocketAddr, path: String, protocol: Protocol, seed: u64) -> Self {
        let mut client = Self {
            proxy,
            path,
            protocol,
            rng: Rng::new(seed),
            peer: None,
            splitter: Splitter::new(protocol),
            placed: true,
            id: String::new(),
            other: String::new(),
            log: Log::default(),
            next: 1,
            latest: 0,
            acknowledged: 0,
            ack_at: Instant::now(),
            ping_at: Instant::now(),
            calls: 0,
            completions: Tally::default(),
            pushes: Tally::default(),
            items: Tally::default(),
            streaming: false,
            again: 0,
            sent_again: 0,
            resumed: 0,
            broken_upgrades: 0,
        };
        let mut peer = RawPeer::over(TcpStream::connect(proxy).await.expect("the proxy accepts"));
        peer.send(upgrade_request(&client.path)).await.expect("it is read");
        peer.expect_upgrade().await;
        peer.frame(&protocol.frame(handshake(protocol))).await.expect("it is read");
        client.peer = Some(peer);
        while client.id.is_empty() {
            client.step(Instant::now() + PATIENCE).await;
        }
        client.say(json!({"type": 4, "invocationId": "stream", "target": "Forever", "arguments": []})).await;
        client.streaming = true;
        client
    }

    /// Calls, as long as few enough of the calls are open, and takes in what comes.
    async fn send_until(&mut self, end: Instant) {
        while Instant::now() < end {
            // a client's buffer has the limit that a server's has
            while self.calls - self.completions.seen < WINDOW && self.log.bytes < 100_000 && self.rng.below(8) != 0 {
                let size = match self.rng.below(50) {
                    0 => self.rng.below(9_000),
                    _ => self.rng.below(200),
                };
                let x = json!({"n": self.calls, "pad": "p".repeat(size)});
                let id = self.calls.to_string();
                self.calls += 1;
                self.say(
                    json!({"type": 1, "invocationId": id, "target": "ToConnection", "arguments": [self.other, x]}),
                )
                .await;
            }
            let pause = Duration::from_millis(self.rng.below(10) as u64);
            self.step((Instant::now() + pause).min(end)).await;
        }
    }

    /// Takes in everything that is still to come, and ends the stream.
    async fn settle(&mut self, pushes: i64) {
        let until = Instant::now() + Duration::from_secs(40);
        self.say(json!({"type": 5, "invocationId": "stream"})).await;
        while self.streaming || self.completions.seen < self.calls || self.pushes.seen < pushes {
            assert!(
                Instant::now() < until,
                "{} of {} completions, {} of {pushes} pushes",
                self.completions.seen,
                self.calls,
                self.pushes.seen
            );
            self.step(Instant::now() + Duration::from_millis(100)).await;
        }
    }

    /// Numbers a message, keeps and sends it.
    async fn say(&mut self, message: Value) {
        let bytes = encode(self.protocol, &message);
        self.log.newest += 1;
        self.log.bytes += bytes.len();
        self.log.kept.push_back(bytes.clone());
        self.write(bytes).await;
    }

    async fn write(&mut self, bytes: Vec<u8>) {
        let Some(peer) = &mut self.peer else { return };
        if peer.frame(&self.protocol.frame(bytes)).await.is_err() {
            self.peer = None;
        }
    }

    /// Does what is due, and takes in one frame or waits until `limit`.
    async fn step(&mut self, limit: Instant) {
        if self.peer.is_none() {
            self.resume().await;
        }
        let now = Instant::now();
        let owed = self.latest - self.acknowledged;
        if owed > 0 && (now >= self.ack_at || owed >= 64) {
            self.acknowledged = self.latest;
            self.ack_at = now + Duration::from_secs(1);
            self.write(encode(self.protocol, &json!({"type": 8, "sequenceId": self.latest}))).await;
        }
        if now >= self.ping_at {
            self.ping_at = now + Duration::from_secs(5);
            self.write(encode(self.protocol, &json!({"type": 6}))).await;
        }
        let Some(peer) = &mut self.peer else { return };
        let received = tokio::select! {
            received = peer.recv_patiently() => received,
            () = sleep_until(limit) => return,
        };
        match received {
            Received::Frame(frame) if matches!(frame.opcode, TEXT | BINARY) => {
                for message in self.splitter.split(&frame) {
                    self.take(&message);
                }
            }
            Received::Frame(frame) if frame.opcode == CLOSE => panic!("the server closes: {frame:?}"),
            Received::Frame(_) => {}
            Received::Eof | Received::Reset => self.peer = None,
        }
    }

    /// Comes back on a new socket, however often that takes, and sends again what is not acknowledged.
    async fn resume(&mut self) {
        loop {
            sleep(Duration::from_millis(self.rng.below(30) as u64)).await;
            let mut peer = RawPeer::over(TcpStream::connect(self.proxy).await.expect("the proxy accepts"));
            if peer.send(upgrade_request(&self.path)).await.is_err() {
                self.broken_upgrades += 1;
                continue;
            }
            // the answer itself may be cut
            let Some(head) = peer.response_head().await else {
                self.broken_upgrades += 1;
                continue;
            };
            assert_eq!(head.status, 101, "{head:?}");
            self.peer = Some(peer);
            self.splitter = Splitter::behind_handshake(self.protocol);
            self.placed = false;
            self.resumed += 1;
            self.acknowledged = self.acknowledged.min(self.latest - 1);
            let oldest = self.log.newest - self.log.kept.len() as i64 + 1;
            self.write(encode(self.protocol, &json!({"type": 9, "sequenceId": oldest}))).await;
            for bytes in self.log.kept.clone() {
                self.sent_again += 1;
                self.write(bytes).await;
            }
            if self.peer.is_some() {
                return;
            }
        }
    }

    fn take(&mut self, message: &Message) {
        if !self.placed {
            assert_eq!(message.kind(), 9, "Sequence comes first on a new socket: {message:?}");
            self.placed = true;
        }
        match message.kind() {
            1..=5 => {
                let number = self.next;
                self.next += 1;
                if number <= self.latest {
                    self.again += 1;
                    return;
                }
                self.latest = number;
                self.count(message);
            }
            8 => {
                let number = message.json["sequenceId"].as_i64().expect("a number");
                assert!(number <= self.log.newest, "it acknowledges what was never sent");
                while self.log.newest - (self.log.kept.len() as i64) < number {
                    self.log.bytes -= self.log.kept.pop_front().expect("it is kept").len();
                }
            }
            9 => {
                let number = message.json["sequenceId"].as_i64().expect("a number");
                // not `next`: an acknowledgement may have been the last to arrive of a socket that was cut during a replay
                assert!(number <= self.latest + 1, "messages between {} and {number} are lost", self.latest);
                self.next = number;
            }
            7 => panic!("the server ends the connection: {message:?}"),
            _ => {}
        }
    }

    fn count(&mut self, message: &Message) {
        match (message.kind(), message.id(), message.target()) {
            (1, _, "welcome") => self.id = message.arguments()[0].as_str().expect("an id").to_owned(),
            (1, ..) => self.pushes.count(message.arguments()[1]["n"].as_i64().expect("a number")),
            (2, ..) => self.items.count(message.json["item"].as_i64().expect("a number")),
            (3, "stream", _) => self.streaming = false,
            (3, id, _) => {
                assert_eq!(message.error(), "");
                self.completions.count(id.parse().expect("a number"));
            }
            _ => panic!("{message:?}"),
        }
    }
}

/// Forwards, and cuts.
struct Proxy {
    addr: SocketAddr,
    cuts: Arc<AtomicBool>,
    cut: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

/// How a connection is to end.
struct Fate {
    /// Which direction is counted: to the server, or from it.
    upwards: bool,
    /// Bytes that still pass.
    after: usize,
    /// The server does not hear of it until its own side is dropped, much later.
    half: bool,
    reset: bool,
}

impl Proxy {
    async fn start(server: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let (cuts, cut) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        let (on, count) = (cuts.clone(), cut.clone());
        tasks.spawn(async move {
            let mut rng = Rng::new(seed);
            let mut connections = JoinSet::new();
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                while connections.try_join_next().is_some() {}
                let fate = Fate {
                    upwards: rng.below(2) == 0,
                    after: match rng.below(8) {
                        0 => rng.below(300),
                        1..=3 => rng.below(3_000),
                        4..=6 => rng.below(30_000),
                        _ => rng.below(300_000),
                    },
                    half: rng.below(8) == 0,
                    reset: rng.below(2) == 0,
                };
                connections.spawn(forward(client, server, fate, on.clone(), count.clone()));
            }
        });
        Self { addr, cuts, cut, _tasks: tasks }
    }
}

async fn forward(client: TcpStream, server: SocketAddr, fate: Fate, cuts: Arc<AtomicBool>, cut: Arc<AtomicUsize>) {
    let server = TcpStream::connect(server).await.expect("the server accepts");
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a TCP socket");
    }
    let (mut client, mut server) = (client, server);
    let (mut upwards, mut downwards) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut left = fate.after;
    loop {
        let (is_up, read) = tokio::select! {
            read = client.read(&mut upwards) => (true, read),
            read = server.read(&mut downwards) => (false, read),
        };
        let Ok(mut length @ 1..) = read else { return };
        let counts = is_up == fate.upwards && cuts.load(Relaxed);
        let over = counts && length >= left;
        if counts {
            length = length.min(left);
            left -= length;
        }
        let written = match is_up {
            true => server.write_all(&upwards[..length]).await,
            false => client.write_all(&downwards[..length]).await,
        };
        if written.is_err() {
            return;
        }
        if over {
            break;
        }
    }
    cut.fetch_add(1, Relaxed);
    #[allow(deprecated)] // A zero linger does not block, which is what the deprecation warns of.
    if fate.reset {
        // what the kernel still holds of a direction is lost as well
        let _ = client.set_linger(Some(Duration::ZERO));
        let _ = server.set_linger(Some(Duration::ZERO));
    }
    drop(client);
    if fate.half {
        let _ = timeout(Duration::from_secs(2), server.read(&mut downwards)).await;
        sleep(Duration::from_millis(200)).await;
    }
}

/// Calls that a client has open at a time.
const WINDOW: i64 = 32;
