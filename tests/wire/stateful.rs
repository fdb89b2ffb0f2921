//! Stateful reconnect, case by case: a socket is lost, the client comes back on another, and the numbers say what each side has.
//!
//! With the reference in our place four fail: it joins what the new socket brings to half a message of the old one, takes an
//! acknowledgement of a number never sent for one of what it sends later, sends no pings while its buffer is full, and then ends without
//! what was held back.

use crate::support::hub::{Client, Message, PROTOCOLS, Protocol, encode, record};
use crate::support::server::TestServer;
use crate::support::ws::{CLOSE, Frame, RawPeer, Received, upgrade_request};
use crate::support::{PATIENCE, guard, http, within};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const HUB: &str = "/conformance";

/// Negotiates a connection that can be resumed; the path of its WebSockets.
pub(crate) async fn negotiate(server: &TestServer, hub: &str) -> String {
    let answer = http::negotiate(server, hub, "?negotiateVersion=1&useStatefulReconnect=true").await;
    assert_eq!(answer["useStatefulReconnect"], true);
    format!("{hub}?id={}", answer["connectionToken"].as_str().expect("a token"))
}

/// The handshake of a client that can resume.
pub(crate) fn handshake(protocol: Protocol) -> Vec<u8> {
    record(&format!(r#"{{"protocol":"{}","version":2}}"#, protocol.name()))
}

/// A new connection that can be resumed. It has been sent one message, `welcome`.
async fn open(server: &TestServer, hub: &str, protocol: Protocol) -> (Client, String) {
    let path = negotiate(server, hub).await;
    let mut client = Client::silent(RawPeer::open(server, &path).await, protocol);
    client.send(handshake(protocol)).await;
    client.meet().await;
    (client, path)
}

/// Back on a new socket: the client says that its next message has the number `next`.
async fn resume(server: &TestServer, path: &str, protocol: Protocol, next: i64) -> Client {
    let mut client = Client::resumed(RawPeer::open(server, path).await, protocol);
    client.say(sequence(next)).await;
    client
}

fn sequence(number: i64) -> Value {
    json!({"type": 9, "sequenceId": number})
}

fn ack(number: i64) -> Value {
    json!({"type": 8, "sequenceId": number})
}

fn echo(id: &str) -> Value {
    json!({"type": 1, "invocationId": id, "target": "Echo", "arguments": [id]})
}

/// The next message that is no ping and no acknowledgement.
async fn counted(client: &mut Client) -> Message {
    client.first("a message that counts", |message| !matches!(message.kind(), 6 | 8)).await
}

/// The number with which the server goes on, which is the first that it says on a new socket.
async fn goes_on_at(client: &mut Client) -> i64 {
    let first = client.first("any message", |_| true).await;
    assert_eq!(first.kind(), 9, "Sequence comes first: {first:?}");
    first.json["sequenceId"].as_i64().expect("a number")
}

/// The status of a WebSocket request, once it is what it has to become.
async fn status_becomes(server: &TestServer, path: &str, expected: u16) {
    let until = Instant::now() + PATIENCE;
    loop {
        let mut peer = RawPeer::tcp(server).await;
        peer.send(upgrade_request(path)).await.expect("the server reads");
        let status = peer.response_head().await.expect("an answer").status;
        if status == expected {
            return;
        }
        assert!(matches!(status, 204 | 409) && Instant::now() < until, "{status} instead of {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn sequence_comes_first_then_what_was_not_acknowledged_then_what_is_new() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let (mut client, path) = open(&server, HUB, protocol).await;
            let mut sent = Vec::new();
            for id in ["1", "2", "3"] {
                client.say(echo(id)).await;
                sent.push(counted(&mut client).await);
            }
            // `welcome` was 1, so these were 2, 3 and 4
            client.say(ack(2)).await;
            client.say(echo("4")).await;
            sent.push(counted(&mut client).await);
            drop(client);

            let mut client = resume(&server, &path, protocol, 5).await;
            assert_eq!(goes_on_at(&mut client).await, 3);
            client.say(echo("5")).await;
            for message in &sent[1..] {
                assert_eq!(counted(&mut client).await.raw, message.raw);
            }
            assert_eq!(counted(&mut client).await.id(), "5");
            client.say(ack(6)).await;
            client.settle().await;
            client.leave().await;
            status_becomes(&server, &path, 404).await;
        }
    })
    .await;
}

#[tokio::test]
async fn sequence_names_the_next_number_when_nothing_is_unacknowledged() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let (mut client, path) = open(&server, HUB, protocol).await;
            client.settle().await;
            client.say(ack(2)).await;
            // the server has read so far when it acknowledges the call behind it
            client.say(json!({"type": 1, "target": "Nothing", "arguments": []})).await;
            client.first("an acknowledgement of it", |m| m.kind() == 8 && m.json["sequenceId"] == 2).await;
            drop(client);
            let mut client = resume(&server, &path, protocol, 3).await;
            assert_eq!(goes_on_at(&mut client).await, 3);
            assert!(client.settle().await.iter().all(|message| message.kind() == 8), "nothing is sent again");
        }
    })
    .await;
}

