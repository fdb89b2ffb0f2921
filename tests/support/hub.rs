//! A hub client on a raw peer, JSON or MessagePack, that shows every message as it came.

use super::msgpack::{self, Mp, framed};
use super::server::TestServer;
use super::ws::{BINARY, CLOSE, Frame, RawPeer, Received, TEXT};
use super::{PATIENCE, within};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;

/// The record separator that ends a JSON message.
pub const SEPARATOR: u8 = 0x1e;

/// The two encodings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Json,
    MessagePack,
}

/// Both, for tests that run in each.
pub const PROTOCOLS: [Protocol; 2] = [Protocol::Json, Protocol::MessagePack];

impl Protocol {
    /// The name in the handshake.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::MessagePack => "messagepack",
        }
    }

    /// The handshake request.
    pub fn handshake(self) -> Vec<u8> {
        record(&format!(r#"{{"protocol":"{}","version":1}}"#, self.name()))
    }

    /// The frame that carries such bytes.
    pub fn frame(self, bytes: impl Into<Vec<u8>>) -> Frame {
        Frame::new(self.opcode(), bytes)
    }

    fn opcode(self) -> u8 {
        match self {
            Self::Json => TEXT,
            Self::MessagePack => BINARY,
        }
    }
}

/// One hub message as it came.
#[derive(Clone, PartialEq)]
pub struct Message {
    /// The opcode of the frame.
    pub opcode: u8,
    /// Its bytes, without separator or length prefix.
    pub raw: Vec<u8>,
    /// What it says, in the shape of the JSON encoding whichever it came in.
    pub json: Value,
    /// The MessagePack value, if it came so.
    pub mp: Option<Mp>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.mp {
            Some(mp) => write!(f, "{mp}"),
            None => f.write_str(&self.text()),
        }
    }
}

impl Message {
    /// The type number; 0 for the handshake response, which has none.
    pub fn kind(&self) -> u64 {
        self.json["type"].as_u64().unwrap_or(0)
    }

    /// The invocation id, or an empty text.
    pub fn id(&self) -> &str {
        self.json["invocationId"].as_str().unwrap_or("")
    }

    /// The client method, or an empty text.
    pub fn target(&self) -> &str {
        self.json["target"].as_str().unwrap_or("")
    }

    /// The error, or an empty text.
    pub fn error(&self) -> &str {
        self.json["error"].as_str().unwrap_or("")
    }

    /// The arguments of an invocation.
    pub fn arguments(&self) -> &Value {
        &self.json["arguments"]
    }

    /// The raw bytes as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// The third argument and so on of a MessagePack message: item `index` of the outer array.
    pub fn item(&self, index: usize) -> &Mp {
        match &self.mp {
            Some(Mp::Array(items)) => &items[index],
            other => panic!("not an array: {other:?}"),
        }
    }
}

/// What a connection says next.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Message(Message),
    /// A WebSocket close frame.
    Closed(u16, String),
    /// The end of the stream.
    Eof,
    /// A reset, or an end in the middle of a frame.
    Reset,
}

/// Splits frames into hub messages, insisting that every frame holds whole ones.
#[derive(Debug)]
pub struct Splitter {
    protocol: Protocol,
    shaken: bool,
}

impl Splitter {
    /// Begins before the handshake response.
    pub fn new(protocol: Protocol) -> Self {
        Self { protocol, shaken: false }
    }

    /// Begins behind the handshake response, or where none comes.
    pub fn behind_handshake(protocol: Protocol) -> Self {
        Self { protocol, shaken: true }
    }

    /// The messages of a frame.
    pub fn split(&mut self, frame: &Frame) -> Vec<Message> {
        let mut rest = frame.payload.as_slice();
        let mut messages = Vec::new();
        while !rest.is_empty() {
            let as_json = !self.shaken || self.protocol == Protocol::Json;
            self.shaken = true;
            let raw = if as_json {
                let end = rest.iter().position(|byte| *byte == SEPARATOR);
                let end = end.unwrap_or_else(|| panic!("a frame that ends inside a message: {frame:?}"));
                let raw = &rest[..end];
                rest = &rest[end + 1..];
                raw
            } else {
                msgpack::unframe(&mut rest).unwrap_or_else(|| panic!("a frame that ends inside a message: {frame:?}"))
            };
            messages.push(message(frame.opcode, raw, as_json));
        }
        messages
    }
}

