//! How a server stops: what its clients see, in which order, and with which status it ends.

use crate::eventually;
use crate::program::{KEY, Server, get, hubwire, post, run};
use crate::support::hub::Client;
use crate::support::within;
use serde_json::json;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

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
    let mut server = Server::preset_with(&["--drain-timeout", "30s"]);
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
    let mut server = Server::preset_with(&["--drain-timeout", "2s"]);
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
    let mut server = Server::preset_with(&["--drain-timeout", "30s"]);
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
async fn a_signal_after_the_verb_is_not_one_too_many() {
    let mut server = Server::preset_with(&["--drain-timeout", "30s"]);
    let mut client = server.connect("/hubs/chat").await;
    stream(&mut client, 40, 100).await;
    run(&mut server.verb(&["drain"])).good();
    eventually!(get(server.admin, "/readyz").await.status == 503);
    server.signal("TERM");
    eventually!(server.log().iter().any(|line| line["message"].as_str().unwrap().starts_with("told to stop, and")));
    let (items, _) = client.stream_end("s").await;
    assert_eq!(items.last(), Some(&json!(40)), "the stream goes to its end");
    assert_eq!(server.ended().await.code(), Some(0));

    let mut server = Server::preset_with(&["--drain-timeout", "30s"]);
    let mut client = server.connect("/hubs/chat").await;
    stream(&mut client, 10_000, 1000).await;
    run(&mut server.verb(&["drain"])).good();
    eventually!(get(server.admin, "/readyz").await.status == 503);
    server.signal("TERM");
    eventually!(server.log().iter().any(|line| line["message"].as_str().unwrap().starts_with("told to stop, and")));
    assert!(server.runs());
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(130));
}

#[tokio::test]
async fn a_request_that_is_cut_at_the_end_is_in_the_status() {
    let config = format!("[server.limits]\nshutdown_timeout = \"500ms\"\n[keys]\nprimary = \"{KEY}\"\n{OPEN}");
    let mut server = Server::configured(&config);
    let path = "/api/hubs/chat/:send";
    let mut sign = hubwire(&["token", "--for", "rest", "--path", path]);
    let token = run(sign.env("HUBWIRE_KEYS__PRIMARY", KEY)).good();
    let mut slow = TcpStream::connect(server.data).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nExpect: 100-continue\r\n");
    slow.write_all(format!("{head}Authorization: Bearer {}\r\n\r\n", token.trim()).as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    within("the word to go on", slow.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(3));
    let last = server.log().pop().unwrap();
    assert_eq!(last["message"], "stopped, with calls, requests or connections cut that had not ended in time");
}

#[tokio::test]
async fn who_hangs_on_to_the_admin_address_is_not_in_the_status() {
    let mut server = Server::preset();
    let mut slow = TcpStream::connect(server.admin).await.unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /metrics HTTP/1.1\r\nHost").await.unwrap();
    let mut answer = [0; 12];
    within("an answer", slow.read_exact(&mut answer)).await.unwrap();
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn nobody_new_gets_in_while_calls_finish() {
    let mut server = Server::preset_with(&["--drain-timeout", "30s"]);
    let mut client = server.connect("/hubs/chat").await;
    stream(&mut client, 30, 100).await;
    server.signal("TERM");
    let negotiate = || crate::program::request(server.data, "POST", "/hubs/chat/negotiate?negotiateVersion=1", "");
    eventually!(negotiate().await.status == 503);
    let (items, _) = client.stream_end("s").await;
    assert_eq!(items.last(), Some(&json!(30)));
    sent_elsewhere(&mut client).await;
    assert_eq!(server.ended().await.code(), Some(0));
    let refused = TcpStream::connect(server.data).await;
    assert!(refused.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn who_watches_a_group_is_not_waited_for() {
    let mut server = Server::configured(&format!("[server]\ndrain_timeout = \"1h\"\n{OPEN}"));
    let mut client = server.connect("/hubs/chat").await;
    client.call("JoinGroup", json!(["g"])).await.unwrap();
    client.say(json!({ "type": 4, "invocationId": "s", "target": "PresenceChanges", "arguments": ["g"] })).await;
    client.first("who is there", |message| message.kind() == 2).await;
    server.signal("TERM");
    let (messages, code) = client.until_end().await;
    let seen: Vec<_> = messages.into_iter().map(|message| message.json).collect();
    let end = [json!({ "type": 3, "invocationId": "s" }), json!({ "type": 7, "allowReconnect": true })];
    assert_eq!((&*seen, code), (&end[..], Some(1000)));
    assert_eq!(server.ended().await.code(), Some(0));
}

/// Opens a connection over HTTP, and gives where its requests go.
async fn negotiate(server: &Server) -> String {
    let answer = post(server.data, "POST", "/hubs/chat/negotiate?negotiateVersion=1", "", "").await.json();
    format!("/hubs/chat?id={}", answer["connectionToken"].as_str().expect("a token"))
}

#[tokio::test]
async fn clients_over_http_hear_it_too() {
    let mut server = Server::preset();
    let handshake = "{\"protocol\":\"json\",\"version\":1}\u{1e}";
    let polled = negotiate(&server).await;
    assert_eq!(get(server.data, &polled).await.status, 200);
    post(server.data, "POST", &polled, "", handshake).await;
    assert_eq!(get(server.data, &polled).await.text(), "{}\u{1e}");

    let streamed = negotiate(&server).await;
    let mut events = TcpStream::connect(server.data).await.unwrap();
    let request = format!("GET {streamed} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n");
    events.write_all(request.as_bytes()).await.unwrap();
    eventually!(post(server.data, "POST", &streamed, "", handshake).await.status == 200);

    server.signal("TERM");
    let goodbye = "{\"type\":7,\"allowReconnect\":true}\u{1e}";
    eventually!(get(server.data, &polled).await.text().contains(goodbye));
    assert_eq!(get(server.data, &polled).await.status, 204, "that was the last");
    let mut heard = String::new();
    within("the end of the event stream", events.read_to_string(&mut heard)).await.unwrap();
    assert!(heard.contains(goodbye), "{heard}");
    assert_eq!(server.ended().await.code(), Some(0));
}
