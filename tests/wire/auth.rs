//! Who may come in, who may do what, and for how long.

use crate::support::hub::{Client, Event, Protocol, record};
use crate::support::server::{Kind, TestServer};
use crate::support::ws::{self, RawPeer};
use crate::support::{PATIENCE, guard, http, within};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

const HUB: &str = "/conformance-auth";
const SECRET: &str = "the secret of these tests, which is long enough";
const FLAGS: &[&str] = &["--secret", SECRET, "--refresh", "true", "--close-expired", "true"];

/// A server of one test's own, whose secret is [`SECRET`].
fn server(what: &str) -> Option<TestServer> {
    TestServer::ours_with(what, FLAGS).filter(|server| server.kind() == Kind::Ours)
}

fn now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970").as_secs() as i64
}

fn sign(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), claims, &key).expect("a secret signs anything")
}

fn token(user: &str, role: &str, seconds: i64) -> String {
    sign(&json!({"sub": user, "role": role, "exp": now() + seconds}))
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

async fn negotiated(server: &TestServer, token: &str) -> Value {
    let path = format!("{HUB}/negotiate?negotiateVersion=1");
    let response = http::request(server, "POST", &path, &bearer(token), b"").await;
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

/// A client that has negotiated, and the token of its connection.
async fn connect(server: &TestServer, token: &str) -> (Client, String) {
    let id = negotiated(server, token).await["connectionToken"].as_str().expect("version 1").to_owned();
    let mut peer = RawPeer::tcp(server).await;
    peer.send(ws::upgrade_request_with(&format!("{HUB}?id={id}"), &upgrade(&bearer(token)))).await.expect("it reads");
    peer.expect_upgrade().await;
    (Client::over(peer, Protocol::Json).await, id)
}

fn upgrade(headers: &str) -> String {
    format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{headers}")
}

async fn refresh(server: &TestServer, id: &str, token: &str) -> http::Response {
    http::request(server, "POST", &format!("{HUB}/refresh?id={id}"), &bearer(token), b"").await
}

/// Every token that must not get in, by what is wrong with it.
fn bad_tokens() -> Vec<(&'static str, String)> {
    let good = token("ann", "admin", 600);
    let claims = json!({"sub": "ann", "exp": now() + 600});
    let (_, payload) = good.split_once('.').expect("three parts");
    let (payload, signature) = payload.split_once('.').expect("three parts");
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let other = EncodingKey::from_secret(b"another secret, which is just as long as ours");
    let by = |algorithm, key: &EncodingKey| {
        jsonwebtoken::encode(&Header::new(algorithm), &claims, key).expect("a secret signs anything")
    };
    let own = EncodingKey::from_secret(SECRET.as_bytes());
    let none = part(json!({"alg": "none", "typ": "JWT"}));
    let rs256 = part(json!({"alg": "RS256", "typ": "JWT"}));
    let critical = part(json!({"alg": "HS256", "crit": ["b64"], "b64": false}));
    vec![
        ("expired", token("ann", "admin", -120)),
        ("not yet", sign(&json!({"sub": "ann", "exp": now() + 900, "nbf": now() + 600}))),
        ("forged", by(Algorithm::HS256, &other)),
        ("another algorithm", by(Algorithm::HS512, &own)),
        ("none, unsigned", format!("{none}.{payload}.")),
        ("none, signed", format!("{none}.{payload}.{signature}")),
        ("the algorithm of another kind of key", format!("{rs256}.{payload}.{signature}")),
        ("a critical extension", format!("{critical}.{payload}.{signature}")),
        ("other claims", format!("{}.{}.{signature}", part(json!({"alg": "HS256"})), part(claims.clone()))),
        ("another audience", sign(&json!({"sub": "ann", "aud": "elsewhere", "exp": now() + 600}))),
        ("no expiry", sign(&json!({"sub": "ann"}))),
        ("an expiry that is a text", sign(&json!({"sub": "ann", "exp": "tomorrow"}))),
        ("too large", sign(&json!({"sub": "ann", "exp": now() + 600, "more": "x".repeat(9000)}))),
        ("no token", "garbage".into()),
        ("dots", "..".into()),
        ("cut short", good[..good.len() - 2].into()),
    ]
}

#[tokio::test]
async fn bad_tokens_are_refused_wherever_they_come() {
    guard(async {
        let Some(server) = server("bad tokens") else { return };
        let neighbour = token("bob", "user", 600);
        let (mut neighbour, _) = connect(&server, &neighbour).await;
        for (what, bad) in bad_tokens() {
            for (method, path) in [
                ("POST", "/negotiate?negotiateVersion=1"),
                ("GET", "?id=x"),
                ("POST", "?id=x"),
                ("DELETE", "?id=x"),
                ("POST", "/refresh?id=x"),
            ] {
                let response = http::request(&server, method, &format!("{HUB}{path}"), &bearer(&bad), b"").await;
                assert_refused(what, &response);
                let path = format!("{HUB}{path}&access_token={bad}");
                assert_refused(what, &http::request(&server, method, &path, "", b"").await);
            }
            let mut peer = RawPeer::tcp(&server).await;
            peer.send(ws::upgrade_request(&format!("{HUB}?access_token={bad}"))).await.expect("it reads");
            assert_refused(what, &peer.response().await.expect("an answer"));
            // the socket is as good as before
            let request = format!(
                "POST {HUB}/negotiate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{}\r\n",
                bearer(&token("ann", "", 60))
            );
            peer.send(request).await.expect("it reads");
            assert_eq!(peer.response().await.expect("an answer").status, 200, "{what}");
        }
        assert!(neighbour.settle().await.is_empty());
    })
    .await;
}

fn assert_refused(what: &str, response: &http::Response) {
    assert_eq!(response.status, 401, "{what}: {response:?}");
    assert_eq!(response.header("www-authenticate"), Some("Bearer error=\"invalid_token\""), "{what}");
    assert!(response.body.is_empty() && response.header("content-type").is_none(), "{what}: {response:?}");
}

/// The reference's own check has no `WWW-Authenticate`, which RFC 9110 wants and its stock handler sends; all else is compared.
#[tokio::test]
async fn refusals_are_those_of_the_reference() {
    guard(async {
        let Some(reference) = TestServer::reference("refusals compared with the reference", &[]) else { return };
        let ours = TestServer::ours();
        let headers = [
            "",
            "Authorization: Bearer x\r\n",
            "Authorization: Bearer\r\n",
            "Authorization: Basic eDp5\r\n",
            "Origin: null\r\n",
        ];
        for headers in headers {
            for method in ["GET", "POST", "DELETE", "PUT", "OPTIONS"] {
                for path in ["", "?id=x", "/", "/negotiate?negotiateVersion=1", "/negotiate?access_token=x"] {
                    let mut answers = Vec::new();
                    for server in [&reference, &ours] {
                        let answer = http::request(server, method, &format!("{HUB}{path}"), headers, b"").await;
                        let names = ["content-type", "access-control-allow-origin", "access-control-allow-credentials"];
                        let kept = names.map(|name| answer.header(name).map(str::to_owned));
                        answers.push((answer.status, kept, answer.body));
                    }
                    assert_eq!(answers[0].0, 401, "{method} {path} {headers}");
                    assert_eq!(answers[0], answers[1], "{method} {path} {headers}");
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn tokens_come_in_the_header_or_in_the_query() {
    guard(async {
        let server = TestServer::ours();
        let made = http::request(&server, "GET", "/token?user=ann&role=admin", "", b"").await.text();
        let ways = [
            (String::new(), bearer(&made)),
            (String::new(), format!("authorization: BEARER  {made}\r\n")),
            (format!("?access_token={made}"), String::new()),
            (format!("?x=1&Access_Token={made}"), String::new()),
        ];
        for (query, headers) in ways {
            let mut peer = RawPeer::tcp(&server).await;
            let request = ws::upgrade_request_with(&format!("{HUB}{query}"), &upgrade(&headers));
            peer.send(request).await.expect("it reads");
            peer.expect_upgrade().await;
            let mut client = Client::over(peer, Protocol::Json).await;
            let who = client.call("WhoAmI", json!([])).await.expect("it says");
            assert_eq!(who["userId"], "ann");
            assert_eq!(who["claims"]["http://schemas.microsoft.com/ws/2008/06/identity/claims/role"], "admin");
            assert!(!who.to_string().contains(&made), "a token is not kept");
        }
    })
    .await;
}

#[tokio::test]
async fn a_guarded_method_is_for_those_who_may() {
    guard(async {
        let Some(server) = server("a guarded method") else { return };
        let (mut admin, _) = connect(&server, &token("ann", "admin", 600)).await;
        let (mut user, _) = connect(&server, &token("bob", "user", 600)).await;
        assert_eq!(admin.call("adminonly", json!([])).await, Ok(json!("ann")));
        let refused = Err("Failed to invoke 'AdminOnly' because user is unauthorized".to_owned());
        assert_eq!(user.call("AdminOnly", json!([])).await, refused);
        // who may not call it is not told of what kind it is; the number of arguments is looked at before, as in the reference
        user.say(json!({"type": 4, "invocationId": "s", "target": "AdminOnly", "arguments": []})).await;
        assert_eq!(user.outcome("s").await, refused);
        let counted = user.call("AdminOnly", json!([1])).await.expect_err("too many arguments");
        assert!(counted.starts_with("Failed to invoke 'AdminOnly' due to an error"), "{counted}");
        assert!(user.settle().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_connection_belongs_to_the_user_who_negotiated_it() {
    guard(async {
        let Some(server) = server("the token of another user's connection") else { return };
        let (ann, bob) = (token("ann", "", 600), token("bob", "", 600));
        let waiting = negotiated(&server, &ann).await["connectionToken"].as_str().expect("version 1").to_owned();
        let (mut owner, id) = connect(&server, &ann).await;
        for id in [&waiting, &id] {
            for method in ["GET", "POST", "DELETE"] {
                let path = format!("{HUB}?id={id}");
                let response = http::request(&server, method, &path, &bearer(&bob), b"").await;
                assert_eq!(response.status, 403, "{method} {response:?}");
                assert_eq!(response.text(), "The user associated with this connection changed.");
                assert_eq!(response.header("content-type"), Some("text/plain"));
            }
            let mut peer = RawPeer::tcp(&server).await;
            let request = ws::upgrade_request_with(&format!("{HUB}?id={id}"), &upgrade(&bearer(&bob)));
            peer.send(request).await.expect("it reads");
            assert_eq!(peer.response().await.expect("an answer").status, 403);
            let response = refresh(&server, id, &bob).await;
            assert_eq!((response.status, response.text()), (403, r#"{"error":"user_changed"}"#.into()));
        }
        assert!(owner.settle().await.is_empty());
    })
    .await;
}

/// Negotiates and polls once, which opens the connection, and shakes hands; the path of its requests.
async fn poll_from(server: &TestServer, token: &str) -> String {
    let id = negotiated(server, token).await["connectionToken"].as_str().expect("version 1").to_owned();
    let path = format!("{HUB}?id={id}");
    assert_eq!(http::request(server, "GET", &path, &bearer(token), b"").await.status, 200);
    post(server, &path, token, &json!({"protocol": "json", "version": 1})).await;
    let mut heard = String::new();
    while !heard.contains("welcome") {
        heard += &http::request(server, "GET", &path, &bearer(token), b"").await.text();
    }
    path
}

async fn post(server: &TestServer, path: &str, token: &str, message: &Value) {
    let response = http::request(server, "POST", path, &bearer(token), &record(&message.to_string())).await;
    assert_eq!(response.status, 200, "{response:?}");
}

fn call(target: &str) -> Value {
    json!({"type": 1, "invocationId": "1", "target": target, "arguments": []})
}

/// Whoever learns the token of a connection cannot read along (field case of the reference).
#[tokio::test]
async fn another_users_poll_is_refused_and_disturbs_nobody() {
    guard(async {
        let Some(server) = server("another user's poll") else { return };
        let (ann, bob) = (token("ann", "admin", 600), token("bob", "admin", 600));
        let path = poll_from(&server, &ann).await;
        let mut waiting = RawPeer::tcp(&server).await;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{}\r\n", bearer(&ann));
        waiting.send(request).await.expect("it reads");
        for (method, headers) in [("GET", bearer(&bob)), ("POST", bearer(&bob)), ("DELETE", bearer(&bob))] {
            let response = http::request(&server, method, &path, &headers, b"x").await;
            assert_eq!((response.status, response.header("content-type")), (403, Some("text/plain")), "{method}");
            assert_eq!(response.text(), "The user associated with this connection changed.");
            // nobody at all is not let in either, by the hub
            assert_eq!(http::request(&server, method, &path, "", b"x").await.status, 401);
        }
        post(&server, &path, &ann, &call("AdminOnly")).await;
        let answer = waiting.response().await.expect("the poll that waited");
        assert_eq!(answer.text(), "{\"type\":3,\"invocationId\":\"1\",\"result\":\"ann\"}\u{1e}");
    })
    .await;
}

#[tokio::test]
async fn another_users_stateful_reconnect_is_refused_and_disturbs_nobody() {
    guard(async {
        let Some(server) = server("another user's stateful reconnect") else { return };
        let (ann, bob) = (token("ann", "", 600), token("bob", "", 600));
        let path = format!("{HUB}/negotiate?negotiateVersion=1&useStatefulReconnect=true");
        let made = http::request(&server, "POST", &path, &bearer(&ann), b"").await.json();
        assert_eq!(made["useStatefulReconnect"], true);
        let path = format!("{HUB}?id={}", made["connectionToken"].as_str().expect("version 1"));
        let open = async |token: &str| {
            let mut peer = RawPeer::tcp(&server).await;
            peer.send(ws::upgrade_request_with(&path, &upgrade(&bearer(token)))).await.expect("it reads");
            let status = peer.response_head().await.expect("an answer").status;
            (peer, status)
        };
        let (peer, status) = open(&ann).await;
        assert_eq!(status, 101);
        let mut owner = Client::silent(peer, Protocol::Json);
        owner.send(record(r#"{"protocol":"json","version":2}"#)).await;
        owner.meet().await;
        assert_eq!(open(&bob).await.1, 403);
        assert_eq!(owner.call("Echo", json!(["still"])).await, Ok(json!("still")));
        assert_eq!(open(&ann).await.1, 101);
    })
    .await;
}

/// Clients over long polling fetch a token for each request, so a poll is a refresh.
#[tokio::test]
async fn a_poll_with_a_new_token_is_a_refresh() {
    guard(async {
        let Some(server) = server("a refresh by a poll") else { return };
        let path = poll_from(&server, &token("ann", "user", 60)).await;
        let poll = async |token: &str| http::request(&server, "GET", &path, &bearer(token), b"").await;
        let next = token("ann", "admin", 600);
        assert!(poll(&next).await.text().contains("\"refreshed\""));
        post(&server, &path, &next, &call("AdminOnly")).await;
        assert!(poll(&next).await.text().contains("\"result\":\"ann\""));
        let refused = poll(&token("ann", "refused", 900)).await;
        assert_eq!((refused.status, refused.text()), (403, r#"{"error":"permission_change_rejected"}"#.into()));
        // a client that is refused so is gone
        let until = std::time::Instant::now() + PATIENCE;
        while poll(&next).await.status != 404 {
            assert!(std::time::Instant::now() < until, "the connection lives");
        }
    })
    .await;
}

#[tokio::test]
async fn every_transport_ends_with_its_credential() {
    guard(async {
        let Some(server) = server("expiry over HTTP") else { return };
        let short = token("ann", "", 2);
        let path = poll_from(&server, &short).await;
        let mut heard = String::new();
        while !heard.contains("allowReconnect") {
            let polled = http::request(&server, "GET", &path, &bearer(&short), b"").await;
            assert_eq!(polled.status, 200, "{heard}");
            heard += &polled.text();
        }
        assert!(heard.ends_with("{\"type\":7,\"allowReconnect\":true}\u{1e}"), "{heard}");
    })
    .await;
}

#[tokio::test]
async fn a_refresh_gives_new_roles_to_the_next_call() {
    guard(async {
        let Some(server) = server("a refresh") else { return };
        let (mut client, id) = connect(&server, &token("ann", "user", 60)).await;
        assert!(client.call("AdminOnly", json!([])).await.is_err());
        let response = refresh(&server, &id, &token("ann", "admin", 600)).await;
        assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
        let seconds = response.json()["tokenLifetimeSeconds"].as_i64().expect("a number");
        assert!((590..=600).contains(&seconds), "{seconds}");
        assert_eq!(client.target("refreshed").await.arguments(), &json!([true]));
        assert_eq!(client.call("AdminOnly", json!([])).await, Ok(json!("ann")));

        // one that ends before the one in force changes nothing, and nobody hears of it
        let response = refresh(&server, &id, &token("ann", "user", 100)).await;
        let seconds = response.json()["tokenLifetimeSeconds"].as_i64().expect("a number");
        assert!((90..=100).contains(&seconds), "{seconds}");
        assert_eq!(client.call("AdminOnly", json!([])).await, Ok(json!("ann")));

        // what the application refuses changes nothing either
        let response = refresh(&server, &id, &token("ann", "refused", 900)).await;
        assert_eq!((response.status, response.text()), (403, r#"{"error":"permission_change_rejected"}"#.into()));
        assert_eq!(client.call("AdminOnly", json!([])).await, Ok(json!("ann")));
        assert!(client.settle().await.is_empty());
    })
    .await;
}

/// It takes a place among the calls: with one place it waits for the call that runs.
#[tokio::test]
async fn a_refresh_is_told_behind_the_call_that_runs() {
    guard(async {
        let flags = [FLAGS, &["--parallel", "1"]].concat();
        let Some(server) = TestServer::ours_with("a refresh during a call", &flags) else { return };
        let (mut client, id) = connect(&server, &token("ann", "user", 60)).await;
        let slow = client.start("Slow", json!([1500])).await;
        // a stream that comes behind it and runs beside it shows that it has begun
        client.say(json!({"type": 4, "invocationId": "s", "target": "Counter", "arguments": [1, 0]})).await;
        client.stream_end("s").await;
        assert_eq!(refresh(&server, &id, &token("ann", "admin", 500)).await.status, 200);
        assert_eq!(refresh(&server, &id, &token("ann", "admin", 600)).await.status, 200);
        let next = client.start("Echo", json!(["next"])).await;
        let first = client.message().await;
        assert_eq!((first.kind(), first.id()), (3, &*slow), "{first:?}");
        client.target("refreshed").await;
        assert_eq!(client.outcome(&next).await, Ok(json!("next")));
        assert!(client.settle().await.is_empty(), "a refresh that another one overtook is not told");
    })
    .await;
}

#[tokio::test]
async fn a_connection_ends_with_its_credential_unless_that_is_renewed() {
    guard(async {
        let Some(server) = server("expiry") else { return };
        let (mut lapsing, _) = connect(&server, &token("ann", "", 2)).await;
        let (mut renewed, id) = connect(&server, &token("ann", "", 2)).await;
        let (mut neighbour, _) = connect(&server, &token("bob", "", 600)).await;
        assert_eq!(refresh(&server, &id, &token("ann", "", 600)).await.status, 200);
        renewed.target("refreshed").await;
        let (messages, code) = within("the end of a credential", lapsing.until_end()).await;
        assert_eq!(messages.last().expect("a goodbye").json, json!({"type": 7, "allowReconnect": true}));
        assert_eq!(code, Some(1000));
        assert!(renewed.settle().await.is_empty() && neighbour.settle().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_token_within_its_leeway_gets_in_and_does_not_stay() {
    guard(async {
        let Some(server) = server("leeway") else { return };
        let late = token("ann", "", -20);
        assert!(negotiated(&server, &late).await.get("tokenLifetimeSeconds").is_none());
        let (mut client, _) = connect(&server, &late).await;
        let (messages, _) = client.until_end().await;
        assert_eq!(messages.last().expect("a goodbye").json, json!({"type": 7, "allowReconnect": true}));
    })
    .await;
}

#[tokio::test]
async fn without_the_option_there_is_no_refresh_and_no_end() {
    guard(async {
        let Some(server) = TestServer::ours_with("no refresh", &["--secret", SECRET]) else { return };
        let good = token("ann", "", 1);
        assert!(negotiated(&server, &good).await.get("tokenLifetimeSeconds").is_none());
        let (mut client, id) = connect(&server, &good).await;
        let response = refresh(&server, &id, &token("ann", "", 60)).await;
        assert_eq!((response.status, response.header("content-type"), response.text()), (404, None, String::new()));
        let quiet = tokio::time::timeout(Duration::from_secs(3), client.event()).await;
        assert!(!matches!(quiet, Ok(Event::Closed(..) | Event::Eof | Event::Reset)), "{quiet:?}");
        assert!(client.settle().await.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_page_of_another_origin_opens_no_websocket_where_origins_are_named() {
    guard(async {
        let flags = [FLAGS, &["--origin", "https://app.example"]].concat();
        let Some(server) = TestServer::ours_with("origins", &flags) else { return };
        let good = bearer(&token("ann", "", 600));
        for (origin, wanted) in [
            ("Origin: https://app.example\r\n", 101),
            ("", 101),
            ("Origin: https://evil.example\r\n", 403),
            ("Origin: null\r\n", 403),
        ] {
            let mut peer = RawPeer::tcp(&server).await;
            let request = ws::upgrade_request_with(HUB, &upgrade(&format!("{good}{origin}")));
            peer.send(request).await.expect("it reads");
            assert_eq!(peer.response_head().await.expect("an answer").status, wanted, "{origin}");
        }
    })
    .await;
}

#[tokio::test]
async fn tokens_are_in_no_log() {
    guard(async {
        let flags = [FLAGS, &["--log", "trace"]].concat();
        let Some(server) = TestServer::ours_with("tokens in logs", &flags) else { return };
        let (good, next) = (token("ann", "admin", 600), token("ann", "admin", 700));
        let (mut client, id) = connect(&server, &good).await;
        assert_eq!(refresh(&server, &id, &next).await.status, 200);
        client.settle().await;
        let forged = format!("{good}x");
        for path in [format!("{HUB}/negotiate?access_token={forged}"), format!("{HUB}?id={id}&access_token={good}")] {
            http::request(&server, "POST", &path, "", b"").await;
        }
        client.leave().await;
        let until = std::time::Instant::now() + PATIENCE;
        while !server.output().contains("a bearer token was refused") {
            assert!(std::time::Instant::now() < until, "nothing is logged");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let output = server.output();
        let own: String = output.lines().filter(|line| line.contains("hubwire")).collect();
        for secret in [&*good, &*next, &*id, SECRET] {
            assert!(!own.contains(secret), "a secret is logged");
        }
    })
    .await;
}
