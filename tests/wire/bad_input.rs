//! Hostile input: what happens to the offender, and that a neighbour notices nothing.

use crate::support::hub::{Client, Event, Message, PROTOCOLS, Protocol, encode, invocation_mp, record};
use crate::support::msgpack::{Mp, framed, unhex, varint};
use crate::support::rng::Rng;
use crate::support::server::TestServer;
use crate::support::ws::{self, BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, RawPeer, Received, TEXT};
use crate::support::{guard, within};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A connection that was there before the offender and calls Echo all the while.
struct Neighbour {
    stop: oneshot::Sender<()>,
    task: JoinHandle<(Client, usize, Duration)>,
}

impl Neighbour {
    async fn beside(server: &TestServer) -> Self {
        let mut client = Client::json(server).await;
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut echoes = 0;
            let mut longest = Duration::ZERO;
            while stopped.try_recv().is_err() {
                let begun = Instant::now();
                let rest = client.settle().await;
                assert!(rest.is_empty(), "the neighbour heard something: {rest:?}");
                longest = longest.max(begun.elapsed());
                echoes += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (client, echoes, longest)
        });
        Self { stop, task }
    }

    /// Asserts that every call was answered, before, during and after, and none of them late.
    async fn noticed_nothing(self) {
        self.stop.send(()).expect("the neighbour still calls");
        let (mut client, echoes, longest) =
            within("the neighbour", self.task).await.expect("the neighbour is unharmed");
        client.settle().await;
        println!("the neighbour's {echoes} echoes took {longest:?} at most");
        // The tests run side by side on few cores: this is to notice a server that is busy with one client alone.
        assert!(longest < Duration::from_secs(3), "the neighbour waited {longest:?}");
    }
}

/// Memory before and after, where it is our process.
struct Memory {
    server: TestServer,
    before: Option<u64>,
}

impl Memory {
    fn of(server: &TestServer) -> Self {
        Self { server: server.clone(), before: server.resident() }
    }

    /// Other tests share the process, so the limits are generous: they are to notice what grows with the input.
    fn grew_less_than(&self, megabytes: u64) {
        if let (Some(before), Some(after)) = (self.before, self.server.resident()) {
            let grown = after.saturating_sub(before) >> 20;
            println!("resident memory grew by {grown} MB");
            assert!(grown < megabytes, "resident memory grew by {grown} MB");
        }
    }
}

/// Sends bytes behind a handshake and asserts that the server ends the connection, with a Close at most.
async fn ends(server: &TestServer, what: &str, wire: &[u8], codes: &[u16]) {
    let mut client = Client::json(server).await;
    let _ = client.peer.send(wire).await;
    let (messages, code) = client.until_end().await;
    assert!(messages.iter().all(|m| m.kind() == 7), "{what}: {messages:?}");
    assert!(code.is_none_or(|code| codes.contains(&code)), "{what}: close code {code:?}");
}

