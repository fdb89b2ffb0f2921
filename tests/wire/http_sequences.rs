//! Sequences of HTTP requests, in order and out of order, to the reference and to ours: status, headers and bodies are compared.
//!
//! What a server draws for itself is masked. How messages are spread over polls and events is not compared, only that each holds whole
//! ones; nor is whether a body is chunked. [`ACCEPTED`] has the differences that are on purpose.

use crate::support::guard_for;
use crate::support::http::{self, Response};
use crate::support::mask::Mask;
use crate::support::server::TestServer;
use crate::support::ws::{RawPeer, upgrade_request};
use futures_util::StreamExt;
use std::fmt::Write;
use std::time::Duration;

/// A sequence of steps on one negotiated connection. In a text `^` stands for the record separator, and the path of a request may hold
/// `T` for `?id=` and the token.
///
/// | step | does |
/// | --- | --- |
/// | `poll`, `delete`, `put`, `head`, `options` | makes a request, and notes the answer |
/// | `post …` | posts a text |
/// | `upgrade`, `events` | opens that, and notes the head of the answer; keeps the connection if it is one |
/// | `fetch N` | polls until there are N messages, and notes them |
/// | `hear N` | reads the event stream until there are N messages, and notes them |
/// | `end` | reads the event stream to its end, and notes what still came |
/// | `begin` | begins a poll and sees that it has arrived; `newer` begins another; `answer` notes the answer of the oldest one |
/// | `broken …` | posts a text as the beginning of a longer body, and breaks off |
/// | `large N` | posts N bytes of the record separator |
/// | `METHOD PATH` | makes any request |
struct Sequence {
    name: &'static str,
    hub: &'static str,
    steps: &'static [&'static str],
}

const HS: &str = r#"post {"protocol":"json","version":1}^"#;
const ECHO: &str = r#"post {"type":1,"invocationId":"1","target":"Echo","arguments":["x"]}^"#;
const ABORT: &str = r#"post {"type":1,"target":"Abort","arguments":[]}^"#;
const CLOSE: &str = r#"post {"type":7}^"#;

