use super::{BINARY, JSON, Service, escape};
use crate::support::hub::{Client, Protocol};
use crate::support::msgpack::unhex;
use serde_json::json;

/// Sends to a target of the API and gives who has heard it.
async fn reach(service: &mut Service, target: &str, clients: &mut [Client; 4]) -> [bool; 4] {
    let response = service.send(target, &json!({"target": "hello", "arguments": [1]})).await;
    assert_eq!((response.status, response.header("content-length"), &*response.body), (202, Some("0"), &b""[..]));
    let [a, b, c, d] = clients;
    let heard = service.heard(&mut [a, b, c, d]).await;
    let heard: Vec<bool> = heard.iter().map(|targets| !targets.is_empty()).collect();
    heard.try_into().unwrap()
}

#[tokio::test]
async fn every_spelling_of_a_send_reaches_whom_it_names() {
    let mut service = Service::start().await;
    let mut clients = service.four().await;
    let [ann, ann2, bob, nobody] = [0, 1, 2, 3].map(|at| clients[at].id.clone());
    for id in [&ann2, &bob] {
        assert_eq!(service.ask("PUT", &format!("/api/hubs/chat/groups/g1/connections/{id}")).await.status, 200);
    }
    assert_eq!(service.ask("PUT", &format!("/api/hubs/chat/groups/g2/connections/{nobody}")).await.status, 200);
    let date = "?api-version=2022-06-01";
    for (target, want) in [
        (format!("/api/hubs/chat/:send{date}"), [true; 4]),
        (format!("/api/hubs/chat{date}"), [true; 4]),
        (format!("/API/Hubs/CHAT/:SEND{date}"), [true; 4]),
        (format!("/api/hubs/chat/%3Asend{date}"), [true; 4]),
        (format!("/api/hubs/chat/:send?excluded={ann}&Excluded={bob}&excluded=unknown"), [false, true, false, true]),
        (format!("/api/hubs/chat/connections/{ann}/:send{date}"), [true, false, false, false]),
        (format!("/api/hubs/chat/connections/{ann2}"), [false, true, false, false]),
        (format!("/api/hubs/chat/connections/missing/:send{date}"), [false; 4]),
        (format!("/api/hubs/chat/groups/g1/:send{date}"), [false, true, true, false]),
        (format!("/api/hubs/chat/groups/g1{date}"), [false, true, true, false]),
        (format!("/api/hubs/chat/groups/G1/:send{date}"), [false; 4]),
        (format!("/api/hubs/chat/groups/g1/:send?excluded={ann2}"), [false, false, true, false]),
        (format!("/api/hubs/chat/users/ann/:send{date}"), [true, true, false, false]),
        (format!("/api/hubs/chat/users/ann{date}"), [true, true, false, false]),
        (format!("/api/hubs/chat/users/Ann/:send{date}"), [false; 4]),
        ("/api/hubs/chat/:send?application=other".to_owned(), [false; 4]),
        (format!("/api/hubs/nosuch/:send{date}"), [false; 4]),
        // the first version
        ("/api/v1/hubs/chat".to_owned(), [true; 4]),
        ("/api/v1/hubs/Chat/:send".to_owned(), [true; 4]),
        (format!("/api/v1/hubs/chat?excluded={ann}"), [false, true, true, true]),
        ("/api/v1/hubs/chat/users/bob".to_owned(), [false, false, true, false]),
        (format!("/api/v1/hubs/chat/connections/{bob}"), [false, false, true, false]),
        ("/api/v1/hubs/chat/groups/g1".to_owned(), [false, true, true, false]),
        (format!("/api/v1/hubs/chat/groups/g1?excluded={bob}"), [false, true, false, false]),
        ("/api/v1/hubs/chat/users/bob?api-version=1.0".to_owned(), [false, false, true, false]),
        // and what came before it
        ("/api/v1-preview/hub/chat".to_owned(), [true; 4]),
        ("/api/v1-preview/hub/chat/user/bob".to_owned(), [false, false, true, false]),
        ("/api/v1-preview/hub/chat/users/bob,ann,none".to_owned(), [true, true, true, false]),
        ("/api/v1-preview/hub/chat/group/g2".to_owned(), [false, false, false, true]),
        ("/api/v1-preview/hub/chat/groups/g1,g2".to_owned(), [false, true, true, true]),
    ] {
        assert_eq!(reach(&mut service, &target, &mut clients).await, want, "{target}");
    }
}