#[tokio::test]
async fn frames_against_the_websocket_protocol_end_their_connection() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let ping = record(r#"{"type":6}"#);
        let mut cases: Vec<(String, Vec<u8>)> = Vec::new();
        for bits in 1..8 {
            cases.push((format!("reserved bits {bits:03b}"), Frame::text(ping.clone()).reserving(bits).encode()));
            cases.push((format!("reserved bits {bits:03b} in a ping"), Frame::new(PING, []).reserving(bits).encode()));
        }
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            cases.push((format!("opcode {opcode}"), Frame::new(opcode, ping.clone()).encode()));
            cases.push((format!("opcode {opcode}, empty"), Frame::new(opcode, []).encode()));
        }
        cases.push(("unmasked text".into(), Frame::text(ping.clone()).unmasked().encode()));
        for opcode in [PING, PONG, CLOSE] {
            cases.push((format!("fragmented control frame {opcode}"), Frame::new(opcode, []).unfinished().encode()));
            cases.push((format!("control frame {opcode} of 126 bytes"), Frame::new(opcode, vec![0; 126]).encode()));
            let long = Frame::new(opcode, vec![b'x'; 20]).announcing(1 << 40);
            cases.push((format!("control frame {opcode} of a terabyte"), long.encode()));
        }
        cases.push(("continuation without a start".into(), Frame::new(CONTINUATION, ping.clone()).encode()));
        let mut interrupted = Frame::text("{").unfinished().encode();
        interrupted.extend(Frame::text(ping.clone()).encode());
        cases.push(("a new message inside a message".into(), interrupted));
        let mut finished = Frame::text(ping.clone()).encode();
        finished.extend(Frame::new(CONTINUATION, []).encode());
        cases.push(("continuation behind the end".into(), finished));
        let negative = Frame::binary(b"x".as_slice()).announcing(1 << 63);
        cases.push(("a length with its highest bit set".into(), negative.encode()));
        let codes = [1000, 1002, 1009];
        for (what, wire) in &cases {
            ends(&server, what, wire, &codes).await;
        }
        neighbour.noticed_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn close_frames_against_the_protocol_end_their_connection() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let mut payloads: Vec<Vec<u8>> = vec![vec![3]];
        for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
            payloads.push(code.to_be_bytes().to_vec());
        }
        payloads.push([&1000u16.to_be_bytes()[..], b"\xff\xfe"].concat());
        for payload in payloads {
            let frame = Frame::new(CLOSE, payload.clone());
            ends(&server, &format!("close {payload:02x?}"), &frame.encode(), &[1000, 1002, 1007]).await;
        }
        neighbour.noticed_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn text_that_is_not_utf8_harms_its_sender_at_most() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let mut receiver = Client::json(&server).await;
        receiver.call("Join", json!(["utf8"])).await.expect("joined");
        let head = r#"{"type":1,"invocationId":"1","target":"ToGroup","arguments":["utf8",""#;
        for bad in [&b"\xff"[..], b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"] {
            for opcode in [TEXT, BINARY] {
                let mut client = Client::json(&server).await;
                let message = [head.as_bytes(), bad, b"\"]}\x1e"].concat();
                let _ = client.peer.frame(&Frame::new(opcode, message)).await;
                settle_or_end(&mut client).await;
            }
            let mut client = Client::messagepack(&server).await;
            let target = [&[0xa0 | bad.len() as u8], bad].concat();
            let body = [unhex("96 01 80 a131"), target, unhex("90 90")].concat();
            client.send(framed(&body)).await;
            settle_or_end(&mut client).await;
        }
        receiver.settle().await;
        neighbour.noticed_nothing().await;
    })
    .await;
}

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

/// Random bytes at each stage of a connection: as a request, behind the upgrade, as messages.
#[tokio::test]
async fn garbage_ends_at_most_its_sender() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let mut rng = Rng::announced("garbage_ends_at_most_its_sender");
        for round in 0..60 {
            let length = rng.below(3000) + 1;
            let garbage = rng.bytes(length);
            let mut peer = RawPeer::tcp(&server).await;
            let _ = peer.send(&garbage).await;
            peer.shut_down().await;
            while peer.response_head().await.is_some() {}
            let mut peer = RawPeer::open(&server, "/conformance").await;
            let _ = peer.send(&garbage).await;
            peer.shut_down().await;
            drop(peer);
            for protocol in PROTOCOLS {
                let mut client = Client::connect(&server, "/conformance", protocol).await;
                let _ = client.peer.frame(&Frame::binary(garbage.clone())).await;
                // A length that garbage announces may be waited for; a close frame ends that too.
                let _ = client.peer.frame(&Frame::close(1000, "")).await;
                let (messages, _) = client.until_end().await;
                assert!(messages.iter().all(|m| m.kind() == 7), "round {round}: {messages:?}");
            }
        }
        neighbour.noticed_nothing().await;
    })
    .await;
}

/// Correct messages with a few bytes changed, in both encodings.
#[tokio::test]
async fn mutated_messages_end_at_most_their_sender() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let mut rng = Rng::announced("mutated_messages_end_at_most_their_sender");
        let messages = [
            json!({"type": 1, "invocationId": "1", "target": "Echo", "arguments": [{"a": [1, "x", null, 2.5]}]}),
            json!({"type": 4, "invocationId": "2", "target": "Counter", "arguments": [3, 0]}),
            json!({"type": 1, "invocationId": "3", "target": "Sum", "arguments": [], "streamIds": ["s"]}),
            json!({"type": 2, "invocationId": "s", "item": 1}),
            json!({"type": 3, "invocationId": "s", "error": "x"}),
            json!({"type": 5, "invocationId": "2"}),
            json!({"type": 7, "error": "x", "allowReconnect": true}),
        ];
        for _ in 0..150 {
            for protocol in PROTOCOLS {
                let mut client = Client::connect(&server, "/conformance", protocol).await;
                let mut bytes: Vec<u8> = messages.iter().flat_map(|message| encode(protocol, message)).collect();
                for _ in 0..rng.below(4) + 1 {
                    let at = rng.below(bytes.len());
                    match rng.below(3) {
                        0 => bytes[at] = rng.bits() as u8,
                        1 => drop(bytes.remove(at)),
                        _ => bytes.insert(at, rng.bits() as u8),
                    }
                }
                let _ = client.peer.frame(&Frame::binary(bytes)).await;
                let _ = client.peer.frame(&Frame::close(1000, "")).await;
                client.until_end().await;
            }
        }
        neighbour.noticed_nothing().await;
    })
    .await;
}

