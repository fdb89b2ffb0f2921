//! The same bytes to the reference and to ours, and the same answers back.
//!
//! An answer is the sequence of hub messages, byte for byte, then the close frame and the end of the stream. What a
//! server draws for itself is masked, pings are left out, and where frames begin and end is not compared, only that every
//! frame holds whole messages. Where no order is promised, messages are sorted by invocation id.

use crate::support::guard_for;
use crate::support::hub::{Client, Message, PROTOCOLS, Protocol, Splitter, encode, record};
use crate::support::mask::Mask;
use crate::support::rng::Rng;
use crate::support::server::TestServer;
use crate::support::ws::{CLOSE, Frame, PING, PONG, RawPeer, Received, TEXT};
use crate::{accepted, scripts};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// What one client sends, and when.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) hub: &'static str,
    pub(crate) protocol: Protocol,
    /// Shake hands and await `welcome` first; what comes until then is not compared.
    pub(crate) shaken: bool,
    pub(crate) steps: Vec<Step>,
    /// How the connection is to end.
    pub(crate) end: End,
    /// Whether the order between different invocations is promised.
    pub(crate) ordered: bool,
}

/// A step of a script.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Bytes in one frame of the protocol's kind. [`OWN_ID`] in them becomes the connection's id.
    Message(Vec<u8>),
    /// Bytes on the socket as they are.
    Wire(Vec<u8>),
    /// Reads until this many more messages have come.
    Await(usize),
    /// Reads until the server asks for a client result, and answers with these members.
    Answer(Value),
}

/// Who ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The client, after an echo has shown that all before it was dealt with.
    Client,
    /// The server.
    Server,
}

/// Stands in a script for the connection's own id, which has as many characters.
pub(crate) const OWN_ID: &str = "@@@@@@@@@@@@@@@@@@@@@@";

/// How long a silence is waited for, where messages are due.
const SILENCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn answers_are_those_of_the_reference_with_detailed_errors() {
    guard_for(Duration::from_secs(120), async {
        let flags = &["--detailed", "true"];
        let what = "answers compared with the reference, detailed errors";
        let Some(reference) = TestServer::reference(what, flags) else { return };
        let Some(ours) = TestServer::ours_detailed() else { return };
        compare_all(&reference, &ours, true).await;
    })
    .await;
}

#[tokio::test]
async fn answers_are_those_of_the_reference_without_detailed_errors() {
    guard_for(Duration::from_secs(120), async {
        let what = "answers compared with the reference, no detailed errors";
        let Some(reference) = TestServer::reference(what, &[]) else { return };
        compare_all(&reference, &TestServer::ours(), false).await;
    })
    .await;
}

/// Splits everything a client says at random places: between writes, frames and fragments.
#[tokio::test]
async fn answers_do_not_depend_on_where_bytes_are_split() {
    guard_for(Duration::from_secs(60), async {
        let Some(reference) = TestServer::reference("random splits compared with the reference", &[]) else { return };
        let ours = TestServer::ours();
        let mut rng = Rng::announced("answers_do_not_depend_on_where_bytes_are_split");
        let mut scripts = Vec::new();
        for round in 0..12 {
            for protocol in PROTOCOLS {
                scripts.push(split_at_random(&mut rng, protocol, round));
            }
        }
        let differences = differences(&reference, &ours, &scripts, false).await;
        assert!(differences.is_empty(), "{differences}");
    })
    .await;
}