#[tokio::test]
async fn an_applications_hub_is_another_one() {
    let service = Service::start().await;
    let mut app = service.client_at("/app", "ann", Protocol::Json).await;
    for target in ["/api/hubs/Chat/:send?application=App&api-version=2022-06-01", "/api/v1/hubs/app_chat"] {
        assert_eq!(service.send(target, &json!({"target": "x"})).await.status, 202);
        assert_eq!(app.message().await.target(), "x");
    }
    // without a parameter of that name
    assert_eq!(service.send("/api/v1/hubs/chat?application=app", &json!({"target": "y"})).await.status, 202);
    assert_eq!(service.send("/api/hubs/chat/:send?application=1app", &json!({"target": "y"})).await.status, 400);
    assert_eq!(service.send("/api/v1/hubs/app_chat", &json!({"target": "end"})).await.status, 202);
    assert_eq!(app.message().await.target(), "end");
}

#[tokio::test]
async fn names_of_any_characters_are_one_name() {
    let service = Service::start().await;
    for name in ["a/b", "a%2Fb", "a b+c", "100%", "ф/😀", "?#;=&", "..", "a\u{1}b", "'\"\\"] {
        let mut client = service.client(name, Protocol::Json).await;
        let user = escape(name);
        let group = format!("/api/hubs/chat/users/{user}/groups/{user}");
        assert_eq!(service.ask("PUT", &group).await.status, 200, "{name}");
        assert_eq!(service.ask("GET", &group).await.status, 200, "{name}");
        for kind in ["users", "groups"] {
            let target = format!("/api/hubs/chat/{kind}/{user}/:send");
            assert_eq!(service.send(&target, &json!({"target": name})).await.status, 202, "{target}");
            assert_eq!(client.message().await.target(), name);
        }
        client.leave().await;
    }
}

