use super::{BINARY, JSON, Service, code, escape};
use crate::support::hub::{Client, Message, Protocol};
use crate::support::msgpack::{Mp, framed};
use serde_json::{Value, json};
use std::time::Duration;

const INVOKE: &str = "/api/hubs/chat/connections/ID/:invoke?api-version=2024-12-01";

/// Asks a client over the API while the client answers what `answer` makes of the question.
async fn ask(
    service: &Service,
    client: &mut Client,
    headers: &str,
    body: &[u8],
    answer: impl Fn(&Message) -> Vec<u8>,
) -> super::Response {
    let target = INVOKE.replace("ID", &client.id);
    let asked = service.ask_with("POST", &target, headers, body);
    let answered = async {
        let question = client.message().await;
        assert_eq!((question.kind(), question.target()), (1, "ask"), "{question:?}");
        assert!(!question.id().is_empty());
        let bytes = answer(&question);
        client.send(bytes).await;
    };
    tokio::join!(asked, answered).0
}

fn completion(client: Protocol, question: &Message, member: &str, value: Value) -> Vec<u8> {
    let mut message = json!({"type": 3, "invocationId": question.id()});
    if !member.is_empty() {
        message[member] = value;
    }
    crate::support::hub::encode(client, &message)
}

#[tokio::test]
async fn more_questions_than_may_wait_are_told_to_come_later() {
    let service = Service::with(|rest| rest.max_parallel_invokes = Some(1)).await;
    let mut client = service.client("ann", Protocol::Json).await;
    let target = INVOKE.replace("ID", &client.id);
    let body = json!({"target": "ask"});
    for _ in 0..2 {
        let first = service.send(&target, &body);
        let meanwhile = async {
            let question = client.message().await;
            let second = service.send(&target, &body).await;
            assert_eq!((second.status, second.header("retry-after")), (429, Some("1")));
            client.send(completion(Protocol::Json, &question, "result", json!(1))).await;
        };
        assert_eq!(tokio::join!(first, meanwhile).0.status, 200, "there is room again");
    }
}

#[tokio::test]
async fn a_client_is_asked_and_its_answer_given() {
    let service = Service::start().await;
    let body = br#"{"Target":"ask","Arguments":["q",18446744073709551615]}"#;
    for protocol in [Protocol::Json, Protocol::MessagePack] {
        let mut client = service.client("ann", protocol).await;
        for (member, value, want) in [
            ("result", json!("answer"), json!({"result": "answer"})),
            ("result", json!({"n": [1.5, null, u64::MAX]}), json!({"result": {"n": [1.5, null, u64::MAX]}})),
            ("result", json!(null), json!({"result": null})),
            ("", json!(null), json!({})),
        ] {
            let response = ask(&service, &mut client, JSON, body, |question| {
                assert_eq!(*question.arguments(), json!(["q", u64::MAX]));
                completion(protocol, question, member, value.clone())
            });
            let response = response.await;
            assert_eq!((response.status, response.json()), (200, want), "{protocol:?} {member} {value}");
        }
        let response = ask(&service, &mut client, JSON, body, |question| {
            completion(protocol, question, "error", json!("no, \"thanks\""))
        });
        let response = response.await;
        assert_eq!((response.status, code(&response)), (400, "Error.Connection.Invalid"));
        assert_eq!(response.json()["message"], "no, \"thanks\"");
    }
}

