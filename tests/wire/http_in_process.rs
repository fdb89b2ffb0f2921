//! The HTTP transports without sockets: a router that is called, under a clock that does not wait.

use crate::support::hub::record;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::{self, Next};
use futures_util::future::join_all;
use hubwire::{Caller, Clients, Hub, Identity};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tower_service::Service;

/// A hub whose users say in a header who they are.
fn router() -> Router {
    let hub = Hub::with_state(())
        .method("Say", |caller: Caller, clients: Clients, number: u32| async move {
            clients.client(caller.id()).send("said", (number,)).await
        })
        .method("Me", |caller: Caller| async move { Ok(caller.user_id().map(str::to_owned)) })
        .build();
    hub.routes("/hub").layer(middleware::from_fn(async |mut request: Request, next: Next| {
        if let Some(user) = request.headers().get("x-user").and_then(|user| user.to_str().ok()) {
            let identity = Identity::user(user);
            request.extensions_mut().insert(identity);
        }
        next.run(request).await
    }))
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

/// A client of one connection.
struct Requests {
    router: Router,
    path: String,
}

impl Requests {
    async fn negotiate(router: &Router, user: &str) -> Self {
        let mut requests = Self { router: router.clone(), path: "/hub/negotiate?negotiateVersion=1".into() };
        let answer = requests.ask(Method::POST, user, "").await;
        let answer: Value = serde_json::from_str(&answer.text).expect("JSON");
        requests.path = format!("/hub?id={}", answer["connectionToken"].as_str().expect("a token"));
        requests
    }

    /// Polled once, and shaken hands.
    async fn polling(router: &Router, user: &str) -> Self {
        let requests = Self::negotiate(router, user).await;
        assert_eq!(requests.ask(Method::GET, user, "").await.status, 200);
        assert_eq!(requests.ask(Method::POST, user, &text(r#"{"protocol":"json","version":1}"#)).await.status, 200);
        assert_eq!(requests.ask(Method::GET, user, "").await.text, "{}\u{1e}");
        requests
    }

    async fn ask(&self, method: Method, user: &str, body: &str) -> Answer {
        self.ask_with(method, user, "*/*", body).await
    }

    async fn ask_with(&self, method: Method, user: &str, accept: &str, body: &str) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(&self.path)
            .header("x-user", user)
            .header(header::ACCEPT, accept)
            .body(Body::from(body.to_owned()))
            .expect("a request");
        let response = self.router.clone().call(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a body");
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(body.to_vec()).expect("text") }
    }
}

fn text(message: &str) -> String {
    String::from_utf8(record(message)).expect("text")
}

const ME: &str = r#"{"type":1,"invocationId":"1","target":"Me","arguments":[]}"#;

#[tokio::test(start_paused = true)]
async fn a_poll_without_messages_is_answered_empty_after_ninety_seconds_and_the_connection_lives_on() {
    let router = router();
    let requests = Requests::polling(&router, "ann").await;
    for _ in 0..3 {
        let begun = Instant::now();
        let answer = requests.ask(Method::GET, "ann", "").await;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, ""));
        assert_eq!(answer.headers[header::CONTENT_TYPE], "text/plain");
        assert_eq!(begun.elapsed().as_secs(), 90);
    }
    requests.ask(Method::POST, "ann", &text(ME)).await;
    assert!(requests.ask(Method::GET, "ann", "").await.text.contains(r#""result":"ann""#));
}

#[tokio::test(start_paused = true)]
async fn fifteen_seconds_without_a_poll_are_the_end_and_fourteen_are_not() {
    let router = router();
    let requests = Requests::polling(&router, "ann").await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(14)).await;
        // given up by the client: the clock starts anew
        assert!(timeout(Duration::from_millis(1), requests.ask(Method::GET, "ann", "")).await.is_err());
    }
    tokio::time::sleep(Duration::from_secs(17)).await;
    assert_eq!(requests.ask(Method::GET, "ann", "").await.status, StatusCode::NOT_FOUND);
}

/// dotnet/aspnetcore#67409: the token belongs to the user who negotiated it.
#[tokio::test(start_paused = true)]
async fn a_stranger_who_knows_the_token_is_refused_and_harms_nobody() {
    let router = router();
    let requests = Requests::polling(&router, "ann").await;
    let owner = requests.ask(Method::GET, "ann", "");
    let strangers = async {
        for user in ["bob", "", "Ann"] {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let answer = requests.ask(method.clone(), user, &text(r#"{"type":7}"#)).await;
                let refused = (StatusCode::FORBIDDEN, "The user associated with this connection changed.");
                assert_eq!((answer.status, answer.text.as_str()), refused, "{method} by '{user}'");
            }
            let stream = requests.ask_with(Method::GET, user, "text/event-stream", "").await;
            assert_eq!(stream.status, StatusCode::FORBIDDEN);
        }
        requests.ask(Method::POST, "ann", &text(ME)).await;
    };
    let (polled, ()) = tokio::join!(owner, strangers);
    assert!(polled.text.contains(r#""result":"ann""#), "{}", polled.text);

    let fresh = Requests::negotiate(&router, "ann").await;
    assert_eq!(fresh.ask(Method::GET, "bob", "").await.status, StatusCode::FORBIDDEN);
    assert_eq!(fresh.ask(Method::POST, "bob", "x").await.status, StatusCode::FORBIDDEN);
    assert_eq!(fresh.ask(Method::GET, "ann", "").await.status, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_large_post_for_a_connection_that_nobody_opens_is_let_go() {
    let router = router();
    let requests = Requests::negotiate(&router, "ann").await;
    let begun = Instant::now();
    let answer = requests.ask(Method::POST, "ann", &"x".repeat(100_000)).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(begun.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn parallel_posts_are_taken_in_the_order_of_their_arrival() {
    let router = router();
    let requests = Requests::polling(&router, "ann").await;
    let say = |n: u64| text(&format!(r#"{{"type":1,"target":"Say","arguments":[{n}]}}"#));
    let bodies: Vec<String> = (0..50).map(say).collect();
    // polled for the first time in this order
    let answers = join_all(bodies.iter().map(|body| requests.ask(Method::POST, "ann", body))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::OK));
    let mut said = String::new();
    while said.matches('\u{1e}').count() < 50 {
        said += &requests.ask(Method::GET, "ann", "").await.text;
    }
    let wanted: String = (0..50).map(|n| text(&format!(r#"{{"type":1,"target":"said","arguments":[{n}]}}"#))).collect();
    assert_eq!(said, wanted);
}