/// A client of a hub.
#[derive(Debug)]
pub struct Client {
    /// The socket, for whatever the client should not do.
    pub peer: RawPeer,
    /// The encoding.
    pub protocol: Protocol,
    /// The connection id, as the hub's `welcome` told it.
    pub id: String,
    splitter: Splitter,
    queue: VecDeque<Message>,
    end: Option<Event>,
    calls: u32,
}

impl Client {
    /// Connects without negotiating, shakes hands, and awaits `welcome`.
    pub async fn connect(server: &TestServer, hub: &str, protocol: Protocol) -> Self {
        let peer = RawPeer::open(server, hub).await;
        Self::over(peer, protocol).await
    }

    /// A JSON client of `/conformance`.
    pub async fn json(server: &TestServer) -> Self {
        Self::connect(server, "/conformance", Protocol::Json).await
    }

    /// A MessagePack client of `/conformance`.
    pub async fn messagepack(server: &TestServer) -> Self {
        Self::connect(server, "/conformance", Protocol::MessagePack).await
    }

    /// Shakes hands on an open WebSocket and awaits `welcome`.
    pub async fn over(peer: RawPeer, protocol: Protocol) -> Self {
        let mut client = Self::silent(peer, protocol);
        client.send(protocol.handshake()).await;
        client.meet().await;
        client
    }

    /// A client that has sent nothing yet, not even the handshake.
    pub fn silent(peer: RawPeer, protocol: Protocol) -> Self {
        let splitter = Splitter::new(protocol);
        Self { peer, protocol, id: String::new(), splitter, queue: VecDeque::new(), end: None, calls: 0 }
    }

    /// A client that is back on a new socket, where no handshake comes.
    pub fn resumed(peer: RawPeer, protocol: Protocol) -> Self {
        Self { splitter: Splitter::behind_handshake(protocol), ..Self::silent(peer, protocol) }
    }

    /// Awaits the handshake response and `welcome`, whose id it keeps.
    pub async fn meet(&mut self) {
        let response = self.message().await;
        assert_eq!(response.raw, b"{}", "the handshake response: {response:?}");
        let welcome = self.target("welcome").await;
        self.id = welcome.arguments()[0].as_str().expect("welcome tells the id").to_owned();
    }

    /// Sends bytes in a frame of the protocol's kind. They may not arrive if the server has ended the connection.
    pub async fn send(&mut self, bytes: impl Into<Vec<u8>>) {
        let frame = self.protocol.frame(bytes);
        let _ = self.peer.frame(&frame).await;
    }

    /// Sends a message given in the shape of the JSON encoding.
    pub async fn say(&mut self, message: Value) {
        self.send(encode(self.protocol, &message)).await;
    }

    /// Begins a call and gives its id, `c1`, `c2` and so on.
    pub async fn start(&mut self, target: &str, arguments: Value) -> String {
        let id = self.next_id();
        self.say(json!({"type": 1, "invocationId": id, "target": target, "arguments": arguments})).await;
        id
    }

    /// Begins a call with these MessagePack arguments.
    pub async fn start_mp(&mut self, target: &str, arguments: Vec<Mp>) -> String {
        let id = self.next_id();
        self.send(invocation_mp(1, &id, target, arguments, &[])).await;
        id
    }

    /// Calls a method and awaits its completion; other messages wait in the queue meanwhile.
    pub async fn call(&mut self, target: &str, arguments: Value) -> Result<Value, String> {
        let id = self.start(target, arguments).await;
        self.outcome(&id).await
    }

    /// Calls with MessagePack arguments; the whole completion.
    pub async fn call_mp(&mut self, target: &str, arguments: Vec<Mp>) -> Message {
        let id = self.start_mp(target, arguments).await;
        self.completion(&id).await
    }

    /// The result or error with which a call ends.
    pub async fn outcome(&mut self, id: &str) -> Result<Value, String> {
        let completion = self.completion(id).await.json;
        match completion.get("error") {
            Some(error) => Err(error.as_str().expect("an error is text").to_owned()),
            None => Ok(completion.get("result").cloned().unwrap_or(Value::Null)),
        }
    }

    /// The completion of a call.
    pub async fn completion(&mut self, id: &str) -> Message {
        self.first(&format!("the completion of {id}"), |m| m.kind() == 3 && m.id() == id).await
    }

    /// The items of a stream and its completion.
    pub async fn stream_end(&mut self, id: &str) -> (Vec<Value>, Message) {
        let mut items = Vec::new();
        loop {
            let next = self.first(&format!("the stream {id}"), |m| matches!(m.kind(), 2 | 3) && m.id() == id).await;
            match next.kind() {
                2 => items.push(next.json["item"].clone()),
                _ => return (items, next),
            }
        }
    }