/// Every prefix of a connection's bytes, then the end of the stream or a reset.
#[tokio::test]
async fn connections_that_break_off_anywhere_are_forgotten() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let mut wire = ws::upgrade_request("/conformance").into_bytes();
        wire.extend(Protocol::Json.frame(Protocol::Json.handshake()).encode());
        let call = json!({"type": 1, "invocationId": "1", "target": "Echo", "arguments": ["x".repeat(200)]});
        wire.extend(Protocol::Json.frame(encode(Protocol::Json, &call)).encode());
        for cut in (1..wire.len()).step_by(7) {
            let mut peer = RawPeer::tcp(&server).await;
            peer.send(&wire[..cut]).await.expect("the server reads");
            match cut % 3 {
                0 => peer.reset_on_drop(),
                1 => peer.shut_down().await,
                _ => {}
            }
        }
        neighbour.noticed_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn messages_over_the_limit_end_their_connection_before_they_are_read() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let memory = Memory::of(&server);
        // 64 MB in one frame, in many frames, in fragments: none of it may be held.
        let shapes = PROTOCOLS.into_iter().flat_map(|protocol| (0..3).map(move |shape| (protocol, shape)));
        join_all(shapes.map(|(protocol, shape)| pours_sixty_four_megabytes(&server, protocol, shape))).await;
        memory.grew_less_than(64);
        neighbour.noticed_nothing().await;
    })
    .await;
}

async fn pours_sixty_four_megabytes(server: &TestServer, protocol: Protocol, shape: u32) {
    const MEGABYTES: u64 = 64;
    let mut client = Client::connect(server, "/conformance", protocol).await;
    let chunk = vec![b'x'; 1 << 20];
    let opcode = protocol.frame([]).opcode;
    if protocol == Protocol::MessagePack {
        let head = [varint(MEGABYTES << 20), vec![0xc6]].concat();
        let _ = client.peer.frame(&Frame::new(opcode, head)).await;
    }
    if shape == 0 {
        let head = Frame::new(opcode, []).announcing(MEGABYTES << 20).encode();
        let _ = client.peer.send(head).await;
    }
    let mut taken = 0;
    for index in 0..MEGABYTES {
        let sent = match shape {
            0 => client.peer.send(&chunk).await,
            1 => client.peer.frame(&Frame::new(opcode, chunk.clone())).await,
            _ => {
                let opcode = if index == 0 { opcode } else { CONTINUATION };
                client.peer.frame(&Frame::new(opcode, chunk.clone()).unfinished()).await
            }
        };
        if sent.is_err() {
            break;
        }
        taken += 1;
    }
    let (messages, code) = client.until_end().await;
    assert!(messages.iter().all(|m| m.kind() == 7), "{messages:?}");
    println!("{} shape {shape}: {taken} MB were taken, close {code:?}", protocol.name());
    assert!(taken < MEGABYTES, "all {MEGABYTES} MB were taken");
}

