//! Cases from the field (`spec/field-cases.md`): odd inputs that broke servers and clients of this kind.
//!
//! "Ends at most its sender" means that a call error and the end of that connection are both right, and that any other
//! connection goes on unharmed.

use crate::support::hub::{Client, Event, Message, PROTOCOLS, Protocol, encode, invocation_mp, record};
use crate::support::msgpack::{Mp, framed, unhex};
use crate::support::server::TestServer;
use crate::support::ws::{self, BINARY, CONTINUATION, Frame, PING, PONG, RawPeer, Received, TEXT};
use crate::support::{PATIENCE, guard, guard_for, http, skipped, within};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test]
async fn upgrade_finds_its_word_in_a_list_of_any_case() {
    guard(async {
        let server = TestServer::ours();
        let connections = [
            "Connection: keep-alive, Upgrade\r\n",
            "Connection: upgrade\r\n",
            "Connection: keep-alive ,UPGRADE\r\n",
            "Connection: keep-alive\r\nConnection: Upgrade\r\n",
            "connection: Upgrade\r\nConnection: keep-alive\r\n",
        ];
        for connection in connections {
            opens_and_echoes(&server, &format!("{connection}Upgrade: websocket\r\n")).await;
        }
    })
    .await;
}

#[tokio::test]
async fn upgrade_takes_its_protocol_in_any_case_and_among_others() {
    guard(async {
        let server = TestServer::ours();
        for protocols in ["WebSocket", "WEBSOCKET", "h2c, websocket", "websocket, h2c"] {
            opens_and_echoes(&server, &format!("Connection: Upgrade\r\nUpgrade: {protocols}\r\n")).await;
        }
        opens_and_echoes(&server, "Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n").await;
    })
    .await;
}

async fn opens_and_echoes(server: &TestServer, headers: &str) {
    let mut peer = RawPeer::tcp(server).await;
    peer.send(ws::upgrade_request_with("/conformance", headers)).await.expect("the server reads");
    let head = peer.response_head().await.expect("an answer");
    assert_eq!(head.status, 101, "{headers:?}: {head:?}");
    assert_eq!(head.header("sec-websocket-accept"), Some(ws::ACCEPT));
    assert!(head.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")), "{head:?}");
    assert!(head.header("sec-websocket-extensions").is_none() && head.header("sec-websocket-protocol").is_none());
    assert!(head.header("transfer-encoding").is_none() && head.header("content-length").is_none(), "{head:?}");
    Client::over(peer, Protocol::Json).await.settle().await;
}

/// No extension and no sub-protocol is ever chosen, whatever is offered.
#[tokio::test]
async fn upgrade_offers_are_declined() {
    guard(async {
        let offers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: mqtt, json\r\n\
                      Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
                      Origin: https://elsewhere.example\r\n";
        opens_and_echoes(&TestServer::ours(), offers).await;
    })
    .await;
}

#[tokio::test]
async fn upgrade_handshake_and_call_right_behind_the_request() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let call = json!({"type": 1, "invocationId": "1", "target": "Echo", "arguments": ["early"]});
            let mut bytes = ws::upgrade_request("/conformance").into_bytes();
            bytes.extend(protocol.frame(protocol.handshake()).encode());
            bytes.extend(protocol.frame(encode(protocol, &call)).encode());
            let mut peer = RawPeer::tcp(&server).await;
            peer.send(bytes).await.expect("the server reads");
            let head = peer.expect_upgrade().await;
            assert!(head.header("transfer-encoding").is_none(), "{head:?}");
            let mut client = Client::silent(peer, protocol);
            client.meet().await;
            assert_eq!(client.outcome("1").await, Ok(json!("early")));
            client.settle().await;
        }
    })
    .await;
}

/// The same with everything in one read up to a byte of the call, which comes later.
#[tokio::test]
async fn upgrade_with_half_a_frame_right_behind_the_request() {
    guard(async {
        let server = TestServer::ours();
        let mut bytes = ws::upgrade_request("/conformance").into_bytes();
        let head = bytes.len();
        bytes.extend(Protocol::Json.frame(Protocol::Json.handshake()).encode());
        for cut in [head + 1, head + 2, head + 5, head + 6, head + 20, bytes.len() - 1] {
            let mut peer = RawPeer::tcp(&server).await;
            peer.send(&bytes[..cut]).await.expect("the server reads");
            peer.expect_upgrade().await;
            peer.send(&bytes[cut..]).await.expect("the server reads");
            let mut client = Client::silent(peer, Protocol::Json);
            client.meet().await;
            client.settle().await;
        }
    })
    .await;
}