#[tokio::test]
async fn acknowledgements_of_numbers_never_sent_do_no_harm() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let (mut client, path) = open(&server, HUB, protocol).await;
            for odd in [1_000, i64::MAX, 0, -1, i64::MIN, 1] {
                client.say(ack(odd)).await;
            }
            client.say(echo("1")).await;
            assert_eq!(counted(&mut client).await.id(), "1");
            drop(client);
            let mut client = resume(&server, &path, protocol, 2).await;
            assert_eq!(goes_on_at(&mut client).await, 2);
            assert_eq!(counted(&mut client).await.id(), "1");
            client.settle().await;
        }
    })
    .await;
}

/// What the client sends again is dropped, what it had not sent is not; also when it comes in one piece with the request.
#[tokio::test]
async fn a_clients_replay_runs_nothing_twice() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let (mut client, path) = open(&server, HUB, protocol).await;
            let order = |n: i32| json!({"type": 1, "invocationId": n.to_string(), "target": "Order", "arguments": [n]});
            for n in 1..=3 {
                client.say(order(n)).await;
                counted(&mut client).await;
            }
            drop(client);
            let mut bytes = upgrade_request(&path).into_bytes();
            for message in [sequence(2), order(2), order(3), order(4)] {
                bytes.extend(protocol.frame(encode(protocol, &message)).encode());
            }
            let mut peer = RawPeer::tcp(&server).await;
            peer.send(bytes).await.expect("the server reads");
            peer.expect_upgrade().await;
            let mut client = Client::resumed(peer, protocol);
            assert_eq!(goes_on_at(&mut client).await, 1);
            assert_eq!(client.outcome("4").await, Ok(json!([1, 2, 3, 4])));
        }
    })
    .await;
}

/// A client that takes everything and acknowledges nothing: only pings and acknowledgements go on.
#[tokio::test]
async fn a_full_buffer_holds_messages_back_and_loses_none() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let (mut client, path) = open(&server, "/conformance-small", protocol).await;
            for (id, size) in [("a", 60_000), ("b", 60_000), ("c", 5), ("d", 6)] {
                client.say(json!({"type": 1, "invocationId": id, "target": "Large", "arguments": [size]})).await;
            }
            assert_eq!([counted(&mut client).await.id(), counted(&mut client).await.id()], ["a", "b"]);
            let (mut pings, mut acknowledged) = (0, 0);
            while pings < 2 || acknowledged < 4 {
                let message = client.first("any message", |_| true).await;
                match message.kind() {
                    6 => pings += 1,
                    8 => acknowledged = message.json["sequenceId"].as_i64().expect("a number"),
                    _ => panic!("it goes past the limit: {message:?}"),
                }
            }
            drop(client);

            // the same on another socket
            let mut client = resume(&server, &path, protocol, 5).await;
            assert_eq!(goes_on_at(&mut client).await, 1);
            assert_eq!(counted(&mut client).await.target(), "welcome");
            assert_eq!([counted(&mut client).await.id(), counted(&mut client).await.id()], ["a", "b"]);
            let mut pings = 0;
            while pings < 2 {
                let message = client.first("any message", |_| true).await;
                assert!(matches!(message.kind(), 6 | 8), "it goes past the limit: {message:?}");
                pings += usize::from(message.kind() == 6);
            }
            client.say(ack(3)).await;
            assert_eq!([counted(&mut client).await.id(), counted(&mut client).await.id()], ["c", "d"]);
            client.settle().await;
        }
    })
    .await;
}