#[tokio::test]
async fn values_arrive_as_they_were_written() {
    let service = Service::start().await;
    let mut json_client = service.client("", Protocol::Json).await;
    let mut binary_client = service.client("", Protocol::MessagePack).await;
    let arguments = r#"[18446744073709551615,-9223372036854775808,36893488147419103232,1.10,1e2,"2024-01-01T10:00:00.12+02:00","é\u0000😀",{"b":[],"a":{}},null,true,12345678901234567890123]"#;
    let body = format!(r#"{{"Target":"values","Arguments":{arguments}}}"#);
    assert_eq!(service.ask_with("POST", "/api/hubs/chat/:send", JSON, body.as_bytes()).await.status, 202);
    let text = json_client.message().await.text();
    assert_eq!(text, format!(r#"{{"type":1,"target":"values","arguments":{arguments}}}"#));
    let message = binary_client.message().await;
    let want = unhex(concat!(
        "960180c0a676616c7565739b",
        "cfffffffffffffffff",
        "d38000000000000000",
        "cb4400000000000000",
        "cb3ff199999999999a",
        "cb4059000000000000",
        "bc323032342d30312d30315431303a30303a30302e31322b30323a3030",
        "a7c3a900f09f9880",
        "82a16290a16180",
        "c0",
        "c3",
    ));
    assert_eq!(message.raw[..want.len()], want, "{message:?}");
    assert_eq!(message.raw[want.len()..], unhex("cb4484ea15b273b38a90")[..], "{message:?}");
}

#[tokio::test]
async fn more_than_ten_arguments_and_other_spellings_of_the_members() {
    let service = Service::start().await;
    let mut client = service.client("", Protocol::MessagePack).await;
    let many: Vec<u32> = (0..20).collect();
    for (body, arguments) in [
        (json!({"TARGET": "t", "arGuments": many, "rawBytes": null, "rawOnly": false}), json!(many)),
        (json!({"target": "t", "arguments": null}), json!([])),
        (json!({"target": "t"}), json!([])),
    ] {
        assert_eq!(service.send("/api/hubs/chat/:send", &body).await.status, 202);
        assert_eq!(*client.message().await.arguments(), arguments);
    }
}

#[tokio::test]
async fn framed_messages_are_passed_on_byte_by_byte() {
    let service = Service::start().await;
    let mut json_client = service.client("", Protocol::Json).await;
    let mut binary_client = service.client("", Protocol::MessagePack).await;
    let json_text = b"{ \"arguments\" : [ 1 ] , \"target\":\"t\", \"type\":1}\x1e";
    // five items, and a number in a longer form than it needs
    let binary = unhex("0c950180c0a17491ce00000001");
    let map = |pairs: &[(&[u8], &[u8])]| {
        let mut body = vec![0x80 | pairs.len() as u8];
        for (name, value) in pairs {
            body.push(0xc4);
            body.push(name.len() as u8);
            body.extend_from_slice(name);
            body.push(0xd9);
            body.push(value.len() as u8);
            body.extend_from_slice(value);
        }
        body
    };
    let both = map(&[(b"json", json_text), (b"messagepack", &binary), (b"other", b"?")]);
    for headers in [BINARY, "content-type: application/x-msgpack\r\n"] {
        assert_eq!(service.ask_with("POST", "/api/hubs/chat/:send", headers, &both).await.status, 202);
        assert_eq!(json_client.message().await.raw, json_text[..json_text.len() - 1]);
        assert_eq!(binary_client.message().await.raw, binary[1..]);
    }
    // in JSON only, it is rewritten for the others; in MessagePack only, the others get nothing
    let one = map(&[(b"json", json_text)]);
    assert_eq!(service.ask_with("POST", "/api/hubs/chat/:send", BINARY, &one).await.status, 202);
    assert_eq!(json_client.message().await.target(), "t");
    assert_eq!(binary_client.message().await.raw, unhex("960180c0a174910190"));
    let one = map(&[(b"messagepack", &binary)]);
    assert_eq!(service.ask_with("POST", "/api/hubs/chat/:send", BINARY, &one).await.status, 202);
    assert_eq!(service.send("/api/hubs/chat/:send", &json!({"target": "end"})).await.status, 202);
    assert_eq!(binary_client.message().await.target(), "t");
    assert_eq!(json_client.message().await.target(), "end");
}

#[tokio::test]
async fn a_body_in_chunks_is_a_body() {
    let service = Service::start().await;
    let mut client = service.client("", Protocol::Json).await;
    let target = "/api/hubs/chat/:send";
    let text = json!({"target": "chunks", "arguments": ["x".repeat(300)]}).to_string();
    let mut chunks = String::new();
    for part in text.as_bytes().chunks(100) {
        chunks += &format!("{:x}\r\n{}\r\n", part.len(), std::str::from_utf8(part).unwrap());
    }
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: bearer {}\r\n{JSON}\
         Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n",
        service.bearer(target)
    );
    let mut peer = crate::support::ws::RawPeer::tcp(&service.server).await;
    peer.send(request).await.unwrap();
    let mut answer = peer.response_head().await.unwrap();
    if answer.status == 100 {
        answer = peer.response_head().await.unwrap();
    }
    assert_eq!(answer.status, 202);
    assert_eq!(client.message().await.target(), "chunks");
}

#[tokio::test]
async fn what_one_caller_sends_arrives_in_order() {
    let service = Service::start().await;
    let mut clients = service.four().await;
    for n in 0..30 {
        let target = ["/api/hubs/chat/:send", "/api/hubs/chat/users/ann/:send", "/api/v1/hubs/chat"][n % 3];
        assert_eq!(service.send(target, &json!({"target": "n", "arguments": [n]})).await.status, 202);
    }
    for client in &mut clients[..2] {
        for n in 0..30 {
            assert_eq!(*client.message().await.arguments(), json!([n]));
        }
    }
}
