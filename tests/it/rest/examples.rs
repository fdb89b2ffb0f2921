use super::{Service, request};
use crate::support::hub::Protocol;
use crate::support::msgpack::unhex;
use serde_json::{Value, json};

/// The published pairs of request and response, all on one service: what is listed has to be so, and nothing more.
#[tokio::test]
async fn the_published_examples_are_answered_as_published() {
    let file: Value = serde_json::from_str(include_str!("../../vectors/rest-api-examples.json")).unwrap();
    let service = Service::start().await;
    let mut seen = 0;
    for example in file["examples"].as_array().unwrap() {
        let name = example["name"].as_str().unwrap();
        let asked = &example["request"];
        let want = &example["response"];
        // these need a state, or somebody who answers: see the other tests
        if ["list a group", "invoke a client", "temporary key", "generate a client"]
            .iter()
            .any(|part| name.starts_with(part))
        {
            continue;
        }
        let (method, target) = (asked["method"].as_str().unwrap(), asked["target"].as_str().unwrap());
        let mut headers = String::new();
        for (name, value) in asked["headers"].as_object().into_iter().flatten() {
            headers += &format!("{name}: {}\r\n", value.as_str().unwrap());
        }
        let body = match (asked.get("body"), asked.get("bodyText"), asked.get("bodyHex")) {
            (Some(json), ..) => json.to_string().into_bytes(),
            (_, Some(text), _) => text.as_str().unwrap().into(),
            (.., Some(hex)) => unhex(hex.as_str().unwrap()),
            _ => Vec::new(),
        };
        let response = if matches!(name, "token missing" | "health") {
            request(&service.server, method, target, &headers, &body).await
        } else {
            service.ask_with(method, target, &headers, &body).await
        };
        assert_eq!(response.status, want["status"].as_u64().unwrap() as u16, "{name}: {response:?}");
        for (header, value) in want["headers"].as_object().into_iter().flatten() {
            assert_eq!(response.header(header), value.as_str(), "{name}");
        }
        if let Some(length) = want.get("contentLength") {
            assert_eq!(response.header("content-length"), Some(&*length.to_string()), "{name}");
        }
        for (member, value) in want["body"].as_object().into_iter().flatten() {
            assert_eq!(response.json()[member], *value, "{name}");
        }
        seen += 1;
    }
    assert_eq!(seen, 35);
}

#[tokio::test]
async fn the_published_messages_are_what_clients_get() {
    let service = Service::start().await;
    let file: Value = serde_json::from_str(include_str!("../../vectors/rest-api-examples.json")).unwrap();
    let want = &file["hubInvocation"];
    let mut text = service.client("", Protocol::Json).await;
    let mut binary = service.client("", Protocol::MessagePack).await;
    let body = json!({"Target": "hello", "Arguments": ["world", 42]});
    assert_eq!(service.send("/api/hubs/chat/:send", &body).await.status, 202);
    let map = file["examples"].as_array().unwrap().iter().find_map(|example| example["request"]["bodyHex"].as_str());
    let sent = service.ask_with("POST", "/api/hubs/chat/:send", super::BINARY, &unhex(map.unwrap())).await;
    assert_eq!(sent.status, 202);
    for _ in 0..2 {
        let expected = unhex(want["jsonHex"].as_str().unwrap());
        assert_eq!(text.message().await.raw, expected[..expected.len() - 1]);
        assert_eq!(binary.message().await.raw, unhex(want["messagepackUnframedHex"].as_str().unwrap()));
    }
}