/// Whatever the accepted differences, both say what the specification says for a few whole conversations.
#[tokio::test]
async fn the_transcripts_of_the_specification_are_spoken() {
    guard_for(Duration::from_secs(60), async {
        let server = TestServer::ours();
        let script = Script {
            shaken: false,
            ..Script::json(
                "the specification's transcript",
                &[
                    r#"{"protocol":"json","version":1}"#,
                    r#"{"type":6}"#,
                    r#"{"type":1,"invocationId":"1","target":"Crash","arguments":[]}"#,
                    r#"{"type":1,"invocationId":"2","target":"Nope","arguments":[]}"#,
                    r#"{"type":1,"target":"Nope","arguments":[]}"#,
                    r#"{"type":1,"invocationId":"3","target":"Nothing","arguments":[]}"#,
                    r#"{"type":4,"invocationId":"4","target":"Counter","arguments":[2,0]}"#,
                ],
            )
            .awaiting(8)
        };
        let expected = [
            r#"text {}"#,
            r#"text {"type":1,"target":"welcome","arguments":["<id1>"]}"#,
            r#"text {"type":3,"invocationId":"1","error":"An unexpected error occurred invoking 'Crash' on the server."}"#,
            r#"text {"type":3,"invocationId":"2","error":"Failed to invoke 'Nope' due to an error on the server. HubException: Method does not exist."}"#,
            r#"text {"type":3,"invocationId":"3","result":null}"#,
            r#"text {"type":2,"invocationId":"4","item":0}"#,
            r#"text {"type":2,"invocationId":"4","item":1}"#,
            r#"text {"type":3,"invocationId":"4"}"#,
            r#"text {"type":3,"invocationId":"end","result":"end"}"#,
            "close 1000 ''",
            "end",
        ];
        assert_eq!(run(&server, &script, false, SILENCE).await, expected);
    })
    .await;
}

async fn compare_all(reference: &TestServer, ours: &TestServer, detailed: bool) {
    let scripts = scripts::all();
    let mut names: Vec<&str> = scripts.iter().map(|script| script.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        panic!("two scripts are called {}", pair[0]);
    }
    for accepted in accepted::ACCEPTED {
        assert!(names.contains(&accepted.script), "no script is called {}", accepted.script);
    }
    let differences = differences(reference, ours, &scripts, detailed).await;
    assert!(differences.is_empty(), "{differences}");
}

/// Runs scripts on both, a few at a time, and describes each difference that is not accepted.
async fn differences(reference: &TestServer, ours: &TestServer, scripts: &[Script], detailed: bool) -> String {
    futures_util::stream::iter(scripts.iter().enumerate())
        .map(|(index, script)| async move {
            // Both ways to connect lead to the same hub.
            let negotiated = index % 2 == 0;
            let accepted = accepted::ACCEPTED.iter().find(|accepted| accepted.script == script.name);
            let reference_patience = if accepted.is_some() { Duration::from_secs(1) } else { SILENCE };
            let (theirs, own) = tokio::join!(
                run(reference, script, negotiated, reference_patience),
                run(ours, script, negotiated, SILENCE)
            );
            let wanted: Vec<String> = match accepted {
                Some(accepted) => accepted.ours(detailed),
                None => theirs.iter().map(|line| accepted::without_foreign_words(line)).collect(),
            };
            describe(script, &theirs, &own, &wanted, accepted.map(|accepted| accepted.reason))
        })
        .buffered(6)
        .collect::<String>()
        .await
}

fn describe(script: &Script, theirs: &[String], own: &[String], wanted: &[String], reason: Option<&str>) -> String {
    if std::env::var_os("HUBWIRE_SHOW").is_some() {
        println!("== {}\n   {}", script.name, theirs.join("\n   "));
    }
    let same = own.len() == wanted.len() && own.iter().zip(wanted).all(|(line, want)| matches(line, want));
    // Without ours in its place, what is accepted cannot be judged.
    if same || reason.is_some() && std::env::var_os("HUBWIRE_TEST_URL").is_some() {
        return String::new();
    }
    let mut text = format!("\n== {}\n", script.name);
    for line in theirs {
        let _ = writeln!(text, "   reference  {line}");
    }
    if let Some(reason) = reason {
        let _ = writeln!(text, "   accepted because {reason}");
        for line in wanted {
            let _ = writeln!(text, "   wanted     {line}");
        }
    }
    for line in own {
        let _ = writeln!(text, "   ours       {line}");
    }
    text
}

/// A wanted line may end in `…`, and then only its beginning counts.
fn matches(line: &str, wanted: &str) -> bool {
    match wanted.strip_suffix('…') {
        Some(beginning) => line.starts_with(beginning),
        None => line == wanted,
    }
}