    /// The next invocation of a client method.
    pub async fn target(&mut self, target: &str) -> Message {
        self.first(&format!("an invocation of {target}"), |m| m.kind() == 1 && m.target() == target).await
    }

    /// The next message that matches; those before it stay in the queue. Fails if the connection ends first.
    pub async fn first(&mut self, what: &str, matches: impl Fn(&Message) -> bool) -> Message {
        let mut at = 0;
        loop {
            while at < self.queue.len() {
                if matches(&self.queue[at]) {
                    return self.queue.remove(at).expect("it was there");
                }
                at += 1;
            }
            let filled = tokio::time::timeout(PATIENCE, self.fill()).await;
            match filled {
                Ok(true) => {}
                Ok(false) => panic!("the connection ended ({:?}) before {what}; got {:?}", self.end, self.texts()),
                Err(_) => panic!("waited {PATIENCE:?} in vain for {what}; got {:?}", self.texts()),
            }
        }
    }

    /// A message that has come already and matches.
    pub fn try_first(&mut self, matches: impl Fn(&Message) -> bool) -> Option<Message> {
        let at = self.queue.iter().position(matches)?;
        self.queue.remove(at)
    }

    /// The next message, of any kind but Ping. Fails if the connection ends.
    pub async fn message(&mut self) -> Message {
        self.first("any message", |m| m.kind() != 6).await
    }

    /// Whatever comes next: a message (pings too), the close frame, the end.
    pub async fn event(&mut self) -> Event {
        within("a message or the end", async {
            loop {
                if let Some(message) = self.queue.pop_front() {
                    return Event::Message(message);
                }
                if !self.fill().await {
                    return self.end.clone().expect("fill says why it cannot go on");
                }
            }
        })
        .await
    }

    /// Reads to the end: the messages that still came (no pings) and the code of the close frame, if there was one.
    pub async fn until_end(&mut self) -> (Vec<Message>, Option<u16>) {
        let mut messages = Vec::new();
        let mut code = None;
        loop {
            match self.event().await {
                Event::Message(message) if message.kind() == 6 => {}
                Event::Message(message) => messages.push(message),
                Event::Closed(close, _) => {
                    code = Some(close);
                    self.end = None;
                }
                Event::Eof | Event::Reset => return (messages, code),
            }
        }
    }

    /// Asserts that the connection works, by an echo, and gives what came before the answer (no pings).
    pub async fn settle(&mut self) -> Vec<Message> {
        let echo = self.call("Echo", json!(["settle"])).await;
        assert_eq!(echo, Ok(json!("settle")));
        self.queue.drain(..).filter(|message| message.kind() != 6).collect()
    }

    /// Leaves as a client does: Close, a close frame, and awaits the end.
    pub async fn leave(mut self) {
        self.say(json!({"type": 7})).await;
        let _ = self.peer.frame(&Frame::close(1000, "")).await;
        let _ = self.until_end().await;
    }

    fn next_id(&mut self) -> String {
        self.calls += 1;
        format!("c{}", self.calls)
    }

    /// Reads a frame into the queue; false once the connection ended.
    async fn fill(&mut self) -> bool {
        if self.end.is_some() {
            return false;
        }
        match self.peer.recv_patiently().await {
            Received::Frame(frame) if frame.opcode == CLOSE => {
                let reason = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default()).into_owned();
                self.end = Some(Event::Closed(frame.code(), reason));
                false
            }
            Received::Frame(frame) => {
                if matches!(frame.opcode, TEXT | BINARY) {
                    self.queue.extend(self.splitter.split(&frame));
                }
                true
            }
            Received::Eof => {
                self.end = Some(Event::Eof);
                false
            }
            Received::Reset => {
                self.end = Some(Event::Reset);
                false
            }
        }
    }

    fn texts(&self) -> Vec<String> {
        self.queue.iter().map(|message| message.json.to_string()).collect()
    }
}

/// A text and the record separator.
pub fn record(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[SEPARATOR]].concat()
}

/// A message given in the shape of the JSON encoding, framed for a protocol.
pub fn encode(protocol: Protocol, message: &Value) -> Vec<u8> {
    match protocol {
        Protocol::Json => record(&in_order(message)),
        Protocol::MessagePack => framed(&to_mp(message).encode()),
    }
}

