//! What the .NET management library does in its transient mode, request by request, as it writes them.

use super::{JSON, KEY, Service, code, now, request, sign_as};
use crate::log::Captured;
use crate::support::http::Response;
use crate::support::hub::Protocol;
use axum::body::Body;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jsonwebtoken::{Algorithm, Header};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// The older library leaves the port out of the audience and keeps the application and the version in it, and nothing else of the query.
fn older(path: &str) -> String {
    token(&json!({
        "nameid": "HOST_0123456789abcdef0123456789abcdef", "nbf": now(), "exp": now() + 3600, "iat": now(),
        "aud": format!("http://localhost{path}?application=app&api-version=2022-06-01"),
    }))
}

/// The newer one has the port and no query.
fn newer(service: &Service, path: &str) -> String {
    token(&json!({
        "nbf": now(), "exp": now() + 3600, "iat": now(), "iss": "azure-signalr",
        "aud": format!("http://{}{path}", service.server.addr()),
    }))
}

fn token(claims: &Value) -> String {
    // a number of its own process, which changes with every start
    let header = Header { kid: Some("-1380415571".into()), ..Header::new(Algorithm::HS256) };
    sign_as(&header, KEY, claims)
}

async fn ask(service: &Service, method: &str, path: &str, query: &str, old: bool, body: &str) -> Response {
    let version = if old { "2022-06-01" } else { "2024-12-01" };
    let target = format!("{path}?application=app&api-version={version}{query}");
    let token = if old { older(path) } else { newer(service, path) };
    let headers = format!(
        "Authorization: Bearer {token}\r\nAsrs-User-Agent: Microsoft.Azure.SignalR.Management/1.21.6 (.NET 8.0; Linux; X64)\r\n\
         X-ASRS-Message-Tracing-Id: 17149863592853725186\r\n{}",
        if body.is_empty() { "" } else { JSON }
    );
    request(&service.server, method, &target, &headers, body.as_bytes()).await
}

#[tokio::test]
async fn both_generations_of_the_library_get_what_they_expect() {
    let service = Service::start().await;
    for old in [true, false] {
        let mut client = service.client_at("/app", "al/ice b", Protocol::Json).await;
        let user = "/api/hubs/chat/users/al%2Fice%20b";
        let group = format!("{user}/groups/g%201");
        let connection = format!("/api/hubs/chat/connections/{}", client.id);
        // what says yes is 200 for a look and any success for a change
        for (method, path, query, status) in [
            ("HEAD", connection.clone(), "", 200),
            ("HEAD", user.to_owned(), "", 200),
            ("PUT", group.clone(), "&ttl=60", 200),
            ("GET", group.clone(), "", 200),
            ("HEAD", "/api/hubs/chat/groups/g%201".to_owned(), "", 200),
            ("DELETE", group.clone(), "", 204),
            ("DELETE", format!("{user}/groups"), "", 204),
            ("PUT", format!("/api/hubs/chat/groups/g/connections/{}", client.id), "", 200),
            ("DELETE", format!("/api/hubs/chat/groups/g/connections/{}", client.id), "", 200),
            ("DELETE", format!("{connection}/groups"), "", 200),
        ] {
            let response = ask(&service, method, &path, query, old, "").await;
            assert_eq!(response.status, status, "{method} {path} {old}");
        }
        // what says no is a 404 with the very code
        for (method, path, want) in [
            ("HEAD", "/api/hubs/chat/connections/none", "Warning.Connection.NotExisted"),
            ("HEAD", "/api/hubs/chat/users/none", "Warning.User.NotExisted"),
            ("HEAD", "/api/hubs/chat/groups/none", "Warning.Group.NotExisted"),
            ("GET", &group, "Info.User.NotInGroup"),
            ("PUT", "/api/hubs/chat/groups/g/connections/none", "Error.Connection.NotExisted"),
        ] {
            let response = ask(&service, method, path, "", old, "").await;
            assert_eq!((response.status, code(&response)), (404, want), "{method} {path} {old}");
        }
        let body = r#"{"Target":"hello","Arguments":["world",42]}"#;
        let excluded = format!("&excluded={}", client.id);
        for (path, query) in [
            ("/api/hubs/chat/:send", "&excluded=none"),
            ("/api/hubs/chat/:send", &*excluded),
            (&*format!("{user}/:send"), ""),
            (&*format!("{connection}/:send"), ""),
        ] {
            assert_eq!(ask(&service, "POST", path, query, old, body).await.status, 202, "{path}");
        }
        for _ in 0..3 {
            assert_eq!(client.message().await.text(), r#"{"type":1,"target":"hello","arguments":["world",42]}"#);
        }
        let response = ask(&service, "DELETE", &connection, "&reason=bye", old, "").await;
        assert_eq!(response.status, 200);
        assert_eq!(client.message().await.json, json!({"type": 7, "error": "bye", "allowReconnect": true}));
    }
}

#[tokio::test]
async fn a_list_is_followed_link_by_link() {
    let service = Service::start().await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let client = service.client_at("/app", "", Protocol::Json).await;
        ask(&service, "PUT", &format!("/api/hubs/chat/groups/g/connections/{}", client.id), "", false, "").await;
        clients.push(client);
    }
    let path = "/api/hubs/chat/groups/g/connections";
    let mut page = ask(&service, "GET", path, "&maxPageSize=1&top=3", false, "").await.json();
    let mut seen = 1;
    while let Some(link) = page.get("nextLink") {
        let link = link.as_str().unwrap();
        let target = link.strip_prefix(&format!("http://{}", service.server.addr())).unwrap();
        let headers = format!("Authorization: Bearer {}\r\n", newer(&service, path));
        page = request(&service.server, "GET", target, &headers, b"").await.json();
        seen += page["value"].as_array().unwrap().len();
    }
    assert_eq!(seen, 3);
}