/// Plays a script and writes down what came.
async fn run(server: &TestServer, script: &Script, negotiated: bool, patience: Duration) -> Vec<String> {
    let peer = match negotiated {
        true => RawPeer::negotiated(server, script.hub).await.0,
        false => RawPeer::open(server, script.hub).await,
    };
    let mut player = Player {
        id: OWN_ID.to_owned(),
        splitter: Splitter::new(script.protocol),
        protocol: script.protocol,
        peer,
        heard: Vec::new(),
        asked: None,
        ended: None,
        leaving: false,
        patience,
    };
    if script.shaken {
        player.shake_hands().await;
    }
    for step in &script.steps {
        player.play(step).await;
    }
    if script.end == End::Client {
        player.settle().await;
        player.leaving = true;
        let _ = player.peer.frame(&Frame::close(1000, "")).await;
    }
    while player.hear().await {}
    player.transcript(script.ordered)
}

struct Player {
    peer: RawPeer,
    protocol: Protocol,
    splitter: Splitter,
    id: String,
    heard: Vec<Message>,
    asked: Option<String>,
    ended: Option<Vec<String>>,
    /// What is under way when the client closes may come or be dropped.
    leaving: bool,
    patience: Duration,
}

impl Player {
    async fn shake_hands(&mut self) {
        self.message(self.protocol.handshake()).await;
        while self.heard.len() < 2 && self.hear().await {}
        let welcome = self.heard.get(1).unwrap_or_else(|| panic!("no welcome: {:?}", self.heard));
        self.id = welcome.arguments()[0].as_str().expect("welcome tells the id").to_owned();
        self.heard.clear();
    }

    async fn play(&mut self, step: &Step) {
        match step {
            Step::Message(bytes) => self.message(with_id(bytes, &self.id)).await,
            // The server may have ended the connection already, which the transcript shows.
            Step::Wire(bytes) => drop(self.peer.send(with_id(bytes, &self.id)).await),
            Step::Await(count) => {
                let due = self.heard.len() + count;
                while self.heard.len() < due && self.hear().await {}
            }
            Step::Answer(members) => {
                while self.asked.is_none() && self.hear().await {}
                let mut answer = json!({"type": 3, "invocationId": self.asked.take()});
                for (name, value) in members.as_object().expect("members") {
                    answer[name] = value.clone();
                }
                self.message(encode(self.protocol, &answer)).await;
            }
        }
    }

    async fn settle(&mut self) {
        let call = json!({"type": 1, "invocationId": "end", "target": "Echo", "arguments": ["end"]});
        self.message(encode(self.protocol, &call)).await;
        let settled = |heard: &[Message]| heard.iter().any(|m| m.kind() == 3 && m.id() == "end");
        while !settled(&self.heard) && self.hear().await {}
    }

    async fn message(&mut self, bytes: Vec<u8>) {
        let _ = self.peer.frame(&self.protocol.frame(bytes)).await;
    }

    /// Takes in one frame; false when there will be no more, or none has come for long.
    async fn hear(&mut self) -> bool {
        if self.ended.is_some() {
            return false;
        }
        match tokio::time::timeout(self.patience, self.peer.recv_patiently()).await {
            Ok(Received::Frame(frame)) if frame.opcode == CLOSE => {
                let reason = String::from_utf8_lossy(frame.payload.get(2..).unwrap_or_default()).into_owned();
                let close = format!("close {} '{reason}'", frame.code());
                let end = match self.peer.recv().await {
                    Received::Frame(frame) => format!("a frame behind the close frame: {frame:?}"),
                    Received::Eof | Received::Reset => "end".to_owned(),
                };
                self.ended = Some(vec![close, end]);
            }
            Ok(Received::Frame(frame)) if matches!(frame.opcode, PING | PONG) => {}
            Ok(Received::Frame(frame)) => {
                for message in self.splitter.split(&frame) {
                    if message.kind() == 1 && !message.id().is_empty() {
                        self.asked = Some(message.id().to_owned());
                    }
                    if message.kind() != 6 && !self.leaving {
                        self.heard.push(message);
                    }
                }
            }
            Ok(Received::Eof | Received::Reset) => self.ended = Some(vec!["end".to_owned()]),
            Err(_) => self.ended = Some(vec!["silence".to_owned()]),
        }
        self.ended.is_none()
    }