/// A message as JSON, its members in the order in which clients write them.
pub fn in_order(message: &Value) -> String {
    const ORDER: [&str; 11] = [
        "type",
        "headers",
        "invocationId",
        "target",
        "arguments",
        "streamIds",
        "item",
        "error",
        "result",
        "allowReconnect",
        "sequenceId",
    ];
    let object = message.as_object().expect("a message is an object");
    assert!(object.keys().all(|key| ORDER.contains(&key.as_str())), "not a member of a message: {message}");
    let members: Vec<String> =
        ORDER.iter().filter_map(|key| object.get(*key).map(|value| format!("{}:{value}", json!(key)))).collect();
    format!("{{{}}}", members.join(","))
}

/// An invocation (type 1 or 4) with MessagePack arguments, framed. An empty id becomes nil.
pub fn invocation_mp(kind: u8, id: &str, target: &str, arguments: Vec<Mp>, streams: &[&str]) -> Vec<u8> {
    let id = if id.is_empty() { Mp::Nil } else { Mp::str(id) };
    let streams = Mp::Array(streams.iter().map(|stream| Mp::str(stream)).collect());
    let items = vec![Mp::Int(kind.into()), Mp::Map(vec![]), id, Mp::str(target), Mp::Array(arguments), streams];
    framed(&Mp::Array(items).encode())
}

/// Reads a message, which a server must have written correctly.
fn message(opcode: u8, raw: &[u8], as_json: bool) -> Message {
    if as_json {
        let json = serde_json::from_slice(raw).unwrap_or_else(|_| {
            // Beyond what serde_json holds (nesting, numbers): the raw bytes are what such a test looks at.
            json!({"type": 0, "unreadable": String::from_utf8_lossy(raw)})
        });
        return Message { opcode, raw: raw.to_vec(), json, mp: None };
    }
    let mut rest = raw;
    let mp = Mp::decode(&mut rest).unwrap_or_else(|| panic!("not MessagePack: {}", msgpack::hex(raw)));
    assert!(rest.is_empty(), "bytes behind a message: {}", msgpack::hex(raw));
    Message { opcode, raw: raw.to_vec(), json: from_mp(&mp), mp: Some(mp) }
}

/// A MessagePack hub message in the shape of the JSON encoding.
fn from_mp(mp: &Mp) -> Value {
    let Mp::Array(items) = mp else { panic!("a message is an array: {mp:?}") };
    let Some(Mp::Int(kind)) = items.first() else { panic!("a message begins with its type: {mp:?}") };
    let mut object = Map::new();
    object.insert("type".into(), json!(*kind as u64));
    let names: &[&str] = match kind {
        1 => &["", "invocationId", "target", "arguments", ""],
        2 => &["", "invocationId", "item"],
        3 => &["", "invocationId", ""],
        7 => &["error", "allowReconnect"],
        8 | 9 => &["sequenceId"],
        _ => &[],
    };
    for (name, item) in names.iter().zip(&items[1..]) {
        if !name.is_empty() && (*item != Mp::Nil || *name == "item") {
            object.insert((*name).into(), item.to_json());
        }
    }
    if *kind == 3 {
        match items[3] {
            Mp::Int(1) => object.insert("error".into(), items[4].to_json()),
            Mp::Int(3) => object.insert("result".into(), items[4].to_json()),
            _ => None,
        };
    }
    Value::Object(object)
}

/// A message in the shape of the JSON encoding as MessagePack.
fn to_mp(message: &Value) -> Mp {
    let field = |name: &str| message.get(name).map_or(Mp::Nil, Mp::from_json);
    let list = |name: &str| message.get(name).map_or(Mp::Array(vec![]), Mp::from_json);
    let kind = message["type"].as_i64().expect("a type");
    let headers = Mp::Map(vec![]);
    let mut items = vec![Mp::Int(kind.into())];
    match kind {
        1 | 4 => {
            let streams = list("streamIds");
            items.extend([headers, field("invocationId"), field("target"), list("arguments"), streams]);
        }
        2 => items.extend([headers, field("invocationId"), field("item")]),
        3 => {
            items.extend([headers, field("invocationId")]);
            match (message.get("error"), message.get("result")) {
                (Some(error), _) => items.extend([Mp::Int(1), Mp::from_json(error)]),
                (None, Some(result)) => items.extend([Mp::Int(3), Mp::from_json(result)]),
                (None, None) => items.push(Mp::Int(2)),
            }
        }
        5 => items.extend([headers, field("invocationId")]),
        7 => items.extend([field("error"), Mp::Bool(message["allowReconnect"] == true)]),
        8 | 9 => items.push(field("sequenceId")),
        _ => {}
    }
    Mp::Array(items)
}