/// The end is not held back by a full buffer, nor what comes before it.
#[tokio::test]
async fn a_connection_ends_with_a_full_buffer() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let (mut client, path) = open(&server, HUB, protocol).await;
            for (id, size) in [("a", 60_000), ("b", 60_000), ("c", 5)] {
                client.say(json!({"type": 1, "invocationId": id, "target": "Large", "arguments": [size]})).await;
            }
            client.first("b", |message| message.id() == "b").await;
            let begun = Instant::now();
            client.say(json!({"type": 1, "target": "Abort", "arguments": []})).await;
            let (messages, code) = client.until_end().await;
            assert_eq!(messages.last().map(Message::kind), Some(7), "{messages:?}");
            assert_eq!(code, Some(1000));
            assert!(begun.elapsed() < Duration::from_secs(4), "it waited for the client in vain");
            status_becomes(&server, &path, 404).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_sequence_greater_than_expected_ends_it() {
    guard(async {
        let Some(server) = TestServer::ours_detailed() else { return };
        for protocol in PROTOCOLS {
            let (mut client, path) = open(&server, HUB, protocol).await;
            client.say(echo("1")).await;
            counted(&mut client).await;
            drop(client);
            let mut client = resume(&server, &path, protocol, 3).await;
            assert_eq!(goes_on_at(&mut client).await, 1);
            let (messages, code) = client.until_end().await;
            let close = messages.last().expect("a Close");
            assert_eq!(
                (close.kind(), close.error(), code),
                (
                    7,
                    "Connection closed with an error. InvalidOperationException: Sequence ID greater than amount of \
                     messages we've received.",
                    Some(1000)
                )
            );
            status_becomes(&server, &path, 404).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_close_frame_ends_it_for_good() {
    guard(async {
        let server = TestServer::ours();
        for code in [1000, 1001, 3000] {
            let (mut client, path) = open(&server, HUB, Protocol::Json).await;
            client.peer.frame(&Frame::close(code, "")).await.expect("the server reads");
            client.until_end().await;
            status_becomes(&server, &path, 404).await;
        }
        let (mut client, path) = open(&server, HUB, Protocol::Json).await;
        client.say(json!({"type": 7})).await;
        client.until_end().await;
        status_becomes(&server, &path, 404).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_of_version_1_cannot_resume() {
    guard(async {
        let server = TestServer::ours();
        let path = negotiate(&server, HUB).await;
        let peer = RawPeer::open(&server, &path).await;
        let mut client = Client::over(peer, Protocol::Json).await;
        status_becomes(&server, &path, 409).await;
        client.settle().await;
        drop(client);
        status_becomes(&server, &path, 404).await;
    })
    .await;
}

#[tokio::test]
async fn groups_survive_and_what_was_sent_to_them_meanwhile_comes_once() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let mut other = Client::json(&server).await;
            let (mut client, path) = open(&server, HUB, protocol).await;
            let group = format!("survivors {}", client.id);
            client.call("Join", json!([group])).await.expect("it joins");
            client.say(ack(2)).await;
            client.settle().await;
            drop(client);
            for x in [1, 2] {
                other.call("ToGroup", json!([group, x])).await.expect("it is sent");
            }
            let mut client = resume(&server, &path, protocol, 3).await;
            assert_eq!(goes_on_at(&mut client).await, 3);
            other.call("ToGroup", json!([group, 3])).await.expect("it is sent");
            assert_eq!(counted(&mut client).await.kind(), 3, "the echo of before");
            for x in [1, 2, 3] {
                assert_eq!(counted(&mut client).await.arguments()[1], x);
            }
            assert!(client.settle().await.iter().all(|message| message.kind() == 8), "nothing came twice");
            other.leave().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_second_socket_takes_over_from_a_live_one_at_once() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let (mut first, path) = open(&server, HUB, protocol).await;
            // half of a message, which never comes whole
            let half = encode(protocol, &echo("1"));
            first.send(&half[..half.len() / 2]).await;
            let begun = Instant::now();
            let mut second = resume(&server, &path, protocol, 1).await;
            assert_eq!(goes_on_at(&mut second).await, 1);
            assert_eq!(second.settle().await.first().map(|m| m.target().to_owned()), Some("welcome".into()));
            first.peer.polite = false;
            let (rest, end) = first.peer.until_end().await;
            assert!(rest.iter().all(|frame| frame.opcode != CLOSE), "it is cut off, not closed: {rest:?}");
            assert!(matches!(end, Received::Eof | Received::Reset));
            assert!(begun.elapsed() < Duration::from_secs(5), "at once");
        }
    })
    .await;
}

#[tokio::test]
async fn a_close_of_the_hubs_is_not_replayed() {
    guard(async {
        let server = TestServer::ours();
        let abort = json!({"type": 1, "target": "Abort", "arguments": []});
        let (mut client, path) = open(&server, HUB, Protocol::Json).await;
        client.say(abort.clone()).await;
        // gone before the Close can come
        drop(client);
        let mut peer = RawPeer::tcp(&server).await;
        peer.send(upgrade_request(&path)).await.expect("the server reads");
        let status = peer.response_head().await.expect("an answer").status;
        if status == 101 {
            // the new socket may have overtaken the call, which the client then sends again
            let mut client = Client::resumed(peer, Protocol::Json);
            client.say(sequence(1)).await;
            client.say(abort).await;
            let (messages, _) = client.until_end().await;
            let closes = messages.iter().filter(|message| message.kind() == 7).count();
            assert!(closes <= 1, "{messages:?}");
        }
        status_becomes(&server, &path, 404).await;
    })
    .await;
}

/// Its silence while it had no socket is not counted against it.
#[tokio::test]
async fn a_client_is_not_timed_out_for_its_absence() {
    guard(async {
        let server = TestServer::ours();
        let (mut client, path) = open(&server, "/conformance-small", Protocol::Json).await;
        client.say(json!({"type": 6})).await;
        client.settle().await;
        drop(client);
        // beyond the client timeout of 3 s, within the disconnect timeout of 15 s
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mut client = Client::resumed(RawPeer::open(&server, &path).await, Protocol::Json);
        assert_eq!(goes_on_at(&mut client).await, 1);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        client.say(sequence(2)).await;
        client.say(echo("alive")).await;
        assert_eq!(client.outcome("alive").await, Ok(json!("alive")));
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_come_back_departs_within_the_disconnect_timeout() {
    guard(async {
        let server = TestServer::ours();
        let mut observer = Client::json(&server).await;
        let (client, path) = open(&server, HUB, Protocol::Json).await;
        let id = client.id.clone();
        let begun = Instant::now();
        drop(client);
        let departure = loop {
            let departure = observer.call("Departed", json!([id])).await.expect("it is told");
            if !departure.is_null() {
                break departure;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "it never departs");
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        assert_eq!(departure, json!({"connectionId": id, "error": null}));
        assert!(begun.elapsed() > Duration::from_secs(14), "{:?}", begun.elapsed());
        status_becomes(&server, &path, 404).await;
        within("its leave", observer.leave()).await;
    })
    .await;
}