#[tokio::test]
async fn who_reads_completions_gets_them_framed() {
    let service = Service::start().await;
    let headers = format!("{JSON}Accept: application/octet-stream\r\n");
    let body = br#"{"target":"ask","arguments":[]}"#;
    for protocol in [Protocol::Json, Protocol::MessagePack] {
        let mut client = service.client("ann", protocol).await;
        for (member, value) in [("result", json!([1, "x"])), ("error", json!("no")), ("", json!(null))] {
            let sent = std::cell::RefCell::new(Vec::new());
            let response = ask(&service, &mut client, &headers, body, |question| {
                *sent.borrow_mut() = completion(protocol, question, member, value.clone());
                sent.borrow().clone()
            });
            let response = response.await;
            assert_eq!(response.status, 200);
            assert_eq!(response.header("content-type"), Some("application/octet-stream"));
            assert_eq!(response.header("x-protocol"), Some(protocol.name()));
            assert_eq!(response.body, *sent.borrow(), "{protocol:?} {member}");
        }
    }
}

#[tokio::test]
async fn framed_questions_get_an_id() {
    let service = Service::start().await;
    let text = b"{\"type\":1,\"target\":\"ask\",\"arguments\":[1.50]}\x1e";
    let binary = framed(
        &Mp::Array(vec![
            Mp::Int(1),
            Mp::Map(vec![]),
            Mp::Nil,
            Mp::str("ask"),
            Mp::Array(vec![Mp::str("binary")]),
            Mp::Array(vec![]),
        ])
        .encode(),
    );
    let entry = |name: &str, value: &[u8]| {
        [&[0xa0 | name.len() as u8], name.as_bytes(), &[0xc4, value.len() as u8], value].concat()
    };
    let both = [&[0x82][..], &entry("json", text), &entry("messagepack", &binary)].concat();
    let one = [&[0x81][..], &entry("json", text)].concat();
    for (protocol, body, arguments) in [
        (Protocol::Json, &both, json!([1.5])),
        (Protocol::MessagePack, &both, json!(["binary"])),
        (Protocol::MessagePack, &one, json!([1.5])),
    ] {
        let mut client = service.client("", protocol).await;
        let response = ask(&service, &mut client, BINARY, body, |question| {
            assert_eq!(*question.arguments(), arguments);
            completion(protocol, question, "result", json!(true))
        });
        assert_eq!(response.await.json(), json!({"result": true}));
    }
}

#[tokio::test]
async fn questions_that_nobody_answers_end() {
    let service = Service::with(|rest| rest.invoke_timeout = Some(Duration::from_millis(200))).await;
    let body = json!({"target": "ask"});
    let response = service.send(&INVOKE.replace("ID", "missing"), &body).await;
    assert_eq!((response.status, code(&response)), (404, "Error.Connection.NotExisted"));
    let response = service.send(&INVOKE.replace("chat", "none").replace("ID", "x"), &body).await;
    assert_eq!((response.status, code(&response)), (404, "Error.Connection.NotExisted"));
    let mut client = service.client("ann", Protocol::Json).await;
    let response = service.send(&INVOKE.replace("ID", &client.id), &body).await;
    assert_eq!(response.status, 504);
    // too late, and the connection goes on
    let question = client.message().await;
    client.say(json!({"type": 3, "invocationId": question.id(), "result": 1})).await;
    let response = ask(&service, &mut client, JSON, br#"{"target":"ask"}"#, |question| {
        completion(Protocol::Json, question, "result", json!(2))
    });
    assert_eq!(response.await.json(), json!({"result": 2}));
}

#[tokio::test]
async fn a_client_that_leaves_does_not_answer() {
    let service = Service::start().await;
    let mut client = service.client("ann", Protocol::Json).await;
    let target = INVOKE.replace("ID", &client.id);
    let body = json!({"target": "ask"});
    let leaves = async {
        client.message().await;
        client.leave().await;
    };
    let (response, ()) = tokio::join!(service.send(&target, &body), leaves);
    assert_eq!((response.status, code(&response)), (404, "Error.Connection.NotExisted"));
}

