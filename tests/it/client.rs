//! A hub on a free port, and a JSON client for it that shows every message as it came.

use axum::Router;
use hubwire::Hub;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::timeout;

/// Serves a hub at `/hub` as long as the test runs.
pub(crate) async fn serve(hub: &Hub) -> SocketAddr {
    serve_routes(Router::new().merge(hub.routes("/hub"))).await
}

/// Serves these routes as long as the test runs.
pub(crate) async fn serve_routes(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { hubwire::serve(listener, router).await });
    addr
}

/// Something that hub functions wait for until the test opens it, and that tells the test when they do.
#[derive(Default)]
pub(crate) struct Gate {
    reached: Notify,
    open: Notify,
}

impl Gate {
    /// For the function: waits for the test.
    pub(crate) async fn pass(&self) {
        self.reached.notify_one();
        self.open.notified().await;
    }

    /// For the test: waits until a function is there.
    pub(crate) async fn reached(&self) {
        timeout(PATIENCE, self.reached.notified()).await.expect("a function reaches the gate");
    }

    /// For the test: lets one function pass.
    pub(crate) fn open(&self) {
        self.open.notify_one();
    }
}

pub(crate) struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    messages: VecDeque<Value>,
}

impl Client {
    /// Connects and shakes hands.
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let mut client = Self::open(addr).await;
        client.send(r#"{"protocol":"json","version":1}"#).await;
        assert_eq!(client.next().await, json!({}));
        client
    }

    async fn open(addr: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(UPGRADE.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Self { stream, input: Vec::new(), messages: VecDeque::new() }
    }

    /// Sends one message in the frame that it needs.
    pub(crate) async fn say(&mut self, message: Value) {
        self.send(&message.to_string()).await;
    }

    /// Sends several messages in one frame, so that they arrive in one read.
    pub(crate) async fn say_all(&mut self, messages: &[Value]) {
        let texts: Vec<String> = messages.iter().map(Value::to_string).collect();
        self.send(&texts.join("\x1e")).await;
    }

    async fn send(&mut self, text: &str) {
        let payload = [text.as_bytes(), b"\x1e"].concat();
        let mut frame = vec![0x81];
        match payload.len() {
            n @ 0..=125 => frame.push(0x80 | n as u8),
            n @ 126..=0xffff => {
                frame.push(0xfe);
                frame.extend((n as u16).to_be_bytes());
            }
            n => {
                frame.push(0xff);
                frame.extend((n as u64).to_be_bytes());
            }
        }
        // a mask of zeros changes nothing
        frame.extend([0; 4]);
        frame.extend(payload);
        timeout(PATIENCE, self.stream.write_all(&frame)).await.expect("the server reads").unwrap();
    }

    /// Calls a method and waits for its completion.
    pub(crate) async fn call(&mut self, target: &str, arguments: Value) -> Value {
        self.say(call("call", target, arguments)).await;
        self.completion("call").await
    }

    /// Waits for the completion of a call; messages before it are forgotten.
    pub(crate) async fn completion(&mut self, id: &str) -> Value {
        loop {
            let message = self.next().await;
            if message["type"] == 3 && message["invocationId"] == id {
                return message;
            }
        }
    }

    /// The next message, pings apart.
    pub(crate) async fn next(&mut self) -> Value {
        self.next_or_end().await.expect("the connection goes on")
    }

    /// The next message, pings apart; `None` when the server has closed.
    pub(crate) async fn next_or_end(&mut self) -> Option<Value> {
        loop {
            match self.messages.pop_front() {
                Some(message) if message["type"] == 6 => {}
                Some(message) => return Some(message),
                None => timeout(PATIENCE, self.read()).await.expect("a message arrives")?,
            }
        }
    }

    /// Fails if anything has arrived, now that everything that was said before has been dealt with.
    pub(crate) async fn expect_nothing(&mut self) {
        let result = timeout(Duration::from_millis(50), self.next_or_end()).await;
        assert!(result.is_err(), "{result:?} came");
    }

    /// Takes in one frame; `None` at the end.
    async fn read(&mut self) -> Option<()> {
        loop {
            if let Some((opcode, payload, used)) = frame(&self.input) {
                let texts = payload.split(|b| *b == 0x1e).filter(|text| !text.is_empty());
                let messages: Vec<Value> =
                    if opcode == 1 { texts.map(|t| serde_json::from_slice(t).unwrap()).collect() } else { vec![] };
                self.messages.extend(messages);
                self.input.drain(..used);
                if opcode == 8 {
                    // the other half of the closing handshake; the server may be gone already
                    let _ = self.stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await;
                    return None;
                }
                return Some(());
            }
            if self.stream.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }
}

/// The first frame: its opcode, its payload, and all its bytes.
fn frame(input: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (length, header) = match input.get(1)? {
        126 => (usize::from(u16::from_be_bytes(input.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(input.get(2..10)?.try_into().ok()?)).ok()?, 10),
        length => (usize::from(*length), 2),
    };
    Some((input[0] & 15, input.get(header..header + length)?, header + length))
}

pub(crate) fn call(id: &str, target: &str, arguments: Value) -> Value {
    json!({"type": 1, "invocationId": id, "target": target, "arguments": arguments})
}

pub(crate) fn stream(id: &str, target: &str, arguments: Value) -> Value {
    json!({"type": 4, "invocationId": id, "target": target, "arguments": arguments})
}

pub(crate) fn upload(id: &str, target: &str, streams: &[&str]) -> Value {
    json!({"type": 1, "invocationId": id, "target": target, "arguments": [], "streamIds": streams})
}

pub(crate) fn item(id: &str, item: Value) -> Value {
    json!({"type": 2, "invocationId": id, "item": item})
}

pub(crate) fn done(id: &str) -> Value {
    json!({"type": 3, "invocationId": id})
}

pub(crate) fn result(id: &str, result: Value) -> Value {
    json!({"type": 3, "invocationId": id, "result": result})
}

pub(crate) fn error(id: &str, text: &str) -> Value {
    json!({"type": 3, "invocationId": id, "error": text})
}

pub(crate) fn cancel(id: &str) -> Value {
    json!({"type": 5, "invocationId": id})
}

/// The longest that anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

const UPGRADE: &str = "GET /hub HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