/// A length is a promise of the client: it costs the server nothing until the bytes come.
#[tokio::test]
async fn declared_lengths_of_gigabytes_cost_nothing() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let memory = Memory::of(&server);
        let mut clients = Vec::new();
        for length in [1u64 << 20, 1 << 31, 1 << 32, 1 << 40, (1 << 63) - 1] {
            for protocol in PROTOCOLS {
                let mut client = Client::connect(&server, "/conformance", protocol).await;
                let frame = protocol.frame(vec![b'x'; 100]).announcing(length);
                let _ = client.peer.frame(&frame).await;
                clients.push(client);
            }
        }
        for length in [100_000u64, 1 << 30, (1 << 31) - 1] {
            let mut client = Client::messagepack(&server).await;
            let _ = client.peer.frame(&Frame::binary([varint(length), unhex("9601")].concat())).await;
            clients.push(client);
        }
        // Arrays, maps, texts and bytes that announce more than a message can hold, in place of the arguments or in them.
        for bytes in ["ddffffffff", "dfffffffff", "dbffffffff", "c6ffffffff", "c9ffffffff05", "dcffff", "deffff"] {
            for place in [unhex("96 01 80 a131 a44563686f"), unhex("96 01 80 a131 a44563686f 91"), unhex("96 01")] {
                let mut client = Client::messagepack(&server).await;
                client.send(framed(&[place, unhex(bytes)].concat())).await;
                settle_or_end(&mut client).await;
            }
            let mut client = Client::messagepack(&server).await;
            client.send(framed(&unhex(bytes))).await;
            assert!(!settle_or_end(&mut client).await, "{bytes} as a message is fatal");
        }
        memory.grew_less_than(64);
        drop(clients);
        neighbour.noticed_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_tiny_frames_is_dealt_with_beside_others() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let memory = Memory::of(&server);
        // A message of 30,000 bytes, each in a frame of its own.
        let mut client = Client::json(&server).await;
        let text = "x".repeat(30_000);
        let call =
            encode(Protocol::Json, &json!({"type": 1, "invocationId": "1", "target": "Echo", "arguments": [text]}));
        let wire: Vec<u8> = call.iter().flat_map(|byte| Frame::text([*byte]).encode()).collect();
        client.peer.send(&wire).await.expect("the server reads");
        assert_eq!(client.outcome("1").await, Ok(json!(text)));
        // The same in fragments of one byte, with an empty one between.
        let mut wire = Frame::text([]).unfinished().encode();
        for byte in &call {
            wire.extend(Frame::new(CONTINUATION, [*byte]).unfinished().encode());
            wire.extend(Frame::new(CONTINUATION, []).unfinished().encode());
        }
        wire.extend(Frame::new(CONTINUATION, []).encode());
        client.peer.send(&wire).await.expect("the server reads");
        assert_eq!(client.outcome("1").await, Ok(json!(text)));
        // 300,000 empty frames, empty fragments, and pongs nobody asked for.
        let empty = Frame::binary([]).encode().repeat(1000);
        let fragment = Frame::new(CONTINUATION, []).unfinished().encode().repeat(1000);
        let pong = Frame::new(PONG, []).encode().repeat(1000);
        for _ in 0..100 {
            client.peer.send(&empty).await.expect("the server reads");
            client.peer.send(&pong).await.expect("the server reads");
        }
        client.peer.send(Frame::text([]).unfinished().encode()).await.expect("the server reads");
        let mut refused = false;
        for _ in 0..100 {
            // A limit on fragments of one message is right too.
            refused |= client.peer.send(&fragment).await.is_err();
        }
        let _ = client.peer.send(Frame::new(CONTINUATION, []).encode()).await;
        assert!(settle_or_end(&mut client).await || refused, "ended by empty frames, without saying so");
        memory.grew_less_than(48);
        neighbour.noticed_nothing().await;
    })
    .await;
}

/// A client that pings and never reads the pongs must not make them pile up.
#[tokio::test]
async fn a_flood_of_pings_whose_pongs_nobody_reads_is_bounded() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let memory = Memory::of(&server);
        let mut client = Client::json(&server).await;
        let pings = Frame::new(PING, vec![b'x'; 125]).encode().repeat(8000);
        let mut taken = 0;
        // 64 MB, unless the server stops reading or ends it first; both are right.
        for _ in 0..64 {
            let sent = client.peer.push_without_reading(&pings, Duration::from_millis(500)).await;
            taken += sent;
            if sent < pings.len() {
                break;
            }
        }
        println!("{} KB of pings were taken", taken / 1024);
        memory.grew_less_than(32);
        drop(client);
        neighbour.noticed_nothing().await;
    })
    .await;
}

