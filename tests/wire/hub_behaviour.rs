//! What a hub does, seen from its clients: client results, order, streams, timers, sends, isolation.

use crate::eventually;
use crate::support::hub::{Client, Event, Message, PROTOCOLS, Protocol, encode, invocation_mp, record};
use crate::support::msgpack::{Mp, unhex};
use crate::support::server::TestServer;
use crate::support::ws::{BINARY, Frame, RawPeer, Received, TEXT};
use crate::support::{guard, within};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SMALL: &str = "/conformance-small";

/// Clients lose what stands behind the handshake response in one frame (hub-protocol.md, appendix A).
#[tokio::test]
async fn the_handshake_response_has_a_frame_of_its_own() {
    guard(async {
        let server = TestServer::ours();
        for round in 0..20 {
            for (protocol, opcode) in [(Protocol::Json, TEXT), (Protocol::MessagePack, BINARY)] {
                let mut peer = RawPeer::open(&server, "/conformance").await;
                let mut first = protocol.handshake();
                if round % 2 == 0 {
                    let call = json!({"type": 1, "invocationId": "1", "target": "Echo", "arguments": [1]});
                    first.extend(encode(protocol, &call));
                }
                peer.frame(&protocol.frame(first)).await.expect("the server reads");
                let Received::Frame(frame) = peer.recv().await else { panic!("no handshake response") };
                assert_eq!(frame.payload, b"{}\x1e", "round {round}: {}", String::from_utf8_lossy(&frame.payload));
                assert_eq!(frame.opcode, opcode, "a frame of the protocol's kind");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn welcome_tells_the_id_that_negotiate_gave() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let (peer, id) = RawPeer::negotiated(&server, "/conformance").await;
            let mut client = Client::over(peer, protocol).await;
            assert_eq!(client.id, id);
            assert_eq!(client.id.len(), 22);
            let who = client.call("WhoAmI", json!([])).await.expect("WhoAmI");
            assert_eq!(who["connectionId"], id);
            assert_eq!(who["userId"], Value::Null);
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_result_crosses_the_protocols() {
    guard(async {
        let server = TestServer::ours();
        for asker in PROTOCOLS {
            for asked in PROTOCOLS {
                let mut asker = Client::connect(&server, "/conformance", asker).await;
                let mut asked = Client::connect(&server, "/conformance", asked).await;
                let call = asker.start("Ask", json!([asked.id, "how?"])).await;
                let question = asked.target("answer").await;
                assert_eq!(question.arguments(), &json!(["how?"]));
                asked.say(json!({"type": 3, "invocationId": question.id(), "result": "fine"})).await;
                assert_eq!(asker.outcome(&call).await, Ok(json!("fine")));

                let call = asker.start("Ask", json!([asked.id, "how?"])).await;
                let question = asked.target("answer").await;
                asked.say(json!({"type": 3, "invocationId": question.id(), "error": "no idea"})).await;
                let error = asker.outcome(&call).await.expect_err("an error");
                assert_eq!(error, "An unexpected error occurred invoking 'Ask' on the server. HubException: no idea");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_result_may_stand_before_its_id() {
    guard(async {
        let server = TestServer::ours();
        let mut client = Client::json(&server).await;
        let call = client.start("Ask", json!([client.id, "q"])).await;
        let question = client.target("answer").await;
        client.send(record(&format!(r#"{{"result":"first","invocationId":"{}","type":3}}"#, question.id()))).await;
        assert_eq!(client.outcome(&call).await, Ok(json!("first")));
    })
    .await;
}

#[tokio::test]
async fn a_client_result_fails_when_its_client_leaves_or_is_not_there() {
    guard(async {
        let server = TestServer::ours();
        let mut asker = Client::json(&server).await;
        let error = asker.call("Ask", json!(["nobody", "q"])).await.expect_err("nobody is there");
        assert!(error.starts_with("An unexpected error occurred invoking 'Ask' on the server."), "{error}");
        for politely in [true, false] {
            let mut asked = Client::json(&server).await;
            let call = asker.start("Ask", json!([asked.id, "q"])).await;
            asked.target("answer").await;
            if politely {
                asked.leave().await;
            } else {
                asked.peer.reset_on_drop();
                drop(asked);
            }
            let error = asker.outcome(&call).await.expect_err("the asked one is gone");
            assert!(error.starts_with("An unexpected error occurred invoking 'Ask' on the server."), "{error}");
        }
        asker.settle().await;
    })
    .await;
}

#[tokio::test]
async fn a_client_result_times_out_and_a_late_answer_is_ignored() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            let call = client.start("AskTimeout", json!([client.id, 50])).await;
            let question = client.target("answer").await;
            let error = client.outcome(&call).await.expect_err("no answer came");
            assert!(error.starts_with("An unexpected error occurred invoking 'AskTimeout' on the server."), "{error}");
            client.say(json!({"type": 3, "invocationId": question.id(), "result": "late"})).await;
            assert!(client.settle().await.is_empty());
        }
    })
    .await;
}

/// The slot goes back while a method waits for a client (hub-protocol.md, 7, point 5).
#[tokio::test]
async fn a_client_may_be_asked_by_its_own_call_at_one_invocation_at_a_time() {
    guard(async {
        let what = "a client that is asked by its own call, one invocation at a time";
        let Some(server) = TestServer::ours_with(what, &["--parallel", "1"]) else { return };
        for protocol in PROTOCOLS {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            let call = client.start("Ask", json!([client.id, "q"])).await;
            let question = client.target("answer").await;
            // A second call starts and ends meanwhile.
            assert_eq!(client.call("Add", json!([1, 2])).await, Ok(json!(3)));
            client.say(json!({"type": 3, "invocationId": question.id(), "result": "me"})).await;
            assert_eq!(client.outcome(&call).await, Ok(json!("me")));
        }
    })
    .await;
}

#[tokio::test]
async fn an_answer_from_the_wrong_connection_ends_that_one_only() {
    guard(async {
        let Some(server) = TestServer::ours_detailed() else { return };
        for protocol in PROTOCOLS {
            let mut asker = Client::json(&server).await;
            let mut asked = Client::connect(&server, "/conformance", protocol).await;
            let mut liar = Client::connect(&server, "/conformance", protocol).await;
            let call = asker.start("Ask", json!([asked.id, "q"])).await;
            let question = asked.target("answer").await;
            liar.say(json!({"type": 3, "invocationId": question.id(), "result": "a lie"})).await;
            let cid = liar.id.clone();
            let (messages, code) = liar.until_end().await;
            let close = messages.last().unwrap_or_else(|| panic!("no Close"));
            let text = format!(
                "Connection closed with an error. InvalidOperationException: Connection ID '{cid}' is not valid for \
                 invocation ID '{}'.",
                question.id()
            );
            assert_eq!((close.kind(), close.error()), (7, &*text));
            assert_eq!(close.json["allowReconnect"], true, "{close:?}");
            assert_eq!(code, Some(1000));
            asked.say(json!({"type": 3, "invocationId": question.id(), "result": "the truth"})).await;
            assert_eq!(asker.outcome(&call).await, Ok(json!("the truth")));
        }
    })
    .await;
}

#[tokio::test]
async fn calls_of_one_connection_run_in_order() {
    guard(async {
        let what = "order at one invocation at a time";
        let Some(server) = TestServer::ours_with(what, &["--parallel", "1"]) else { return };
        for protocol in PROTOCOLS {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            let mut bytes = Vec::new();
            for number in 0..200 {
                let call =
                    json!({"type": 1, "invocationId": number.to_string(), "target": "Order", "arguments": [number]});
                bytes.extend(encode(protocol, &call));
            }
            client.send(bytes).await;
            for number in 0..200u64 {
                let next = client.message().await;
                assert_eq!(next.id(), number.to_string(), "completions come in the order of the calls");
                let list: Vec<u64> = (0..=number).collect();
                assert_eq!(next.json["result"], json!(list));
            }
            // A slow call holds up the ones behind it.
            client.say(json!({"type": 1, "invocationId": "slow", "target": "Slow", "arguments": [200]})).await;
            client.say(json!({"type": 1, "invocationId": "fast", "target": "Add", "arguments": [1, 1]})).await;
            assert_eq!(client.message().await.id(), "slow");
            assert_eq!(client.message().await.id(), "fast");
        }
    })
    .await;
}

#[tokio::test]
async fn as_many_calls_run_at_once_as_there_are_slots() {
    guard(async {
        let what = "three invocations at a time";
        let Some(server) = TestServer::ours_with(what, &["--parallel", "3"]) else { return };
        let mut client = Client::json(&server).await;
        for (id, ms) in [("a", 600), ("b", 500)] {
            client.say(json!({"type": 1, "invocationId": id, "target": "Slow", "arguments": [ms]})).await;
        }
        client.say(json!({"type": 1, "invocationId": "c", "target": "Add", "arguments": [1, 1]})).await;
        let order = [client.message().await, client.message().await, client.message().await];
        assert_eq!(order.each_ref().map(|m| m.id()), ["c", "b", "a"], "the third slot was free");
        for id in ["a", "b", "c", "d"] {
            client.say(json!({"type": 1, "invocationId": id, "target": "Slow", "arguments": [300]})).await;
        }
        let begun = Instant::now();
        let mut ids = Vec::new();
        for _ in 0..4 {
            ids.push(client.message().await.id().to_owned());
        }
        assert_eq!(ids[3], "d", "the fourth waits for a slot: {ids:?}");
        assert!(begun.elapsed() >= Duration::from_millis(450), "four ran at once: {:?}", begun.elapsed());
    })
    .await;
}

/// A stream takes no slot (hub-protocol.md, 7, point 3).
#[tokio::test]
async fn streams_take_no_slot() {
    guard(async {
        let what = "streams beside one invocation at a time";
        let Some(server) = TestServer::ours_with(what, &["--parallel", "1"]) else { return };
        let mut client = Client::json(&server).await;
        for id in ["f", "g", "h"] {
            client.say(json!({"type": 4, "invocationId": id, "target": "Forever", "arguments": []})).await;
            client.first("an item", |m| m.kind() == 2 && m.id() == id).await;
        }
        let upload = json!({"type": 1, "invocationId": "u", "target": "Sum", "arguments": [], "streamIds": ["s"]});
        client.say(upload).await;
        assert_eq!(client.call("Add", json!([1, 2])).await, Ok(json!(3)));
        client.say(json!({"type": 2, "invocationId": "s", "item": 5})).await;
        client.say(json!({"type": 3, "invocationId": "s"})).await;
        assert_eq!(client.outcome("u").await, Ok(json!(5)));
        for id in ["f", "g", "h"] {
            client.say(json!({"type": 5, "invocationId": id})).await;
            assert_eq!(client.completion(id).await.error(), "");
        }
        assert_eq!(client.call("Cancellations", json!([])).await, Ok(json!(3)));
    })
    .await;
}

#[tokio::test]
async fn uploads_of_several_streams_keep_their_items_apart() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            let upload =
                json!({"type": 1, "invocationId": "1", "target": "Join2", "arguments": [], "streamIds": ["x", "y"]});
            client.say(upload).await;
            let mut wanted = [Vec::new(), Vec::new()];
            for number in 0..100 {
                let which = usize::from(number % 3 == 0);
                let text = format!("i{number}");
                let stream = if which == 0 { "x" } else { "y" };
                client.say(json!({"type": 2, "invocationId": stream, "item": text})).await;
                wanted[which].push(text);
                // The method reads one stream to its end first; more than its buffer holds would wait for ever.
                if which == 1 && wanted[1].len() == 10 {
                    break;
                }
            }
            client.say(json!({"type": 3, "invocationId": "y"})).await;
            client.say(json!({"type": 3, "invocationId": "x"})).await;
            let result = client.outcome("1").await.expect("joined");
            assert_eq!(result, json!(format!("{}|{}", wanted[0].join("+"), wanted[1].join("+"))));
        }
    })
    .await;
}

#[tokio::test]
async fn a_stream_both_ways_answers_each_item_as_it_comes() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            let call =
                json!({"type": 4, "invocationId": "e", "target": "EchoStream", "arguments": [], "streamIds": ["u"]});
            client.say(call).await;
            for number in 0..50 {
                client.say(json!({"type": 2, "invocationId": "u", "item": {"n": number}})).await;
                let item = client.first("the item back", |m| m.kind() == 2 && m.id() == "e").await;
                assert_eq!(item.json["item"], json!({"n": number}));
            }
            client.say(json!({"type": 3, "invocationId": "u"})).await;
            assert_eq!(client.completion("e").await.error(), "");
            assert!(client.settle().await.is_empty());
        }
    })
    .await;
}

/// As ASP.NET Core 11 does; in 10 it has no effect.
#[tokio::test]
async fn a_cancelled_ordinary_call_ends_early_and_is_counted() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            let begun = Instant::now();
            let call = client.start("Slow", json!([20_000])).await;
            client.say(json!({"type": 5, "invocationId": call})).await;
            client.completion(&call).await;
            assert!(begun.elapsed() < Duration::from_secs(10), "it ran on for {:?}", begun.elapsed());
            assert_eq!(client.call("Cancellations", json!([])).await, Ok(json!(1)));
        }
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_stream_completes_without_an_error_and_is_counted() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            for round in 1..=3 {
                client.say(json!({"type": 4, "invocationId": "f", "target": "Forever", "arguments": []})).await;
                let first = client.first("an item", |m| m.kind() == 2).await;
                assert!(first.json["item"].is_u64(), "{first:?}");
                client.say(json!({"type": 5, "invocationId": "f"})).await;
                let (_, end) = client.stream_end("f").await;
                assert_eq!((end.error(), end.json.get("result")), ("", None), "{end:?}");
                assert_eq!(client.call("Cancellations", json!([])).await, Ok(json!(round)));
            }
            assert!(client.settle().await.is_empty());
        }
    })
    .await;
}

