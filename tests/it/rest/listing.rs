use super::{Service, escape};
use crate::support::hub::Protocol;
use serde_json::{Value, json};

/// Follows the links from page to page; gives the pages.
async fn pages(service: &Service, first: &str) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    let mut next = Some(first.to_owned());
    while let Some(target) = next {
        let response = service.ask("GET", &target).await;
        assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")), "{target}");
        let body = response.json();
        pages.push(body["value"].as_array().unwrap().clone());
        let base = format!("http://{}", service.server.addr());
        next = body.get("nextLink").map(|link| link.as_str().unwrap().strip_prefix(&base).unwrap().to_owned());
    }
    pages
}

#[tokio::test]
async fn a_group_is_listed_page_by_page() {
    let service = Service::start().await;
    let mut want = Vec::new();
    let mut clients = Vec::new();
    let group = escape("g/1 ф");
    for n in 0..5 {
        let user = if n % 2 == 0 { "ann" } else { "" };
        let client = service.client_at("/app", user, Protocol::Json).await;
        let target = format!("/api/hubs/chat/groups/{group}/connections/{}?application=app", client.id);
        assert_eq!(service.ask("PUT", &target).await.status, 200);
        let mut row = json!({"connectionId": client.id});
        if !user.is_empty() {
            row["userId"] = user.into();
        }
        want.push(row);
        clients.push(client);
    }
    want.sort_by_key(|row| row["connectionId"].as_str().unwrap().to_owned());
    let path = format!("/api/hubs/chat/groups/{group}/connections?application=app&api-version=2024-12-01");
    for (query, sizes) in [
        ("", vec![5]),
        ("&maxpagesize=2", vec![2, 2, 1]),
        ("&maxPageSize=2&top=3", vec![2, 1]),
        ("&maxpagesize=2&top=4", vec![2, 2]),
        ("&top=3", vec![3]),
        ("&maxpagesize=5", vec![5]),
        ("&maxpagesize=200&top=900", vec![5]),
    ] {
        let pages = pages(&service, &format!("{path}{query}")).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "{query}");
        let rows = pages.concat();
        assert_eq!(rows, want[..rows.len()], "{query}");
    }
    let link = service.ask("GET", &format!("{path}&maxpagesize=2&top=5")).await.json();
    let link = link["nextLink"].as_str().unwrap();
    let (before, after) = link.split_once("continuationToken=").unwrap();
    let token = after.strip_suffix("&application=app&api-version=2024-12-01").unwrap();
    assert!(!token.is_empty() && token.bytes().all(|b| b.is_ascii_hexdigit()), "{token}");
    let path = format!("/api/hubs/chat/groups/{group}/connections");
    assert_eq!(before, format!("http://{}{path}?top=3&maxpagesize=2&", service.server.addr()));
    for (query, body) in [("none/connections", json!({"value": []})), ("g%2F1/connections", json!({"value": []}))] {
        let response = service.ask("GET", &format!("/api/hubs/chat/groups/{query}")).await;
        assert_eq!((response.status, response.json()), (200, body));
    }
}

#[tokio::test]
async fn pages_that_make_no_sense_are_refused() {
    let service = Service::start().await;
    for query in [
        "maxpagesize=0",
        "maxpagesize=201",
        "maxpagesize=-1",
        "maxpagesize=x",
        "maxpagesize=",
        "top=0",
        "top=1.0",
        "continuationToken=!",
        "continuationToken=",
        "continuationToken=0",
        "continuationToken=FF",
        "continuationToken=0g",
    ] {
        for path in ["/api/hubs/chat/groups/g/connections", "/api/hubs/chat/connections", "/api/hubs"] {
            let response = service.ask("GET", &format!("{path}?{query}")).await;
            assert_eq!((response.status, super::code(&response)), (400, "Error.Request.Invalid"), "{path}?{query}");
        }
    }
    let group = "g".repeat(1025);
    assert_eq!(service.ask("GET", &format!("/api/hubs/chat/groups/{group}/connections")).await.status, 400);
}

#[tokio::test]
async fn links_name_the_address_that_callers_use() {
    let service = Service::with(|rest| rest.trust_forwarded = true).await;
    let public = Service::with(|rest| rest.public_url = Some("https://signal.example/x/".into())).await;
    let forwarded = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: front.example, other\r\n";
    for (service, headers, base) in [
        (&service, forwarded, "https://front.example/api/hubs?"),
        (&public, forwarded, "https://signal.example/x/api/hubs?"),
    ] {
        let body = service.ask_with("GET", "/api/hubs?maxpagesize=1", headers, b"").await.json();
        assert!(body["nextLink"].as_str().unwrap().starts_with(base), "{body}");
    }
    let plain = Service::start().await;
    let body = plain.ask_with("GET", "/api/hubs?maxpagesize=1", forwarded, b"").await.json();
    let base = format!("http://{}/api/hubs?", plain.server.addr());
    assert!(body["nextLink"].as_str().unwrap().starts_with(&base), "nobody vouches for the headers: {body}");
}

#[tokio::test]
async fn hubs_connections_and_groups_are_listed() {
    let service = Service::start().await;
    let ann = service.client("ann", Protocol::Json).await;
    let nobody = service.client("", Protocol::MessagePack).await;
    for (group, id) in [("a", &ann.id), ("b", &ann.id), ("b", &nobody.id)] {
        service.ask("PUT", &format!("/api/hubs/chat/groups/{group}/connections/{id}")).await;
    }
    let hubs = pages(&service, "/api/hubs?maxpagesize=1&api-version=2024-12-01").await;
    let app = json!({"name": "app_chat", "connections": 0, "groups": 0});
    assert_eq!(hubs, [[app], [json!({"name": "chat", "connections": 2, "groups": 2})]]);
    let groups = pages(&service, "/api/hubs/chat/groups?maxpagesize=1").await;
    assert_eq!(groups, [[json!({"name": "a", "connections": 1})], [json!({"name": "b", "connections": 2})]]);
    let mut rows = pages(&service, "/api/hubs/chat/connections").await.concat();
    let mut want = vec![
        json!({"connectionId": ann.id, "userId": "ann", "transport": "WebSockets", "protocol": "json", "groups": 2}),
        json!({"connectionId": nobody.id, "transport": "WebSockets", "protocol": "messagepack", "groups": 1}),
    ];
    want.sort_by_key(|row| row["connectionId"].as_str().unwrap().to_owned());
    assert_eq!(rows, want);
    rows = pages(&service, "/api/hubs/chat/connections?top=1&application=app").await.concat();
    assert_eq!(rows, Vec::<Value>::new());
    assert_eq!(service.ask("GET", "/api/hubs/none/connections").await.json(), json!({"value": []}));
    assert_eq!(service.ask("GET", "/api/hubs/none/groups").await.json(), json!({"value": []}));
}