/// Seen under hostile load: 350,000 pings fit in one message of 1 MB, and one turn must not deal with them all.
#[tokio::test]
async fn three_hundred_and_fifty_thousand_pings_in_a_message_leave_room_for_others() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let memory = Memory::of(&server);
        let mut offenders = Vec::new();
        for _ in 0..4 {
            let mut client = Client::messagepack(&server).await;
            client.send(unhex("029106").repeat(350_000)).await;
            offenders.push(client);
        }
        for client in &mut offenders {
            // Nothing forbids it, so the connection may live; a limit on a frame is right too.
            settle_or_end(client).await;
        }
        let mut client = Client::json(&server).await;
        client.send(record(r#"{"type":6}"#).repeat(100_000)).await;
        settle_or_end(&mut client).await;
        memory.grew_less_than(64);
        neighbour.noticed_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn a_million_empty_messages_end_at_the_first() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let memory = Memory::of(&server);
        let empty = async |protocol: Protocol, byte: u8| {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            client.send(vec![byte; 1_000_000]).await;
            let (messages, code) = client.until_end().await;
            // What was sent and not read may have cost the Close its way.
            assert!(messages.len() <= 1 && messages.iter().all(|m| m.kind() == 7), "{messages:?}");
            assert!(code.is_none_or(|code| code == 1000), "{code:?}");
        };
        tokio::join!(empty(Protocol::Json, 0x1e), empty(Protocol::MessagePack, 0));
        memory.grew_less_than(48);
        neighbour.noticed_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn deep_nesting_ends_at_most_its_sender() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        for depth in [60, 64, 65, 128, 1000, 15_000] {
            let array = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            let object = format!("{}1{}", r#"{"a":"#.repeat(depth.min(5000)), "}".repeat(depth.min(5000)));
            for value in [array, object, "[".repeat(depth), r#"{"a":["#.repeat(depth.min(5000))] {
                let texts = [
                    format!(r#"{{"type":1,"invocationId":"1","target":"Echo","arguments":[{value}]}}"#),
                    format!(r#"{{"type":1,"invocationId":"1","target":"Add","arguments":[{value},{value}]}}"#),
                    format!(r#"{{"type":6,"unknown":{value}}}"#),
                    format!(r#"{{"type":2,"invocationId":"none","item":{value}}}"#),
                    format!(r#"{{"type":3,"invocationId":"none","result":{value}}}"#),
                    value.clone(),
                ];
                for text in texts.iter().filter(|text| text.len() < 32_000) {
                    let mut client = Client::json(&server).await;
                    client.send(record(text)).await;
                    settle_or_end(&mut client).await;
                }
            }
            let arrays = [vec![0x91; depth], vec![0xc0]].concat();
            let maps = [unhex("81a161").repeat(depth.min(5000)), vec![0xc0]].concat();
            let keys = [vec![0x81; depth], vec![0xc0; depth + 1]].concat();
            for value in [arrays, maps, keys, vec![0x91; depth], unhex("dd00000001").repeat(depth.min(5000))] {
                let places = [
                    [unhex("96 01 80 a131 a44563686f 91"), value.clone(), unhex("90")].concat(),
                    [unhex("96 01 80 a131 a3416464 92"), value.clone(), unhex("01 90")].concat(),
                    [unhex("94 02 80 a131"), value.clone()].concat(),
                    [unhex("95 03 80 a131 03"), value.clone()].concat(),
                    [unhex("92 06"), value.clone()].concat(),
                    [unhex("92 01"), value.clone()].concat(),
                    value.clone(),
                ];
                for body in places.iter().filter(|body| body.len() < 32_000) {
                    let mut client = Client::messagepack(&server).await;
                    client.send(framed(body)).await;
                    settle_or_end(&mut client).await;
                }
            }
        }
        neighbour.noticed_nothing().await;
    })
    .await;
}

/// Text that a hash or a parser of numbers might take long over.
#[tokio::test]
async fn awkward_values_end_at_most_their_sender() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let members: Vec<String> = (0..2500).map(|n| format!(r#""k{n}":{n}"#)).collect();
        let values = [
            format!("{{{}}}", members.join(",")),
            format!("{{{}}}", vec![r#""same":1"#; 3000].join(",")),
            "9".repeat(30_000),
            format!("0.{}1", "0".repeat(30_000)),
            format!("1e{}", "9".repeat(1000)),
            format!("-1E-{}", "9".repeat(1000)),
            format!(r#""{}""#, r"\u0000".repeat(4000)),
            format!(r#""{}""#, r"\\".repeat(14_000)),
            format!("[{}]", vec!["1"; 14_000].join(",")),
            format!("[{}]", vec!["[]"; 9_000].join(",")),
        ];
        for value in values {
            for target in ["Echo", "Throw", "Types", "ToCaller"] {
                let mut client = Client::json(&server).await;
                let text = format!(r#"{{"type":1,"invocationId":"1","target":"{target}","arguments":[{value}]}}"#);
                client.send(record(&text)).await;
                settle_or_end(&mut client).await;
            }
        }
        // A trailing comma in the arguments, which the reference answers as a call that does not bind.
        let mut client = Client::json(&server).await;
        client.send(record(r#"{"type":1,"invocationId":"1","target":"Echo","arguments":[1,]}"#)).await;
        settle_or_end(&mut client).await;
        neighbour.noticed_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn messages_that_mean_nothing_are_skipped() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        for protocol in PROTOCOLS {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            for id in ["1", "s1", "nobody", "ä"] {
                client.say(json!({"type": 3, "invocationId": id, "result": {"x": 1}})).await;
                client.say(json!({"type": 3, "invocationId": id, "error": "x"})).await;
                client.say(json!({"type": 3, "invocationId": id})).await;
                client.say(json!({"type": 2, "invocationId": id, "item": [1, 2]})).await;
                client.say(json!({"type": 5, "invocationId": id})).await;
            }
            client.say(json!({"type": 8, "sequenceId": 77})).await;
            client.say(json!({"type": 9, "sequenceId": 77})).await;
            let rest = client.settle().await;
            assert!(rest.is_empty(), "{rest:?}");
        }
        neighbour.noticed_nothing().await;
    })
    .await;
}

/// The reference reads nothing more from such a connection (hub-protocol.md, 4.5).
#[tokio::test]
async fn messages_of_unknown_kinds_are_skipped() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let mut client = Client::json(&server).await;
        for kind in ["0", "10", "42", "-1", "2147483647"] {
            client.send(record(&format!(r#"{{"type":{kind},"invocationId":"1","x":[1,{{}}]}}"#))).await;
            client.send(record(&format!(r#"{{"x":[1,{{}}],"target":"Echo","type":{kind}}}"#))).await;
            let rest = client.settle().await;
            assert!(rest.is_empty(), "{kind}: {rest:?}");
        }
        let mut client = Client::messagepack(&server).await;
        for body in ["9100", "910a", "922aa178", "91ff", "96cd03e880c0a17890 90", "91ce7fffffff"] {
            client.send(framed(&unhex(body))).await;
            let rest = client.settle().await;
            assert!(rest.is_empty(), "{body}: {rest:?}");
        }
        neighbour.noticed_nothing().await;
    })
    .await;
}

#[tokio::test]
async fn duplicate_invocation_ids_are_each_answered() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        for protocol in PROTOCOLS {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            for _ in 0..100 {
                client.say(json!({"type": 1, "invocationId": "same", "target": "Add", "arguments": [1, 2]})).await;
            }
            for _ in 0..100 {
                assert_eq!(client.outcome("same").await, Ok(json!(3)));
            }
            // A call beside a stream of the same id.
            client.say(json!({"type": 4, "invocationId": "same", "target": "Counter", "arguments": [3, 20]})).await;
            client.say(json!({"type": 1, "invocationId": "same", "target": "Add", "arguments": [1, 2]})).await;
            let mut items = 0;
            let mut ends = Vec::new();
            while ends.len() < 2 {
                let next = client.message().await;
                match next.kind() {
                    2 => items += 1,
                    _ => ends.push(next.json.get("result").cloned()),
                }
            }
            assert_eq!((items, ends), (3, vec![Some(json!(3)), None]));
            assert!(client.settle().await.is_empty());
        }
        neighbour.noticed_nothing().await;
    })
    .await;
}

/// Calls pile up behind slow ones: what waits is bounded, and everything is answered in the end.
#[tokio::test]
async fn calls_without_end_behind_a_slow_one_are_bounded() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let memory = Memory::of(&server);
        let mut client = Client::json(&server).await;
        for call in 0..4 {
            client
                .say(json!({"type": 1, "invocationId": format!("s{call}"), "target": "Slow", "arguments": [1500]}))
                .await;
        }
        let one = encode(Protocol::Json, &json!({"type": 1, "target": "Echo", "arguments": ["x".repeat(20_000)]}));
        let wire = Frame::text(one).encode().repeat(50);
        let mut taken = 0;
        for _ in 0..32 {
            let sent = client.peer.push_without_reading(&wire, Duration::from_millis(300)).await;
            taken += sent;
            if sent < wire.len() {
                break;
            }
        }
        println!("{} KB were taken while the slots were full", taken / 1024);
        memory.grew_less_than(48);
        neighbour.noticed_nothing().await;
    })
    .await;
}

/// Uploads that nobody ends, streams that nobody reads.
#[tokio::test]
async fn many_open_streams_of_one_client_are_its_own_affair() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let memory = Memory::of(&server);
        let mut client = Client::json(&server).await;
        for id in 0..2000 {
            let streams = [format!("u{id}")];
            client.say(json!({"type": 1, "invocationId": id.to_string(), "target": "Sum", "arguments": [], "streamIds": streams})).await;
            client.say(json!({"type": 2, "invocationId": format!("u{id}"), "item": id})).await;
        }
        settle_or_end(&mut client).await;
        // A client that asks for endless streams and reads none of them.
        let mut deaf = Client::json(&server).await;
        for id in 0..20 {
            deaf.say(json!({"type": 4, "invocationId": format!("f{id}"), "target": "Forever", "arguments": []})).await;
        }
        let wait = Client::json(&server).await;
        drop(wait);
        let mut other = Client::json(&server).await;
        other.call("Slow", json!([1000])).await.expect("done");
        memory.grew_less_than(64);
        drop(deaf);
        drop(client);
        neighbour.noticed_nothing().await;
    })
    .await;
}

/// It is in a group that is sent to all the while; everybody else gets everything.
#[tokio::test]
async fn a_client_that_never_reads_holds_up_nobody() {
    guard(async {
        let what = "a client that never reads, on a server of its own";
        let Some(server) = TestServer::ours_with(what, &[]) else { return };
        let neighbour = Neighbour::beside(&server).await;
        let memory = Memory::of(&server);
        let mut deaf = Vec::new();
        for protocol in [Protocol::Json, Protocol::MessagePack, Protocol::Json, Protocol::MessagePack] {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            client.call("Join", json!(["deaf"])).await.expect("joined");
            deaf.push(client);
        }
        let mut members = Vec::new();
        for protocol in [Protocol::Json, Protocol::MessagePack] {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            client.call("Join", json!(["deaf"])).await.expect("joined");
            members.push(client);
        }
        let mut sender = Client::json(&server).await;
        let text = "x".repeat(25_000);
        let mut longest = Duration::ZERO;
        for number in 0..800 {
            let begun = Instant::now();
            assert_eq!(sender.call("ToGroup", json!(["deaf", [number, text]])).await, Ok(Value::Null));
            longest = longest.max(begun.elapsed());
            for member in &mut members {
                assert_eq!(member.target("message").await.arguments()[1][0], number);
            }
        }
        assert!(longest < Duration::from_secs(2), "a send waited {longest:?} for those who do not read");
        memory.grew_less_than(64);
        drop(deaf);
        neighbour.noticed_nothing().await;
    })
    .await;
}

/// A caller that does not read the answers to its own calls is no longer read.
#[tokio::test]
async fn a_caller_that_never_reads_its_answers_is_bounded() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let memory = Memory::of(&server);
        let mut client = Client::json(&server).await;
        let call = json!({"type": 1, "invocationId": "1", "target": "Large", "arguments": [1_000_000]});
        let wire = Frame::text(encode(Protocol::Json, &call)).encode().repeat(200);
        client.peer.push_without_reading(&wire, Duration::from_millis(500)).await;
        let mut other = Client::json(&server).await;
        other.call("Slow", json!([1000])).await.expect("done");
        memory.grew_less_than(64);
        drop(client);
        neighbour.noticed_nothing().await;
    })
    .await;
}

/// Byte by byte, and served all the same.
#[tokio::test]
async fn requests_handshakes_and_frames_that_drip_are_served() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let mut peer = RawPeer::tcp(&server).await;
        drip(&mut peer, ws::upgrade_request("/conformance").as_bytes()).await;
        peer.expect_upgrade().await;
        drip(&mut peer, &Protocol::Json.frame(Protocol::Json.handshake()).encode()).await;
        let mut client = Client::silent(peer, Protocol::Json);
        client.meet().await;
        let call = json!({"type": 1, "invocationId": "1", "target": "Echo", "arguments": ["x".repeat(200)]});
        drip(&mut client.peer, &Protocol::Json.frame(encode(Protocol::Json, &call)).encode()).await;
        assert_eq!(client.outcome("1").await, Ok(json!("x".repeat(200))));
        drip(&mut client.peer, &Frame::close(1000, "").encode()).await;
        let (_, code) = client.until_end().await;
        assert_eq!(code, Some(1000));
        neighbour.noticed_nothing().await;
    })
    .await;
}

