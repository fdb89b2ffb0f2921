use super::{BINARY, JSON, Service, code, request};
use crate::support::http;
use crate::support::hub::Protocol;
use hubwire::Origins;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

const SEND: &str = "/api/hubs/chat/:send";

#[tokio::test]
async fn health_needs_no_token() {
    let ready = Arc::new(AtomicBool::new(true));
    let seen = ready.clone();
    let service = Service::with(|rest| rest.ready = Some(Box::new(move || seen.load(Ordering::SeqCst)))).await;
    let targets = ["/api/health?api-version=2022-06-01", "/api/health", "/api/v1/health", "/api/v1-preview/Health"];
    for target in targets {
        for method in ["HEAD", "GET"] {
            let response = request(&service.server, method, target, "", b"").await;
            assert_eq!((response.status, response.header("content-length")), (200, Some("0")), "{target}");
        }
    }
    ready.store(false, Ordering::SeqCst);
    assert_eq!(request(&service.server, "HEAD", targets[0], "", b"").await.status, 503);
}

#[tokio::test]
async fn unknown_paths_and_methods_come_to_nothing() {
    let service = Service::start().await;
    for target in [
        "/api/nothing",
        "/api/v1",
        "/api/v2/hubs/chat",
        "/api/hubs/chat/nothing/x",
        "/api/hubs/chat/users/a/b/c/d",
        "/api/v1/hubs/chat/connections",
        "/api/hubs/chat/:nothing",
        "/api/hub/chat",
    ] {
        let response = request(&service.server, "GET", target, "", b"").await;
        assert_eq!((response.status, &*response.body), (404, &b""[..]), "{target}");
        assert_eq!(code(&response), "", "{target}");
    }
    for (method, target, allow) in [
        ("PATCH", "/api/hubs/chat/users/alice?api-version=2022-06-01", "GET, HEAD, POST"),
        ("GET", SEND, "POST"),
        ("POST", "/api/health", "GET, HEAD"),
        ("DELETE", "/api/hubs/chat", "POST"),
        ("OPTIONS", "/api/hubs/chat/users/a/groups/g", "GET, HEAD, PUT, DELETE"),
        ("TRACE", "/api/hubs/chat/connections/c", "GET, HEAD, DELETE, POST"),
    ] {
        let response = request(&service.server, method, target, "", b"").await;
        assert_eq!((response.status, response.header("allow")), (405, Some(allow)), "{method} {target}");
        assert_eq!((response.header("content-length"), &*response.body), (Some("0"), &b""[..]));
    }
}

#[tokio::test]
async fn one_slash_at_the_end_changes_nothing() {
    let service = Service::start().await;
    assert_eq!(service.ask("GET", "/api/health/").await.status, 200);
    assert_eq!(service.send("/api/hubs/chat/:send/", &json!({"target": "x"})).await.status, 202);
    assert_eq!(service.send("/api/hubs/chat/:send//", &json!({"target": "x"})).await.status, 404);
}