const fn on(name: &'static str, steps: &'static [&'static str]) -> Sequence {
    Sequence { name, hub: "/conformance", steps }
}

const SEQUENCES: &[Sequence] = &[
    on("a usual life", &["poll", HS, "fetch 2", ECHO, "fetch 1", ECHO, ECHO, "fetch 2", "delete"]),
    on("a POST before the first poll", &[HS, ECHO, "poll", "fetch 3"]),
    on("a POST before the event stream", &[HS, "events", "hear 2"]),
    on("DELETE before anything", &["delete", "poll", HS, "fetch 2"]),
    on(
        "a poll, then other transports",
        &["poll", "events", "upgrade", HS, "fetch 2", "events", "upgrade", ECHO, "fetch 1"],
    ),
    on(
        "events, then other transports",
        &["events", "poll", "upgrade", "events", "delete", HS, "hear 2", "poll", "delete"],
    ),
    on("a WebSocket, then other transports", &["upgrade", "poll", "events", "upgrade", "delete", HS]),
    on("a handshake that is none", &["poll", "post x^", "fetch 1", "poll", "poll", "post x^", "delete"]),
    on(
        "a handshake that is none, on events",
        &["events", "post x^", "hear 1", "end", "post x^", "events", "poll", "delete"],
    ),
    on("a handshake of version 3", &["poll", r#"post {"protocol":"json","version":3}^"#, "fetch 1", "poll", "poll"]),
    on("an unknown protocol", &["events", r#"post {"protocol":"xml","version":1}^"#, "hear 1", "end"]),
    on("MessagePack on events", &["events", r#"post {"protocol":"messagepack","version":1}^"#, "hear 1", "end"]),
    on("the client says Close", &["poll", HS, "fetch 2", CLOSE, "fetch 1", "poll", "poll"]),
    on("the client says Close, on events", &["events", HS, "hear 2", CLOSE, "hear 1", "end", "events"]),
    on("the hub aborts", &["poll", HS, "fetch 2", ABORT, "fetch 1", "poll", "poll", "delete"]),
    on("the hub aborts, on events", &["events", HS, "hear 2", ABORT, "hear 1", "end", "post x"]),
    on("a message that is none", &["poll", HS, "fetch 2", "post {^", "fetch 1", "poll", "poll"]),
    on("a message that is none, on events", &["events", HS, "hear 2", "post {^", "hear 1", "end"]),
    on("an empty message", &["poll", HS, "fetch 2", "post ^", "fetch 1", "poll"]),
    on("replies, then Close, in one poll or two", &["poll", HS, "fetch 2", ECHO, CLOSE, "fetch 2", "poll", "poll"]),
    on(
        "a message in pieces",
        &[
            "poll",
            HS,
            "fetch 2",
            "post {\"type\":1,\"invocationId\":\"1\",",
            "post ",
            "post \"target\":\"Echo\",\"arguments\":[1]}",
            "post ^",
            "fetch 1",
        ],
    ),
    on(
        "several messages in one body",
        &[
            "poll",
            "post {\"protocol\":\"json\",\"version\":1}^{\"type\":6}^{\"type\":1,\"invocationId\":\"1\",\"target\":\"Add\",\"arguments\":[1,2]}^",
            "fetch 3",
        ],
    ),
    on("a newer poll", &["poll", HS, "fetch 2", "begin", "newer", "answer", ECHO, "answer", ECHO, "fetch 1"]),
    on("the end while a poll waits", &["poll", HS, "fetch 2", "begin", ABORT, "answer", "poll", "poll"]),
    on("DELETE while a poll waits", &["poll", HS, "fetch 2", "begin", "delete", "answer"]),
    on("methods that are none", &["poll", "put", "head", "options", HS, "fetch 2"]),
    on(
        "an id twice, in another case, and empty",
        &[
            "GET /conformanceT&id=x",
            "GET /conformance?ID=x",
            "GET /conformance?id=",
            "POST /conformance?id=",
            "DELETE /conformance?id=",
            "poll",
        ],
    ),
    on(
        "requests without an id",
        &["GET /conformance", "POST /conformance", "DELETE /conformance", "GET /conformance?x=1"],
    ),
    on(
        "ids of nobody",
        &[
            "GET /conformance?id=nobody",
            "POST /conformance?id=nobody",
            "DELETE /conformance?id=nobody",
            "GET /conformance?id=0123456789012345678901",
        ],
    ),
    on(
        "the other hub's connections",
        &["GET /conformance-smallT", "POST /conformance-smallT", "DELETE /conformance-smallT", "poll", HS, "fetch 2"],
    ),
    on("a slash behind the hub", &["GET /conformance/T", "POST /conformance/T", "DELETE /conformance/T"]),
    on("a body that breaks off", &["poll", HS, "fetch 2", r#"broken {"type":"#, ECHO, "fetch 1"]),
    on("a hundred separators", &["poll", HS, "fetch 2", "large 100", "fetch 1", "poll"]),
    on("separators instead of a handshake", &["poll", "large 100", "fetch 1", "poll", "poll"]),
    on("a message over the limit", &["poll", HS, "fetch 2", "spaces 40000", "fetch 1", "poll", "poll"]),
    on("a handshake over the limit", &["events", "spaces 40000", "hear 1", "end"]),
    Sequence { name: "no handshake", hub: "/conformance-small", steps: &["poll", "fetch 1", "poll", "poll"] },
    Sequence {
        name: "no handshake on events",
        hub: "/conformance-small",
        steps: &["events", "hear 1", "end", "events"],
    },
];

/// Where ours differs on purpose: the sequence, the lines of ours that are not the reference's, and why.
const ACCEPTED: &[(&str, &[&str], &str)] = &[
    (
        "DELETE while a poll waits",
        &["answer: 204 text/plain no-cache, no-store|no-cache|Thu, 01 Jan 1970 00:00:00 GMT"],
        "the reference answers the poll with 204 or with a Close, as it happens; who deletes wants no message",
    ),
    (
        "a body that breaks off",
        &["broken: 400"],
        "the reference answers a client that has closed its half of the connection by closing the other; ours says why",
    ),
    (
        "the other hub's connections",
        &[
            "GET: 404 text/plain no-cache, no-store|no-cache|Thu, 01 Jan 1970 00:00:00 GMT No Connection with that ID",
            "POST: 404 text/plain No Connection with that ID",
            "DELETE: 404 text/plain No Connection with that ID",
            "poll: 200 application/octet-stream no-cache, no-store|no-cache|Thu, 01 Jan 1970 00:00:00 GMT",
            "post: 200 text/plain",
            r#"fetch: {} {"type":1,"target":"welcome","arguments":["<id1>"]}"#,
        ],
        "the reference has one table of connections for all of its hubs; ours knows a token where it was given out",
    ),
];

#[tokio::test]
async fn sequences_of_requests_are_answered_as_the_reference_answers_them() {
    guard_for(Duration::from_secs(120), async {
        let Some(reference) = TestServer::reference("sequences of HTTP requests", &[]) else { return };
        let ours = TestServer::ours();
        let report: String = futures_util::stream::iter(SEQUENCES)
            .map(|sequence| compare(&reference, &ours, sequence))
            .buffered(6)
            .collect()
            .await;
        assert!(report.is_empty(), "{report}");
    })
    .await;
}

async fn compare(reference: &TestServer, ours: &TestServer, sequence: &Sequence) -> String {
    let (theirs, own) = tokio::join!(run(reference, sequence), run(ours, sequence));
    if std::env::var_os("HUBWIRE_SHOW").is_some() {
        println!("== {}\n   {}", sequence.name, theirs.join("\n   "));
    }
    let accepted = ACCEPTED.iter().find(|(name, ..)| *name == sequence.name);
    let is_same = match accepted {
        None => theirs == own,
        // every line of ours is the reference's or stands in the table
        Some((_, lines, _)) => own.iter().all(|line| lines.contains(&line.as_str()) || theirs.contains(line)),
    };
    if is_same {
        return String::new();
    }
    let mut text = format!("\n== {}\n", sequence.name);
    for line in theirs {
        let _ = writeln!(text, "   reference  {line}");
    }
    for line in own {
        let _ = writeln!(text, "   ours       {line}");
    }
    if let Some((.., reason)) = accepted {
        let _ = writeln!(text, "   accepted because {reason}");
    }
    text
}

async fn run(server: &TestServer, sequence: &Sequence) -> Vec<String> {
    let answer = http::negotiate(server, sequence.hub, "?negotiateVersion=1").await;
    let mut player = Player {
        server,
        hub: sequence.hub,
        token: answer["connectionToken"].as_str().expect("a token").to_owned(),
        mask: Mask::default(),
        begun: Vec::new(),
        events: None,
        kept: Vec::new(),
    };
    let mut lines = Vec::new();
    for step in sequence.steps {
        let said = tokio::time::timeout(Duration::from_secs(8), player.play(step)).await;
        let said = said.unwrap_or_else(|_| "silence".to_owned());
        let said = player.mask.text(&said);
        lines.push(format!("{}: {said}", step.split(' ').next().unwrap_or(step)));
    }
    lines
}

struct Player<'a> {
    server: &'a TestServer,
    hub: &'static str,
    token: String,
    mask: Mask,
    /// Polls whose answers have not been read.
    begun: Vec<RawPeer>,
    events: Option<Events>,
    /// What has to stay open.
    kept: Vec<RawPeer>,
}

impl Player<'_> {
    async fn play(&mut self, step: &str) -> String {
        let (word, rest) = step.split_once(' ').unwrap_or((step, ""));
        let body = rest.replace('^', "\u{1e}");
        match word {
            "poll" => self.ask("GET", b"").await,
            "delete" => self.ask("DELETE", b"").await,
            "put" => self.ask("PUT", b"").await,
            "options" => self.ask("OPTIONS", b"").await,
            "head" => {
                let mut peer = self.send("HEAD", "", b"").await;
                peer.response_head().await.map_or("no answer".to_owned(), |answer| answer.status.to_string())
            }
            "post" => self.ask("POST", body.as_bytes()).await,
            "large" => self.ask("POST", &vec![0x1e; rest.parse().expect("a number")]).await,
            "spaces" => self.ask("POST", &vec![b' '; rest.parse().expect("a number")]).await,
            "begin" => {
                // of two polls, the one that is sent away tells that the other has come
                let (mut one, mut other) = (self.send("GET", "", b"").await, self.send("GET", "", b"").await);
                let (away, waiting) = tokio::select! {
                    answer = one.response() => (answer, other),
                    answer = other.response() => (answer, one),
                };
                self.begun.push(waiting);
                away.map_or("no answer".to_owned(), |answer| line(&answer))
            }
            "newer" => {
                let poll = self.send("GET", "", b"").await;
                self.begun.push(poll);
                String::new()
            }
            "answer" => self.begun.remove(0).response().await.map_or("no answer".to_owned(), |answer| line(&answer)),
            "upgrade" => {
                let mut peer = RawPeer::tcp(self.server).await;
                peer.send(upgrade_request(&self.path())).await.expect("the server reads");
                let answer = peer.response_head().await.expect("an answer");
                self.kept.push(peer);
                answer.status.to_string()
            }
            "events" => {
                let mut peer = self.send("GET", "Accept: text/event-stream\r\n", b"").await;
                let answer = peer.response_head().await.expect("an answer");
                let said = line(&answer);
                if answer.status == 200 {
                    self.events = Some(Events { peer, text: Vec::new(), ended: false });
                }
                said
            }
            "fetch" => self.fetch(rest.parse().expect("a number")).await,
            "hear" => self.events.as_mut().expect("a stream").hear(rest.parse().expect("a number")).await,
            "end" => self.events.as_mut().expect("a stream").hear(usize::MAX).await,
            "broken" => {
                let mut peer = self.send("POST", "Content-Length: 500\r\n", body.as_bytes()).await;
                peer.shut_down().await;
                let answer = peer.response().await;
                answer.map_or("no connection".to_owned(), |answer| answer.status.to_string())
            }
            method => {
                let path = rest.replace('T', &format!("?id={}", self.token));
                line(&http::request(self.server, method, &path, "", b"").await)
            }
        }
    }

    async fn ask(&self, method: &str, body: &[u8]) -> String {
        line(&http::request(self.server, method, &self.path(), "", body).await)
    }

    async fn send(&self, method: &str, headers: &str, body: &[u8]) -> RawPeer {
        let mut peer = RawPeer::tcp(self.server).await;
        let head = format!("{method} {} HTTP/1.1\r\nHost: test\r\n{headers}\r\n", self.path());
        peer.send([head.as_bytes(), body].concat()).await.expect("the server reads");
        peer
    }

    /// Polls until there are so many messages, or something else than messages.
    async fn fetch(&self, count: usize) -> String {
        let mut body = Vec::new();
        while body.iter().filter(|byte| **byte == 0x1e).count() < count {
            let answer = http::request(self.server, "GET", &self.path(), "", b"").await;
            if answer.status != 200 {
                return format!("{} then {}", shown(&body), line(&answer));
            }
            assert!(answer.body.is_empty() || answer.body.ends_with(&[0x1e]), "whole messages: {answer:?}");
            body.extend(answer.body);
        }
        shown(&body)
    }

    fn path(&self) -> String {
        format!("{}?id={}", self.hub, self.token)
    }
}

/// An event stream, read as text: chunks' lines are left out by their form.
struct Events {
    peer: RawPeer,
    text: Vec<u8>,
    ended: bool,
}

impl Events {
    /// The messages that come next, so many or all to the end.
    async fn hear(&mut self, count: usize) -> String {
        let mut heard = Vec::new();
        loop {
            while let Some(end) = self.text.windows(4).position(|window| window == b"\r\n\r\n") {
                let event: Vec<u8> = self.text.drain(..end + 4).collect();
                let event = event.strip_prefix(b":\r\n").unwrap_or(&event);
                let payload = event.strip_prefix(b"data: ").unwrap_or(event);
                heard.extend_from_slice(&payload[..payload.len() - 4]);
                if heard.iter().filter(|byte| **byte == 0x1e).count() >= count {
                    return shown(&heard);
                }
            }
            if self.ended {
                return format!("{} end", shown(&heard));
            }
            match self.peer.chunk().await {
                Some(chunk) if !chunk.is_empty() => self.text.extend(chunk),
                _ => self.ended = true,
            }
        }
    }
}

/// Messages, each in braces of its own, without pings.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let messages = text.split('\u{1e}').filter(|message| !message.is_empty() && *message != r#"{"type":6}"#);
    messages.collect::<Vec<_>>().join(" ")
}

/// Status, the headers that clients look at, and the body.
fn line(answer: &Response) -> String {
    let mut line = answer.status.to_string();
    if let Some(kind) = answer.header("content-type") {
        line.push(' ');
        line.push_str(kind);
    }
    let caching = ["cache-control", "pragma", "expires", "content-encoding"].map(|name| answer.header(name));
    if caching.iter().any(Option::is_some) {
        line.push(' ');
        line.push_str(&caching.into_iter().flatten().collect::<Vec<_>>().join("|"));
    }
    let body = shown(&answer.body);
    if !body.is_empty() {
        line.push(' ');
        line.push_str(&body);
    }
    line
}