/// Each byte in a packet of its own: the pause is part of the input, not a wait for something.
async fn drip(peer: &mut RawPeer, bytes: &[u8]) {
    for byte in bytes {
        peer.send([*byte]).await.expect("the server reads");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A handshake that drips for longer than it may take is refused although bytes keep coming.
#[tokio::test]
async fn a_handshake_that_drips_too_long_is_refused() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let mut client = Client::silent(RawPeer::open(&server, "/conformance-small").await, Protocol::Json);
        let mut drip = tokio::time::interval(Duration::from_millis(100));
        let begun = Instant::now();
        let end = loop {
            tokio::select! {
                event = client.event() => break event,
                _ = drip.tick() => drop(client.peer.frame(&Frame::text(" ")).await),
            }
        };
        let Event::Message(refusal) = end else { panic!("{end:?}") };
        assert_eq!(refusal.text(), r#"{"error":"Handshake was canceled."}"#);
        assert!(begun.elapsed() < Duration::from_secs(7), "after {:?}", begun.elapsed());
        neighbour.noticed_nothing().await;
    })
    .await;
}

/// Many connections that stay unfinished at each stage cost little and stop nobody.
#[tokio::test]
async fn two_hundred_unfinished_connections_stop_nobody() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let memory = Memory::of(&server);
        let mut unfinished = Vec::new();
        let request = ws::upgrade_request("/conformance");
        for index in 0..200 {
            let mut peer = RawPeer::tcp(&server).await;
            let start = match index % 4 {
                0 => "",
                1 => "GET /conf",
                2 => &request[..request.len() - 2],
                _ => &request,
            };
            peer.send(start).await.expect("the server reads");
            unfinished.push(peer);
        }
        Client::json(&server).await.settle().await;
        memory.grew_less_than(64);
        drop(unfinished);
        neighbour.noticed_nothing().await;
    })
    .await;
}