#[tokio::test]
async fn streams_are_answered() {
    let service = Service::start().await;
    for protocol in [Protocol::Json, Protocol::MessagePack] {
        let mut client = service.client("ann", protocol).await;
        let path = format!("/api/hubs/chat/connections/{}/streams/s%201", client.id);
        let item = |value: Value| json!({"type": 2, "invocationId": "s 1", "item": value});
        let done = json!({"type": 3, "invocationId": "s 1"});
        let failed = |text: &str| json!({"type": 3, "invocationId": "s 1", "error": text});
        for (target, body, want) in [
            (":send?api-version=2024-12-01", r#"{"n":1}"#, vec![item(json!({"n": 1}))]),
            (":send", "null", vec![item(json!(null))]),
            (":send?completed=false", "[1,2.5]", vec![item(json!([1, 2.5]))]),
            (":send?completed=True", "\"last\"", vec![item(json!("last")), done.clone()]),
            (":complete", "", vec![done.clone()]),
            (":complete?error=boom", "", vec![failed("boom")]),
            (":complete?reason=why%20not", "", vec![failed("why not")]),
            (":complete?reason=", "ignored", vec![done.clone()]),
        ] {
            let response = service.ask_with("POST", &format!("{path}/{target}"), JSON, body.as_bytes()).await;
            assert_eq!((response.status, response.header("content-length")), (202, Some("0")), "{target}");
            for want in want {
                assert_eq!(client.message().await.json, want, "{protocol:?} {target}");
            }
        }
        for (target, headers, body, status) in [
            (":send", JSON, "", 400),
            (":send", JSON, "{", 400),
            (":send?completed=maybe", JSON, "1", 400),
            (":send", "Content-Type: text/plain\r\n", "1", 415),
            (":send", BINARY, "x", 400),
        ] {
            let response = service.ask_with("POST", &format!("{path}/{target}"), headers, body.as_bytes()).await;
            assert_eq!(response.status, status, "{target} {body}");
        }
        let long = format!("/api/hubs/chat/connections/x/streams/{}/:complete", "s".repeat(101));
        assert_eq!(service.ask("POST", &long).await.status, 400);
        assert_eq!(service.ask("POST", "/api/hubs/chat/connections/none/streams/s/:complete").await.status, 202);
    }
}

#[tokio::test]
async fn commands_run_on_those_that_a_filter_matches() {
    let mut service = Service::start().await;
    let [mut ann, mut ann2, mut bob, mut nobody] = service.four().await;
    service.ask("PUT", &format!("/api/hubs/chat/groups/vip/connections/{}", ann2.id)).await;
    let send = |target: &str| json!({"type": "SendMessage", "message": {"target": target, "arguments": [1]}});
    for (filter, want) in [
        (None, [true; 4]),
        (Some("userId eq 'ann'".to_owned()), [true, true, false, false]),
        (Some("userId eq null or 'vip' in groups".to_owned()), [false, true, false, true]),
        (Some(format!("connectionId eq '{}'", bob.id)), [false, false, true, false]),
        (Some("false".to_owned()), [false; 4]),
    ] {
        let query = filter.map_or(String::new(), |filter| format!("?filter={}", escape(&filter)));
        let target = format!("/api/hubs/chat/:execute{query}");
        let response = service.send(&target, &json!([send("one"), send("two")])).await;
        assert_eq!((response.status, response.header("content-length")), (202, Some("0")), "{target}");
        let heard = service.heard(&mut [&mut ann, &mut ann2, &mut bob, &mut nobody]).await;
        let want = want.map(|hears| if hears { vec!["one", "two"] } else { vec![] });
        assert_eq!(heard, want, "{target}");
    }
    let filter = escape("userId eq 'ann' and 'vip' in groups");
    let commands = json!([
        {"type": "JoinGroup", "group": "new"},
        send("hello"),
        {"type": "LeaveGroup", "group": "vip"},
        {"type": "closeconnection", "Reason": "moved"},
        send("moot"),
    ]);
    let target = format!("/api/hubs/chat/:execute?api-version=2024-12-01&filter={filter}");
    assert_eq!(service.send(&target, &commands).await.status, 202);
    assert_eq!(ann2.message().await.target(), "hello");
    assert_eq!(ann2.message().await.json, json!({"type": 7, "error": "moved", "allowReconnect": true}));
    assert_eq!(service.heard(&mut [&mut ann, &mut bob, &mut nobody]).await, [[""; 0]; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_message_of_others_comes_between_those_of_a_list_of_commands() {
    let service = Service::start().await;
    let mut clients = [service.client("", Protocol::Json).await, service.client("", Protocol::MessagePack).await];
    let send = |target: &str| json!({"type": "SendMessage", "message": {"target": target}});
    let commands = json!([send("one"), {"type": "JoinGroup", "group": "g"}, send("two"), send("three")]);
    let rounds = 100;
    let over = std::sync::atomic::AtomicBool::new(false);
    let others = async {
        while !over.load(std::sync::atomic::Ordering::Relaxed) {
            assert_eq!(service.send("/api/hubs/chat/:send", &json!({"target": "other"})).await.status, 202);
        }
    };
    let listening = clients.iter_mut().map(async |client| {
        for _ in 0..rounds {
            while client.message().await.target() != "one" {}
            assert_eq!([client.message().await.target(), client.message().await.target()], ["two", "three"]);
        }
    });
    let lists = async {
        for _ in 0..rounds {
            assert_eq!(service.send("/api/hubs/chat/:execute", &commands).await.status, 202);
        }
    };
    let own = async {
        tokio::join!(lists, futures_util::future::join_all(listening));
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    tokio::join!(own, others);
}

#[tokio::test]
async fn the_last_command_for_a_group_counts() {
    let mut service = Service::start().await;
    let mut ann = service.client("ann", Protocol::Json).await;
    for (kinds, is_in) in [(["JoinGroup", "LeaveGroup"], false), (["LeaveGroup", "JoinGroup"], true)] {
        let commands = kinds.map(|kind| json!({"type": kind, "group": "g"}));
        assert_eq!(service.send("/api/hubs/chat/:execute", &json!(commands)).await.status, 202);
        assert_eq!(service.members("g", &mut [&mut ann]).await, [is_in]);
    }
}

#[tokio::test]
async fn commands_that_are_none_run_not_at_all() {
    let mut service = Service::start().await;
    let mut ann = service.client("ann", Protocol::Json).await;
    let send = json!({"type": "SendMessage", "message": {"target": "x"}});
    for (filter, body) in [
        ("true", json!([send, {"type": "Dance"}])),
        ("true", json!([send, {}])),
        ("true", json!([send, 1])),
        ("true", json!([send, {"type": "SendMessage"}])),
        ("true", json!([send, {"type": "SendMessage", "message": {"arguments": []}}])),
        ("true", json!([send, {"type": "JoinGroup"}])),
        ("true", json!([send, {"type": "JoinGroup", "group": " "}])),
        ("true", json!([send, {"type": "JoinGroup", "group": 1}])),
        ("true", json!([send, {"type": "CloseConnection", "reason": {}}])),
        ("true", send.clone()),
        ("true", json!(null)),
        ("userId eq", json!([send])),
        ("userId", json!([send])),
    ] {
        let target = format!("/api/hubs/chat/:execute?filter={}", escape(filter));
        let response = service.send(&target, &body).await;
        assert_eq!((response.status, code(&response)), (400, "Error.Request.Invalid"), "{filter} {body}");
        if filter == "userId eq" {
            let message = "Invalid syntax for 'userId eq': it ends too early. (Parameter 'filter')";
            assert_eq!(response.json()["message"], message);
        }
    }
    assert_eq!(service.send("/api/hubs/chat/:execute", &json!([])).await.status, 202);
    let binary = service.ask_with("POST", "/api/hubs/chat/:execute", BINARY, b"\x90").await;
    assert_eq!(binary.status, 415);
    assert_eq!(service.heard(&mut [&mut ann]).await, [[""; 0]]);
}
