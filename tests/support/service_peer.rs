//! An application server by hand: one server connection of the service, on which a test says and hears what it wants.

use super::msgpack::{Mp, framed, unframe};
use super::within;
use super::ws::{BINARY, CLOSE, Frame, RawPeer, Received};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;

/// A key that is nobody's.
pub const KEY: &str = "0123456789abcdef0123456789abcdef0123456789ab";

/// How a server connection introduces itself.
#[derive(Debug, Clone)]
pub struct Introduction {
    pub server_id: String,
    /// 0 default, 1 on demand, 2 weak.
    pub connection_type: i128,
    pub migration_level: i128,
    pub stateful: bool,
}

impl Introduction {
    /// The usual one.
    pub fn of(server_id: &str) -> Self {
        Self { server_id: server_id.to_owned(), connection_type: 0, migration_level: 1, stateful: false }
    }
}

/// One connection of an application server.
#[derive(Debug)]
pub struct ServicePeer {
    peer: RawPeer,
    input: Vec<u8>,
}

impl ServicePeer {
    /// Connects, and says nothing.
    pub async fn silent(addr: SocketAddr, hub: &str, server_id: &str) -> Self {
        let token = server_token(hub, server_id);
        let headers =
            format!("Authorization: Bearer {token}\r\nX-ASRS-Server-Id: {server_id}\r\nAsrs-User-Agent: test\r\n");
        let mut peer = open(addr, &format!("/server/?hub={hub}&cid=test"), &headers).await;
        peer.polite = true;
        Self { peer, input: Vec::new() }
    }

    /// Connects and shakes hands.
    pub async fn connect(addr: SocketAddr, hub: &str, introduction: &Introduction) -> Self {
        let mut peer = Self::silent(addr, hub, &introduction.server_id).await;
        peer.say(handshake(introduction)).await;
        let answer = peer.hear().await;
        assert_eq!(code(&answer), 2, "{answer}");
        assert_eq!(text(&answer, 1), "", "{answer}");
        peer
    }

    /// Sends a message.
    pub async fn say(&mut self, message: Mp) {
        self.say_bytes(&framed(&message.encode())).await;
    }

    /// Sends bytes, which need not be a message, in one frame.
    pub async fn say_bytes(&mut self, bytes: &[u8]) {
        self.peer.frame(&Frame::new(BINARY, bytes)).await.expect("the service reads");
    }

    /// The next message, keep-alive pings and answers to `status` apart.
    pub async fn hear(&mut self) -> Mp {
        self.hear_or_end().await.expect("the server connection goes on")
    }

    /// [`hear`](Self::hear); `None` when the service has ended the connection.
    pub async fn hear_or_end(&mut self) -> Option<Mp> {
        loop {
            let message = self.hear_anything().await?;
            if code(&message) != 3 || part(&message, 1).is_some() {
                return Some(message);
            }
        }
    }

    /// The next message, keep-alive pings too; `None` when the service has ended the connection.
    pub async fn hear_anything(&mut self) -> Option<Mp> {
        loop {
            if let Some(message) = self.in_input() {
                return Some(message);
            }
            match within("a message of the service", self.peer.recv()).await {
                Received::Frame(frame) if frame.opcode == BINARY => self.input.extend_from_slice(&frame.payload),
                Received::Frame(frame) if frame.opcode == CLOSE => return None,
                Received::Frame(_) => {}
                Received::Eof | Received::Reset => return None,
            }
        }
    }

    /// The next message of a type; it fails if another one comes before.
    pub async fn hear_code(&mut self, expected: i128) -> Mp {
        let message = self.hear().await;
        assert_eq!(code(&message), expected, "{message}");
        message
    }

    /// Hears of a client, with its handshake, and answers that; gives the message that told of it.
    pub async fn welcome(&mut self) -> Mp {
        let open = self.hear_code(4).await;
        let id = text(&open, 1).to_owned();
        let asked = self.hear_code(6).await;
        assert_eq!(text(&asked, 1), id);
        self.data(&id, b"{}\x1e").await;
        open
    }

    /// Sends something to one client.
    pub async fn data(&mut self, id: &str, payload: &[u8]) {
        self.say(message(6, [Mp::str(id), Mp::Bin(payload.to_vec()), nothing()])).await;
    }

    /// Ends a client.
    pub async fn close_client(&mut self, id: &str, error: &str) {
        self.say(message(5, [Mp::str(id), Mp::str(error), nothing(), nothing()])).await;
    }

    /// Hears what a client said.
    pub async fn hear_data(&mut self, id: &str) -> String {
        let data = self.hear_code(6).await;
        assert_eq!(text(&data, 1), id, "{data}");
        String::from_utf8(payload(&data).to_vec()).expect("text")
    }