    fn transcript(mut self, ordered: bool) -> Vec<String> {
        if !ordered {
            self.heard.sort_by(|a, b| a.id().cmp(b.id()));
        }
        let mut mask = Mask::default();
        let mut lines: Vec<String> = self.heard.iter().map(|message| line(&mut mask, message)).collect();
        lines.extend(self.ended.unwrap_or_default());
        lines
    }
}

/// A message with the kind of its frame. JSON escapes that need not be are undone; MessagePack is shown by value.
fn line(mask: &mut Mask, message: &Message) -> String {
    let kind = if message.opcode == TEXT { "text" } else { "binary" };
    let said = match &message.mp {
        Some(mp) => mp.to_string(),
        None => without_needless_escapes(&message.text()),
    };
    format!("{kind} {}", mask.text(&said))
}

/// The reference escapes what lies beyond 16 bits, and more; ours does not have to, and JSON means the same by it.
fn without_needless_escapes(text: &str) -> String {
    let mut units: Vec<u16> = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let escape = rest.strip_prefix("\\u").and_then(|rest| rest.get(..4));
        let unit = escape.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        match unit {
            Some(unit) if unit >= 0x20 && unit != 0x22 && unit != 0x5c => {
                units.push(unit);
                rest = &rest[6..];
            }
            Some(unit) => {
                units.extend(format!("\\u{unit:04x}").encode_utf16());
                rest = &rest[6..];
            }
            None => {
                // A backslash and what it escapes stay together, so that no escaped backslash begins an escape.
                let length = if first == '\\' { 2 } else { first.len_utf8() };
                units.extend(rest[..length].encode_utf16());
                rest = &rest[length..];
            }
        }
    }
    String::from_utf16_lossy(&units)
}

fn with_id(bytes: &[u8], id: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> = bytes
        .windows(OWN_ID.len())
        .enumerate()
        .filter(|(_, window)| *window == OWN_ID.as_bytes())
        .map(|(at, _)| at)
        .collect();
    for at in places {
        bytes[at..at + OWN_ID.len()].copy_from_slice(id.as_bytes());
    }
    bytes
}

impl Script {
    /// A script behind the handshake: each message in a frame of its own.
    pub(crate) fn new(name: impl Into<String>, protocol: Protocol, messages: Vec<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            hub: "/conformance",
            protocol,
            shaken: true,
            steps: messages.into_iter().map(Step::Message).collect(),
            end: End::Client,
            ordered: true,
        }
    }

    /// A JSON script of texts.
    pub(crate) fn json(name: impl Into<String>, texts: &[&str]) -> Self {
        Self::new(name, Protocol::Json, texts.iter().map(|text| record(text)).collect())
    }

    /// A script of messages given in the shape of the JSON encoding, one in each protocol.
    pub(crate) fn both(name: &str, messages: &[Value]) -> [Self; 2] {
        PROTOCOLS.map(|protocol| {
            let messages = messages.iter().map(|message| encode(protocol, message)).collect();
            Self::new(format!("{name} ({})", protocol.name()), protocol, messages)
        })
    }

    /// Awaits this many messages at this point.
    pub(crate) fn awaiting(mut self, messages: usize) -> Self {
        self.steps.push(Step::Await(messages));
        self
    }

    /// Then does this.
    pub(crate) fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Then sends this message, given in the shape of the JSON encoding.
    pub(crate) fn then_say(self, message: Value) -> Self {
        let bytes = encode(self.protocol, &message);
        self.then(Step::Message(bytes))
    }

    /// The server ends this one.
    pub(crate) fn dies(mut self) -> Self {
        self.end = End::Server;
        self
    }

    /// No order is promised between its invocations.
    pub(crate) fn unordered(mut self) -> Self {
        self.ordered = false;
        self
    }

    /// On another hub.
    pub(crate) fn at(mut self, hub: &'static str) -> Self {
        self.hub = hub;
        self
    }

    /// Begins before the handshake.
    pub(crate) fn unshaken(mut self) -> Self {
        self.shaken = false;
        self
    }
}