#[tokio::test]
async fn requests_come_over_http2_as_well() {
    let service = Service::start().await;
    let mut client = service.client("", Protocol::Json).await;
    let stream = TcpStream::connect(service.server.addr()).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let addr = service.server.addr();
    let mut ask = async |method: &str, target: &str, body: &'static str| {
        let request = hyper::Request::builder()
            .method(method)
            .uri(format!("http://{addr}{target}"))
            .header("authorization", format!("Bearer {}", service.bearer(target)))
            .header("content-type", "application/json")
            .body(Body::from(body))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(Body::new(response.into_body()), 1024 * 1024).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    };
    assert_eq!(ask("HEAD", "/api/hubs/chat/users/none", "").await, (404, String::new()));
    assert_eq!(ask("POST", "/api/hubs/chat/:send", r#"{"target":"h2"}"#).await, (202, String::new()));
    assert_eq!(client.message().await.target(), "h2");
    let (status, body) = ask("GET", "/api/hubs?maxpagesize=1", "").await;
    assert_eq!(status, 200);
    assert!(body.contains(&format!("\"nextLink\":\"http://{addr}/api/hubs?maxpagesize=1&")), "{body}");
}

#[tokio::test]
async fn the_log_says_why_and_shows_no_secret() {
    let log = Captured::start();
    let service = Service::start().await;
    let target = "/api/hubs/chat/:send?excluded=SECRET-QUERY&api-version=2022-06-01";
    let response =
        service.ask_with("POST", target, JSON, br#"{"target":"SECRET-TARGET","arguments":["SECRET-VALUE"]}"#).await;
    assert_eq!(response.status, 202);
    let response = service
        .ask_with("POST", target, JSON, br#"{"target":"SECRET-TARGET","arguments":["SECRET-VALUE" oops]}"#)
        .await;
    assert_eq!(response.status, 400);
    let elsewhere = sign_as(
        &Header::new(Algorithm::HS256),
        KEY,
        &json!({"aud": "http://x/api/hubs/other/:send?SECRET-QUERY=1", "exp": now() + 60, "nameid": "SECRET-CLAIM"}),
    );
    let expired = sign_as(&Header::new(Algorithm::HS256), KEY, &json!({"aud": "http://x/", "exp": 1}));
    for token in [&elsewhere, &expired] {
        let headers = format!("Authorization: Bearer {token}\r\n{JSON}");
        assert_eq!(request(&service.server, "POST", target, &headers, b"{}").await.status, 401);
    }
    let text = log.text();
    for secret in ["SECRET", KEY, "eyJ", &*elsewhere, &*expired] {
        assert!(!text.contains(secret), "{secret} is in the log:\n{text}");
    }
    let expected = "expected=\"/api/hubs/chat/:send\" actual=[\"http://x/api/hubs/other/:send\"]";
    for said in [expected, "the token has expired", "operation=Send(Hub) status=202"] {
        assert!(text.contains(said), "{said} is not in the log:\n{text}");
    }
}
