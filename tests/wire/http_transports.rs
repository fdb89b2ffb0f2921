//! Server-sent events and long polling over raw sockets: statuses, headers, order and races, and what a hostile client comes to.

use crate::support::http::{self, Response};
use crate::support::hub::{Client, encode, record};
use crate::support::server::TestServer;
use crate::support::ws::RawPeer;
use crate::support::{PATIENCE, guard, guard_for, within};
use axum::body::{Body, to_bytes};
use futures_util::StreamExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection over HTTP requests, each on a socket of its own.
pub(crate) struct Requests {
    server: TestServer,
    /// The hub's path with the token.
    pub(crate) path: String,
    pub(crate) id: String,
}

impl Requests {
    pub(crate) async fn negotiate(server: &TestServer, hub: &str) -> Self {
        let answer = http::negotiate(server, hub, "?negotiateVersion=1").await;
        let text = |name: &str| answer[name].as_str().expect("a text").to_owned();
        Self { server: server.clone(), path: format!("{hub}?id={}", text("connectionToken")), id: text("connectionId") }
    }

    /// Polled once, and shaken hands: the response and `welcome` have been fetched.
    pub(crate) async fn polling(server: &TestServer, hub: &str) -> Self {
        let requests = Self::negotiate(server, hub).await;
        let first = requests.poll().await;
        assert_eq!((first.status, first.body.len()), (200, 0), "{first:?}");
        requests.posted(&record(r#"{"protocol":"json","version":1}"#)).await;
        assert_eq!(requests.poll().await.text(), "{}\u{1e}");
        let welcome = requests.poll().await;
        assert!(welcome.text().contains("welcome") && welcome.text().contains(&requests.id), "{welcome:?}");
        requests
    }

    pub(crate) async fn poll(&self) -> Response {
        http::request(&self.server, "GET", &self.path, "", b"").await
    }

    pub(crate) async fn post(&self, body: &[u8]) -> Response {
        http::request(&self.server, "POST", &self.path, "Content-Type: text/plain\r\n", body).await
    }

    pub(crate) async fn delete(&self) -> Response {
        http::request(&self.server, "DELETE", &self.path, "", b"").await
    }

    /// A POST that is taken in.
    pub(crate) async fn posted(&self, body: &[u8]) {
        let answer = self.post(body).await;
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/plain"), "{answer:?}");
    }

    pub(crate) async fn say(&self, message: Value) {
        self.posted(&message_bytes(&message)).await;
    }

    /// A poll whose answer is read later.
    async fn begin_poll(&self) -> RawPeer {
        self.begin("GET", "", b"").await
    }

    /// A poll that has arrived and waits: of two, the one that is sent away tells that the other has come.
    pub(crate) async fn waiting_poll(&self) -> RawPeer {
        let (mut one, mut other) = (self.begin_poll().await, self.begin_poll().await);
        let (away, waiting) = tokio::select! {
            answer = one.response() => (answer, other),
            answer = other.response() => (answer, one),
        };
        assert_eq!(away.map(|answer| answer.status), Some(204));
        waiting
    }

    /// A request whose answer is read later.
    async fn begin(&self, method: &str, headers: &str, body: &[u8]) -> RawPeer {
        let mut peer = RawPeer::tcp(&self.server).await;
        let head = format!("{method} {} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n", self.path);
        peer.send([head.as_bytes(), body].concat()).await.expect("the server reads");
        peer
    }

    /// Opens the event stream, and reads its head and its first bytes.
    async fn open_events(&self) -> Events {
        let mut events = Events::open(&self.server, &self.path, "HTTP/1.1").await;
        assert_eq!(events.head.status, 200, "{:?}", events.head);
        events.expect_opening().await;
        events
    }

    /// Calls a method over long polling: POST, then polls until the completion has come; what else came is dropped.
    async fn call(&self, target: &str, arguments: Value) -> Value {
        self.say(json!({"type": 1, "invocationId": "call", "target": target, "arguments": arguments})).await;
        loop {
            let polled = self.poll().await;
            assert_eq!(polled.status, 200, "{polled:?}");
            if let Some(completion) = messages(&polled.body).into_iter().find(|m| m["invocationId"] == "call") {
                return completion["result"].clone();
            }
        }
    }

    /// Is gone for good.
    async fn expect_unknown(&self) {
        for method in ["GET", "POST", "DELETE"] {
            let answer = http::request(&self.server, method, &self.path, "", b"").await;
            assert_eq!((answer.status, answer.text().as_str()), (404, "No Connection with that ID"), "{method}");
        }
    }
}

/// An event stream.
struct Events {
    head: Response,
    stream: TcpStream,
    input: Vec<u8>,
    body: Vec<u8>,
    chunked: bool,
}

impl Events {
    async fn open(server: &TestServer, path: &str, version: &str) -> Self {
        let mut stream = TcpStream::connect(server.addr()).await.expect("the server accepts");
        let request = format!("GET {path} {version}\r\nHost: test\r\nAccept: text/event-stream\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        let mut input = Vec::new();
        let head = within("a head", http::read_head(&mut stream, &mut input)).await.expect("an answer");
        let chunked = head.header("transfer-encoding") == Some("chunked");
        Self { head, stream, input, body: Vec::new(), chunked }
    }

    async fn expect_opening(&mut self) {
        while self.body.len() < 3 {
            assert!(self.more().await, "the stream ended");
        }
        assert_eq!(self.body.drain(..3).collect::<Vec<_>>(), b":\r\n");
    }

    /// The next event as it came, without the blank line; `None` at the end of the stream.
    async fn event(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.body.windows(4).position(|window| window == b"\r\n\r\n") {
                let event: Vec<u8> = self.body.drain(..end + 4).collect();
                return Some(String::from_utf8(event[..end].to_vec()).expect("events are text"));
            }
            if !self.more().await {
                assert!(self.body.is_empty(), "the end of a stream is no part of an event");
                return None;
            }
        }
    }

    /// The messages of the next event.
    async fn messages(&mut self) -> Vec<Value> {
        let event = self.event().await.expect("an event");
        messages(event.strip_prefix("data: ").expect("a line of data").as_bytes())
    }

    /// The next message of a kind.
    async fn message(&mut self, kind: u64) -> Value {
        loop {
            if let Some(message) = self.messages().await.into_iter().find(|m| m["type"] == kind) {
                return message;
            }
        }
    }

    /// Takes in more of the body; false at its end.
    async fn more(&mut self) -> bool {
        loop {
            if self.chunked
                && let Some((size, line)) = chunk_at(&self.input)
                && self.input.len() >= line + size + 2
            {
                self.input.drain(..line);
                self.body.extend(self.input.drain(..size));
                self.input.drain(..2);
                return size > 0;
            }
            if !self.chunked && !self.input.is_empty() {
                self.body.append(&mut self.input);
                return true;
            }
            if within("an event or the end", self.stream.read_buf(&mut self.input)).await.unwrap_or(0) == 0 {
                return false;
            }
        }
    }
}

/// The size of the chunk at the start, and the length of the line that says it.
fn chunk_at(input: &[u8]) -> Option<(usize, usize)> {
    let end = input.windows(2).position(|window| window == b"\r\n")?;
    let size = usize::from_str_radix(std::str::from_utf8(&input[..end]).ok()?, 16).expect("the size of a chunk");
    Some((size, end + 2))
}

fn message_bytes(message: &Value) -> Vec<u8> {
    encode(crate::support::hub::Protocol::Json, message)
}

/// Whole JSON messages, of a body or an event.
fn messages(bytes: &[u8]) -> Vec<Value> {
    assert!(bytes.is_empty() || bytes.ends_with(&[0x1e]), "whole messages: {:?}", String::from_utf8_lossy(bytes));
    let texts = bytes.split(|byte| *byte == 0x1e).filter(|text| !text.is_empty());
    texts.map(|text| serde_json::from_slice(text).expect("JSON")).collect()
}

const HANDSHAKE: &str = r#"{"protocol":"json","version":1}"#;
const POLL_HEADERS: [(&str, &str); 3] =
    [("cache-control", "no-cache, no-store"), ("pragma", "no-cache"), ("expires", "Thu, 01 Jan 1970 00:00:00 GMT")];

fn has_poll_headers(answer: &Response) {
    for (name, value) in POLL_HEADERS {
        assert_eq!(answer.header(name), Some(value), "{name} in {answer:?}");
    }
    assert_eq!(answer.header("transfer-encoding"), None, "{answer:?}");
}

#[tokio::test]
async fn polls_go_as_the_specification_says() {
    guard(async {
        let server = TestServer::ours();
        let requests = Requests::negotiate(&server, "/conformance").await;
        let first = requests.poll().await;
        assert_eq!((first.status, first.text().as_str()), (200, ""));
        assert_eq!(first.header("content-type"), Some("application/octet-stream"));
        assert_eq!(first.header("content-length"), Some("0"));
        has_poll_headers(&first);

        requests.posted(&record(HANDSHAKE)).await;
        let response = requests.poll().await;
        assert_eq!((response.status, response.text().as_str()), (200, "{}\u{1e}"));
        assert_eq!(response.header("content-type"), Some("application/octet-stream"));
        assert_eq!(response.header("content-length"), Some("3"));
        has_poll_headers(&response);
        assert_eq!(messages(&requests.poll().await.body)[0]["target"], "welcome");

        // several messages wait for one poll, whole and in order
        let calls = (0..20).map(|n| json!({"type": 1, "target": "ToCaller", "arguments": [n]}));
        let bodies: Vec<u8> = calls.flat_map(|call| message_bytes(&call)).collect();
        requests.posted(&bodies).await;
        let mut numbers = Vec::new();
        while numbers.len() < 20 {
            let polled = requests.poll().await;
            numbers.extend(messages(&polled.body).iter().map(|m| m["arguments"][1].as_u64().expect("a number")));
        }
        assert_eq!(numbers, (0..20).collect::<Vec<_>>());
        assert_eq!(requests.call("WhoAmI", json!([])).await["transport"], "LongPolling");

        let deleted = requests.delete().await;
        assert_eq!((deleted.status, deleted.text().as_str()), (202, ""));
        assert_eq!(deleted.header("content-type"), Some("text/plain"));
        requests.expect_unknown().await;
    })
    .await;
}

#[tokio::test]
async fn event_streams_go_as_the_specification_says() {
    guard(async {
        let server = TestServer::ours();
        let requests = Requests::negotiate(&server, "/conformance").await;
        let mut events = requests.open_events().await;
        let headers = [
            ("content-type", "text/event-stream"),
            ("cache-control", "no-cache,no-store"),
            ("pragma", "no-cache"),
            ("content-encoding", "identity"),
        ];
        for (name, value) in headers {
            assert_eq!(events.head.header(name), Some(value), "{:?}", events.head);
        }
        assert_eq!(events.head.header("expires"), None);
        requests.posted(&record(HANDSHAKE)).await;
        assert_eq!(events.event().await.as_deref(), Some("data: {}\u{1e}"));
        let welcome = format!("data: {{\"type\":1,\"target\":\"welcome\",\"arguments\":[\"{}\"]}}\u{1e}", requests.id);
        assert_eq!(events.event().await, Some(welcome));
        requests.say(json!({"type": 1, "invocationId": "1", "target": "Echo", "arguments": ["a\r\ndata: b\n"]})).await;
        let echo = "data: {\"type\":3,\"invocationId\":\"1\",\"result\":\"a\\r\\ndata: b\\n\"}\u{1e}";
        assert_eq!(events.event().await.as_deref(), Some(echo));
        requests.say(json!({"type": 1, "invocationId": "2", "target": "WhoAmI", "arguments": []})).await;
        assert_eq!(events.message(3).await["result"]["transport"], "ServerSentEvents");

        let second = http::request(&server, "GET", &requests.path, "Accept: text/event-stream\r\n", b"").await;
        assert_eq!((second.status, second.text().as_str()), (409, ""));
        let poll = requests.poll().await;
        assert_eq!((poll.status, poll.text().as_str()), (400, "Cannot change transports mid-connection"));
        has_poll_headers(&poll);
        let delete = requests.delete().await;
        assert_eq!(delete.text(), "Cannot terminate this connection using the DELETE endpoint.");
        assert_eq!(delete.status, 400);

        requests.say(json!({"type": 1, "target": "Abort", "arguments": []})).await;
        assert_eq!(events.event().await.as_deref(), Some("data: {\"type\":7}\u{1e}"));
        assert_eq!(events.event().await, None);
        requests.expect_unknown().await;
    })
    .await;
}

#[tokio::test]
async fn binary_is_refused_on_an_event_stream_and_welcome_on_polls() {
    guard(async {
        let server = TestServer::ours();
        let handshake = record(r#"{"protocol":"MessagePack","version":1}"#);
        let requests = Requests::negotiate(&server, "/conformance").await;
        let mut events = requests.open_events().await;
        requests.posted(&handshake).await;
        let refusal = "data: {\"error\":\"Cannot use the 'messagepack' protocol on the current transport. The transport \
                       does not support 'Binary' transfer format.\"}\u{1e}";
        assert_eq!(events.event().await.as_deref(), Some(refusal));
        assert_eq!(events.event().await, None);

        let requests = Requests::negotiate(&server, "/conformance").await;
        requests.poll().await;
        requests.posted(&handshake).await;
        assert_eq!(requests.poll().await.body, b"{}\x1e");
        let welcome = requests.poll().await;
        assert_eq!(welcome.header("content-type"), Some("application/octet-stream"));
        assert_eq!(usize::from(welcome.body[0]) + 1, welcome.body.len(), "a whole message behind its length");
        assert_eq!(welcome.body[1..4], [0x96, 1, 0x80]);
    })
    .await;
}

#[tokio::test]
async fn of_two_polls_the_newer_one_stays() {
    guard(async {
        let server = TestServer::ours();
        let requests = Requests::polling(&server, "/conformance").await;
        let mut poll = requests.waiting_poll().await;
        for _ in 0..4 {
            let newer = requests.begin_poll().await;
            let answer = poll.response().await.expect("an answer");
            assert_eq!((answer.status, answer.text().as_str()), (204, ""));
            assert_eq!(answer.header("content-type"), Some("text/plain"));
            has_poll_headers(&answer);
            poll = newer;
        }
        requests.say(json!({"type": 1, "target": "ToCaller", "arguments": ["here"]})).await;
        let answer = poll.response().await.expect("an answer");
        assert_eq!(messages(&answer.body)[0]["arguments"][1], "here");
        assert_eq!(requests.call("Echo", json!([1])).await, 1);
    })
    .await;
}

/// aspnet/SignalR#2697.
#[tokio::test]
async fn a_poll_that_is_dropped_and_renewed_at_once_keeps_its_connection() {
    guard(async {
        let server = TestServer::ours();
        let requests = Requests::polling(&server, "/conformance").await;
        for _ in 0..3 {
            drop(requests.waiting_poll().await);
        }
        let mut last = requests.waiting_poll().await;
        // longer than the disconnect timeout; nothing announces that nothing happens
        tokio::time::sleep(Duration::from_secs(17)).await;
        requests.say(json!({"type": 1, "target": "ToCaller", "arguments": ["alive"]})).await;
        let answer = last.response().await.expect("an answer");
        assert_eq!(messages(&answer.body)[0]["arguments"][1], "alive");
        requests.delete().await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_stops_polling_is_gone_after_the_disconnect_timeout() {
    guard(async {
        let server = TestServer::ours();
        let mut witness = Client::json(&server).await;
        let requests = Requests::polling(&server, "/conformance").await;
        drop(requests.waiting_poll().await);
        let begun = Instant::now();
        while witness.call("Departed", json!([requests.id])).await == Ok(Value::Null) {
            assert!(begun.elapsed() < PATIENCE * 2, "it is still there");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(begun.elapsed() > Duration::from_secs(13), "gone after {:?}", begun.elapsed());
        requests.expect_unknown().await;
    })
    .await;
}

#[tokio::test]
async fn a_delete_releases_the_waiting_poll() {
    guard(async {
        let server = TestServer::ours();
        let mut witness = Client::json(&server).await;
        let requests = Requests::polling(&server, "/conformance").await;
        let mut poll = requests.waiting_poll().await;
        let deleted = requests.delete().await;
        assert_eq!((deleted.status, deleted.text().as_str()), (202, ""));
        let answer = poll.response().await.expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (204, ""));
        has_poll_headers(&answer);
        requests.expect_unknown().await;
        crate::eventually!(witness.call("Departed", json!([requests.id])).await != Ok(Value::Null));
    })
    .await;
}

#[tokio::test]
async fn what_is_posted_before_the_first_poll_is_kept() {
    guard(async {
        let server = TestServer::ours();
        let requests = Requests::negotiate(&server, "/conformance").await;
        let delete = requests.delete().await;
        assert_eq!(delete.text(), "Cannot terminate this connection using the DELETE endpoint.");
        requests.posted(&record(HANDSHAKE)).await;
        requests.say(json!({"type": 1, "target": "ToCaller", "arguments": ["early"]})).await;
        let first = requests.poll().await;
        assert_eq!((first.status, first.body.len()), (200, 0), "the first poll is answered at once and empty");
        assert_eq!(requests.poll().await.text(), "{}\u{1e}");
        let mut seen = Vec::new();
        while seen.len() < 2 {
            seen.extend(messages(&requests.poll().await.body));
        }
        assert_eq!(seen[1]["arguments"][1], "early");

        let requests = Requests::negotiate(&server, "/conformance").await;
        requests.posted(&record(HANDSHAKE)).await;
        let mut events = requests.open_events().await;
        assert_eq!(events.event().await.as_deref(), Some("data: {}\u{1e}"));
    })
    .await;
}

/// The order among them is tested without sockets, between which there is none.
#[tokio::test]
async fn posts_queue_behind_one_that_is_not_whole_and_none_is_refused() {
    guard(async {
        let server = TestServer::ours();
        let requests = Requests::polling(&server, "/conformance").await;
        let call = |n: usize| message_bytes(&json!({"type": 1, "target": "ToCaller", "arguments": [n]}));
        let length = format!("Content-Length: {}\r\n", call(0).len());
        // a server asks for a body when the turn of its request has come
        let mut first = requests.begin("POST", &format!("{length}Expect: 100-continue\r\n"), b"").await;
        assert_eq!(first.response_head().await.expect("an answer").status, 100);
        let mut posts = Vec::new();
        for n in 1..8 {
            posts.push(requests.begin("POST", &length, &call(n)).await);
        }
        let mut poll = requests.waiting_poll().await;
        first.send(call(0)).await.expect("the server reads");
        assert_eq!(first.response().await.expect("an answer").status, 200);
        let mut numbers = Vec::new();
        let answer = poll.response().await.expect("an answer");
        numbers.extend(messages(&answer.body).iter().map(|m| m["arguments"][1].as_u64().expect("a number")));
        assert_eq!(numbers[0], 0, "nothing overtakes the first");
        for mut post in posts {
            assert_eq!(post.response().await.expect("an answer").status, 200);
        }
        while numbers.len() < 8 {
            let polled = requests.poll().await;
            numbers.extend(messages(&polled.body).iter().map(|m| m["arguments"][1].as_u64().expect("a number")));
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..8).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn messages_may_be_cut_over_posts_and_bodies_may_drip() {
    guard(async {
        let server = TestServer::ours();
        let requests = Requests::polling(&server, "/conformance").await;
        let call = message_bytes(&json!({"type": 1, "invocationId": "1", "target": "Echo", "arguments": ["ä☃😀"]}));
        for byte in call.chunks(1) {
            requests.posted(byte).await;
        }
        requests.posted(b"").await;
        assert_eq!(messages(&requests.poll().await.body)[0]["result"], "ä☃😀");
        let mut post = requests.begin("POST", "Transfer-Encoding: chunked\r\n", b"").await;
        for byte in &call {
            post.send([b"1\r\n", &[*byte][..], b"\r\n"].concat()).await.expect("the server reads");
        }
        post.send(b"0\r\n\r\n").await.expect("the server reads");
        assert_eq!(post.response().await.expect("an answer").status, 200);
        assert_eq!(messages(&requests.poll().await.body)[0]["result"], "ä☃😀");
    })
    .await;
}

/// The reference keeps the part that came, and reads the next POST as garbage.
#[tokio::test]
async fn a_post_whose_body_breaks_off_leaves_nothing_in_the_stream() {
    guard(async {
        let server = TestServer::ours();
        let requests = Requests::polling(&server, "/conformance").await;
        let call = message_bytes(&json!({"type": 1, "target": "ToCaller", "arguments": ["whole"]}));
        let half = [&call[..], &call[..20]].concat();
        for headers in ["Content-Length: 500\r\n", "Transfer-Encoding: chunked\r\n"] {
            let chunk = [format!("{:x}\r\n", half.len()).as_bytes(), &half, b"\r\n"].concat();
            let body = if headers.starts_with('C') { &half } else { &chunk };
            let mut post = requests.begin("POST", headers, body).await;
            post.shut_down().await;
            let answer = post.response().await;
            assert!(answer.as_ref().is_none_or(|answer| answer.status == 400), "{answer:?}");
            let reset = requests.begin("POST", headers, body).await;
            reset.reset_on_drop();
        }
        assert_eq!(requests.call("Echo", json!(["next"])).await, "next");
        // and none of the whole messages in front of the break was taken either
        requests.say(json!({"type": 1, "target": "ToCaller", "arguments": ["last"]})).await;
        let polled = requests.poll().await;
        assert_eq!(messages(&polled.body)[0]["arguments"][1], "last");
    })
    .await;
}

#[tokio::test]
async fn a_body_that_never_ends_holds_up_its_sender_alone_and_not_for_ever() {
    guard(async {
        let server = TestServer::ours();
        // its bodies may take two seconds
        let requests = Requests::polling(&server, "/conformance-small").await;
        let neighbour = Requests::polling(&server, "/conformance-small").await;
        let begun = Instant::now();
        let mut endless = requests.begin("POST", "Content-Length: 1000\r\n", b"{\"type\":").await;
        let next = requests.say(json!({"type": 1, "target": "ToCaller", "arguments": ["next"]}));
        let beside = async {
            assert_eq!(neighbour.call("Echo", json!([1])).await, 1);
            assert!(begun.elapsed() < Duration::from_secs(1), "a neighbour waited {:?}", begun.elapsed());
        };
        tokio::join!(next, beside);
        assert!(begun.elapsed() > Duration::from_millis(1500), "the next one waits for its turn");
        let answer = endless.response().await.expect("an answer");
        assert_eq!(answer.status, 408, "{answer:?}");
        assert_eq!(messages(&requests.poll().await.body)[0]["arguments"][1], "next");
    })
    .await;
}

#[tokio::test]
async fn a_megabyte_of_separators_ends_its_sender_at_most() {
    guard(async {
        let server = TestServer::ours();
        let mut neighbour = Client::json(&server).await;
        let separators = vec![0x1e; 1 << 20];
        let requests = Requests::polling(&server, "/conformance").await;
        let mut poll = requests.begin_poll().await;
        let answer = requests.post(&separators).await;
        assert!(matches!(answer.status, 200 | 404), "{answer:?}");
        let answer = poll.response().await.expect("an answer");
        assert_eq!(messages(&answer.body)[0]["type"], 7);
        assert_eq!(requests.poll().await.status, 204);
        requests.expect_unknown().await;

        let fresh = Requests::negotiate(&server, "/conformance").await;
        fresh.poll().await;
        let answer = fresh.post(&separators).await;
        assert!(matches!(answer.status, 200 | 404), "{answer:?}");
        assert!(fresh.poll().await.text().contains("error"));

        let requests = Requests::polling(&server, "/conformance").await;
        let too_large = requests.post(&vec![0x1e; (1 << 20) + 1]).await;
        assert_eq!(too_large.status, 413, "{too_large:?}");
        assert_eq!(requests.call("Echo", json!([1])).await, 1);
        neighbour.settle().await;
    })
    .await;
}

#[tokio::test]
async fn a_post_is_answered_when_the_hub_has_taken_it() {
    guard(async {
        let server = TestServer::ours();
        let requests = Requests::polling(&server, "/conformance").await;
        // both places are taken, so calls are kept, up to the look-ahead; then bytes wait, and then POSTs do
        for n in 0..2 {
            requests
                .say(json!({"type": 1, "invocationId": format!("s{n}"), "target": "Slow", "arguments": [1500]}))
                .await;
        }
        let begun = Instant::now();
        let echo = message_bytes(&json!({"type": 1, "target": "Echo", "arguments": ["x".repeat(20_000)]}));
        let mut longest = Duration::ZERO;
        for _ in 0..20 {
            let posted = Instant::now();
            requests.posted(&echo).await;
            longest = longest.max(posted.elapsed());
        }
        assert!(longest > Duration::from_millis(500), "no POST waited: {longest:?}");
        assert!(begun.elapsed() > Duration::from_millis(1200), "all were taken after {:?}", begun.elapsed());
        assert_eq!(requests.call("Echo", json!(["end"])).await, "end");
    })
    .await;
}

/// dotnet/AspNetCore.Docs#19983: nginx talks HTTP/1.0 upstream unless told otherwise.
#[tokio::test]
async fn everything_works_over_http_1_0_and_nothing_is_chunked() {
    guard(async {
        let server = TestServer::ours();
        let ask = async |method: &str, path: &str, body: &[u8]| {
            let length = body.len();
            let head = format!("{method} {path} HTTP/1.0\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
            let mut peer = RawPeer::tcp(&server).await;
            peer.send([head.as_bytes(), body].concat()).await.expect("the server reads");
            let answer = peer.response().await.expect("an answer");
            assert_eq!(answer.header("transfer-encoding"), None, "{answer:?}");
            assert!(answer.status == 204 || answer.header("content-length").is_some(), "{answer:?}");
            answer
        };
        let token = |answer: &Response| answer.json()["connectionToken"].as_str().expect("a token").to_owned();
        let negotiated = ask("POST", "/conformance/negotiate?negotiateVersion=1", b"").await;
        let path = format!("/conformance?id={}", token(&negotiated));
        assert_eq!(ask("GET", &path, b"").await.status, 200);
        assert_eq!(ask("POST", &path, &record(HANDSHAKE)).await.status, 200);
        assert_eq!(ask("GET", &path, b"").await.text(), "{}\u{1e}");
        assert_eq!(messages(&ask("GET", &path, b"").await.body)[0]["target"], "welcome");
        assert_eq!(ask("DELETE", &path, b"").await.status, 202);

        let negotiated = ask("POST", "/conformance/negotiate?negotiateVersion=1", b"").await;
        let path = format!("/conformance?id={}", token(&negotiated));
        let mut events = Events::open(&server, &path, "HTTP/1.0").await;
        assert_eq!((events.head.status, events.chunked), (200, false));
        events.expect_opening().await;
        assert_eq!(ask("POST", &path, &record(HANDSHAKE)).await.status, 200);
        assert_eq!(events.event().await.as_deref(), Some("data: {}\u{1e}"));
        assert_eq!(messages(&events.event().await.expect("welcome").as_bytes()[6..])[0]["target"], "welcome");
        ask("POST", &path, &message_bytes(&json!({"type": 7}))).await;
        assert_eq!(events.event().await.as_deref(), Some("data: {\"type\":7}\u{1e}"));
        assert_eq!(events.event().await, None);
    })
    .await;
}

#[tokio::test]
async fn the_slash_at_the_end_and_the_query_are_the_same_on_every_transport() {
    guard(async {
        let server = TestServer::ours();
        let query = "a=x%2By&b=x+y&c=%E2%98%83%F0%9F%98%80&d=p=q/r?s&e=&f=100%25";
        let want = json!({"a": "x+y", "b": "x y", "c": "☃😀", "d": "p=q/r?s", "e": "", "f": "100%"});
        let with_query = async || {
            let mut requests = Requests::negotiate(&server, "/conformance").await;
            requests.path = format!("{}&{query}", requests.path.replace("/conformance?", "/conformance/?"));
            requests
        };
        let requests = with_query().await;
        requests.poll().await;
        requests.posted(&record(HANDSHAKE)).await;
        requests.poll().await;
        assert_eq!(requests.call("WhoAmI", json!([])).await["query"], want);

        let requests = with_query().await;
        let mut events = requests.open_events().await;
        requests.posted(&record(HANDSHAKE)).await;
        events.event().await;
        requests.say(json!({"type": 1, "invocationId": "1", "target": "WhoAmI", "arguments": []})).await;
        assert_eq!(events.message(3).await["result"]["query"], want);
    })
    .await;
}

#[tokio::test]
async fn an_event_stream_that_breaks_off_ends_its_connection_at_once() {
    guard(async {
        let server = TestServer::ours();
        let mut witness = Client::json(&server).await;
        let requests = Requests::negotiate(&server, "/conformance").await;
        let mut events = requests.open_events().await;
        requests.posted(&record(HANDSHAKE)).await;
        events.event().await;
        events.event().await;
        let begun = Instant::now();
        drop(events);
        crate::eventually!(witness.call("Departed", json!([requests.id])).await != Ok(Value::Null));
        assert!(begun.elapsed() < Duration::from_secs(3), "it took {:?}", begun.elapsed());
        requests.expect_unknown().await;
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_refused_on_every_transport() {
    guard(async {
        let server = TestServer::ours();
        let refusal = "{\"error\":\"Handshake was canceled.\"}\u{1e}";
        let streaming = Requests::negotiate(&server, "/conformance-small").await;
        let mut events = streaming.open_events().await;
        let polling = Requests::negotiate(&server, "/conformance-small").await;
        polling.poll().await;
        assert_eq!(polling.poll().await.text(), refusal);
        assert_eq!(polling.poll().await.status, 204);
        polling.expect_unknown().await;
        assert_eq!(events.event().await, Some(format!("data: {refusal}")));
        assert_eq!(events.event().await, None);
    })
    .await;
}

/// `/conformance-small` pings every second, and gives up on a client that has pinged and falls silent after three.
#[tokio::test]
async fn pings_go_to_event_streams_and_not_to_polls() {
    guard(async {
        let server = TestServer::ours();
        let streaming = Requests::negotiate(&server, "/conformance-small").await;
        let mut events = streaming.open_events().await;
        streaming.posted(&record(HANDSHAKE)).await;
        let polling = Requests::polling(&server, "/conformance-small").await;
        streaming.say(json!({"type": 6})).await;
        polling.say(json!({"type": 6})).await;
        let mut poll = polling.begin_poll().await;
        assert_eq!(events.message(6).await, json!({"type": 6}));
        let close = events.message(7).await;
        assert_eq!((&close["type"], &close["allowReconnect"]), (&json!(7), &json!(true)));
        assert_eq!(events.event().await, None);
        polling.say(json!({"type": 1, "target": "ToCaller", "arguments": ["quiet"]})).await;
        let answer = poll.response().await.expect("an answer");
        assert_eq!(messages(&answer.body)[0]["arguments"][1], "quiet", "no ping before it");
    })
    .await;
}

#[tokio::test]
async fn what_was_queued_at_the_end_can_be_fetched_and_then_it_is_over() {
    guard(async {
        let server = TestServer::ours();
        let requests = Requests::polling(&server, "/conformance").await;
        requests.say(json!({"type": 1, "target": "ToCaller", "arguments": ["last words"]})).await;
        requests.say(json!({"type": 7})).await;
        let mut said = Vec::new();
        loop {
            let polled = requests.poll().await;
            if polled.status == 204 {
                assert_eq!((polled.header("content-type"), polled.text().as_str()), (Some("text/plain"), ""));
                break;
            }
            said.extend(messages(&polled.body));
        }
        assert_eq!(said[0]["arguments"][1], "last words");
        assert_eq!(said[1]["type"], 7);
        requests.expect_unknown().await;
    })
    .await;
}

/// Joins a group over an event stream or polls, and stops reading.
async fn deaf(server: &TestServer, group: &str, transport: &str) -> (Requests, TcpStream) {
    let requests = Requests::negotiate(server, "/conformance").await;
    let join = json!({"type": 1, "target": "Join", "arguments": [group]});
    if transport == "LongPolling" {
        requests.poll().await;
        requests.posted(&record(HANDSHAKE)).await;
        requests.poll().await;
        requests.poll().await;
        requests.say(join).await;
        let mut stream = TcpStream::connect(server.addr()).await.expect("the server accepts");
        let request = format!("GET {} HTTP/1.1\r\nHost: test\r\n\r\n", requests.path);
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        (requests, stream)
    } else {
        let mut events = requests.open_events().await;
        requests.posted(&record(HANDSHAKE)).await;
        requests.say(join).await;
        events.event().await;
        (requests, events.stream)
    }
}

/// The reference needs 300 MB for 200 event streams that nobody reads.
#[tokio::test]
async fn clients_that_do_not_read_are_bounded_and_cut() {
    guard_for(Duration::from_secs(120), async {
        let Some(server) = TestServer::ours_with("clients that do not read", &[]) else { return };
        let mut sender = Client::json(&server).await;
        let mut reader = Client::json(&server).await;
        reader.call("Join", json!(["deaf"])).await.expect("joined");
        let mut deaf_ones = Vec::new();
        for n in 0..40 {
            deaf_ones.push(deaf(&server, "deaf", if n % 2 == 0 { "ServerSentEvents" } else { "LongPolling" }).await);
        }
        let before = server.resident();
        let text = "x".repeat(30_000);
        for n in 0..400 {
            let begun = Instant::now();
            sender.call("ToGroup", json!(["deaf", [n, text]])).await.expect("sent");
            assert!(begun.elapsed() < Duration::from_secs(5), "the sender waited {:?}", begun.elapsed());
            assert_eq!(reader.target("message").await.arguments()[1][0], n);
        }
        if let (Some(before), Some(after)) = (before, server.resident()) {
            let grown = after.saturating_sub(before) >> 20;
            println!("resident memory grew by {grown} MB for 12 MB each");
            assert!(grown < 100, "resident memory grew by {grown} MB");
        }
        // more than the limit waited, so each is ended, and its socket with it
        for (requests, mut stream) in deaf_ones {
            crate::eventually!(sender.call("Departed", json!([requests.id])).await != Ok(Value::Null));
            let mut rest = Vec::new();
            let end = tokio::time::timeout(PATIENCE * 2, stream.read_to_end(&mut rest)).await;
            assert!(end.is_ok(), "a socket that nobody read is still open");
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_stops_lets_go_of_polls_and_event_streams() {
    guard(async {
        let Some(server) = TestServer::ours_with("the stop", &[]) else { return };
        let polling = Requests::polling(&server, "/conformance").await;
        let streaming = Requests::negotiate(&server, "/conformance").await;
        let mut events = streaming.open_events().await;
        let mut poll = polling.waiting_poll().await;
        let begun = Instant::now();
        http::request(&server, "POST", "/stop", "", b"").await;
        assert_eq!(events.event().await, None);
        let answer = poll.response().await.expect("an answer");
        let close = json!({"type": 7, "allowReconnect": true});
        assert!(answer.status == 204 || messages(&answer.body) == [close], "{answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(4), "it took {:?}", begun.elapsed());
    })
    .await;
}

/// One HTTP/2 connection carries all requests of a client at a time.
#[tokio::test]
async fn polls_posts_and_event_streams_share_an_http_2_connection() {
    guard(async {
        let server = TestServer::ours();
        let stream = TcpStream::connect(server.addr()).await.expect("the server accepts");
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        let connection = tokio::spawn(connection);
        let ask = async |method: &str, path: &str, accept: &str, body: Vec<u8>| {
            let uri = format!("http://{}{path}", server.addr());
            let request = axum::http::Request::builder().method(method).uri(uri).header("accept", accept);
            let request = request.body(Body::from(body)).expect("a request");
            let answer = sender.clone().send_request(request).await.expect("an answer");
            (answer.status().as_u16(), Body::new(answer.into_body()))
        };
        let whole = async |body| to_bytes(body, usize::MAX).await.expect("a body").to_vec();
        let negotiate = async || {
            let (_, body) = ask("POST", "/conformance/negotiate?negotiateVersion=1", "*/*", vec![]).await;
            let answer: Value = serde_json::from_slice(&whole(body).await).expect("JSON");
            format!("/conformance?id={}", answer["connectionToken"].as_str().expect("a token"))
        };
        let poll = async |path: &str| {
            let (status, body) = ask("GET", path, "*/*", vec![]).await;
            (status, whole(body).await)
        };
        let path = negotiate().await;
        assert_eq!(poll(&path).await, (200, vec![]));
        assert_eq!(ask("POST", &path, "*/*", record(HANDSHAKE)).await.0, 200);
        assert_eq!(poll(&path).await, (200, b"{}\x1e".to_vec()));
        assert_eq!(messages(&poll(&path).await.1)[0]["target"], "welcome");
        let echo = message_bytes(&json!({"type": 1, "invocationId": "1", "target": "Echo", "arguments": ["h2"]}));
        let (polled, posted) = tokio::join!(poll(&path), ask("POST", &path, "*/*", echo));
        assert_eq!((messages(&polled.1)[0]["result"].as_str(), posted.0), (Some("h2"), 200));
        // of two polls, the one that is sent away tells that the other has come
        let (one, other) = (Box::pin(poll(&path)), Box::pin(poll(&path)));
        let (away, waiting) = futures_util::future::select(one, other).await.factor_first();
        let (polled, deleted) = tokio::join!(waiting, ask("DELETE", &path, "*/*", vec![]));
        assert_eq!((away.0, polled.0, deleted.0), (204, 204, 202));

        let path = negotiate().await;
        let (status, body) = ask("GET", &path, "text/event-stream", vec![]).await;
        let mut events = body.into_data_stream();
        assert_eq!((status, events.next().await.expect("a piece").expect("sent").as_ref()), (200, &b":\r\n"[..]));
        assert_eq!(ask("POST", &path, "*/*", record(HANDSHAKE)).await.0, 200);
        let response = events.next().await.expect("a piece").expect("sent");
        assert_eq!(response.as_ref(), b"data: {}\x1e\r\n\r\n");
        drop(events);
        let mut witness = Client::json(&server).await;
        crate::eventually!(ask("POST", &path, "*/*", vec![]).await.0 == 404);
        witness.settle().await;
        connection.abort();
    })
    .await;
}