/// A long conversation whose bytes are cut into random fragments, random frames and random writes.
fn split_at_random(rng: &mut Rng, protocol: Protocol, round: usize) -> Script {
    let mut bytes = protocol.handshake();
    for call in 0..20 {
        let text = "ä☃😀x".repeat(rng.below(40));
        let message = match rng.below(5) {
            0 => json!({"type": 1, "invocationId": call.to_string(), "target": "Echo", "arguments": [text]}),
            1 => json!({"type": 1, "invocationId": call.to_string(), "target": "add", "arguments": [call, 2]}),
            2 => json!({"type": 1, "target": "ToCaller", "arguments": [call]}),
            3 => json!({"type": 1, "invocationId": call.to_string(), "target": "Order", "arguments": [call]}),
            _ => json!({"type": 6}),
        };
        bytes.extend(encode(protocol, &message));
    }
    let mut wire = Vec::new();
    let mut inside = false;
    let pieces = rng.below(60) + 1;
    let pieces = rng.split(&bytes, pieces);
    for (index, piece) in pieces.iter().enumerate() {
        let opcode = if inside { 0 } else { protocol.frame([]).opcode };
        // A text message may not end inside a character, so text only ends at the end.
        let last = index + 1 == pieces.len();
        let fin = last || protocol == Protocol::MessagePack && rng.below(2) == 0;
        wire.extend(Frame { fin, ..Frame::new(opcode, *piece) }.encode());
        if rng.below(4) == 0 {
            wire.extend(Frame::new(PING, rng.bytes(3)).encode());
        }
        inside = !fin;
    }
    let writes = rng.below(80) + 1;
    let steps = rng.split(&wire, writes).into_iter().map(|piece| Step::Wire(piece.to_vec())).collect();
    let name = format!("split at random, {} {round}", protocol.name());
    Script { steps, shaken: false, ..Script::new(name, protocol, vec![]) }
}

/// Requests that never become a WebSocket, compared by status, body and the headers that clients look at.
#[tokio::test]
async fn http_answers_are_those_of_the_reference() {
    guard_for(Duration::from_secs(60), async {
        let Some(reference) = TestServer::reference("HTTP answers compared with the reference", &[]) else { return };
        let ours = TestServer::ours();
        let mut report = String::new();
        for (name, request) in scripts::requests() {
            let theirs = http_answer(&reference, &request).await;
            let own = http_answer(&ours, &request).await;
            if std::env::var_os("HUBWIRE_SHOW").is_some() {
                println!("== {name}\n   {theirs:?}");
            }
            let is_accepted = accepted::ACCEPTED_ANSWERS.iter().any(|(known, _)| *known == name);
            if theirs != own && !is_accepted {
                let _ = write!(report, "\n== {name}\n   reference  {theirs:?}\n   ours       {own:?}\n");
            }
        }
        assert!(report.is_empty(), "{report}");
    })
    .await;
}

async fn http_answer(server: &TestServer, request: &str) -> Vec<String> {
    // A connection that is alive on a WebSocket, for the requests that need its token.
    let token = match request.contains("$TOKEN") {
        true => Some(token_in_use(server).await),
        false => None,
    };
    let request = request.replace("$TOKEN", token.as_ref().map_or("", |(_, token)| token));
    let mut peer = RawPeer::tcp(server).await;
    peer.send(&request).await.expect("the server reads");
    let Some(response) = peer.response().await else { return vec!["no answer".to_owned()] };
    let mut mask = Mask::default();
    let mut lines = vec![response.status.to_string(), mask.text(&response.text())];
    for name in ["content-type", "cache-control", "pragma", "expires", "sec-websocket-accept", "sec-websocket-protocol"]
    {
        if let Some(value) = response.header(name) {
            lines.push(format!("{name}: {value}"));
        }
    }
    lines
}

async fn token_in_use(server: &TestServer) -> (Client, String) {
    let answer = crate::support::http::negotiate(server, "/conformance", "?negotiateVersion=1").await;
    let token = answer["connectionToken"].as_str().expect("a token").to_owned();
    let peer = RawPeer::open(server, &format!("/conformance?id={token}")).await;
    (Client::over(peer, Protocol::Json).await, token)
}