/// Requests that are no HTTP, or too large to be taken seriously.
#[tokio::test]
async fn broken_requests_are_refused() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let long = "x".repeat(100_000);
        let many = "x-h: y\r\n".repeat(5000);
        let requests = [
            "\r\n\r\n\r\n".to_owned(),
            "nonsense\r\n\r\n".to_owned(),
            "GET /conformance\r\n\r\n".to_owned(),
            "GET /conformance HTTP/9.9\r\nHost: x\r\n\r\n".to_owned(),
            "GET /conformance HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n".to_owned(),
            "POST /conformance/negotiate HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_owned(),
            "POST /conformance/negotiate HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"
                .to_owned(),
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage that is no frame".to_owned(),
            format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!("GET /conformance HTTP/1.1\r\nHost: x\r\nx-long: {long}\r\n\r\n"),
            format!("GET /conformance HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
        ];
        for request in &requests {
            let mut peer = RawPeer::tcp(&server).await;
            let _ = peer.send(request).await;
            peer.shut_down().await;
            if let Some(head) = peer.response_head_or_garbage().await {
                assert!(head >= 400 || head == 0, "{head} for {:?}", &request[..request.len().min(60)]);
            }
        }
        neighbour.noticed_nothing().await;
    })
    .await;
}

/// After a close frame nothing counts any more, and what stands in the way of the end is not waited for long.
#[tokio::test]
async fn nothing_behind_a_close_frame_counts() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let mut receiver = Client::json(&server).await;
        let mut client = Client::json(&server).await;
        let call =
            json!({"type": 1, "invocationId": "1", "target": "ToConnection", "arguments": [receiver.id, "late"]});
        let mut wire = Frame::close(1000, "").encode();
        wire.extend(Protocol::Json.frame(encode(Protocol::Json, &call)).encode());
        client.peer.send(wire).await.expect("the server reads");
        let (messages, code) = client.until_end().await;
        assert!(messages.iter().all(|m| m.kind() != 3), "{messages:?}");
        assert!(code.is_none_or(|code| code == 1000), "{code:?}");
        assert!(receiver.settle().await.is_empty(), "the call behind the close frame was made");
        // A server that ends a connection whose client does not answer the close frame, for five seconds at most.
        let mut client = Client::json(&server).await;
        client.peer.polite = false;
        client.send(record("nonsense")).await;
        let begun = Instant::now();
        let (messages, code) = client.until_end().await;
        assert!(messages.len() == 1 && code == Some(1000), "{messages:?} {code:?}");
        assert!(begun.elapsed() < Duration::from_secs(8), "the end took {:?}", begun.elapsed());
        neighbour.noticed_nothing().await;
    })
    .await;
}

/// A call whose argument alone fills the message, over and over, in both encodings: nothing accumulates.
#[tokio::test]
async fn large_calls_over_and_over_do_not_accumulate() {
    guard(async {
        let server = TestServer::ours();
        let neighbour = Neighbour::beside(&server).await;
        let memory = Memory::of(&server);
        let text = "x".repeat(32_000);
        let mut json_client = Client::json(&server).await;
        let mut mp_client = Client::messagepack(&server).await;
        for _ in 0..300 {
            assert_eq!(json_client.call("Echo", json!([text])).await, Ok(json!(text)));
            mp_client.send(invocation_mp(1, "1", "Echo", vec![Mp::Bin(vec![7; 32_000])], &[])).await;
            let completion: Message = mp_client.completion("1").await;
            assert_eq!(completion.item(4), &Mp::Bin(vec![7; 32_000]));
        }
        memory.grew_less_than(48);
        neighbour.noticed_nothing().await;
        assert!(matches!(json_client.peer.frame(&Frame::new(PING, [])).await, Ok(())));
        assert!(matches!(json_client.peer.recv().await, Received::Frame(frame) if frame.opcode == PONG));
    })
    .await;
}