#[tokio::test]
async fn the_small_hub_pings_and_times_out_only_after_the_first_ping() {
    guard(async {
        let server = TestServer::ours();
        let silent = async {
            let mut client = Client::connect(&server, SMALL, Protocol::Json).await;
            for _ in 0..4 {
                let ping = client.first("a ping", |m| m.kind() == 6).await;
                assert_eq!(ping.raw, br#"{"type":6}"#);
            }
            client.settle().await;
        };
        let once = async {
            let mut client = Client::connect(&server, SMALL, Protocol::Json).await;
            client.say(json!({"type": 6})).await;
            let begun = Instant::now();
            let (messages, code) = client.until_end().await;
            let close = messages.last().expect("a Close");
            assert!(close.error().starts_with("Connection closed with an error."), "{close:?}");
            assert_eq!((close.kind(), &close.json["allowReconnect"], code), (7, &json!(true), Some(1000)));
            let lived = begun.elapsed();
            assert!(lived >= Duration::from_millis(2800) && lived < Duration::from_secs(8), "closed after {lived:?}");
        };
        let faithful = async {
            let mut client = Client::connect(&server, SMALL, Protocol::MessagePack).await;
            // A ping for each of the server's: about one a second, over longer than the timeout.
            for _ in 0..5 {
                client.say(json!({"type": 6})).await;
                let ping = client.first("a ping", |m| m.kind() == 6).await;
                assert_eq!(ping.raw, [0x91, 0x06]);
            }
            client.settle().await;
        };
        let dripping = async {
            // Bytes that never become a message keep nothing alive.
            let mut client = Client::connect(&server, SMALL, Protocol::Json).await;
            client.say(json!({"type": 6})).await;
            let begun = Instant::now();
            let mut drip = tokio::time::interval(Duration::from_millis(100));
            let end = loop {
                tokio::select! {
                    event = client.event() => match event {
                        Event::Message(message) if message.kind() == 6 => {}
                        other => break other,
                    },
                    _ = drip.tick() => drop(client.peer.frame(&Frame::text("x")).await),
                }
            };
            assert!(matches!(&end, Event::Message(m) if m.kind() == 7), "{end:?}");
            let lived = begun.elapsed();
            assert!(lived >= Duration::from_millis(2800) && lived < Duration::from_secs(8), "closed after {lived:?}");
        };
        tokio::join!(silent, once, faithful, dripping);
    })
    .await;
}

/// A call that takes longer than the client timeout is not the client's silence.
#[tokio::test]
async fn the_client_timeout_waits_while_a_call_holds_the_line() {
    guard(async {
        let what = "the client timeout while a call runs";
        let Some(server) = TestServer::ours_with(what, &["--parallel", "1"]) else { return };
        let mut client = Client::connect(&server, SMALL, Protocol::Json).await;
        client.say(json!({"type": 6})).await;
        let call = client.start("Slow", json!([4500])).await;
        // The second call makes the line wait; nothing more of this client is looked at meanwhile.
        let second = client.start("Add", json!([1, 2])).await;
        assert_eq!(client.outcome(&call).await, Ok(json!("done")));
        assert_eq!(client.outcome(&second).await, Ok(json!(3)));
    })
    .await;
}

#[tokio::test]
async fn the_handshake_has_two_seconds_on_the_small_hub() {
    guard(async {
        let server = TestServer::ours();
        let refused = |start: &'static str| {
            let server = server.clone();
            async move {
                let begun = Instant::now();
                let mut client = Client::silent(RawPeer::open(&server, SMALL).await, Protocol::Json);
                if !start.is_empty() {
                    client.send(start).await;
                }
                let (messages, code) = client.until_end().await;
                assert_eq!(messages.len(), 1, "{messages:?}");
                assert_eq!(messages[0].text(), r#"{"error":"Handshake was canceled."}"#);
                assert_eq!(code, Some(1000));
                let lived = begun.elapsed();
                assert!(lived >= Duration::from_millis(1800) && lived < Duration::from_secs(7), "after {lived:?}");
            }
        };
        let in_time = async {
            let mut client = Client::silent(RawPeer::open(&server, SMALL).await, Protocol::Json);
            tokio::time::sleep(Duration::from_millis(1000)).await;
            client.send(Protocol::Json.handshake()).await;
            client.meet().await;
            client.settle().await;
        };
        tokio::join!(refused(""), refused("{\"protocol\":\"js"), refused(" "), in_time);
    })
    .await;
}

/// What each send method reaches, between clients of both protocols.
#[tokio::test]
async fn sends_reach_whom_they_name() {
    guard(async {
        let what = "sends, with nobody else on the server";
        let Some(server) = TestServer::ours_with(what, &[]) else { return };
        let mut clients = Vec::new();
        for protocol in [Protocol::Json, Protocol::MessagePack, Protocol::Json, Protocol::MessagePack] {
            clients.push(Client::connect(&server, "/conformance", protocol).await);
        }
        let ids: Vec<String> = clients.iter().map(|client| client.id.clone()).collect();
        for (index, group) in [(0, "g"), (1, "g"), (2, "g"), (1, "h"), (3, "h")] {
            assert_eq!(clients[index].call("Join", json!([group])).await, Ok(Value::Null));
        }
        let caller = &ids[0];
        // Who gets how many, for the caller 0.
        let cases: Vec<(&str, Value, [usize; 4])> = vec![
            ("ToAll", json!([]), [1, 1, 1, 1]),
            ("ToOthers", json!([]), [0, 1, 1, 1]),
            ("ToCaller", json!([]), [1, 0, 0, 0]),
            ("ToAllExcept", json!([[ids[1], ids[2], "nobody"]]), [1, 0, 0, 1]),
            ("ToAllExcept", json!([[]]), [1, 1, 1, 1]),
            ("ToConnection", json!([ids[1]]), [0, 1, 0, 0]),
            ("ToConnection", json!(["nobody"]), [0, 0, 0, 0]),
            ("ToConnections", json!([[ids[1], ids[3], ids[1], "nobody"]]), [0, 1, 0, 1]),
            ("ToGroup", json!(["g"]), [1, 1, 1, 0]),
            ("ToGroup", json!(["G"]), [0, 0, 0, 0]),
            ("ToGroups", json!([["g", "h"]]), [1, 2, 1, 1]),
            ("ToGroupExcept", json!(["g", [ids[1]]]), [1, 0, 1, 0]),
            ("ToOthersInGroup", json!(["g"]), [0, 1, 1, 0]),
            ("ToOthersInGroup", json!(["h"]), [0, 1, 0, 1]),
            ("ToUser", json!(["nobody"]), [0, 0, 0, 0]),
            ("ToUsers", json!([["nobody", "no one"]]), [0, 0, 0, 0]),
        ];
        for (number, (method, arguments, counts)) in cases.into_iter().enumerate() {
            let mut arguments = arguments;
            arguments.as_array_mut().expect("arguments").push(json!({"n": number}));
            assert_eq!(clients[0].call(method, arguments.clone()).await, Ok(Value::Null), "{method} {arguments}");
            for (client, count) in clients.iter_mut().zip(counts) {
                for _ in 0..count {
                    let message = client.target("message").await;
                    assert_eq!(message.arguments(), &json!([caller, {"n": number}]), "{method} {arguments}");
                    assert_eq!(message.id(), "", "a send asks for no answer");
                }
            }
        }
        // Nobody got more than that.
        for client in &mut clients {
            let more = client.settle().await;
            assert!(more.is_empty(), "{more:?}");
        }
        assert_eq!(clients[1].call("Leave", json!(["g"])).await, Ok(Value::Null));
        assert_eq!(clients[0].call("ToGroup", json!(["g", "last"])).await, Ok(Value::Null));
        assert!(clients[1].settle().await.is_empty(), "it has left the group");
        assert_eq!(clients[2].target("message").await.arguments()[1], "last");
    })
    .await;
}

#[tokio::test]
async fn untyped_values_cross_the_protocols() {
    guard(async {
        let server = TestServer::ours();
        let mut json_client = Client::json(&server).await;
        let mut mp_client = Client::messagepack(&server).await;
        let values = json!([null, true, false, 0, -1, 127, 128, 255, 256, 65_535, 65_536, 4_294_967_296_i64, 1.5, "ä☃😀", "",
            [], {}, {"a": {"B": [1, {"c": null}]}}, i64::MAX, i64::MIN, u64::MAX, 9_007_199_254_740_993_i64]);
        json_client.call("ToConnection", json!([mp_client.id, values])).await.expect("sent");
        let message = mp_client.target("message").await;
        assert_eq!(message.arguments()[1], values, "JSON to MessagePack");
        mp_client.call("ToConnection", json!([json_client.id, values])).await.expect("sent");
        let message = json_client.target("message").await;
        assert_eq!(message.arguments()[1], values, "MessagePack to JSON");

        // What only MessagePack has: bytes become base64, a float32 a number, a timestamp ISO text.
        let special = vec![
            Mp::Bin(vec![1, 2, 255]),
            Mp::F32(0.5),
            Mp::F64(2.0),
            Mp::Raw(unhex("d6ff5af0fa00")),
            Mp::Raw(unhex("d300000000000000 07")),
            Mp::Int(u64::MAX.into()),
        ];
        let arguments = vec![Mp::str(&json_client.id), Mp::Array(special.clone())];
        assert_eq!(mp_client.call_mp("ToConnection", arguments).await.error(), "");
        let message = json_client.target("message").await;
        let got = &message.arguments()[1];
        assert_eq!(got[0], "AQL/");
        assert_eq!(got[1], 0.5);
        assert_eq!(got[2].as_f64(), Some(2.0));
        assert!(got[3].as_str().is_some_and(|text| text.starts_with("2018-05-08T01:14:40")), "{got}");
        assert_eq!(got[4], 7);
        assert!(message.text().contains("18446744073709551615"), "{}", message.text());

        // Between MessagePack clients they stay what they are.
        let mut other = Client::messagepack(&server).await;
        let arguments = vec![Mp::str(&other.id), Mp::Array(special[..4].to_vec())];
        assert_eq!(mp_client.call_mp("ToConnection", arguments).await.error(), "");
        let message = other.target("message").await;
        let Mp::Array(arguments) = message.item(4) else { panic!("{message:?}") };
        let Mp::Array(got) = &arguments[1] else { panic!("{message:?}") };
        assert_eq!(got[..3], special[..3]);
        assert_eq!(got[3], Mp::Ext(-1, unhex("5af0fa00")));
    })
    .await;
}

/// Integers take their smallest form, invocations six items, Close three (hub-protocol.md, 4.2). A value that is only
/// passed on may keep the form in which it came.
#[tokio::test]
async fn messagepack_is_written_as_clients_need_it() {
    guard(async {
        let server = TestServer::ours();
        let mut client = Client::messagepack(&server).await;
        for (sum, bytes) in [(7, "07"), (127, "7f"), (128, "cc80"), (256, "cd0100"), (65_536, "ce00010000"), (-1, "ff")]
        {
            client.send(invocation_mp(1, "1", "Add", vec![Mp::Int(sum), Mp::Int(0)], &[])).await;
            let completion = client.completion("1").await;
            assert_eq!(completion.raw, [unhex("950380a13103"), unhex(bytes)].concat(), "{sum}");
        }
        client.say(json!({"type": 1, "invocationId": "1", "target": "ToCaller", "arguments": [true]})).await;
        let message = client.target("message").await;
        let head = unhex("96 01 80 c0 a76d657373616765 92 b6");
        assert_eq!(message.raw, [head, client.id.clone().into_bytes(), unhex("c3 90")].concat());
        client.completion("1").await;
        client.say(json!({"type": 4, "invocationId": "s", "target": "Counter", "arguments": [1, 0]})).await;
        assert_eq!(client.message().await.raw, unhex("94 02 80 a173 00"));
        assert_eq!(client.message().await.raw, unhex("94 03 80 a173 02"));
        client.say(json!({"type": 7})).await;
        let (messages, _) = client.until_end().await;
        assert_eq!(messages.last().expect("a Close").raw, unhex("93 07 c0 c2"));
    })
    .await;
}

#[tokio::test]
async fn abort_ends_the_connection_with_a_bare_close() {
    guard(async {
        let server = TestServer::ours();
        for protocol in PROTOCOLS {
            let mut client = Client::connect(&server, "/conformance", protocol).await;
            client.start("Abort", json!([])).await;
            let (messages, code) = client.until_end().await;
            // The completion of the call may still have got through.
            let close: Vec<&Message> = messages.iter().filter(|m| m.kind() == 7).collect();
            assert_eq!(close.len(), 1, "{messages:?}");
            assert!(close[0].json.get("error").is_none(), "{close:?}");
            assert_ne!(close[0].json["allowReconnect"], true, "{close:?}");
            assert_eq!(messages.last(), Some(close[0]), "Close is the last message");
            assert_eq!(code, Some(1000));
        }
    })
    .await;
}

#[tokio::test]
async fn departures_are_recorded_with_their_reason() {
    guard(async {
        let server = TestServer::ours();
        let mut observer = Client::json(&server).await;
        assert_eq!(observer.call("Departed", json!([observer.id])).await, Ok(Value::Null), "it is still here");

        let client = Client::json(&server).await;
        let id = client.id.clone();
        client.leave().await;
        assert_eq!(departed(&mut observer, &id).await, Value::Null);

        let mut client = Client::messagepack(&server).await;
        let id = client.id.clone();
        client.say(json!({"type": 7, "error": "had enough"})).await;
        client.until_end().await;
        assert_eq!(departed(&mut observer, &id).await, "had enough");

        let client = Client::json(&server).await;
        let id = client.id.clone();
        client.peer.reset_on_drop();
        drop(client);
        assert_eq!(departed(&mut observer, &id).await, Value::Null, "a lost socket is no error");

        let mut client = Client::json(&server).await;
        let id = client.id.clone();
        client.peer.frame(&Frame::close(1011, "")).await.expect("the server reads");
        client.until_end().await;
        assert_eq!(departed(&mut observer, &id).await, Value::Null, "a close frame of any code is a clean departure");

        let mut client = Client::json(&server).await;
        let id = client.id.clone();
        client.send(record("nonsense")).await;
        client.until_end().await;
        assert!(departed(&mut observer, &id).await.is_string(), "malformed input is an error");

        let mut client = Client::json(&server).await;
        let id = client.id.clone();
        client.start("Abort", json!([])).await;
        client.until_end().await;
        assert_eq!(departed(&mut observer, &id).await, Value::Null, "an abort is no error");
    })
    .await;
}

/// The error with which a connection departed, once it has.
async fn departed(observer: &mut Client, id: &str) -> Value {
    eventually!(observer.call("Departed", json!([id])).await.expect("Departed").is_object());
    let record = observer.call("Departed", json!([id])).await.expect("Departed");
    assert_eq!(record["connectionId"], id, "{record}");
    record["error"].clone()
}

#[tokio::test]
async fn groups_forget_who_has_left() {
    guard(async {
        let server = TestServer::ours();
        let mut observer = Client::json(&server).await;
        observer.call("Join", json!(["leavers"])).await.expect("joined");
        let mut client = Client::json(&server).await;
        client.call("Join", json!(["leavers"])).await.expect("joined");
        let id = client.id.clone();
        client.leave().await;
        departed(&mut observer, &id).await;
        assert_eq!(observer.call("ToGroup", json!(["leavers", 1])).await, Ok(Value::Null));
        assert_eq!(observer.call("ToConnection", json!([id, 1])).await, Ok(Value::Null), "nobody, and no error");
        assert_eq!(observer.settle().await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn messages_of_one_sender_keep_their_order_for_every_receiver() {
    guard(async {
        let server = TestServer::ours();
        let mut receivers = Vec::new();
        for index in 0..10 {
            let protocol = PROTOCOLS[index % 2];
            let mut receiver = Client::connect(&server, "/conformance", protocol).await;
            receiver.call("Join", json!(["ordered"])).await.expect("joined");
            receivers.push(receiver);
        }
        let mut sender = Client::json(&server).await;
        // Each call only when the one before is done, or two of them run at once.
        for number in 0..300 {
            sender.call("ToGroup", json!(["ordered", number])).await.expect("sent");
        }
        for receiver in &mut receivers {
            for number in 0..300 {
                assert_eq!(receiver.target("message").await.arguments()[1], number);
            }
        }
    })
    .await;
}

/// One receiver that reads nothing costs the others nothing.
#[tokio::test]
async fn a_slow_receiver_delays_nobody() {
    guard(async {
        let what = "a slow receiver, on a server of its own";
        let Some(server) = TestServer::ours_with(what, &[]) else { return };
        let mut slow = Client::json(&server).await;
        slow.call("Join", json!(["isolation"])).await.expect("joined");
        let mut quick = Client::messagepack(&server).await;
        quick.call("Join", json!(["isolation"])).await.expect("joined");
        let mut sender = Client::json(&server).await;
        let text = "x".repeat(30_000);
        let before = server.resident();
        let mut longest = Duration::ZERO;
        // 30 MB, more than any kernel buffer holds for the one that does not read.
        for number in 0..1000 {
            let begun = Instant::now();
            within("a send to the group", sender.call("ToGroup", json!(["isolation", [number, text]])))
                .await
                .expect("sent");
            let message = quick.target("message").await;
            assert_eq!(message.arguments()[1][0], number);
            longest = longest.max(begun.elapsed());
        }
        println!("the longest send and delivery took {longest:?}");
        assert!(longest < Duration::from_secs(2), "a send waited {longest:?} for the slow receiver");
        if let (Some(before), Some(after)) = (before, server.resident()) {
            let grown = after.saturating_sub(before) >> 20;
            assert!(grown < 64, "{grown} MB for one receiver that does not read");
        }
        quick.settle().await;
    })
    .await;
}