    /// Sends a request that carries this ack id, and gives the status of its ack, which must be the next message.
    pub async fn ask(&mut self, id: i128, request: Mp) -> i128 {
        self.say(request).await;
        let ack = self.hear_code(20).await;
        assert_eq!(part(&ack, 1), Some(&Mp::Int(id)), "{ack}");
        match part(&ack, 2) {
            Some(Mp::Int(status)) => *status,
            other => panic!("a status, not {other:?}"),
        }
    }

    /// The WebSocket under it.
    pub fn raw(&mut self) -> &mut RawPeer {
        &mut self.peer
    }

    /// Ends the TCP connection without a word.
    pub async fn break_off(mut self) {
        self.peer.shut_down().await;
    }

    fn in_input(&mut self) -> Option<Mp> {
        let mut rest = &self.input[..];
        let body = unframe(&mut rest)?;
        let message = Mp::decode(&mut &body[..]).expect("a message is MessagePack");
        let left = rest.len();
        self.input.drain(..self.input.len() - left);
        Some(message)
    }
}

/// Message 1.
pub fn handshake(introduction: &Introduction) -> Mp {
    message(
        1,
        [
            Mp::Int(1),
            Mp::Int(introduction.connection_type),
            Mp::str(""),
            Mp::Int(introduction.migration_level),
            nothing(),
            Mp::Bool(introduction.stateful),
        ],
    )
}

/// A message of a type.
pub fn message<const N: usize>(code: i128, parts: [Mp; N]) -> Mp {
    Mp::Array(std::iter::once(Mp::Int(code)).chain(parts).collect())
}

/// An empty map.
pub fn nothing() -> Mp {
    Mp::Map(Vec::new())
}

/// A payload for each of these protocols.
pub fn payloads<const N: usize>(of: [(&str, &[u8]); N]) -> Mp {
    Mp::Map(of.into_iter().map(|(protocol, payload)| (Mp::str(protocol), Mp::Bin(payload.to_vec()))).collect())
}

/// The type of a message.
pub fn code(message: &Mp) -> i128 {
    match part(message, 0) {
        Some(Mp::Int(code)) => *code,
        other => panic!("a message has a type: {other:?}"),
    }
}

/// An element of a message.
pub fn part(message: &Mp, at: usize) -> Option<&Mp> {
    match message {
        Mp::Array(parts) => parts.get(at),
        other => panic!("a message is an array: {other}"),
    }
}

/// An element that is text.
pub fn text(message: &Mp, at: usize) -> &str {
    match part(message, at) {
        Some(Mp::Str(text)) => text,
        other => panic!("text at {at}, not {other:?}, of {message}"),
    }
}

/// What message 6 carries.
pub fn payload(message: &Mp) -> &[u8] {
    match part(message, 2) {
        Some(Mp::Bin(bytes)) => bytes,
        other => panic!("a payload, not {other:?}"),
    }
}

/// The pairs of an element that is a map, as JSON texts.
pub fn pairs(message: &Mp, at: usize) -> Vec<(String, Value)> {
    match part(message, at) {
        Some(Mp::Map(pairs)) => pairs
            .iter()
            .map(|(key, value)| {
                (key.to_json().as_str().map_or_else(|| key.to_string(), str::to_owned), value.to_json())
            })
            .collect(),
        other => panic!("a map at {at}, not {other:?}"),
    }
}

/// The token of an application server.
pub fn server_token(hub: &str, server_id: &str) -> String {
    sign(KEY, &json!({"nameid": server_id, "exp": in_an_hour(), "aud": format!("http://localhost/server/?hub={hub}")}))
}

/// The token of a client, with these claims.
pub fn client_token(hub: &str, claims: Value) -> String {
    let mut payload = json!({"exp": in_an_hour(), "aud": format!("http://localhost/client/?hub={hub}")});
    for (name, value) in claims.as_object().expect("claims") {
        payload[name] = value.clone();
    }
    sign(KEY, &payload)
}

/// Signs a token.
pub fn sign(key: &str, payload: &Value) -> String {
    // a second backend among the features of a test leaves none as the default
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(&payload.to_string()));
    let key = EncodingKey::from_secret(key.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("a secret signs");
    format!("{message}.{signature}")
}

/// Seconds since 1970, an hour from now.
pub fn in_an_hour() -> u64 {
    now() + 3600
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Opens a WebSocket with headers of its own.
pub async fn open(addr: SocketAddr, path: &str, headers: &str) -> RawPeer {
    let mut peer = tcp(addr).await;
    peer.send(upgrade(path, headers)).await.expect("the service reads");
    peer.expect_upgrade().await;
    peer
}

/// A socket on which nothing was said yet.
pub async fn tcp(addr: SocketAddr) -> RawPeer {
    RawPeer::over(within("a TCP connection", TcpStream::connect(addr)).await.expect("the service accepts"))
}

/// The request that opens a WebSocket.
pub fn upgrade(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}
