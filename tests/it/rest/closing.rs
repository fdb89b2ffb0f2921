use super::Service;
use crate::support::hub::{Client, Event, Protocol};
use serde_json::{Value, json};

/// Reads a connection to its end: the close message, of which there is one.
async fn goodbye(client: &mut Client) -> Value {
    let mut close = Value::Null;
    loop {
        match client.event().await {
            Event::Message(message) if message.kind() == 7 => close = message.json,
            Event::Message(message) => assert!(matches!(message.kind(), 6), "{message:?}"),
            _ => return close,
        }
    }
}

#[tokio::test]
async fn who_is_closed_is_told_and_may_come_back() {
    let told = json!({"type": 7, "error": "bye & so", "allowReconnect": true});
    let untold = json!({"type": 7, "allowReconnect": true});
    for (method, path, status, closed) in [
        ("POST", "/api/hubs/chat/:closeConnections", 204, [true; 4]),
        ("POST", "/api/hubs/chat/users/ann/:closeConnections", 204, [true, true, false, false]),
        ("POST", "/api/hubs/chat/groups/g/:closeConnections", 204, [false, true, true, false]),
        ("DELETE", "/api/hubs/chat/connections/ID0", 200, [true, false, false, false]),
        ("DELETE", "/api/v1/hubs/chat/connections/ID1", 202, [false, true, false, false]),
        ("POST", "/api/v1/hubs/chat/:closeConnections", 204, [true; 4]),
    ] {
        for (query, told) in [("?reason=bye%20%26+so&api-version=2022-06-01", &told), ("", &untold)] {
            let mut service = Service::start().await;
            let mut clients = service.four().await;
            for at in [1, 2] {
                service.ask("PUT", &format!("/api/hubs/chat/groups/g/connections/{}", clients[at].id)).await;
            }
            let path = path.replace("ID0", &clients[0].id).replace("ID1", &clients[1].id);
            let response = service.ask(method, &format!("{path}{query}")).await;
            assert_eq!((response.status, &*response.body), (status, &b""[..]), "{path}");
            assert_eq!(response.header("content-length"), (status != 204).then_some("0"), "{path}");
            let mut stay = Vec::new();
            for (client, closed) in clients.iter_mut().zip(closed) {
                if closed {
                    assert_eq!(goodbye(client).await, *told, "{path}");
                } else {
                    stay.push(client);
                }
            }
            assert!(service.heard(&mut stay).await.concat().is_empty(), "{path}");
        }
    }
}

#[tokio::test]
async fn the_excluded_stay() {
    let mut service = Service::start().await;
    let mut clients = service.four().await;
    let ids: Vec<String> = clients.iter().map(|client| client.id.clone()).collect();
    let target = format!("/api/hubs/chat/users/ann/:closeConnections?excluded={}&excluded=none", ids[0]);
    assert_eq!(service.ask("POST", &target).await.status, 204);
    goodbye(&mut clients[1]).await;
    let target = format!("/api/hubs/chat/:closeConnections?excluded={}&excluded={}", ids[0], ids[3]);
    assert_eq!(service.ask_with("POST", &target, super::JSON, b"whatever").await.status, 204);
    goodbye(&mut clients[2]).await;
    let [a, _, _, d] = &mut clients;
    assert_eq!(service.heard(&mut [a, d]).await, [[""; 0], [""; 0]]);
}

#[tokio::test]
async fn nobody_to_close_is_no_error() {
    let service = Service::start().await;
    for (method, path, status) in [
        ("POST", "/api/hubs/none/:closeConnections", 204),
        ("POST", "/api/hubs/chat/users/none/:closeConnections", 204),
        ("POST", "/api/hubs/chat/groups/none/:closeConnections?reason=x", 204),
        ("DELETE", "/api/hubs/chat/connections/none", 200),
        ("DELETE", "/api/v1/hubs/chat/connections/none", 202),
    ] {
        assert_eq!(service.ask(method, path).await.status, status, "{path}");
    }
    let client = service.client("", Protocol::Json).await;
    client.leave().await;
}