#[tokio::test]
async fn wrong_names_are_named() {
    let service = Service::start().await;
    let long = |n: usize| "x".repeat(n);
    for (method, target, text) in [
        ("POST", "/api/hubs/1chat/:send".to_owned(), "Invalid hub name. "),
        ("POST", format!("/api/hubs/{}/:send", long(129)), "Invalid hub name. "),
        ("POST", "/api/v1/hubs/a%20b".to_owned(), "Invalid hub name. "),
        ("POST", "/api/hubs/chat/:send?application=a%2Fb".to_owned(), "Invalid value of 'application'. "),
        ("GET", format!("/api/hubs/chat/groups/{}", long(1025)), "Invalid group name. "),
        ("GET", "/api/hubs/chat/groups/%20%09".to_owned(), "Invalid group name. "),
        ("PUT", "/api/hubs/chat/users/a/groups/%20".to_owned(), "Invalid group name. "),
        ("DELETE", "/api/hubs/chat/connections//groups".to_owned(), "Invalid connection id. "),
        ("GET", format!("/api/hubs/chat/users/{}", long(1025)), "Invalid user id. "),
        ("POST", "/api/v1-preview/hub/chat/users/a,,b".to_owned(), "Invalid user id. "),
        ("POST", "/api/hubs/chat/connections/c/streams/%20/:complete".to_owned(), "Invalid stream id. "),
        ("PUT", "/api/hubs/chat/users/a/groups/g?ttl=abc".to_owned(), "The parameter 'ttl' "),
        ("PUT", "/api/hubs/chat/users/a/groups/g?ttl=-1".to_owned(), "The parameter 'ttl' "),
        ("PUT", "/api/hubs/chat/users/a/groups/g?ttl=".to_owned(), "The parameter 'ttl' "),
        ("PUT", "/api/hubs/chat/users/a/groups/g?ttl=1.5".to_owned(), "The parameter 'ttl' "),
        ("GET", "/api/hubs/chat/users/%FF".to_owned(), "The path is not UTF-8."),
    ] {
        let response = service.ask_with(method, &target, JSON, br#"{"target":"x"}"#).await;
        assert_eq!((response.status, code(&response)), (400, "Error.Request.Invalid"), "{target}");
        let body = response.json();
        assert!(body["message"].as_str().unwrap().starts_with(text), "{target}: {body}");
        assert_eq!(body["code"], "Error.Request.Invalid");
    }
}

#[tokio::test]
async fn wrong_bodies_reach_nobody() {
    let mut service = Service::start().await;
    let mut client = service.client("", Protocol::Json).await;
    for (headers, body, status, text) in [
        (JSON, "", 400, "Message in request body is required."),
        ("", "", 400, "Message in request body is required."),
        (BINARY, "", 400, "Message in request body is required."),
        (JSON, " \r\n", 400, "Message in request body is required."),
        (JSON, "null", 400, "Message in request body is required."),
        (JSON, "{}", 400, "The Target field is required."),
        (JSON, r#"{"target":""}"#, 400, "The Target field is required."),
        (JSON, r#"{"target":"x","arguments":{}}"#, 400, "The Arguments field is not a list."),
        (JSON, r#"{"target":7}"#, 400, "The Target field is not a text."),
        (JSON, r#"{"target":"x""#, 400, "The body is not valid JSON at line 1 column 13."),
        (JSON, r#"{"target":"x",}"#, 400, "The body is not valid JSON"),
        (JSON, r#"{'target':'x'}"#, 400, "The body is not valid JSON"),
        (JSON, r#"{"target":"x"} more"#, 400, "The body is not valid JSON"),
        (JSON, r#"["target"]"#, 400, "The body is not valid JSON"),
        (JSON, r#"{"target":"x","arguments":[1e400]}"#, 400, "A value cannot be carried"),
        ("Content-Type: text/plain\r\n", r#"{"target":"x"}"#, 415, "The body's type "),
        ("", r#"{"target":"x"}"#, 415, "The body's type "),
        ("Content-Type: application/jsonx\r\n", r#"{"target":"x"}"#, 415, "The body's type "),
        (BINARY, r#"{"target":"x"}"#, 400, "The body is not one MessagePack map"),
        (BINARY, "\u{1}", 400, "The body is not one MessagePack map"),
    ] {
        let response = service.ask_with("POST", SEND, headers, body.as_bytes()).await;
        assert_eq!((response.status, code(&response)), (status, "Error.Request.Invalid"), "{headers} {body}");
        let message = response.json()["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with(text), "{body}: {message}");
    }
    let broken = service.ask_with("POST", SEND, JSON, b"{\"target\":\"\xff\"}").await;
    assert_eq!(broken.status, 400);
    assert_eq!(service.heard(&mut [&mut client]).await, [[""; 0]]);
}

#[tokio::test]
async fn sizes_have_their_statuses() {
    let service = Service::start().await;
    let mut client = service.client("", Protocol::Json).await;
    let body = |n: usize| format!(r#"{{"target":"x","arguments":["{}"]}}"#, "y".repeat(n - 31));
    let most = 1024 * 1024;
    assert_eq!(body(most).len(), most);
    assert_eq!(service.ask_with("POST", SEND, JSON, body(most).as_bytes()).await.status, 202);
    assert_eq!(client.message().await.target(), "x");
    let response = service.ask_with("POST", SEND, JSON, body(most + 1).as_bytes()).await;
    assert_eq!((response.status, code(&response)), (413, "Error.Request.Invalid"));
    let chunked = format!("{JSON}Transfer-Encoding: chunked\r\n");
    let head = format!(
        "POST {SEND} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n{chunked}\r\n",
        service.bearer(SEND)
    );
    let text = body(most + 1);
    let bytes = format!("{head}{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
    assert_eq!(http::exchange(&service.server, bytes.as_bytes()).await.status, 413);
    let excluded = "excluded=aaaaaaaaaaaaaaaaaaaaaa&".repeat(400);
    assert_eq!(service.send(&format!("{SEND}?{excluded}"), &json!({"target": "x"})).await.status, 414);
    let headers = format!("{JSON}X-Filler: {}\r\n", "f".repeat(16_200));
    let response = service.ask_with("POST", SEND, &headers, br#"{"target":"x"}"#).await;
    assert_eq!(response.status, 431);
    assert_eq!(service.send(SEND, &json!({"target": "end"})).await.status, 202);
    assert_eq!(client.message().await.target(), "end");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let service = Service::with(|rest| {
        rest.body_timeout = Some(Duration::from_millis(100));
        rest.max_parallel_bodies = Some(1);
    })
    .await;
    let head = |length: usize| {
        format!(
            "POST {SEND} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n{JSON}Content-Length: {length}\r\n\r\n{{",
            service.bearer(SEND)
        )
    };
    assert_eq!(http::exchange(&service.server, head(100).as_bytes()).await.status, 408);
    assert_eq!(service.send(SEND, &json!({"target": "x"})).await.status, 202, "the room is free again");
}

#[tokio::test]
async fn more_bodies_than_there_is_room_for_are_told_to_wait() {
    let service = Service::with(|rest| rest.max_parallel_bodies = Some(0)).await;
    let response = service.send(SEND, &json!({"target": "x"})).await;
    assert_eq!((response.status, response.header("retry-after")), (429, Some("1")));
    assert_eq!(service.ask("DELETE", "/api/hubs/chat/connections/c").await.status, 200);
}

#[tokio::test]
async fn who_is_refused_sees_the_answer_though_all_of_a_large_body_was_sent_first() {
    let service = Service::with(|rest| rest.max_parallel_bodies = Some(0)).await;
    let unknown = "/api/hubs/chat/nothing";
    for (target, token, status) in [(SEND, "", 401), (SEND, &*service.bearer(SEND), 429), (unknown, "", 404)] {
        // so little that the kernel does not take the body in by itself
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(8 * 1024).unwrap();
        let mut stream = socket.connect(service.server.addr()).await.unwrap();
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{JSON}Content-Length: 1048576\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&[b'x'; 1024 * 1024]).await.expect("the server takes it in");
        let answer = http::read_response(&mut stream, &mut Vec::new()).await.expect("an answer");
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn a_refused_body_that_does_not_come_is_waited_for_a_moment_only() {
    let service = Service::with(|rest| rest.body_timeout = Some(Duration::from_secs(3600))).await;
    let head = format!("POST {SEND} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{JSON}Content-Length: 100\r\n\r\n{{");
    assert_eq!(http::exchange(&service.server, head.as_bytes()).await.status, 401);
}

#[tokio::test]
async fn pages_of_allowed_origins_may_call() {
    let service =
        Service::with(|rest| rest.allowed_origins = Some(Origins::List(vec!["https://app.example".into()]))).await;
    let preflight = |origin: &str| {
        format!(
            "Origin: {origin}\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: authorization,x-y\r\n"
        )
    };
    let target = "/api/hubs/chat/users/a/groups/g";
    let response = request(&service.server, "OPTIONS", target, &preflight("https://app.example"), b"").await;
    assert_eq!(response.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "PUT"),
        ("access-control-allow-headers", "authorization,x-y"),
        ("vary", "Origin"),
    ] {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    let response = request(&service.server, "OPTIONS", target, &preflight("https://evil.example"), b"").await;
    assert_eq!((response.status, response.header("access-control-allow-origin")), (204, None));
    let response = service.ask_with("GET", target, "Origin: https://app.example\r\n", b"").await;
    assert_eq!((response.status, response.header("access-control-allow-origin")), (404, Some("https://app.example")));
    assert!(response.header("access-control-expose-headers").unwrap().contains("x-ms-error-code"));
    let response = service.ask_with("GET", target, "Origin: https://evil.example\r\n", b"").await;
    assert_eq!((response.header("access-control-allow-origin"), response.header("vary")), (None, Some("Origin")));
    assert_eq!(service.ask("GET", target).await.header("vary"), None);
}

#[tokio::test]
async fn dates_are_looked_at_only_if_asked_for() {
    let strict = Service::with(|rest| rest.strict_version = true).await;
    let lax = Service::start().await;
    for (date, status) in [("2022-06-01", 404), ("2024-12-01", 404), ("2024-01-01", 400), ("x", 400)] {
        let target = format!("/api/hubs/chat/users/a?api-version={date}");
        assert_eq!(strict.ask("GET", &target).await.status, status, "{date}");
        assert_eq!(lax.ask("GET", &target).await.status, 404, "{date}");
    }
    assert_eq!(strict.ask("GET", "/api/hubs/chat/users/a").await.status, 404);
    assert_eq!(strict.ask("GET", "/api/v1/hubs/chat/users/a?api-version=1.0").await.status, 404);
}

#[tokio::test]
async fn draining_is_asked_for_with_a_token() {
    let times = Arc::new(AtomicUsize::new(0));
    let count = times.clone();
    let drain = move || {
        count.fetch_add(1, Ordering::SeqCst);
    };
    let service = Service::with(|rest| rest.drain = Some(Box::new(drain))).await;
    assert_eq!(request(&service.server, "POST", "/api/:drain", "", b"").await.status, 401);
    assert_eq!(times.load(Ordering::SeqCst), 0);
    assert_eq!(service.ask("POST", "/api/:drain").await.status, 202);
    assert_eq!(times.load(Ordering::SeqCst), 1);
    assert_eq!(Service::start().await.ask("POST", "/api/:drain").await.status, 404);
}

#[tokio::test]
async fn the_description_is_public_and_describes_what_is_there() {
    let service = Service::start().await;
    let response = request(&service.server, "GET", "/api/openapi.json", "", b"").await;
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    let document = response.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let target = path.replace("{hub}", "chat").replace('{', "a").replace('}', "");
            let method = method.to_uppercase();
            let response = service.ask(&method, &target).await;
            assert_ne!(response.status, 405, "{method} {path}");
            let known = operation["responses"].get(response.status.to_string());
            assert!(known.is_some(), "{method} {path} is answered {}", response.status);
            seen += 1;
        }
    }
    assert!(seen > 90, "{seen}");
}