#[tokio::test]
async fn negotiate_that_also_offers_an_upgrade_stays_a_post() {
    guard(async {
        let server = TestServer::ours();
        let offers = [
            "Connection: upgrade\r\n",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        ];
        for offer in offers {
            for body in ["", "x=1&y=2"] {
                let request = format!(
                    "POST /conformance/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: test\r\n{offer}Content-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let mut peer = RawPeer::tcp(&server).await;
                peer.send(&request).await.expect("the server reads");
                let response = peer.response().await.expect("an answer");
                assert_eq!(response.status, 200, "{offer:?} {response:?}");
                assert_eq!(response.json()["negotiateVersion"], 1, "{response:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn negotiate_over_http_1_0_is_answered_whole_and_closed() {
    guard(async {
        let server = TestServer::ours();
        for extra in ["", "Host: test\r\n", "Host: test\r\nConnection: close\r\n"] {
            let request =
                format!("POST /conformance/negotiate?negotiateVersion=1 HTTP/1.0\r\n{extra}Content-Length: 0\r\n\r\n");
            let mut peer = RawPeer::tcp(&server).await;
            peer.send(&request).await.expect("the server reads");
            let response = peer.response().await.expect("an answer");
            assert_eq!(response.status, 200, "{response:?}");
            assert_eq!(response.header("transfer-encoding"), None, "nothing is chunked: {response:?}");
            assert!(response.json()["connectionToken"].is_string(), "{response:?}");
            assert_eq!(peer.recv().await, Received::Eof, "the answer ends by closing");
        }
    })
    .await;
}

#[tokio::test]
async fn a_slash_at_the_end_of_the_hub_url_is_the_same_hub() {
    guard(async {
        let server = TestServer::ours();
        let answer = http::negotiate(&server, "/conformance", "?negotiateVersion=1").await;
        let token = answer["connectionToken"].as_str().expect("a token");
        let peer = RawPeer::open(&server, &format!("/conformance/?id={token}")).await;
        let mut client = Client::over(peer, Protocol::Json).await;
        assert_eq!(Some(client.id.as_str()), answer["connectionId"].as_str());
        client.settle().await;
        let peer = RawPeer::open(&server, "/conformance/").await;
        let mut client = Client::over(peer, Protocol::MessagePack).await;
        client.settle().await;
        let response = http::request(&server, "POST", "/conformance/negotiate/?negotiateVersion=1", "", b"").await;
        assert_eq!(response.status, 200, "{response:?}");
    })
    .await;
}

#[tokio::test]
async fn query_values_are_decoded_as_forms_are() {
    guard(async {
        let server = TestServer::ours();
        let query = "a=x%2By&b=x+y&c=%E2%98%83%F0%9F%98%80&d=p=q/r?s&e=&f=100%25";
        let mut client =
            Client::over(RawPeer::open(&server, &format!("/conformance?{query}")).await, Protocol::Json).await;
        let who = client.call("WhoAmI", json!([])).await.expect("WhoAmI");
        let wanted = json!({"a": "x+y", "b": "x y", "c": "☃😀", "d": "p=q/r?s", "e": "", "f": "100%"});
        assert_eq!(who["query"], wanted);
        assert_eq!(who["transport"], "WebSockets");
        assert_eq!(who["connectionId"], client.id);
    })
    .await;
}

/// Whoever may not read an answer here cannot negotiate at all. A preflight never carries a token, so a guarded hub answers it as well.
#[tokio::test]
async fn cors_answers_any_origin_with_credentials() {
    guard(async {
        let server = TestServer::ours();
        for origin in ["null", "https://app.example", "http://localhost:3000"] {
            let headers = format!("Origin: {origin}\r\n");
            let path = "/conformance/negotiate?negotiateVersion=1";
            let response = http::request(&server, "POST", path, &headers, b"").await;
            assert_eq!(response.status, 200, "{response:?}");
            assert_eq!(response.header("access-control-allow-origin"), Some(origin), "{response:?}");
            assert_eq!(response.header("access-control-allow-credentials"), Some("true"), "{response:?}");
            for method in ["GET", "POST", "DELETE"] {
                let headers = format!(
                    "{headers}Access-Control-Request-Method: {method}\r\n\
                     Access-Control-Request-Headers: authorization,x-requested-with,x-signalr-user-agent\r\n"
                );
                for hub in ["/conformance", "/conformance-auth"] {
                    let response = http::request(&server, "OPTIONS", &format!("{hub}?id=x"), &headers, b"").await;
                    assert!(matches!(response.status, 200 | 204), "{response:?}");
                    assert_eq!(response.header("access-control-allow-origin"), Some(origin), "{response:?}");
                    assert_eq!(response.header("access-control-allow-credentials"), Some("true"), "{response:?}");
                    let allowed = response.header("access-control-allow-methods").unwrap_or_default().to_uppercase();
                    // GET and POST need no leave.
                    assert!(method != "DELETE" || allowed.contains(method), "{response:?}");
                    let headers = response.header("access-control-allow-headers").unwrap_or_default().to_lowercase();
                    assert!(headers.contains("x-signalr-user-agent"), "{response:?}");
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn two_targets_never_mix_two_methods() {
    guard(async {
        let server = TestServer::ours();
        let texts = [
            r#"{"type":1,"invocationId":"1","target":"Add","arguments":[1,2],"target":"Throw"}"#,
            r#"{"type":1,"target":"Add","invocationId":"1","arguments":[1,2],"target":"Throw"}"#,
            r#"{"target":"Add","arguments":[1,2],"target":"Throw","type":1,"invocationId":"1"}"#,
        ];
        for text in texts {
            let mut client = Client::json(&server).await;
            client.send(record(text)).await;
            match client.event().await {
                Event::Message(message) if message.kind() == 3 => {
                    let refused = message.error();
                    assert!(
                        refused.starts_with("Failed to invoke 'Throw' due to an error on the server."),
                        "{message:?}"
                    );
                }
                Event::Message(message) => assert_eq!(message.kind(), 7, "{message:?}"),
                end => assert!(matches!(end, Event::Closed(..)), "{end:?}"),
            }
        }
        // The same with a method of one argument on either side: the last one wins, or the message is refused.
        let mut client = Client::json(&server).await;
        client
            .send(record(r#"{"type":1,"invocationId":"1","target":"Throw","arguments":["x"],"target":"Echo"}"#))
            .await;
        match client.event().await {
            Event::Message(message) if message.kind() == 3 => assert_eq!(message.json["result"], "x", "{message:?}"),
            other => println!("refused: {other:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn sixty_four_bit_integers_keep_their_digits() {
    guard(async {
        let server = TestServer::ours();
        let mut client = Client::json(&server).await;
        let numbers = "[9007199254740993,-9223372036854775808,18446744073709551615]";
        client.send(record(&format!(r#"{{"type":1,"invocationId":"1","target":"Echo","arguments":[{numbers}]}}"#))).await;
        let completion = client.completion("1").await;
        assert!(completion.text().contains(numbers), "{}", completion.text());
        // One bound to a 64-bit field is exact to the ends of the range.
        let types = |long: &str, int: &str| {
            format!(
                r#"{{"text":"t","int":{int},"long":{long},"float":1.5,"bool":true,"bytes":"AQID","list":[1],"map":{{"a":"b"}},"nothing":null}}"#
            )
        };
        for long in ["9223372036854775807", "-9223372036854775808", "9007199254740993", "0"] {
            let completion = typed(&mut client, &types(long, "1")).await;
            assert!(completion.text().contains(&format!(r#""long":{long},"#)), "{}", completion.text());
        }
        for (long, int) in [
            ("9223372036854775808", "1"),
            ("-9223372036854775809", "1"),
            ("1e30", "1"),
            ("1", "2147483648"),
            ("1", "-2147483649"),
            ("1", "1.5"),
            ("1", r#""1""#),
            ("1", "null"),
        ] {
            let completion = typed(&mut client, &types(long, int)).await;
            assert!(completion.error().starts_with("Failed to invoke 'Types'"), "{long} {int}: {}", completion.text());
            client.settle().await;
        }
    })
    .await;
}

async fn typed(client: &mut Client, object: &str) -> Message {
    client.send(record(&format!(r#"{{"type":1,"invocationId":"t","target":"Types","arguments":[{object}]}}"#))).await;
    client.completion("t").await
}

#[tokio::test]
async fn half_a_surrogate_pair_harms_its_sender_at_most() {
    guard(async {
        let server = TestServer::ours();
        let mut receivers = receivers(&server, "surrogates").await;
        for half in [r#""\ud800""#, r#"{"\udc00":"x\ud83d"}"#, r#""\ud83d\ud83d""#] {
            let texts = [
                format!(r#"{{"type":1,"invocationId":"1","target":"ToGroup","arguments":["surrogates",{half}]}}"#),
                format!(r#"{{"type":1,"invocationId":"1","target":"Echo","arguments":[{half}]}}"#),
                format!(r#"{{"type":1,"invocationId":"1","target":{half},"arguments":[]}}"#),
                format!(r#"{{"type":1,"invocationId":"1","target":"Join","arguments":[{half}]}}"#),
                format!(r#"{{"type":1,"invocationId":"1","target":"Throw","arguments":[{half}]}}"#),
                format!(r#"{{"type":1,"invocationId":{half},"target":"Echo","arguments":[1]}}"#),
                format!(r#"{{"type":3,"invocationId":"1","error":{half}}}"#),
            ];
            for text in texts {
                let mut sender = Client::json(&server).await;
                sender.send(record(&text)).await;
                settle_or_end(&mut sender).await;
            }
        }
        // The error with which an upload ends reaches a method.
        let mut sender = Client::json(&server).await;
        let upload =
            json!({"type": 1, "invocationId": "1", "target": "UploadError", "arguments": [], "streamIds": ["a"]});
        sender.say(upload).await;
        sender.send(record(r#"{"type":3,"invocationId":"a","error":"\ud800"}"#)).await;
        settle_or_end(&mut sender).await;
        for receiver in &mut receivers {
            receiver.settle().await;
        }
    })
    .await;
}

/// JSON and MessagePack members of a group.
async fn receivers(server: &TestServer, group: &str) -> Vec<Client> {
    let mut receivers = Vec::new();
    for protocol in [Protocol::Json, Protocol::MessagePack, Protocol::Json] {
        let mut receiver = Client::connect(server, "/conformance", protocol).await;
        receiver.call("Join", json!([group])).await.expect("joined");
        receivers.push(receiver);
    }
    receivers
}

/// Makes sure that what a client said was dealt with: it still gets answers, or its connection has ended.
async fn settle_or_end(client: &mut Client) -> bool {
    client.say(json!({"type": 1, "invocationId": "settled", "target": "Echo", "arguments": [0]})).await;
    loop {
        match client.event().await {
            Event::Message(message) if message.id() == "settled" => return true,
            Event::Message(_) => {}
            Event::Closed(..) | Event::Eof | Event::Reset => return false,
        }
    }
}

#[tokio::test]
async fn what_a_receivers_encoding_cannot_hold_does_not_cut_it() {
    guard(async {
        let server = TestServer::ours();
        let mut receivers = receivers(&server, "mixed").await;
        let deep = (0..70).fold(Mp::Nil, |inner, _| Mp::Array(vec![inner]));
        let deep_map = (0..70).fold(Mp::Nil, |inner, _| Mp::Map(vec![(Mp::str("k"), inner)]));
        let values = [
            Mp::F64(f64::NAN),
            Mp::F32(f32::NAN),
            Mp::F64(f64::INFINITY),
            Mp::F64(f64::NEG_INFINITY),
            Mp::Map(vec![(Mp::str("x"), Mp::Array(vec![Mp::F64(f64::NAN)]))]),
            deep,
            deep_map,
            Mp::Ext(5, vec![7]),
            Mp::Raw(unhex("a2fffe")),
            Mp::Raw(unhex("81c001")),
            Mp::Raw(unhex("8190 01")),
            Mp::Raw(unhex("82a16101a16102")),
        ];
        for value in values {
            let mut sender = Client::messagepack(&server).await;
            let arguments = vec![Mp::str("mixed"), value];
            sender.send(invocation_mp(1, "1", "ToGroup", arguments, &[])).await;
            settle_or_end(&mut sender).await;
        }
        let texts = ["1e999".to_owned(), "-1e999".to_owned(), "9".repeat(400), format!("0.{}", "7".repeat(400))];
        for number in texts {
            let mut sender = Client::json(&server).await;
            let call = format!(r#"{{"type":1,"invocationId":"1","target":"ToGroup","arguments":["mixed",{number}]}}"#);
            sender.send(record(&call)).await;
            settle_or_end(&mut sender).await;
        }
        for receiver in &mut receivers {
            receiver.settle().await;
        }
        // And the group still works, for every kind of member.
        let mut sender = Client::messagepack(&server).await;
        sender.call("ToGroup", json!(["mixed", "after"])).await.expect("sent");
        for receiver in &mut receivers {
            receiver.first("the last message", |m| m.target() == "message" && m.arguments()[1] == "after").await;
        }
    })
    .await;
}

#[tokio::test]
async fn messagepack_timestamps_keep_their_instant() {
    guard(async {
        let server = TestServer::ours();
        let mut client = Client::messagepack(&server).await;
        let mut receiver = Client::json(&server).await;
        let cases = [
            ("d6ff5af0fa00", "2018-05-08T01:14:40"),
            ("d7ff000000005af0fa00", "2018-05-08T01:14:40"),
            ("d7ff773594005af0fa00", "2018-05-08T01:14:40.5"),
            ("c70cff1dcd6500ffffffffffffffff", "1969-12-31T23:59:59.5"),
        ];
        for (bytes, text) in cases {
            let wanted = instant(&Mp::decode(&mut unhex(bytes).as_slice()).expect("a timestamp"));
            let completion = client.call_mp("Echo", vec![Mp::Raw(unhex(bytes))]).await;
            assert_eq!(completion.error(), "", "{bytes}");
            assert_eq!(instant(completion.item(4)), wanted, "{bytes} came back as {}", completion.item(4));
            let arguments = vec![Mp::str(&receiver.id), Mp::Raw(unhex(bytes))];
            assert_eq!(client.call_mp("ToConnection", arguments).await.error(), "", "{bytes}");
            let message = receiver.target("message").await;
            let said =
                message.arguments()[1].as_str().unwrap_or_else(|| panic!("{bytes}: {}", message.text())).to_owned();
            let zone = said.strip_prefix(text).unwrap_or_else(|| panic!("{bytes} is {said}")).trim_start_matches('0');
            assert!(zone == "Z" || zone == "+00:00" || zone == ".0Z" || zone == "+0:00", "{bytes} is {said}");
        }
    })
    .await;
}

/// Seconds and nanoseconds of a timestamp in any of its three forms.
fn instant(value: &Mp) -> (i64, u32) {
    let Mp::Ext(-1, bytes) = value else { panic!("no timestamp: {value}") };
    match bytes.len() {
        4 => (u32::from_be_bytes(bytes[..].try_into().expect("4")).into(), 0),
        8 => {
            let both = u64::from_be_bytes(bytes[..].try_into().expect("8"));
            ((both & 0x3_ffff_ffff) as i64, (both >> 34) as u32)
        }
        12 => {
            let nanoseconds = u32::from_be_bytes(bytes[..4].try_into().expect("4"));
            (i64::from_be_bytes(bytes[4..].try_into().expect("8")), nanoseconds)
        }
        length => panic!("a timestamp of {length} bytes"),
    }
}

#[tokio::test]
async fn unknown_extensions_and_keys_that_are_no_strings() {
    guard(async {
        let server = TestServer::ours();
        let mut client = Client::messagepack(&server).await;
        for bytes in ["d40507", "c7032a010203", "c9000000010901"] {
            let completion = client.call_mp("Echo", vec![Mp::Raw(unhex(bytes))]).await;
            if completion.error().is_empty() {
                let sent = Mp::decode(&mut unhex(bytes).as_slice()).expect("an extension");
                assert_eq!(completion.item(4), &sent, "{bytes} came back otherwise");
            }
            client.settle().await;
        }
        let map = "8201a161cd0100a162";
        let completion = client.call_mp("Echo", vec![Mp::Raw(unhex(map))]).await;
        assert_eq!(completion.item(4), &Mp::decode(&mut unhex(map).as_slice()).expect("a map"));
        let mut receiver = Client::json(&server).await;
        let arguments = vec![Mp::str(&receiver.id), Mp::Raw(unhex(map))];
        assert_eq!(client.call_mp("ToConnection", arguments).await.error(), "");
        let message = receiver.target("message").await;
        assert_eq!(message.arguments()[1], json!({"1": "a", "256": "b"}));
    })
    .await;
}

#[tokio::test]
async fn a_refused_double_does_not_make_the_first_stream_unstoppable() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            client.say(json!({"type": 4, "invocationId": "f", "target": "Counter", "arguments": [1_000_000, 1]})).await;
            client.first("an item", |m| m.kind() == 2).await;
            client.say(json!({"type": 4, "invocationId": "f", "target": "Counter", "arguments": [1_000_000, 1]})).await;
            let refusal = client.completion("f").await;
            assert_eq!(refusal.error(), "Invocation ID 'f' is already in use.");
            client.say(json!({"type": 5, "invocationId": "f"})).await;
            let (_, end) = within("the end of the cancelled stream", client.stream_end("f")).await;
            assert_eq!(end.error(), "", "{end:?}");
            let rest = client.settle().await;
            assert!(rest.is_empty(), "the stream went on: {} messages", rest.len());
        }
    })
    .await;
}

/// Seen under hostile load: of 10,000 streams under one id the reference refused every second one.
#[tokio::test]
async fn ten_thousand_streams_under_one_id_are_refused_but_one() {
    guard(async {
        let server = TestServer::ours();
        let mut client = Client::json(&server).await;
        let call = json!({"type": 4, "invocationId": "f", "target": "Counter", "arguments": [1_000_000, 5]});
        let bytes = encode(Protocol::Json, &call);
        for _ in 0..100 {
            client.send(bytes.repeat(100)).await;
        }
        let (mut refusals, mut items) = (0, 0);
        while refusals < 9_999 {
            let Event::Message(message) = client.event().await else { panic!("the connection ended") };
            match message.kind() {
                2 => items += 1,
                _ => {
                    assert_eq!(message.error(), "Invocation ID 'f' is already in use.");
                    refusals += 1;
                }
            }
            assert!(items < 20_000, "several streams run: {items} items, {refusals} refusals");
        }
        client.say(json!({"type": 5, "invocationId": "f"})).await;
        let end = client.completion("f").await;
        assert_eq!(end.error(), "");
        let after: Vec<Message> = client.settle().await.into_iter().filter(|m| m.kind() == 3).collect();
        assert!(after.is_empty(), "completions beyond the ten thousand: {after:?}");
        assert!(client.settle().await.is_empty(), "the stream goes on");
    })
    .await;
}

#[tokio::test]
async fn one_id_for_two_uploads_of_a_call_is_refused() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            let call =
                json!({"type": 1, "invocationId": "1", "target": "Join2", "arguments": [], "streamIds": ["a", "a"]});
            client.say(call).await;
            match client.event().await {
                Event::Message(message) if message.kind() == 3 => {
                    assert_ne!(message.error(), "", "{message:?}");
                    client.settle().await;
                }
                Event::Message(message) => assert_eq!(message.kind(), 7, "{message:?}"),
                end => assert!(matches!(end, Event::Closed(..)), "{end:?}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_second_call_cannot_take_over_an_open_upload() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            let upload =
                |id: &str| json!({"type": 1, "invocationId": id, "target": "Sum", "arguments": [], "streamIds": ["a"]});
            client.say(upload("1")).await;
            client.say(json!({"type": 2, "invocationId": "a", "item": 1})).await;
            client.say(upload("2")).await;
            client.say(json!({"type": 2, "invocationId": "a", "item": 2})).await;
            client.say(json!({"type": 3, "invocationId": "a"})).await;
            let mut sum = None;
            let mut refused = false;
            while sum.is_none() || !refused {
                match client.event().await {
                    Event::Message(message) if message.id() == "1" => sum = Some(message.json["result"].clone()),
                    Event::Message(message) if message.id() == "2" => {
                        assert_ne!(message.error(), "", "the second call took the stream: {message:?}");
                        refused = true;
                    }
                    // A protocol error is right too.
                    Event::Message(message) if message.kind() == 7 => return,
                    Event::Message(_) => {}
                    end => panic!("{end:?} without a Close"),
                }
            }
            assert_eq!(sum, Some(json!(3)));
            client.settle().await;
        }
    })
    .await;
}

#[tokio::test]
async fn open_uploads_survive_client_results() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            for id in 1..=30 {
                let streams = [id.to_string()];
                let call = format!("u{id}");
                client
                    .say(json!({"type": 1, "invocationId": call, "target": "Sum", "arguments": [], "streamIds": streams}))
                    .await;
            }
            for question in 0..10 {
                let asking = client.start("Ask", json!([client.id, question.to_string()])).await;
                let asked = client.target("answer").await;
                let id = asked.id().to_owned();
                assert!(id.parse::<u32>().is_err(), "an id that a client might choose for a stream: {id}");
                client.say(json!({"type": 3, "invocationId": id, "result": format!("a{question}")})).await;
                assert_eq!(client.outcome(&asking).await, Ok(json!(format!("a{question}"))));
            }
            for id in 1..=30 {
                client.say(json!({"type": 2, "invocationId": id.to_string(), "item": id})).await;
                client.say(json!({"type": 3, "invocationId": id.to_string()})).await;
                assert_eq!(client.outcome(&format!("u{id}")).await, Ok(json!(id)));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_large_message_in_fragments_with_pings_between_is_one_message() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            let text = "x".repeat(30_000);
            let call =
                encode(protocol, &json!({"type": 1, "invocationId": "big", "target": "Echo", "arguments": [text]}));
            let opcode = if protocol == Protocol::Json { TEXT } else { BINARY };
            for size in [1, 125, 126, 1000, 65_536] {
                let mut wire = Vec::new();
                wire.extend(Frame::new(opcode, []).unfinished().encode());
                for (index, piece) in call.chunks(size).enumerate() {
                    wire.extend(Frame::new(CONTINUATION, piece).unfinished().encode());
                    if index % 50 == 0 {
                        wire.extend(Frame::new(PING, index.to_string()).encode());
                        wire.extend(Frame::new(CONTINUATION, []).unfinished().encode());
                    }
                }
                wire.extend(Frame::new(CONTINUATION, []).encode());
                client.peer.send(&wire).await.expect("the server reads");
                assert_eq!(client.outcome("big").await, Ok(json!(text)), "fragments of {size}");
            }
        }
    })
    .await;
}

/// A ping is answered at once with its own payload, also between the fragments of a message.
#[tokio::test]
async fn pings_are_answered_between_fragments() {
    guard(async {
        let server = TestServer::ours();
        let mut peer = RawPeer::open(&server, "/conformance").await;
        let handshake = Protocol::Json.handshake();
        peer.frame(&Frame::text(&handshake[..5]).unfinished()).await.expect("the server reads");
        peer.frame(&Frame::new(PING, *b"between")).await.expect("the server reads");
        let Received::Frame(pong) = peer.recv().await else { panic!("no pong") };
        assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, b"between".as_slice()));
        peer.frame(&Frame::new(CONTINUATION, &handshake[5..])).await.expect("the server reads");
        let mut client = Client::silent(peer, Protocol::Json);
        client.meet().await;
        client.settle().await;
    })
    .await;
}

/// Seen under hostile load: the reference accepts them; RFC 6455, 5.1, ends the connection.
#[tokio::test]
async fn unmasked_frames_end_the_connection_even_empty_and_control_frames() {
    guard(async {
        let server = TestServer::ours();
        let frames = [
            Frame::new(PING, *b"x"),
            Frame::new(PING, []),
            Frame::new(PONG, []),
            Frame::text([]),
            Frame::binary([]),
            Frame::text(record(r#"{"type":6}"#)),
            Frame::close(1000, ""),
        ];
        for frame in frames {
            let mut client = Client::json(&server).await;
            client.peer.frame(&frame.clone().unmasked()).await.expect("the server reads");
            let (messages, code) = client.until_end().await;
            assert!(messages.iter().all(|m| m.kind() == 7), "{frame:?}: {messages:?}");
            assert!(matches!(code, None | Some(1002)), "{frame:?}: {code:?}");
        }
    })
    .await;
}

/// With all invocation slots taken the reference reads nothing more from that client.
#[tokio::test]
async fn a_stream_can_be_cancelled_while_all_slots_are_taken() {
    guard(async {
        let server = TestServer::ours();
        let mut client = Client::json(&server).await;
        client.say(json!({"type": 4, "invocationId": "f", "target": "Forever", "arguments": []})).await;
        client.first("an item", |m| m.kind() == 2).await;
        for call in 0..4 {
            client
                .say(json!({"type": 1, "invocationId": format!("s{call}"), "target": "Slow", "arguments": [3000]}))
                .await;
        }
        let begun = Instant::now();
        client.say(json!({"type": 5, "invocationId": "f"})).await;
        client.completion("f").await;
        let taken = begun.elapsed();
        assert!(taken < Duration::from_millis(2500), "the cancellation waited {taken:?} for the calls before it");
    })
    .await;
}

async fn resumable(server: &TestServer) -> Option<(Client, String)> {
    let query = "?negotiateVersion=1&useStatefulReconnect=true";
    let answer = http::negotiate(server, "/conformance", query).await;
    if answer["useStatefulReconnect"] != true {
        skipped("stateful reconnect", "the server does not offer it");
        return None;
    }
    let path = format!("/conformance?id={}", answer["connectionToken"].as_str().expect("a token"));
    let mut client = Client::silent(RawPeer::open(server, &path).await, Protocol::Json);
    client.send(record(r#"{"protocol":"json","version":2}"#)).await;
    client.meet().await;
    Some((client, path))
}

/// Seen under hostile load: the reference needs 5 s for it, and answers the next one 404.
#[tokio::test]
async fn a_second_socket_takes_over_a_live_resumable_connection_at_once() {
    guard(async {
        let server = TestServer::ours();
        let Some((mut client, path)) = resumable(&server).await else { return };
        assert_eq!(client.call("Add", json!([1, 2])).await, Ok(json!(3)));
        let id = client.id.clone();
        let mut old = Vec::new();
        for round in 0..3 {
            let begun = Instant::now();
            let peer = RawPeer::open(&server, &path).await;
            assert!(begun.elapsed() < Duration::from_secs(2), "round {round} took {:?}", begun.elapsed());
            old.push(std::mem::replace(&mut client.peer, peer));
            // Sequence first, then what was not acknowledged, then whatever is new.
            client.first("Sequence", |m| m.kind() == 9).await;
            // nothing is said again: one call came before the first round, and one in each
            client.say(json!({"type": 9, "sequenceId": round + 2})).await;
            let who = client.call("WhoAmI", json!([])).await.expect("WhoAmI");
            assert_eq!(who["connectionId"], id);
        }
        for mut peer in old {
            peer.until_end().await;
        }
    })
    .await;
}

/// One receiver that never acknowledges holds up its whole group in the reference.
#[tokio::test]
async fn a_receiver_that_never_acknowledges_holds_up_nobody() {
    guard(async {
        let server = TestServer::ours();
        let Some((mut deaf, _)) = resumable(&server).await else { return };
        deaf.call("Join", json!(["unacknowledged"])).await.expect("joined");
        let mut members = receivers(&server, "unacknowledged").await;
        let mut sender = Client::json(&server).await;
        let text = "x".repeat(10_000);
        for number in 0..40 {
            let sent =
                tokio::time::timeout(PATIENCE / 2, sender.call("ToGroup", json!(["unacknowledged", [number, text]])));
            assert_eq!(sent.await.expect("the group is held up"), Ok(Value::Null));
        }
        for member in &mut members {
            for number in 0..40 {
                assert_eq!(member.target("message").await.arguments()[1][0], number);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn chunk_extensions_without_end_are_not_read_for_ever() {
    guard_for(Duration::from_secs(120), async {
        let server = TestServer::ours();
        let answer = http::negotiate(&server, "/conformance", "?negotiateVersion=1").await;
        let token = answer["connectionToken"].as_str().expect("a token");
        for path in ["/conformance/negotiate?negotiateVersion=1".to_owned(), format!("/conformance?id={token}")] {
            let mut peer = RawPeer::tcp(&server).await;
            let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1;");
            peer.send(head).await.expect("the server reads");
            let extension = vec![b'x'; 64 * 1024];
            let mut taken = 0;
            let limit = 64 << 20;
            while taken < limit {
                match peer.push_without_reading(&extension, Duration::from_secs(2)).await {
                    0 => break,
                    length => taken += length,
                }
            }
            println!("{taken} bytes of a chunk extension were taken");
            assert!(taken < limit, "{taken} bytes of a chunk extension were taken, and there is no end");
        }
        Client::json(&server).await.settle().await;
    })
    .await;
}

/// A message that says `framed` in a text frame and JSON in a binary one: the kind of frame means nothing.
#[tokio::test]
async fn json_may_come_in_binary_frames() {
    guard(async {
        let server = TestServer::ours();
        let mut client = Client::silent(RawPeer::open(&server, "/conformance").await, Protocol::Json);
        client.peer.frame(&Frame::binary(Protocol::Json.handshake())).await.expect("the server reads");
        client.meet().await;
        let call = json!({"type": 1, "invocationId": "1", "target": "Echo", "arguments": ["binary"]});
        client.peer.frame(&Frame::binary(encode(Protocol::Json, &call))).await.expect("the server reads");
        let completion = client.completion("1").await;
        assert_eq!((completion.opcode, &completion.json["result"]), (TEXT, &json!("binary")));
        let mut client = Client::messagepack(&server).await;
        // A ping is the only MessagePack message that is ASCII all through but for its head; framed it is 02 91 06.
        client.send(framed(&unhex("9106"))).await;
        client.settle().await;
    })
    .await;
}
