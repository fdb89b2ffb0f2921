//! The service's face towards clients: raw clients on one side, an application server by hand on the other.

use crate::eventually;
use crate::support::msgpack::{Mp, framed};
use crate::support::service_peer::{
    Introduction, KEY, ServicePeer, client_token, code, message, nothing, now, open, pairs, part, payload, payloads,
    sign, tcp, text, upgrade,
};
use crate::support::ws::{BINARY, CLOSE, Frame, RawPeer, Received, TEXT};
use crate::support::{guard, within};
use hubwire::ServiceOptions;
use hubwire::testing::service;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::net::TcpListener;

pub(crate) async fn start(options: ServiceOptions) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = service(&[KEY], options);
    tokio::spawn(async move { hubwire::serve(listener, service.routes()).await });
    addr
}

pub(crate) async fn started() -> SocketAddr {
    start(ServiceOptions::default()).await
}

pub(crate) async fn server(addr: SocketAddr, id: &str) -> ServicePeer {
    ServicePeer::connect(addr, "chat", &Introduction::of(id)).await
}

/// A client over a WebSocket, without negotiation.
pub(crate) struct Client(pub(crate) RawPeer);

impl Client {
    pub(crate) async fn connect(addr: SocketAddr, claims: Value) -> Self {
        let token = client_token("chat", claims);
        Self(open(addr, &format!("/client/?hub=chat&access_token={token}"), "").await)
    }

