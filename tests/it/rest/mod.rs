//! The REST API over sockets, on a hub of this process, as callers send it and as clients of both encodings see it.

mod asking;
mod closing;
mod examples;
mod listing;
mod membership;
mod refusals;
mod sdk;
mod sending;
mod tokens;

use crate::support::http::{self, Response};
use crate::support::hub::{Client, Protocol};
use crate::support::server::TestServer;
use crate::support::ws::RawPeer;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::{Router, response};
use hubwire::testing::RestRoutes;
use hubwire::{Caller, Clients, Hub, HubResult, Identity};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::time::SystemTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const KEY: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH";
pub(crate) const SECOND: &str = "HGFEDCBA9876543210ZYXWVUTSRQPONMLKJIHGFEDCBA";

/// A hub `chat` (and `app_chat`, another one) with the API beside it.
pub(crate) struct Service {
    pub(crate) server: TestServer,
    fences: u32,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut RestRoutes)) -> Self {
        let (chat, app) = (hub(), hub());
        let mut rest = RestRoutes { keys: vec![KEY.into(), SECOND.into()], ..RestRoutes::default() };
        rest.hubs = vec![("chat".into(), chat.clone()), ("app_chat".into(), app.clone())];
        change(&mut rest);
        let router = Router::new().merge(chat.routes("/chat")).merge(app.routes("/app")).layer(from_fn(identify));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move { hubwire::serve(listener, router.merge(rest.build())).await });
        Self { server: TestServer::at(&format!("http://{addr}")), fences: 0 }
    }

    /// A client of `chat`, or of another path, of a user or of nobody.
    pub(crate) async fn client(&self, user: &str, protocol: Protocol) -> Client {
        self.client_at("/chat", user, protocol).await
    }

    pub(crate) async fn client_at(&self, path: &str, user: &str, protocol: Protocol) -> Client {
        let peer = RawPeer::open(&self.server, &format!("{path}?user={}", escape(user))).await;
        Client::over(peer, protocol).await
    }

    /// Ann twice, in both encodings, Bob in JSON and nobody in MessagePack.
    pub(crate) async fn four(&self) -> [Client; 4] {
        [
            self.client("ann", Protocol::Json).await,
            self.client("ann", Protocol::MessagePack).await,
            self.client("bob", Protocol::Json).await,
            self.client("", Protocol::MessagePack).await,
        ]
    }

    /// Sends a request with a good token and without a body.
    pub(crate) async fn ask(&self, method: &str, target: &str) -> Response {
        self.ask_with(method, target, "", b"").await
    }

    /// The same with headers and a body.
    pub(crate) async fn ask_with(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> Response {
        let bearer = self.bearer(target);
        let headers = format!("Authorization: Bearer {bearer}\r\n{headers}");
        let response = request(&self.server, method, target, &headers, body).await;
        let text = response.text();
        assert!(!text.contains(&bearer) && !text.contains(KEY), "a secret is in {text}");
        response
    }

    /// Sends JSON.
    pub(crate) async fn send(&self, target: &str, body: &Value) -> Response {
        self.ask_with("POST", target, JSON, body.to_string().as_bytes()).await
    }

    /// A token for a target, made as the documentation says.
    pub(crate) fn bearer(&self, target: &str) -> String {
        let path = target.split('?').next().unwrap();
        sign(&json!({"aud": format!("http://{}{path}", self.server.addr()), "exp": now() + 600}))
    }

    /// Asserts that everybody is in step, and gives the targets that each client has been sent since the last time.
    pub(crate) async fn heard(&mut self, clients: &mut [&mut Client]) -> Vec<Vec<String>> {
        self.fences += 1;
        let fence = format!("fence{}", self.fences);
        assert_eq!(self.send("/api/hubs/chat/:send", &json!({"target": fence})).await.status, 202);
        let mut heard = Vec::new();
        for client in clients {
            let mut targets = Vec::new();
            loop {
                let message = client.message().await;
                if message.target() == fence {
                    break;
                }
                targets.push(message.target().to_owned());
            }
            heard.push(targets);
        }
        heard
    }

    /// Who of them hears what is sent to a group: its members.
    pub(crate) async fn members(&mut self, group: &str, clients: &mut [&mut Client]) -> Vec<bool> {
        let target = format!("/api/hubs/chat/groups/{}/:send", escape(group));
        assert_eq!(self.send(&target, &json!({"target": "to the group"})).await.status, 202);
        let heard = self.heard(clients).await;
        heard.into_iter().map(|targets| targets == ["to the group"]).collect()
    }
}

/// A hub that tells everybody its id.
fn hub() -> Hub {
    async fn welcome(caller: Caller, clients: Clients) -> HubResult {
        clients.caller().send("welcome", (caller.id(),)).await
    }
    Hub::with_state(()).on_connected(welcome).build()
}

/// Who somebody is, is what the query says.
async fn identify(mut request: Request, next: Next) -> response::Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let user = query.split('&').find_map(|pair| pair.strip_prefix("user="));
    if let Some(user) = user.filter(|user| !user.is_empty()) {
        let identity = Identity::user(unescape(user));
        request.extensions_mut().insert(identity);
    }
    next.run(request).await
}

/// A request without a body has no length either, as callers without one send it; a HEAD is read without one.
async fn request(server: &TestServer, method: &str, target: &str, headers: &str, body: &[u8]) -> Response {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head =
        format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{length}{headers}\r\n", server.addr());
    let bytes = [head.as_bytes(), body].concat();
    if method != "HEAD" {
        return http::exchange(server, &bytes).await;
    }
    crate::support::within("the answer to a HEAD", async {
        let mut stream = TcpStream::connect(server.addr()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut rest = Vec::new();
        let head = http::read_head(&mut stream, &mut rest).await.expect("an answer");
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "a HEAD has no body");
        head
    })
    .await
}

pub(crate) fn sign(claims: &Value) -> String {
    sign_as(&Header::new(Algorithm::HS256), KEY, claims)
}

pub(crate) fn sign_as(header: &Header, key: &str, claims: &Value) -> String {
    encode(header, claims, &EncodingKey::from_secret(key.as_bytes())).unwrap()
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// Percent-encodes as .NET does.
pub(crate) fn escape(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => (byte as char).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(escape).collect()
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// The code of an error, which the header and the body say alike.
pub(crate) fn code(response: &Response) -> &str {
    response.header("x-ms-error-code").unwrap_or_default()
}

pub(crate) const JSON: &str = "Content-Type: application/json; charset=utf-8\r\n";
pub(crate) const BINARY: &str = "Content-Type: application/octet-stream\r\n";
