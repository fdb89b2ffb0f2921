//! How a server stops: what its clients see, in which order, and with which status it ends.

use crate::eventually;
use crate::program::{Server, get, run};
use crate::support::hub::Client;
use serde_json::json;
use std::time::Instant;

const OPEN: &str = "[hubs.chat]\nanonymous = true\npermissions = [{ who = \"everyone\", may = \"*\" }]\n";

async fn stream(client: &mut Client, count: u32, delay: u32) {
    client.say(json!({ "type": 4, "invocationId": "s", "target": "Counter", "arguments": [count, delay] })).await;
    client.first("the first number", |message| message.kind() == 2).await;
}

/// The last that a client hears: leave to connect again, and the end of its WebSocket.
async fn sent_elsewhere(client: &mut Client) -> usize {
    let (messages, code) = client.until_end().await;
    let (last, before) = messages.split_last().expect("a Close");
    assert_eq!((&last.json, code), (&json!({ "type": 7, "allowReconnect": true }), Some(1000)));
    before.len()
}

#[tokio::test]
async fn a_thousand_clients_are_sent_elsewhere_and_streams_finish() {
    let mut server = Server::preset();
    let mut idle = Vec::new();
    for _ in 0..900 {
        idle.push(server.connect("/hubs/chat").await);
    }
    let mut busy = Vec::new();
    for _ in 0..100 {
        let mut client = server.connect("/hubs/chat").await;
        stream(&mut client, 40, 100).await;
        busy.push(client);
    }
    let start = Instant::now();
    server.signal("TERM");
    for client in &mut idle {
        assert_eq!(sent_elsewhere(client).await, 0);
    }
    let idle_gone = start.elapsed();
    for client in &mut busy {
        let (items, completion) = client.stream_end("s").await;
        assert_eq!(items.last(), Some(&json!(40)), "the stream goes to its end");
        assert_eq!(completion.error(), "");
        assert_eq!(sent_elsewhere(client).await, 0);
    }
    let status = server.ended().await;
    assert_eq!(status.code(), Some(0));
    let text = format!(
        "900 idle clients were gone after {idle_gone:?}, 100 with streams and the server after {:?}",
        start.elapsed()
    );
    // Not println!, which the test harness captures when the test passes.
    std::io::Write::write_all(&mut std::io::stderr(), format!("drain: {text}\n").as_bytes()).unwrap();
}

#[tokio::test]
async fn a_stream_without_end_is_cut_with_permission_to_connect_again() {
    let mut server = Server::start(&mut crate::program::hubwire(&[
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--log-format",
        "json",
        "--drain-timeout",
        "2s",
    ]));
    let mut client = server.connect("/hubs/chat").await;
    stream(&mut client, 10_000, 10).await;
    server.signal("INT");
    assert!(sent_elsewhere(&mut client).await > 0, "numbers come until then");
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn readiness_goes_first_and_clients_are_still_taken() {
    let mut server = Server::configured(&format!("[server]\ndrain_delay = \"4s\"\n{OPEN}"));
    assert_eq!(get(server.admin, "/readyz").await.status, 200);
    let mut early = server.connect("/hubs/chat").await;
    server.signal("TERM");
    eventually!(get(server.admin, "/readyz").await.status == 503);
    assert_eq!(get(server.admin, "/readyz").await.text(), "draining\n");
    assert_eq!(get(server.admin, "/healthz").await.status, 200);
    let mut late = server.connect("/hubs/chat").await;
    late.call("JoinGroup", json!(["g"])).await.unwrap();
    sent_elsewhere(&mut early).await;
    sent_elsewhere(&mut late).await;
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut server = Server::preset();
    let mut client = server.connect("/hubs/chat").await;
    stream(&mut client, 10_000, 1000).await;
    server.signal("TERM");
    eventually!(get(server.admin, "/readyz").await.status == 503);
    assert!(server.runs());
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(130));
}

#[tokio::test]
async fn who_does_not_go_is_cut_and_the_status_says_so() {
    let mut server = Server::configured(&format!("[server]\ndrain_timeout = \"1s\"\n{OPEN}"));
    let mut client = server.connect("/hubs/chat").await;
    // it never says goodbye, and goodbyes are waited for longer than the drain
    client.peer.polite = false;
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(3));
    drop(client);
}

#[tokio::test]
async fn the_verb_does_what_the_signal_does() {
    let mut server = Server::preset();
    let mut client = server.connect("/hubs/chat").await;
    let said = run(&mut server.verb(&["drain"])).good();
    assert!(said.contains("drains"), "{said}");
    sent_elsewhere(&mut client).await;
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn nobody_new_gets_in_while_calls_finish() {
    let mut server = Server::preset();
    let mut client = server.connect("/hubs/chat").await;
    stream(&mut client, 30, 100).await;
    server.signal("TERM");
    let negotiate = || crate::program::request(server.data, "POST", "/hubs/chat/negotiate?negotiateVersion=1", "");
    eventually!(negotiate().await.status == 503);
    let (items, _) = client.stream_end("s").await;
    assert_eq!(items.last(), Some(&json!(30)));
    sent_elsewhere(&mut client).await;
    assert_eq!(server.ended().await.code(), Some(0));
    let refused = tokio::net::TcpStream::connect(server.data).await;
    assert!(refused.is_err(), "nobody listens any more");
}