    /// Connects and asks for JSON.
    pub(crate) async fn ask(addr: SocketAddr, claims: Value) -> Self {
        let mut client = Self::connect(addr, claims).await;
        client.say(r#"{"protocol":"json","version":1}"#).await;
        client
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.0.frame(&Frame::text(format!("{text}\u{1e}"))).await.expect("the service reads");
    }

    /// The next frame's text, without the separators; `None` at the end.
    pub(crate) async fn hear_or_end(&mut self) -> Option<String> {
        loop {
            match self.0.recv().await {
                Received::Frame(frame) if frame.opcode == TEXT => {
                    return Some(String::from_utf8(frame.payload).unwrap().trim_end_matches('\u{1e}').to_owned());
                }
                Received::Frame(frame) if frame.opcode == CLOSE => return None,
                Received::Frame(_) => {}
                Received::Eof | Received::Reset => return None,
            }
        }
    }

    pub(crate) async fn hear(&mut self) -> String {
        self.hear_or_end().await.expect("the connection goes on")
    }

    pub(crate) async fn expect(&mut self, text: &str) {
        assert_eq!(self.hear().await, text);
    }

    /// Hears the goodbye and the end.
    pub(crate) async fn expect_end(&mut self, goodbye: &str) {
        self.expect(goodbye).await;
        assert_eq!(self.hear_or_end().await, None);
    }

    /// Tells that the service goes on with this client: what a server sends arrives, and nothing came before.
    pub(crate) async fn is_served(&mut self, server: &mut ServicePeer, id: &str) {
        server.data(id, b"{\"type\":6}\x1e").await;
        self.expect(r#"{"type":6}"#).await;
        self.say(r#"{"type":6}"#).await;
        assert_eq!(server.hear_data(id).await, "{\"type\":6}\u{1e}");
    }
}

/// A client that a server has welcomed, and its id.
pub(crate) async fn welcomed(addr: SocketAddr, server: &mut ServicePeer, claims: Value) -> (Client, String) {
    let mut client = Client::ask(addr, claims).await;
    let open = server.welcome().await;
    client.expect("{}").await;
    (client, text(&open, 1).to_owned())
}

const NO_SERVER: &str = r#"{"error":"SignalR Service is now in 'Default' service mode. Current mode works as a proxy that routes client traffic to the connected app servers. However app servers are not connected."}"#;
pub(crate) const COME_BACK: &str = r#"{"type":7,"allowReconnect":true}"#;

#[tokio::test]
async fn a_server_is_told_everything_of_a_client_and_both_hear_each_other() {
    guard(async {
        let addr = started().await;
        let mut server = server(addr, "a").await;
        let claims = json!({"asrs.s.uid": "ann", "nameid": "42", "role": ["admin", "editor"], "asrs.u.iss": "x"});
        let token = client_token("chat", claims);
        let query = "hub=Chat&asrs.op=%2Fchat&id2=a%20b&asrs_request_id=r&hub=other";
        let headers = "Cookie: a=b\r\nX-Two: 1\r\nx-two: 2\r\nAsrs-Migrate-From: me\r\nX-Forwarded-For: 192.0.2.1\r\n";
        let mut client = Client(open(addr, &format!("/client/?{query}&access_token={token}"), headers).await);
        // the call comes right behind the handshake
        client
            .say("{\"protocol\":\"json\",\"version\":1}\u{1e}{\"type\":1,\"target\":\"T\",\"arguments\":[1e400]}")
            .await;
        let told = server.hear_code(4).await;
        let id = text(&told, 1).to_owned();
        assert!(id.len() >= 22 && !id.contains('.'), "{id}");
        let long = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier";
        let role = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role";
        let seen = pairs(&told, 2);
        for claim in [("asrs.s.uid", "ann"), (long, "42"), (role, "admin"), (role, "editor"), ("asrs.u.iss", "x")] {
            assert!(seen.contains(&(claim.0.to_owned(), json!(claim.1))), "{claim:?} in {seen:?}");
        }
        assert!(seen.iter().any(|claim| claim.0 == "exp") && seen.iter().any(|claim| claim.0 == "aud"));
        let headers = pairs(&told, 3);
        let header = |name: &str| headers.iter().find(|header| header.0.eq_ignore_ascii_case(name)).map(|h| &h.1);
        assert_eq!(header("cookie"), Some(&json!(["a=b"])));
        assert_eq!(header("x-two"), Some(&json!(["1", "2"])));
        assert_eq!(header("x-forwarded-for"), Some(&json!(["127.0.0.1, 192.0.2.1"])));
        assert!(header("asrs-instance-id").is_some());
        assert_eq!([header("authorization"), header("asrs-migrate-from")], [None, None]);
        assert_eq!(text(&told, 4), format!("?{query}"));
        assert_eq!(pairs(&told, 5), [("3".to_owned(), json!("json"))]);
        let asked = server.hear_code(6).await;
        assert_eq!(payload(&asked), b"{\"protocol\":\"json\",\"version\":1}\x1e");
        assert_eq!(pairs(&asked, 3), [("5".to_owned(), json!(1))]);
        let call = server.hear_code(6).await;
        assert_eq!(payload(&call), b"{\"type\":1,\"target\":\"T\",\"arguments\":[1e400]}\x1e");
        server.data(&id, b"{}\x1e").await;
        client.expect("{}").await;
        server.data(&id, b"{\"type\":3,\"invocationId\":\"1\"}\x1e{\"type\":6}\x1e").await;
        client.expect("{\"type\":3,\"invocationId\":\"1\"}\u{1e}{\"type\":6}").await;
        // a message that comes in two parts leaves whole
        server.data(&id, b"{\"type\":6").await;
        server.say(message(7, [Mp::Array(vec![Mp::str(&id)]), payloads([("json", b"between\x1e")]), nothing()])).await;
        client.expect("between").await;
        server.data(&id, b"}\x1e").await;
        client.expect(r#"{"type":6}"#).await;
        client.say(r#"{"type":7,"error":"enough"}"#).await;
        let goodbye = server.hear_code(6).await;
        assert_eq!(pairs(&goodbye, 3), [("5".to_owned(), json!(4))]);
        client.0.frame(&Frame::close(1000, "")).await.unwrap();
        let closed = server.hear_code(5).await;
        assert_eq!([text(&closed, 1), text(&closed, 2)], [&*id, ""]);
        // it crossed with the end
        server.data(&id, b"{\"type\":7}\x1e").await;
        let (mut next, id) = welcomed(addr, &mut server, json!({})).await;
        next.is_served(&mut server, &id).await;
    })
    .await;
}

#[tokio::test]
async fn without_a_server_the_handshake_is_answered_with_the_known_sentence() {
    guard(async {
        let addr = started().await;
        Client::ask(addr, json!({})).await.expect_end(NO_SERVER).await;
        // one that carries no clients is none, and neither is one of another hub
        let weak = Introduction { connection_type: 2, ..Introduction::of("weak") };
        let _weak = ServicePeer::connect(addr, "chat", &weak).await;
        let _other = ServicePeer::connect(addr, "other", &Introduction::of("a")).await;
        Client::ask(addr, json!({})).await.expect_end(NO_SERVER).await;
        let mut server = server(addr, "a").await;
        let sticky = json!({"asrs.s.sn": "gone", "asrs.s.ssticky": "Required"});
        Client::ask(addr, sticky).await.expect_end(NO_SERVER).await;
        welcomed(addr, &mut server, json!({"asrs.s.sn": "gone", "asrs.s.ssticky": "Preferred"})).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_may_wait_for_a_server() {
    guard(async {
        let mut options = ServiceOptions::default();
        options.clients.server_grace = Duration::from_secs(30);
        let addr = start(options.clone()).await;
        let mut client = Client::ask(addr, json!({})).await;
        client.say(r#"{"type":6}"#).await;
        let mut server = server(addr, "a").await;
        let open = server.welcome().await;
        client.expect("{}").await;
        assert_eq!(server.hear_data(text(&open, 1)).await, "{\"type\":6}\u{1e}");
        options.clients.server_grace = Duration::from_millis(50);
        let addr = start(options).await;
        Client::ask(addr, json!({})).await.expect_end(NO_SERVER).await;
    })
    .await;
}

#[tokio::test]
async fn what_others_send_waits_for_the_answer_to_the_handshake() {
    guard(async {
        let addr = started().await;
        let mut server = server(addr, "a").await;
        for (answer, rest) in [("{}", Some("early")), (r#"{"error":"no"}"#, None)] {
            let mut client = Client::ask(addr, json!({})).await;
            let id = text(&server.hear_code(4).await, 1).to_owned();
            server.hear_code(6).await;
            let early = payloads([("messagepack", b"no"), ("JSON", b"early\x1e")]);
            server.say(message(7, [Mp::Array(vec![Mp::str(&id)]), early, nothing()])).await;
            server.say(message(10, [Mp::Array(vec![]), payloads([("json", b"broadcast\x1e")]), nothing()])).await;
            server.data(&id, format!("{answer}\u{1e}").as_bytes()).await;
            client.expect(answer).await;
            if let Some(rest) = rest {
                let heard = client.hear().await;
                // in one frame or in two
                if heard == rest {
                    client.expect("broadcast").await;
                } else {
                    assert_eq!(heard, format!("{rest}\u{1e}broadcast"));
                }
            }
            server.close_client(&id, "").await;
            while let Some(more) = client.hear_or_end().await {
                assert!(rest.is_some() && more == r#"{"type":7}"#, "{more}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_lost_server_connection_ends_its_clients_and_no_others() {
    guard(async {
        let addr = started().await;
        let mut one = server(addr, "a").await;
        let (mut first, _) = welcomed(addr, &mut one, json!({})).await;
        let mut unanswered = Client::ask(addr, json!({})).await;
        one.hear_code(4).await;
        // the least loaded connection gets the next client
        let mut two = server(addr, "a").await;
        let (mut second, id) = welcomed(addr, &mut two, json!({})).await;
        one.break_off().await;
        first.expect_end(COME_BACK).await;
        unanswered.expect_end(r#"{"error":"Connection closed with an error."}"#).await;
        second.is_served(&mut two, &id).await;
        two.say_bytes(&[5, 0x93, 6, 0xa0, 7, 7]).await;
        second.expect_end(COME_BACK).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_moves_to_another_server_without_noticing() {
    guard(async {
        let addr = started().await;
        let mut old = server(addr, "a").await;
        let (mut busy, id) = welcomed(addr, &mut old, json!({"asrs.s.uid": "ann"})).await;
        let group = [Mp::str(&id), Mp::str("room"), Mp::Int(1), nothing()];
        old.say(message(18, group)).await;
        old.hear_code(20).await;
        old.say(fin("1")).await;
        assert_eq!(text(&old.hear_code(3).await, 2), "finack");
        // there is no other server yet: it stays where it is
        busy.is_served(&mut old, &id).await;
        let mut next = server(addr, "b").await;
        let gone = old.hear_code(5).await;
        assert_eq!((text(&gone, 1), pairs(&gone, 3)), (&*id, vec![("Asrs-Migrate-To".to_owned(), json!(["b"]))]));
        let open = next.hear_code(4).await;
        assert_eq!(text(&open, 1), id);
        assert!(pairs(&open, 2).contains(&("asrs.s.uid".to_owned(), json!("ann"))));
        assert!(pairs(&open, 3).contains(&("Asrs-Migrate-From".to_owned(), json!(["a"]))));
        assert_eq!(payload(&next.hear_code(6).await), b"{\"protocol\":\"json\",\"version\":1}\x1e");
        // what the old server still sends counts for nothing, and the new one's answer to the handshake never comes
        old.data(&id, b"{\"type\":7}\x1e").await;
        next.say(message(
            13,
            [Mp::str("room"), Mp::Array(vec![]), payloads([("json", b"to the room\x1e")]), nothing()],
        ))
        .await;
        busy.expect("to the room").await;
        busy.is_served(&mut next, &id).await;
        // and a new client is not for the one that goes
        let _other = welcomed(addr, &mut next, json!({})).await;
        old.break_off().await;
        busy.is_served(&mut next, &id).await;
    })
    .await;
}

#[tokio::test]
async fn no_message_of_a_busy_client_is_lost_or_doubled_by_moves() {
    guard(async {
        let addr = started().await;
        let mut servers = vec![server(addr, "0").await];
        let (client, id) = welcomed(addr, &mut servers[0], json!({})).await;
        let Client(mut peer) = client;
        let (listening, ahead) = (Arc::new(AtomicUsize::new(0)), 300);
        let listener = listening.clone();
        let talking = tokio::spawn(async move {
            for n in 0..5000_usize {
                // it goes on while it is moved, and is not through before
                eventually!(n < listener.load(Relaxed) + ahead);
                let text = format!("{{\"type\":1,\"target\":\"N\",\"arguments\":[{n}]}}\u{1e}");
                let bytes = Frame::text(text).encode();
                // in two pieces, so that a move could come in the middle of a message
                let (front, back) = bytes.split_at(bytes.len() / 2);
                peer.send(front).await.unwrap();
                peer.send(back).await.unwrap();
            }
            peer
        });
        let mut heard = Vec::new();
        for move_number in 1..=5 {
            let mut old = servers.pop().unwrap();
            hear_numbers(&mut old, &id, 400, &mut heard, &listening).await;
            let mut next = server(addr, &move_number.to_string()).await;
            old.say(fin("1")).await;
            hear_numbers(&mut old, &id, usize::MAX, &mut heard, &listening).await;
            next.hear_code(4).await;
            assert!(payload(&next.hear_code(6).await).starts_with(b"{\"protocol\""));
            servers.push(next);
            old.break_off().await;
        }
        let missing = 5000 - heard.len();
        hear_numbers(&mut servers[0], &id, missing, &mut heard, &listening).await;
        assert_eq!(heard, (0..5000).collect::<Vec<_>>());
        let mut client = Client(talking.await.unwrap());
        client.is_served(&mut servers[0], &id).await;
    })
    .await;
}

/// Hears numbered calls: so many, or until the client has moved away.
async fn hear_numbers(server: &mut ServicePeer, id: &str, most: usize, heard: &mut Vec<u32>, listening: &AtomicUsize) {
    for _ in 0..most {
        let message = server.hear().await;
        match code(&message) {
            3 => {}
            5 => return,
            6 => {
                assert_eq!(text(&message, 1), id);
                let call: Value = serde_json::from_slice(payload(&message).strip_suffix(b"\x1e").unwrap()).unwrap();
                heard.push(call["arguments"][0].as_u64().unwrap() as u32);
                listening.store(heard.len(), Relaxed);
            }
            _ => panic!("{message}"),
        }
    }
}

fn fin(level: &str) -> Mp {
    message(3, [Mp::str("shutdown"), Mp::str(&format!("fin:{level}"))])
}

#[tokio::test]
async fn a_server_that_goes_may_let_its_clients_stay_or_send_them_away() {
    guard(async {
        let addr = started().await;
        for (level, stays) in [("2", true), ("0", false)] {
            let mut old = server(addr, &format!("old{level}")).await;
            let (mut client, id) = welcomed(addr, &mut old, json!({})).await;
            let mut next = server(addr, &format!("next{level}")).await;
            old.say(fin(level)).await;
            assert_eq!(text(&old.hear_code(3).await, 2), "finack");
            if stays {
                client.is_served(&mut old, &id).await;
            } else {
                assert_eq!(text(&old.hear_code(5).await, 1), id);
                client.expect_end(COME_BACK).await;
            }
            welcomed(addr, &mut next, json!({})).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_ends_its_client_and_others_may() {
    guard(async {
        let addr = started().await;
        let mut own = server(addr, "a").await;
        let weak = Introduction { connection_type: 2, ..Introduction::of("weak") };
        let mut other = ServicePeer::connect(addr, "chat", &weak).await;
        let detailed = json!({"asrs.s.derror": "True"});
        // after the hub's own goodbye there is no second one
        let (mut client, id) = welcomed(addr, &mut own, json!({})).await;
        own.data(&id, b"{\"type\":7,\"error\":\"of the hub\"}\x1e").await;
        own.close_client(&id, "").await;
        client.expect_end(r#"{"type":7,"error":"of the hub"}"#).await;
        for (claims, goodbye) in [
            (json!({}), r#"{"type":7,"error":"Connection closed with an error."}"#),
            (detailed.clone(), r#"{"type":7,"error":"Connection closed with an error. broken"}"#),
        ] {
            let (mut client, id) = welcomed(addr, &mut own, claims).await;
            own.close_client(&id, "broken").await;
            client.expect_end(goodbye).await;
        }
        for (claims, goodbye) in
            [(json!({}), COME_BACK), (detailed, r#"{"type":7,"error":"because","allowReconnect":true}"#)]
        {
            let (mut client, id) = welcomed(addr, &mut own, claims).await;
            other.close_client(&id, "because").await;
            client.expect_end(goodbye).await;
            assert_eq!(text(&own.hear_code(5).await, 1), id);
            other.say(message(24, [Mp::str(&id), Mp::Int(1), nothing()])).await;
            assert_eq!(part(&other.hear_code(20).await, 2), Some(&Mp::Int(2)));
        }
        // somebody who is not there
        own.close_client("nobody", "").await;
        let (mut client, id) = welcomed(addr, &mut own, json!({"asrs.s.dc": "true"})).await;
        other.close_client(&id, "").await;
        client.expect_end(r#"{"type":7}"#).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_and_holds_nobody_up() {
    guard(async {
        let mut options = ServiceOptions::default();
        options.clients.relay_limit = 256 * 1024;
        let addr = start(options).await;
        let mut server = server(addr, "a").await;
        let (_deaf, deaf) = welcomed(addr, &mut server, json!({})).await;
        let (mut client, id) = welcomed(addr, &mut server, json!({})).await;
        let large = [vec![b'x'; 64 * 1024], b"\x1e".to_vec()].concat();
        let mut sent = 0;
        // each is answered, so that what the server says to the one arrives whatever the other takes
        loop {
            server.data(&deaf, &large).await;
            sent += 1;
            assert!(sent < 1000, "it is never cut");
            server.data(&id, b"{\"type\":6}\x1e").await;
            client.expect(r#"{"type":6}"#).await;
            server.say(message(24, [Mp::str(&deaf), Mp::Int(sent), nothing()])).await;
            let answer = server.hear().await;
            let gone = code(&answer) == 5 || part(&answer, 2) == Some(&Mp::Int(2));
            if gone {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_of_a_server_that_does_not_read_is_not_read() {
    guard(async {
        let mut options = ServiceOptions::default();
        options.outbound_limit = 64 * 1024;
        let addr = start(options).await;
        let mut server = server(addr, "a").await;
        let (mut client, id) = welcomed(addr, &mut server, json!({})).await;
        let call = format!("{{\"type\":1,\"target\":\"{}\",\"arguments\":[]}}\u{1e}", "x".repeat(8192));
        let frame = Frame::text(call.clone()).encode();
        let many: Vec<u8> = std::iter::repeat_n(frame.clone(), 4000).flatten().collect();
        let taken = client.0.push_without_reading(&many, Duration::from_millis(500)).await;
        assert!(taken < many.len(), "all of it was taken in");
        // a new client waits meanwhile
        let mut late = Client::ask(addr, json!({})).await;
        // the server reads on, and hears every message that had come, and of the new client
        let (whole, mut heard, mut welcomed) = (taken / frame.len(), 0, false);
        while heard < whole || !welcomed {
            let message = server.hear().await;
            // it is told that it is not read, since it does not read itself
            if code(&message) == 22 {
                continue;
            }
            let of = text(&message, 1).to_owned();
            match code(&message) {
                6 if of == id => {
                    assert_eq!(payload(&message), call.as_bytes());
                    heard += 1;
                }
                6 => {
                    server.data(&of, b"{}\x1e").await;
                    welcomed = true;
                }
                4 => {}
                _ => panic!("{message}"),
            }
        }
        late.expect("{}").await;
    })
    .await;
}

#[tokio::test]
async fn requests_that_are_not_let_in_are_told_why() {
    guard(async {
        let addr = started().await;
        let hour = now() + 3600;
        let aud = |path: &str| json!({"exp": hour, "aud": format!("http://localhost/{path}")});
        let good = sign(KEY, &aud("client/?hub=chat"));
        let cases = [
            ("/client/negotiate?hub=chat", Some(good.clone()), 200),
            ("/client/negotiate/?hub=CHAT&hub=other", Some(good.clone()), 200),
            ("/client/negotiate", Some(good.clone()), 400),
            ("/client/negotiate?hub=1%2F", Some(good.clone()), 400),
            ("/client/negotiate?hub=chat", None, 401),
            ("/client/negotiate?hub=other", Some(good.clone()), 401),
            ("/client/negotiate?hub=chat", Some(sign(KEY, &aud("server/?hub=chat"))), 401),
            ("/client/negotiate?hub=chat", Some(sign(&KEY.replace('0', "1"), &aud("client/?hub=chat"))), 401),
            (
                "/client/negotiate?hub=chat",
                Some(sign(KEY, &json!({"exp": now() - 301, "aud": "http://localhost/client/?hub=chat"}))),
                401,
            ),
            (
                "/client/negotiate?hub=chat",
                Some(sign(KEY, &json!({"exp": now() - 200, "aud": "http://localhost/client/?hub=chat"}))),
                200,
            ),
            ("/client/negotiate?hub=chat", Some(sign(KEY, &json!({"aud": "http://localhost/client/?hub=chat"}))), 401),
            ("/client/negotiate?hub=chat", Some("nonsense".into()), 401),
            // only browsers put it into the query, and not here
            (&format!("/client/negotiate?hub=chat&access_token={good}"), None, 401),
            ("/client/?hub=chat&id=AAAAAAAAAAAAAAAAAAAAAA", Some(good.clone()), 404),
        ];
        for (path, token, status) in cases {
            let header = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
            let method = if path.contains("negotiate") { "POST" } else { "GET" };
            assert_eq!(request(addr, method, path, &header).await.0, status, "{path}");
        }
        let preflight = "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n";
        let (status, head, _) = request(addr, "OPTIONS", "/client/negotiate?hub=chat", preflight).await;
        assert_eq!(status, 204);
        assert!(head.contains("access-control-allow-origin: https://app.example"), "{head}");
        assert!(head.contains("access-control-allow-credentials: true"), "{head}");
    })
    .await;
}

#[tokio::test]
async fn negotiation_offers_what_the_token_and_the_server_allow() {
    guard(async {
        let addr = started().await;
        let offered = async |claims: Value, query: &str| {
            let header = format!("Authorization: Bearer {}\r\n", client_token("chat", claims));
            let path = format!("/client/negotiate?hub=chat&{query}");
            serde_json::from_str::<Value>(&request(addr, "POST", &path, &header).await.2).unwrap()
        };
        let all = offered(json!({}), "negotiateVersion=1&x=1&negotiateVersion=1").await;
        assert_eq!((&all["negotiateVersion"], all["availableTransports"].as_array().unwrap().len()), (&json!(1), 3));
        assert_ne!(all["connectionId"], all["connectionToken"]);
        let old = offered(json!({}), "").await;
        assert_eq!((&old["negotiateVersion"], &old["connectionToken"]), (&json!(0), &Value::Null));
        let some = offered(json!({"asrs.s.htt": "6"}), "negotiateVersion=1").await;
        let names: Vec<_> = some["availableTransports"].as_array().unwrap().iter().map(|t| &t["transport"]).collect();
        assert_eq!(names, ["ServerSentEvents", "LongPolling"]);
        let stateful = "negotiateVersion=1&useStatefulReconnect=true";
        assert_eq!(offered(json!({}), stateful).await["useStatefulReconnect"], Value::Null);
        let introduction = Introduction { stateful: true, ..Introduction::of("a") };
        let _server = ServicePeer::connect(addr, "chat", &introduction).await;
        assert_eq!(offered(json!({}), stateful).await["useStatefulReconnect"], true);
        // a transport that was not granted does not work either
        let token = client_token("chat", json!({"asrs.s.htt": "4"}));
        let mut peer = tcp(addr).await;
        peer.send(upgrade(&format!("/client/?hub=chat&access_token={token}"), "")).await.unwrap();
        assert_eq!(peer.response_head().await.unwrap().status, 404);
    })
    .await;
}

#[tokio::test]
async fn a_client_is_ended_when_its_authentication_expires() {
    guard(async {
        let addr = started().await;
        let mut server = server(addr, "a").await;
        let expires = (now() + 2).to_string();
        let (mut staying, id) = welcomed(addr, &mut server, json!({"asrs.s.aeo": expires})).await;
        let (mut client, ended) =
            welcomed(addr, &mut server, json!({"asrs.s.coae": "true", "asrs.s.aeo": expires})).await;
        client.expect_end(COME_BACK).await;
        assert_eq!(text(&server.hear_code(5).await, 1), ended);
        staying.is_served(&mut server, &id).await;
    })
    .await;
}

#[tokio::test]
async fn a_server_renews_the_credential_of_a_client_by_its_secret_token() {
    guard(async {
        let addr = started().await;
        let mut server = server(addr, "a").await;
        let claims =
            json!({"asrs.s.uid": "ann", "asrs.s.coae": "true", "asrs.s.aeo": (now() + 3).to_string(), "role": "a"});
        let header = format!("Authorization: Bearer {}\r\n", client_token("chat", claims));
        let made = request(addr, "POST", "/client/negotiate?hub=chat&negotiateVersion=1", &header).await.2;
        let made: Value = serde_json::from_str(&made).unwrap();
        let token = made["connectionToken"].as_str().unwrap();
        let mut client = Client(open(addr, &format!("/client/?hub=chat&id={token}"), &header).await);
        client.say(r#"{"protocol":"json","version":1}"#).await;
        let id = text(&server.welcome().await, 1).to_owned();
        assert_eq!(made["connectionId"], id);
        client.expect("{}").await;
        let refresh = |token: &str, user: &str, ack: i128| {
            let claims = Mp::Map(vec![
                (Mp::str("asrs.s.uid"), Mp::str(user)),
                (Mp::str("role"), Mp::str("b")),
                (Mp::str("role"), Mp::str("c")),
            ]);
            let expires = Mp::Ext(-1, u32::try_from(now() + 3600).unwrap().to_be_bytes().to_vec());
            message(41, [Mp::str(token), claims, expires, Mp::Int(ack), nothing()])
        };
        // the public id must not do, and neither must another user's claims
        for (token, user, status) in
            [(&*id, "ann", 2), ("AAAAAAAAAAAAAAAAAAAAAA", "ann", 2), (token, "bob", 5), (token, "ann", 1)]
        {
            server.say(refresh(token, user, status)).await;
            let ack = server.hear_code(20).await;
            assert_eq!(part(&ack, 2), Some(&Mp::Int(status)), "{ack}");
        }
        let update = server.hear_code(43).await;
        assert_eq!(text(&update, 1), id);
        let role = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role";
        let roles: Vec<_> =
            pairs(&update, 2).into_iter().filter(|claim| claim.0 == role).map(|claim| claim.1).collect();
        assert_eq!(roles, ["b", "c"]);
        server.say(message(42, [Mp::str(token), Mp::Int(9), nothing()])).await;
        let ack = server.hear_code(20).await;
        assert_eq!((part(&ack, 1), part(&ack, 2)), (Some(&Mp::Int(9)), Some(&Mp::Int(1))));
        // past the deadline that it came with
        eventually!(now() > made_until(&update) - 3600 + 5);
        client.is_served(&mut server, &id).await;
    })
    .await;
}

/// The deadline among claims.
fn made_until(update: &Mp) -> u64 {
    let claims = pairs(update, 2);
    let deadline = claims.iter().find(|claim| claim.0 == "asrs.s.aeo").expect("a deadline");
    deadline.1.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_handshake_has_its_time() {
    guard(async {
        let addr = started().await;
        let mut silent = Client::connect(addr, json!({"asrs.s.cht": "1"})).await;
        silent.expect_end(r#"{"error":"Handshake was canceled."}"#).await;
        let mut broken = Client::connect(addr, json!({})).await;
        broken.say("nonsense").await;
        broken.expect_end(r#"{"error":"An unexpected error occurred during connection handshake."}"#).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_comes_back_on_a_new_socket_with_nothing_lost_or_doubled() {
    guard(async {
        let addr = started().await;
        let introduction = Introduction { stateful: true, ..Introduction::of("a") };
        let mut server = ServicePeer::connect(addr, "chat", &introduction).await;
        let header = format!("Authorization: Bearer {}\r\n", client_token("chat", json!({})));
        let path = "/client/negotiate?hub=chat&negotiateVersion=1&useStatefulReconnect=true";
        let made: Value = serde_json::from_str(&request(addr, "POST", path, &header).await.2).unwrap();
        let path = format!("/client/?hub=chat&id={}", made["connectionToken"].as_str().unwrap());
        let mut client = Client(open(addr, &path, &header).await);
        client.say(r#"{"protocol":"json","version":2}"#).await;
        let id = text(&server.welcome().await, 1).to_owned();
        client.expect("{}").await;
        client.say(r#"{"type":1,"target":"first","arguments":[]}"#).await;
        server.hear_data(&id).await;
        // a ping is not numbered, though it comes with what is
        server.data(&id, b"{\"type\":3,\"invocationId\":\"1\"}\x1e{\"type\":6}\x1e{\"type\":3,\"invocationId\":\"2\"}\x1e").await;
        let mut heard = String::new();
        while !heard.contains(r#""2""#) {
            heard += &client.hear().await;
        }
        client.0.reset_on_drop();
        drop(client);
        let mut client = Client(open(addr, &path, &header).await);
        // both sides say where they go on: the second of what the client said was lost, the second of what it heard was not
        client.expect(r#"{"type":9,"sequenceId":1}"#).await;
        client.expect(r#"{"type":3,"invocationId":"1"}"#).await;
        client.expect(r#"{"type":3,"invocationId":"2"}"#).await;
        client.say("{\"type\":9,\"sequenceId\":1}\u{1e}{\"type\":1,\"target\":\"first\",\"arguments\":[]}\u{1e}{\"type\":1,\"target\":\"second\",\"arguments\":[]}").await;
        assert!(server.hear_data(&id).await.contains("second"), "the first has come already");
        server.data(&id, b"{\"type\":3,\"invocationId\":\"3\"}\x1e").await;
        client.expect(r#"{"type":3,"invocationId":"3"}"#).await;
        client.expect(r#"{"type":8,"sequenceId":2}"#).await;
    })
    .await;
}

#[tokio::test]
async fn a_token_counts_when_a_connection_begins_and_not_at_later_polls() {
    guard(async {
        let mut options = ServiceOptions::default();
        options.token_skew = Duration::ZERO;
        let addr = start(options).await;
        let mut server = server(addr, "a").await;
        let expires = now() + 3;
        let header = format!("Authorization: Bearer {}\r\n", client_token("chat", json!({"exp": expires})));
        let negotiate = "/client/negotiate?hub=chat&negotiateVersion=1";
        let made: Value = serde_json::from_str(&request(addr, "POST", negotiate, &header).await.2).unwrap();
        // an application's own id stands in front of ours
        let path = format!("/client/?hub=chat&id=5&id={}", made["connectionToken"].as_str().unwrap());
        assert_eq!(request(addr, "GET", &path, &header).await.0, 200);
        assert_eq!(post(addr, &path, &header, "{\"protocol\":\"json\",\"version\":1}\u{1e}").await, 200);
        let open = server.welcome().await;
        let id = text(&open, 1).to_owned();
        assert!(text(&open, 4).contains("&id=5&"), "{open}");
        assert_eq!(request(addr, "GET", &path, &header).await.2, "{}\u{1e}");
        eventually!(now() > expires);
        assert_eq!(request(addr, "POST", negotiate, &header).await.0, 401);
        assert_eq!(post(addr, &path, &header, "{\"type\":6}\u{1e}").await, 200);
        assert_eq!(server.hear_data(&id).await, "{\"type\":6}\u{1e}");
        server.data(&id, b"{\"type\":3,\"invocationId\":\"1\"}\x1e").await;
        assert_eq!(request(addr, "GET", &path, &header).await.2, "{\"type\":3,\"invocationId\":\"1\"}\u{1e}");
        // but somebody else's token does not do, nor one of another key
        let bob = format!("Authorization: Bearer {}\r\n", client_token("chat", json!({"asrs.s.uid": "bob"})));
        assert_eq!(request(addr, "GET", &path, &bob).await.0, 403);
        let forged =
            sign(&KEY.replace('0', "1"), &json!({"exp": now() + 9, "aud": "http://localhost/client/?hub=chat"}));
        assert_eq!(request(addr, "GET", &path, &format!("Authorization: Bearer {forged}\r\n")).await.0, 401);
        assert_eq!(request(addr, "DELETE", &path, &header).await.0, 202);
        assert_eq!(text(&server.hear_code(5).await, 1), id);
    })
    .await;
}

async fn post(addr: SocketAddr, path: &str, headers: &str, body: &str) -> u16 {
    let mut peer = tcp(addr).await;
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
    peer.send([head.as_bytes(), body.as_bytes()].concat()).await.expect("the service reads");
    peer.response().await.expect("an answer").status
}

#[tokio::test]
async fn an_answer_to_a_server_is_repeated_until_the_server_has_it() {
    guard(async {
        let addr = started().await;
        let mut server = server(addr, "a").await;
        let (mut client, id) = welcomed(addr, &mut server, json!({})).await;
        let question = payloads([("json", b"question\x1e")]);
        server.say(message(34, [Mp::str("q"), Mp::str(&id), Mp::str("a"), question, nothing()])).await;
        client.expect("question").await;
        let answer = r#"{"type":3,"invocationId":"q","result":1}"#;
        client.say(answer).await;
        for _ in 0..2 {
            assert_eq!(server.hear_data(&id).await, format!("{answer}\u{1e}"));
        }
        let taken = [Mp::str("q"), Mp::str(&id), Mp::str("a"), Mp::str("json"), Mp::Bin(vec![]), nothing()];
        server.say(message(35, taken)).await;
        // one nobody asked for is said once
        client.say(r#"{"type":3,"invocationId":"other","result":1}"#).await;
        while server.hear_data(&id).await.contains(r#""q""#) {}
        client.is_served(&mut server, &id).await;
    })
    .await;
}

#[tokio::test]
async fn binary_clients_get_their_own_payloads_in_binary_frames() {
    guard(async {
        let addr = started().await;
        let mut server = server(addr, "a").await;
        for (protocol, other) in [("messagepack", "blazorpack"), ("blazorpack", "messagepack")] {
            let mut client = Client::connect(addr, json!({})).await;
            client.say(&format!("{{\"protocol\":\"{protocol}\",\"version\":1}}")).await;
            let open = server.hear_code(4).await;
            let id = text(&open, 1).to_owned();
            assert_eq!(pairs(&open, 5), [("3".to_owned(), json!(protocol))]);
            server.hear_code(6).await;
            server.data(&id, b"{}\x1e").await;
            let calls = [framed(&[0x91, 6]), framed(&[0x95, 1, 0x80, 0xc0, 0xa1, b'T', 0x90])];
            client.0.frame(&Frame::binary([&calls[0][..], &calls[1][..3]].concat())).await.unwrap();
            client.0.frame(&Frame::binary(&calls[1][3..])).await.unwrap();
            assert_eq!(payload(&server.hear_code(6).await), calls[0]);
            assert_eq!(payload(&server.hear_code(6).await), calls[1]);
            let both = payloads([(other, b"\x01\x90"), (protocol, b"\x02\x91\x06")]);
            server.say(message(8, [Mp::str("nobody"), both.clone(), nothing()])).await;
            server.say(message(10, [Mp::Array(vec![]), both, nothing()])).await;
            assert_eq!(within("frames", client.0.recv()).await, frame(BINARY, b"{}\x1e"));
            assert_eq!(within("frames", client.0.recv()).await, frame(BINARY, b"\x02\x91\x06"));
            server.close_client(&id, "").await;
        }
        let mut client = Client::connect(addr, json!({})).await;
        client.say(r#"{"protocol":"smoke","version":1}"#).await;
        client.expect_end(r#"{"error":"The protocol 'smoke' is not supported."}"#).await;
    })
    .await;
}

fn frame(opcode: u8, payload: &[u8]) -> Received {
    Received::Frame(Frame { masked: false, ..Frame::new(opcode, payload) })
}

/// Status, head and body of an answer.
pub(crate) async fn request(addr: SocketAddr, method: &str, path: &str, headers: &str) -> (u16, String, String) {
    let mut peer = tcp(addr).await;
    let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{length}{headers}\r\n");
    peer.send(head).await.expect("the service reads");
    let answer = peer.response().await.expect("an answer");
    let head = answer.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    (answer.status, head, answer.text())
}

/// Sends numbered messages of 64 KiB to a client that does not read, until the service asks for a pause. Gives how many.
async fn send_until_paused(server: &mut ServicePeer, id: &str) -> usize {
    for number in 0..1000 {
        server.data(id, numbered(number).as_bytes()).await;
        // an answer behind it
        server.say(message(24, [Mp::str(id), Mp::Int(number as i128), nothing()])).await;
        let mut answer = server.hear().await;
        let paused = code(&answer) == 39;
        if paused {
            assert_eq!(flow_of(&answer), (id, 1), "{answer}");
            server.say(flow(id, 2)).await;
            answer = server.hear().await;
        }
        assert_eq!((code(&answer), part(&answer, 2)), (20, Some(&Mp::Int(1))), "the client is there: {answer}");
        if paused {
            return number + 1;
        }
    }
    panic!("nobody asks for a pause");
}

fn numbered(number: usize) -> String {
    format!("{number}-{}\u{1e}", "x".repeat(64 * 1024))
}

/// Hears numbered messages, from one number to before another.
async fn hear_numbered(client: &mut Client, from: usize, to: usize) {
    let mut rest = String::new();
    for number in from..to {
        if rest.is_empty() {
            rest = client.hear().await;
        }
        let (one, more) = rest.split_once('\u{1e}').unwrap_or((&rest, ""));
        assert!(one.starts_with(&format!("{number}-")), "{number}: {}", &one[..9]);
        rest = more.to_owned();
    }
}

/// Message 39 about a client.
fn flow(id: &str, operation: i128) -> Mp {
    message(39, [Mp::str(id), Mp::Int(1), Mp::Int(operation), nothing()])
}

fn flow_of(message: &Mp) -> (&str, i128) {
    match (code(message), part(message, 2), part(message, 3)) {
        (39, Some(Mp::Int(1)), Some(Mp::Int(operation))) => (text(message, 1), *operation),
        _ => panic!("{message}"),
    }
}

#[tokio::test]
async fn a_server_is_asked_to_pause_for_a_client_that_reads_slowly_and_to_go_on() {
    guard(async {
        let addr = started().await;
        let mut server = server(addr, "a").await;
        let (mut client, id) = welcomed(addr, &mut server, json!({})).await;
        let (mut other, other_id) = welcomed(addr, &mut server, json!({})).await;
        for _ in 0..2 {
            let sent = send_until_paused(&mut server, &id).await;
            // what was under way, and whoever does not care
            for number in sent..sent + 16 {
                server.data(&id, numbered(number).as_bytes()).await;
            }
            other.is_served(&mut server, &other_id).await;
            hear_numbered(&mut client, 0, sent + 16).await;
            assert_eq!(flow_of(&server.hear().await), (&*id, 3));
            client.is_served(&mut server, &id).await;
        }
        // one that goes while its server pauses
        send_until_paused(&mut server, &id).await;
        drop(client);
        assert_eq!(flow_of(&server.hear().await), (&*id, 3));
        assert_eq!(text(&server.hear_code(5).await, 1), id);
        server.say(flow(&id, 2)).await;
        other.is_served(&mut server, &other_id).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_for_which_much_waits_is_still_heard() {
    guard(async {
        let addr = started().await;
        let mut server = server(addr, "a").await;
        let (mut client, id) = welcomed(addr, &mut server, json!({})).await;
        // more than a megabyte
        let sent = send_until_paused(&mut server, &id).await;
        client.say(r#"{"type":5,"invocationId":"1"}"#).await;
        assert_eq!(server.hear_data(&id).await, "{\"type\":5,\"invocationId\":\"1\"}\u{1e}");
        hear_numbered(&mut client, 0, sent).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_whose_server_never_answers_its_handshake_is_told_so_in_its_time() {
    guard(async {
        let addr = started().await;
        let mut server = server(addr, "a").await;
        let mut client = Client::ask(addr, json!({"asrs.s.cht": "1"})).await;
        let id = text(&server.hear_code(4).await, 1).to_owned();
        server.hear_code(6).await;
        // what others send changes nothing
        server.say(message(10, [Mp::Array(vec![]), payloads([("json", b"broadcast\x1e")]), nothing()])).await;
        client.expect_end(r#"{"error":"Handshake was canceled."}"#).await;
        assert_eq!(text(&server.hear_code(5).await, 1), id);
        // one that was answered stays
        let (mut client, id) = welcomed(addr, &mut server, json!({"asrs.s.cht": "1"})).await;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        client.is_served(&mut server, &id).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_answered_too_late_has_been_told_and_nobody_else_notices() {
    guard(async {
        let mut options = ServiceOptions::default();
        options.clients.connection.outbound_limit = 64 * 1024;
        let addr = start(options).await;
        let mut server = server(addr, "a").await;
        let (mut other, other_id) = welcomed(addr, &mut server, json!({})).await;
        let mut late = Client::ask(addr, json!({})).await;
        let id = text(&server.hear_code(4).await, 1).to_owned();
        server.hear_code(6).await;
        // more than is kept back for it
        for number in 0..2 {
            let payload = numbered(number);
            let all = payloads([("json", payload.as_bytes())]);
            server.say(message(10, [Mp::Array(vec![]), all, nothing()])).await;
            hear_numbered(&mut other, number, number + 1).await;
        }
        late.expect_end(r#"{"error":"Connection closed with an error."}"#).await;
        assert_eq!(text(&server.hear_code(5).await, 1), id);
        server.data(&id, b"{}\x1e").await;
        server.data(&id, b"{\"type\":6}\x1e").await;
        other.is_served(&mut server, &other_id).await;
    })
    .await;
}

#[tokio::test]
async fn two_applications_with_a_hub_of_the_same_name_have_clients_of_their_own() {
    guard(async {
        let addr = started().await;
        let mut applications = Vec::new();
        for hub in ["one_chat", "two_chat"] {
            let mut server = ServicePeer::connect(addr, hub, &Introduction::of("a")).await;
            let token = client_token(hub, json!({"asrs.s.uid": "ann"}));
            let mut client = Client(open(addr, &format!("/client/?hub={hub}&access_token={token}"), "").await);
            client.say(r#"{"protocol":"json","version":1}"#).await;
            let id = text(&server.welcome().await, 1).to_owned();
            client.expect("{}").await;
            applications.push((hub, server, client, id));
        }
        for (hub, server, _, id) in &mut applications {
            let own = format!("of {hub}\u{1e}");
            let own = payloads([("json", own.as_bytes())]);
            server.say(message(10, [Mp::Array(vec![]), own.clone(), nothing()])).await;
            server.say(message(8, [Mp::str("ann"), own, nothing()])).await;
            assert_eq!(server.ask(1, message(24, [Mp::str(id), Mp::Int(1), nothing()])).await, 1);
        }
        let foreign = applications[1].3.clone();
        assert_eq!(applications[0].1.ask(2, message(24, [Mp::str(&foreign), Mp::Int(2), nothing()])).await, 2);
        applications[0].1.data(&foreign, b"not for it\x1e").await;
        applications[0].1.close_client(&foreign, "").await;
        for (hub, server, client, id) in &mut applications {
            let mut heard = String::new();
            while heard.matches("of ").count() < 2 {
                heard += &client.hear().await;
            }
            assert_eq!(heard.replace('\u{1e}', ""), format!("of {hub}of {hub}"));
            client.is_served(server, id).await;
        }
        // and a token of the one is none of the other
        let token = client_token("one_chat", json!({}));
        let header = format!("Authorization: Bearer {token}\r\n");
        assert_eq!(request(addr, "POST", "/client/negotiate?hub=two_chat", &header).await.0, 401);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_uploads_keeps_no_broadcast_from_others_of_its_server_connection() {
    guard(async {
        let addr = started().await;
        let mut server = server(addr, "a").await;
        let (uploading, id) = welcomed(addr, &mut server, json!({})).await;
        let (mut other, other_id) = welcomed(addr, &mut server, json!({})).await;
        let call = format!("{{\"type\":1,\"target\":\"{}\",\"arguments\":[]}}\u{1e}", "x".repeat(32 * 1024));
        let frame = Frame::text(call.clone()).encode();
        let upload = tokio::spawn(async move {
            let Client(mut peer) = uploading;
            for _ in 0..400 {
                peer.send(&frame[..]).await.unwrap();
            }
            peer
        });
        let (loudest, mut loud) = (Arc::new(AtomicUsize::new(0)), 0);
        let listener = loudest.clone();
        let listening = tokio::spawn(async move {
            for number in 0..100 {
                other.expect(&number.to_string()).await;
                listener.store(number + 1, Relaxed);
            }
            other
        });
        while loud < 400 {
            let data = server.hear().await;
            // so much came at once that the server was not read for a moment
            if code(&data) == 22 {
                continue;
            }
            assert_eq!((code(&data), text(&data, 1), payload(&data)), (6, &*id, call.as_bytes()));
            loud += 1;
            if loud % 4 == 0 {
                let text = format!("{}\u{1e}", loud / 4 - 1);
                let excluded = Mp::Array(vec![Mp::str(&id)]);
                server.say(message(10, [excluded, payloads([("json", text.as_bytes())]), nothing()])).await;
            }
            if loud == 200 {
                // half of the upload is still to come
                eventually!(loudest.load(Relaxed) > 0);
            }
        }
        let mut other = listening.await.unwrap();
        drop(upload.await.unwrap());
        assert_eq!(text(&server.hear_code(5).await, 1), id);
        other.is_served(&mut server, &other_id).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_of_a_crowded_server_goes_to_another_that_comes() {
    guard(async {
        let mut options = ServiceOptions::default();
        options.outbound_limit = 64 * 1024;
        let addr = start(options).await;
        let mut deaf = server(addr, "a").await;
        let (mut client, _) = welcomed(addr, &mut deaf, json!({})).await;
        let call = format!("{{\"type\":1,\"target\":\"{}\",\"arguments\":[]}}\u{1e}", "x".repeat(8192));
        let many: Vec<u8> = std::iter::repeat_n(Frame::text(call).encode(), 4000).flatten().collect();
        let taken = client.0.push_without_reading(&many, Duration::from_millis(500)).await;
        assert!(taken < many.len(), "all of it was taken in");
        let mut late = Client::ask(addr, json!({})).await;
        let mut next = server(addr, "b").await;
        let id = text(&next.welcome().await, 1).to_owned();
        late.expect("{}").await;
        late.is_served(&mut next, &id).await;
    })
    .await;
}

#[tokio::test]
async fn a_polling_client_for_which_much_waits_has_its_server_pause_and_gets_all_of_it() {
    guard(async {
        let addr = started().await;
        let mut server = server(addr, "a").await;
        let header = format!("Authorization: Bearer {}\r\n", client_token("chat", json!({"asrs.s.ttl": "60"})));
        let made = request(addr, "POST", "/client/negotiate?hub=chat&negotiateVersion=1", &header).await.2;
        let made: Value = serde_json::from_str(&made).unwrap();
        let path = format!("/client/?hub=chat&id={}", made["connectionToken"].as_str().unwrap());
        assert_eq!(request(addr, "GET", &path, &header).await.0, 200);
        assert_eq!(post(addr, &path, &header, "{\"protocol\":\"json\",\"version\":1}\u{1e}").await, 200);
        let id = text(&server.welcome().await, 1).to_owned();
        assert_eq!(request(addr, "GET", &path, &header).await.2, "{}\u{1e}");
        for number in 0..16 {
            server.data(&id, numbered(number).as_bytes()).await;
        }
        assert_eq!(flow_of(&server.hear().await), (&*id, 1));
        let expected: String = (0..16).map(numbered).collect();
        assert!(expected.len() > 1_000_000);
        let mut polled = String::new();
        while polled.len() < expected.len() {
            polled += &request(addr, "GET", &path, &header).await.2;
        }
        assert!(polled == expected);
        assert_eq!(flow_of(&server.hear().await), (&*id, 3));
    })
    .await;
}

#[tokio::test]
async fn a_client_sends_messages_of_megabytes_over_a_web_socket() {
    guard(async {
        let addr = started().await;
        let mut server = server(addr, "a").await;
        let (mut client, id) = welcomed(addr, &mut server, json!({})).await;
        let large = format!("{{\"type\":1,\"target\":\"{}\",\"arguments\":[]}}", "x".repeat(3 << 20));
        client.say(&large).await;
        assert!(server.hear_data(&id).await == format!("{large}\u{1e}"));
    })
    .await;
}

#[tokio::test]
async fn a_negotiated_connection_lapses() {
    guard(async {
        let mut options = ServiceOptions::default();
        assert_eq!(options.clients.negotiate_timeout, Duration::from_secs(5));
        options.clients.negotiate_timeout = Duration::from_millis(100);
        let addr = start(options).await;
        let header = format!("Authorization: Bearer {}\r\n", client_token("chat", json!({})));
        let made = request(addr, "POST", "/client/negotiate?hub=chat&negotiateVersion=1", &header).await.2;
        let made: Value = serde_json::from_str(&made).unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let path = format!("/client/?hub=chat&id={}", made["connectionToken"].as_str().unwrap());
        assert_eq!(request(addr, "GET", &path, &header).await.0, 404);
    })
    .await;
}

#[tokio::test]
async fn clients_count_from_their_admission() {
    guard(async {
        let mut options = ServiceOptions::default();
        options.clients.max_connections = Some(1);
        let addr = start(options).await;
        let mut server = server(addr, "a").await;
        // it has not shaken hands
        let silent = Client::connect(addr, json!({})).await;
        let token = client_token("chat", json!({}));
        let status = async || {
            let mut peer = tcp(addr).await;
            peer.send(upgrade(&format!("/client/?hub=chat&access_token={token}"), "")).await.unwrap();
            peer.response_head().await.unwrap().status
        };
        assert_eq!(status().await, 429);
        let header = format!("Authorization: Bearer {token}\r\n");
        assert_eq!(request(addr, "POST", "/client/negotiate?hub=chat", &header).await.0, 429);
        drop(silent);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while request(addr, "POST", "/client/negotiate?hub=chat", &header).await.0 != 200 {
            assert!(tokio::time::Instant::now() < deadline, "its place is never free");
        }
        welcomed(addr, &mut server, json!({})).await;
    })
    .await;
}
