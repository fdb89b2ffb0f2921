//! The service's face towards application servers, by hand: what it must answer, and what it must survive.

use crate::service_client::{COME_BACK, request, server, start, started, welcomed};
use crate::support::msgpack::{Mp, framed, varint};
use crate::support::service_peer::{
    Introduction, KEY, ServicePeer, code, handshake, message, nothing, now, open, part, payload, payloads,
    server_token, sign, tcp, text, upgrade,
};
use crate::support::ws::{CLOSE, Frame, Received};
use crate::support::{guard, within};
use hubwire::ServiceOptions;
use hubwire::testing::service;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpListener;

/// Requests that are acknowledged.
fn join(id: &str, group: &str, ack: i128) -> Mp {
    message(18, [Mp::str(id), Mp::str(group), Mp::Int(ack), nothing()])
}

fn leave(id: &str, group: Option<&str>, ack: i128) -> Mp {
    message(19, [Mp::str(id), group.map_or(Mp::Nil, Mp::str), Mp::Int(ack), nothing()])
}

fn in_group(user: &str, group: &str, ack: i128) -> Mp {
    message(21, [Mp::str(user), Mp::str(group), Mp::Int(ack), nothing()])
}

/// 23: a group, 24: a connection, 25: a user.
fn exists(kind: i128, name: &str, ack: i128) -> Mp {
    message(kind, [Mp::str(name), Mp::Int(ack), nothing()])
}

fn add_user(user: &str, group: &str, ttl: Option<i128>, ack: i128) -> Mp {
    let ext = Mp::Map(ttl.map(|ttl| (Mp::Int(2), Mp::Int(ttl))).into_iter().collect());
    message(26, [Mp::str(user), Mp::str(group), Mp::Int(ack), ext])
}

fn remove_user(user: &str, group: Option<&str>, ack: i128) -> Mp {
    message(27, [Mp::str(user), group.map_or(Mp::Nil, Mp::str), Mp::Int(ack), nothing()])
}

fn ping<const N: usize>(elements: [&str; N]) -> Mp {
    message(3, elements.map(Mp::str))
}

fn list<const N: usize>(texts: [&str; N]) -> Mp {
    Mp::Array(texts.map(Mp::str).into())
}

fn json_payload(text: &str) -> Mp {
    payloads([("json", format!("{text}\u{1e}").as_bytes()), ("messagepack", b"\x01\xc0")])
}

/// Claims of a client that is for this server and no other.
fn only(server: &str) -> Value {
    json!({"asrs.s.sn": server, "asrs.s.ssticky": "Required"})
}

fn weak() -> Introduction {
    Introduction { connection_type: 2, ..Introduction::of("weak") }
}

/// Tells that nothing was said meanwhile: the answer to this comes next.
async fn was_silent(server: &mut ServicePeer) {
    assert_eq!(server.ask(99, exists(25, "nobody at all", 99)).await, 2);
}

#[tokio::test]
async fn a_server_connection_is_greeted_first_and_then_pinged() {
    guard(async {
        let mut options = ServiceOptions::default();
        options.ping_interval = Duration::from_millis(20);
        let addr = start(options).await;
        for form in [
            message(1, [Mp::Int(1)]),
            message(1, [Mp::Int(1), Mp::Int(1), Mp::str("instance")]),
            message(1, [Mp::Int(1), Mp::Int(2), Mp::str(""), Mp::Int(0), nothing()]),
            handshake(&Introduction::of("a")),
        ] {
            let mut server = ServicePeer::silent(addr, "chat", "a").await;
            server.say(form).await;
            let answer = server.hear_anything().await.unwrap();
            assert_eq!(answer.to_string(), r#"[2, "", {}, "test"]"#);
            for _ in 0..3 {
                assert_eq!(server.hear_anything().await.unwrap().to_string(), "[3]");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_cannot_be_accepted_is_answered_with_the_reason() {
    guard(async {
        let mut options = ServiceOptions::default();
        options.handshake_timeout = Duration::from_millis(200);
        let addr = start(options.clone()).await;
        let first = "A handshake request is expected first.";
        for (said, reason) in [
            (Some(message(1, [Mp::Int(2)])), "Version mismatch."),
            (Some(message(1, [Mp::Int(1), Mp::Int(7), Mp::str("")])), "The type of the connection is not known."),
            (Some(ping([])), first),
            (Some(message(1, [])), first),
            (Some(message(77, [])), first),
            (Some(Mp::str("no array")), first),
            (None, "The handshake request did not come in time."),
        ] {
            let mut server = ServicePeer::silent(addr, "chat", "a").await;
            if let Some(said) = said {
                server.say(said).await;
            }
            let answer = server.hear_code(2).await;
            assert_eq!(text(&answer, 1), reason);
            assert_eq!(server.hear_or_end().await, None);
        }
        options.app_servers = false;
        let addr = start(options).await;
        for (connection_type, accepted) in [(0, false), (1, false), (2, true)] {
            let mut server = ServicePeer::silent(addr, "chat", "a").await;
            server.say(handshake(&Introduction { connection_type, ..Introduction::of("a") })).await;
            assert_eq!(text(&server.hear_code(2).await, 1).is_empty(), accepted);
        }
    })
    .await;
}

#[tokio::test]
async fn what_servers_ask_by_pings_is_answered() {
    guard(async {
        let addr = started().await;
        let mut one = server(addr, "b_2").await;
        let mut other = ServicePeer::connect(addr, "other", &Introduction::of("c")).await;
        one.say(ping(["status", "1"])).await;
        let status = |has: &str, clients: &str, servers: &str| {
            format!(r#"[3, "status", "{has}", "clientcount", "{clients}", "servercount", "{servers}"]"#)
        };
        assert_eq!(one.hear().await.to_string(), status("0", "0", "2"));
        let _two = server(addr, "a_1").await;
        let _three = ServicePeer::connect(addr, "chat", &weak()).await;
        let (_client, _) = welcomed(addr, &mut one, only("b_2")).await;
        one.say(ping(["status", ""])).await;
        assert_eq!(one.hear().await.to_string(), status("1", "1", "4"));
        other.say(ping(["#client", "0", "status", "1"])).await;
        assert_eq!(other.hear().await.to_string(), status("0", "1", "4"));

        let mut before = 638_000_000_000_000_000;
        for _ in 0..3 {
            one.say(ping(["servers", ""])).await;
            let servers = one.hear_code(3).await;
            let (ticks, ids) = text(&servers, 2).split_once(':').unwrap();
            assert_eq!((text(&servers, 1), ids), ("servers", "a_1;b_2;weak"));
            let ticks: u64 = ticks.parse().unwrap();
            assert!(ticks > before, "{ticks} after {before}");
            before = ticks;
        }
        // nothing is said to these
        for quiet in [ping([]), ping(["#clientInHub", "1", "#client", "1"]), ping(["status"]), ping(["echo", "1"])] {
            one.say(quiet).await;
        }
        was_silent(&mut one).await;
        // each time, and the connection goes on
        for _ in 0..2 {
            one.say(ping(["shutdown", "fin:2"])).await;
            assert_eq!(one.hear().await.to_string(), r#"[3, "shutdown", "finack"]"#);
        }
        was_silent(&mut one).await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_silent_is_lost_and_one_that_pings_is_not() {
    guard(async {
        let mut options = ServiceOptions::default();
        options.ping_interval = Duration::from_millis(50);
        options.silence_limit = Duration::from_millis(1000);
        let addr = start(options).await;
        let mut silent = server(addr, "a").await;
        let (mut client, _) = welcomed(addr, &mut silent, json!({})).await;
        // half a message, and then nothing: that is silence as well
        let mut halted = server(addr, "b").await;
        halted.say_bytes(&[200, 1, 0x94]).await;
        let mut pinging = server(addr, "c").await;
        let mut heard = 0;
        // longer than the limit, by the service's own pings
        while heard < 60 {
            assert!(pinging.hear_anything().await.is_some(), "it goes on");
            pinging.say(ping([])).await;
            heard += 1;
        }
        was_silent(&mut pinging).await;
        client.expect_end(COME_BACK).await;
        assert_eq!([silent.hear_or_end().await, halted.hear_or_end().await], [None, None]);
    })
    .await;
}

#[tokio::test]
async fn groups_and_users_are_changed_and_asked_for() {
    guard(async {
        let addr = started().await;
        let mut own = server(addr, "a").await;
        let mut any = ServicePeer::connect(addr, "chat", &weak()).await;
        let (mut ann, id) = welcomed(addr, &mut own, json!({"asrs.s.uid": "ann"})).await;
        let to_room = |text: &str| message(13, [Mp::str("room"), list([]), json_payload(text), nothing()]);
        for (ack, request, status) in [
            (1, exists(23, "room", 1), 2),
            (2, exists(24, &id, 2), 1),
            (3, exists(24, "nobody", 3), 2),
            (4, exists(25, "ann", 4), 1),
            (5, exists(25, "bob", 5), 2),
            (6, join(&id, "room", 6), 1),
            (7, join(&id, "room", 7), 1),
            (8, join("AAAAAAAAAAAAAAAAAAAAAA", "room", 8), 2),
            (9, exists(23, "room", 9), 1),
            (10, exists(23, "Room", 10), 2),
            (11, in_group("ann", "room", 11), 1),
            (12, in_group("bob", "room", 12), 2),
            (13, leave(&id, Some("other"), 13), 1),
            (14, leave("nobody", Some("room"), 14), 2),
            (15, leave("nobody", None, 15), 2),
            (16, leave(&id, Some("room"), 16), 1),
            (17, exists(23, "room", 17), 2),
            (18, join(&id, "room", 18), 1),
            (19, leave(&id, None, 19), 1),
            (20, exists(23, "room", 20), 2),
            (21, add_user("ann", "room", Some(0), 21), 1),
            (22, in_group("ann", "room", 22), 1),
            (23, remove_user("ann", Some("room"), 23), 1),
            (24, in_group("ann", "room", 24), 2),
            (25, add_user("nobody", "room", None, 25), 1),
            (26, in_group("nobody", "room", 26), 1),
            (27, exists(23, "room", 27), 2),
            (28, remove_user("nobody", None, 28), 1),
            (29, in_group("nobody", "room", 29), 2),
        ] {
            assert_eq!(any.ask(ack, request).await, status, "ack {ack}");
        }
        // the older forms have no answer, and are done before the next message
        any.say(message(11, [Mp::str(&id), Mp::str("room")])).await;
        any.say(to_room("one")).await;
        any.say(message(12, [Mp::str(&id), Mp::str("room")])).await;
        any.say(to_room("not this")).await;
        any.say(message(16, [Mp::str("ann"), Mp::str("room")])).await;
        any.say(to_room("two")).await;
        any.say(message(17, [Mp::str("ann"), Mp::str("room")])).await;
        any.say(to_room("nor this")).await;
        any.say(message(10, [list([]), json_payload("three")])).await;
        for text in ["one", "two", "three"] {
            ann.expect(text).await;
        }
        was_silent(&mut any).await;
        was_silent(&mut own).await;
    })
    .await;
}

#[tokio::test]
async fn a_user_is_remembered_for_a_group() {
    guard(async {
        let addr = started().await;
        let mut own = server(addr, "a").await;
        let claims = json!({"nameid": "ann"});
        assert_eq!(own.ask(1, add_user("ann", "for good", None, 1)).await, 1);
        assert_eq!(own.ask(2, add_user("ann", "a while", Some(600), 2)).await, 1);
        assert_eq!(own.ask(3, add_user("ann", "now", Some(0), 3)).await, 1);
        let (_first, _) = welcomed(addr, &mut own, claims.clone()).await;
        for (ack, group, there) in [(4, "for good", 1), (5, "a while", 1), (6, "now", 2)] {
            assert_eq!(own.ask(ack, exists(23, group, ack)).await, there, "{group}");
        }
        assert_eq!(own.ask(7, remove_user("ann", None, 7)).await, 1);
        let (_second, _) = welcomed(addr, &mut own, claims).await;
        for (ack, group) in [(8, "for good"), (9, "a while")] {
            assert_eq!(own.ask(ack, exists(23, group, ack)).await, 2, "{group}");
        }
    })
    .await;
}

#[tokio::test]
async fn messages_reach_those_they_are_for() {
    guard(async {
        let addr = started().await;
        let mut one = server(addr, "a").await;
        let mut two = server(addr, "b").await;
        let of = |user: &str, server: &str| {
            let mut claims = only(server);
            claims["asrs.s.uid"] = json!(user);
            claims
        };
        let (mut ann, ann_id) = welcomed(addr, &mut one, of("ann", "a")).await;
        let (mut bob, bob_id) = welcomed(addr, &mut two, of("bob", "b")).await;
        let (mut tab, tab_id) = welcomed(addr, &mut one, of("ann", "a")).await;
        for (ack, id, group) in [(1, &ann_id, "g"), (2, &bob_id, "g"), (3, &bob_id, "h"), (4, &tab_id, "h")] {
            assert_eq!(one.ask(ack, join(id, group, ack)).await, 1);
        }
        let to = |name: &str| json_payload(name);
        // from a server that carries none of the receivers
        let mut any = ServicePeer::connect(addr, "chat", &weak()).await;
        let excluding = message(13, [Mp::str("h"), list([&bob_id]), to("group but"), nothing(), list([]), Mp::Nil]);
        let excluding_user =
            message(13, [Mp::str("g"), list([]), to("group but a user"), nothing(), list(["ann"]), Mp::str("x")]);
        for (sent, [to_ann, to_bob, to_tab]) in [
            (message(7, [list([&ann_id, &bob_id, "nobody"]), to("listed"), nothing()]), [1, 1, 0]),
            (message(7, [list([&ann_id, &ann_id]), to("listed twice")]), [1, 0, 0]),
            (message(8, [Mp::str("ann"), to("user")]), [1, 0, 1]),
            (message(9, [list(["ann", "bob", "ann"]), to("users")]), [1, 1, 1]),
            (message(10, [list([]), to("all")]), [1, 1, 1]),
            (message(10, [list([&tab_id, "nobody"]), to("all but")]), [1, 1, 0]),
            (message(13, [Mp::str("g"), list([]), to("group")]), [1, 1, 0]),
            (excluding, [0, 0, 1]),
            (excluding_user, [0, 1, 0]),
            // once for each group
            (message(14, [list(["g", "h", "none"]), to("groups")]), [1, 2, 1]),
            (message(8, [Mp::str("nobody"), to("no user")]), [0, 0, 0]),
            (message(10, [list([]), payloads([("messagepack", b"\x01\xc0"), ("json", b"")])]), [0, 0, 0]),
            (message(10, [list([]), nothing()]), [0, 0, 0]),
            (message(10, [list([]), payloads([("smoke", b"no"), ("JSON", b"any case\x1e")])]), [1, 1, 1]),
        ] {
            let expected = match &sent {
                Mp::Array(parts) => format!("{}", parts[if code(&sent) == 13 { 3 } else { 2 }]),
                _ => unreachable!(),
            };
            any.say(sent).await;
            any.say(message(10, [list([]), json_payload("behind it")])).await;
            for (client, times) in [(&mut ann, to_ann), (&mut bob, to_bob), (&mut tab, to_tab)] {
                let mut heard = String::new();
                while !heard.ends_with("behind it\u{1e}") {
                    heard += &client.hear().await;
                    heard.push('\u{1e}');
                }
                let heard: Vec<&str> = heard.split_terminator('\u{1e}').collect();
                assert_eq!(heard.len() - 1, times, "{heard:?}");
                for text in &heard[..times] {
                    assert!(expected.contains(&hex(text)), "{text} of {expected}");
                }
            }
        }
        // no server has heard of any of it
        was_silent(&mut one).await;
        was_silent(&mut two).await;
    })
    .await;
}

fn hex(text: &str) -> String {
    crate::support::msgpack::hex(text.as_bytes())
}

#[tokio::test]
async fn connections_are_closed_by_all_that_names_them() {
    guard(async {
        let addr = started().await;
        let mut own = server(addr, "a").await;
        let mut any = ServicePeer::connect(addr, "chat", &weak()).await;
        let claims = json!({"asrs.s.uid": "ann", "asrs.s.derror": "true"});
        let bye = r#"{"type":7,"error":"bye","allowReconnect":true}"#;
        for (kind, named) in [(30, true), (31, false), (32, true), (33, true)] {
            let (mut goes, id) = welcomed(addr, &mut own, claims.clone()).await;
            let (mut stays, stays_id) = welcomed(addr, &mut own, claims.clone()).await;
            for (ack, id) in [(1, &id), (2, &stays_id)] {
                assert_eq!(any.ask(ack, join(id, "room", ack)).await, 1);
            }
            let name = match kind {
                30 => &*id,
                32 => "ann",
                _ => "room",
            };
            let mut parts = vec![Mp::Int(kind)];
            parts.extend(named.then(|| Mp::str(name)));
            parts.extend([Mp::str("bye"), Mp::Int(3)]);
            parts.extend((kind != 30).then(|| list([&stays_id])));
            parts.push(nothing());
            assert_eq!(any.ask(3, Mp::Array(parts)).await, 1);
            // it is gone at once, whatever its transport still does
            assert_eq!(any.ask(4, exists(24, &id, 4)).await, 2);
            goes.expect_end(bye).await;
            let told = own.hear_code(5).await;
            assert_eq!(text(&told, 1), id);
            stays.is_served(&mut own, &stays_id).await;
            // without a reason there is none
            let shortest = message(31, [Mp::Nil, Mp::Int(5), list([])]);
            assert_eq!(any.ask(5, shortest).await, 1);
            stays.expect_end(COME_BACK).await;
            own.hear_code(5).await;
            assert_eq!([any.ask(6, exists(25, "ann", 6)).await, any.ask(7, exists(23, "room", 7)).await], [2, 2]);
        }
        // nobody matches
        assert_eq!(any.ask(8, message(30, [Mp::str("nobody"), Mp::Nil, Mp::Int(8)])).await, 2);
        for kind in [32, 33] {
            assert_eq!(any.ask(9, message(kind, [Mp::str("nobody"), Mp::Nil, Mp::Int(9), list([])])).await, 1);
        }
        was_silent(&mut own).await;
    })
    .await;
}

#[tokio::test]
async fn members_of_a_group_are_listed_in_pages() {
    guard(async {
        let addr = started().await;
        let mut own = server(addr, "a").await;
        let mut clients = Vec::new();
        for n in 0..5 {
            let claims = if n == 0 { json!({"asrs.s.uid": "ann"}) } else { json!({}) };
            let (client, id) = welcomed(addr, &mut own, claims).await;
            assert_eq!(own.ask(1, join(&id, "room", 1)).await, 1);
            clients.push((client, id));
        }
        let users: std::collections::BTreeMap<&str, Mp> = clients
            .iter()
            .enumerate()
            .map(|(n, (_, id))| (&**id, if n == 0 { Mp::str("ann") } else { Mp::Nil }))
            .collect();
        for (top, size, pages) in [
            (Mp::Nil, None, vec![5]),
            (Mp::Nil, Some(2), vec![2, 2, 1]),
            (Mp::Nil, Some(5), vec![5]),
            (Mp::Int(3), None, vec![3]),
            (Mp::Int(3), Some(2), vec![2, 1]),
            (Mp::Int(0), None, vec![0]),
            (Mp::Int(-1), None, vec![0]),
        ] {
            let (mut token, mut seen, mut left) = (Mp::Nil, Vec::new(), top.clone());
            for page in &pages {
                let mut query = vec![Mp::Int(40), nothing(), Mp::str("room"), Mp::Int(7), left.clone(), token.clone()];
                query.extend(size.map(Mp::Int));
                own.say(Mp::Array(query)).await;
                let ack = own.hear_code(20).await;
                assert_eq!([part(&ack, 1), part(&ack, 2)], [Some(&Mp::Int(7)), Some(&Mp::Int(1))]);
                let Some(Mp::Bin(bytes)) = part(&ack, 5) else { panic!("{ack}") };
                let Some(Mp::Array(answer)) = Mp::decode(&mut &bytes[..]) else { panic!("{ack}") };
                let [Mp::Array(members), next] = &answer[..] else { panic!("{ack}") };
                assert_eq!(members.len(), *page, "{top} {size:?}");
                seen.extend(members.clone());
                token = next.clone();
                if let Mp::Int(n) = &mut left {
                    *n -= members.len() as i128;
                }
            }
            assert_eq!(token, Mp::Nil, "{top} {size:?}");
            let all = users.iter().map(|(id, user)| Mp::Array(vec![Mp::str(id), user.clone()]));
            assert_eq!(seen, all.take(seen.len()).collect::<Vec<_>>());
        }
    })
    .await;
}

fn ask_client(invocation: &str, id: &str, caller: &str) -> Mp {
    message(34, [Mp::str(invocation), Mp::str(id), Mp::str(caller), json_payload("ask"), nothing()])
}

fn completion(invocation: &str, id: &str, server: &str, payload: &[u8]) -> Mp {
    let ext = Mp::Map(vec![(Mp::Int(3), Mp::str("json"))]);
    let payload = Mp::Bin(payload.to_vec());
    message(35, [Mp::str(invocation), Mp::str(id), Mp::str(server), Mp::str("json"), payload, ext])
}

#[tokio::test]
async fn a_client_is_asked_by_its_own_server_and_by_another() {
    guard(async {
        let addr = started().await;
        let mut carrier = server(addr, "b").await;
        let (mut client, id) = welcomed(addr, &mut carrier, json!({})).await;
        // its own server hears nothing of it, and cleans up
        carrier.say(ask_client("one", &id, "b")).await;
        client.expect("ask").await;
        client.say("answer").await;
        assert_eq!(carrier.hear_data(&id).await, "answer\u{1e}");
        carrier.say(completion("one", &id, "b", b"")).await;
        was_silent(&mut carrier).await;

        let mut caller = server(addr, "a").await;
        let mut stranger = server(addr, "c").await;
        for by_error in [false, true] {
            caller.say(ask_client("two", &id, "a")).await;
            let registered = carrier.hear_code(34).await;
            assert_eq!(registered.to_string(), format!(r#"[34, "two", "{id}", "a", {{}}, {{}}]"#));
            let mapping = caller.hear_code(37).await;
            assert_eq!([text(&mapping, 1), text(&mapping, 2)], ["two", &*id]);
            assert!(!text(&mapping, 3).is_empty());
            client.expect("ask").await;
            // nobody else can answer, and nobody answers twice
            stranger.say(completion("two", &id, "c", b"forged")).await;
            was_silent(&mut stranger).await;
            let answer = completion("two", &id, "b", b"done");
            if by_error {
                let failed =
                    message(36, [Mp::str("two"), Mp::str("another id"), Mp::str("b"), Mp::str("no"), nothing()]);
                carrier.say(failed).await;
                assert_eq!(caller.hear_code(36).await.to_string(), format!(r#"[36, "two", "{id}", "b", "no", {{}}]"#));
            } else {
                carrier.say(answer.clone()).await;
                assert_eq!(caller.hear_code(35).await, answer);
            }
            carrier.say(answer).await;
            was_silent(&mut carrier).await;
            was_silent(&mut caller).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_question_that_nobody_will_answer_ends_with_an_error() {
    guard(async {
        let mut options = ServiceOptions::default();
        options.max_client_results = 2;
        let addr = start(options.clone()).await;
        let mut carrier = server(addr, "b").await;
        let (mut client, id) = welcomed(addr, &mut carrier, json!({})).await;
        let mut caller = server(addr, "a").await;
        let error = |invocation: &str, id: &str, error: &str| {
            message(36, [Mp::str(invocation), Mp::str(id), Mp::str("a"), Mp::str(error), nothing()])
        };
        for nobody in ["nobody", "AAAAAAAAAAAAAAAAAAAAAA"] {
            caller.say(ask_client("i", nobody, "a")).await;
            let text = format!("Connection '{nobody}' does not exist.");
            assert_eq!(caller.hear().await, error("i", nobody, &text));
        }
        let unreadable = message(
            34,
            [Mp::str("i"), Mp::str(&id), Mp::str("a"), payloads([("messagepack", b"\x01\xc0")]), nothing()],
        );
        caller.say(unreadable).await;
        let text = "The invocation is not encoded for protocol 'json'.";
        assert_eq!(caller.hear().await, error("i", &id, text));

        for invocation in ["one", "two"] {
            caller.say(ask_client(invocation, &id, "a")).await;
            caller.hear_code(37).await;
            carrier.hear_code(34).await;
            client.expect("ask").await;
        }
        caller.say(ask_client("two", &id, "a")).await;
        assert_eq!(caller.hear().await, error("two", &id, "Another invocation has this id."));
        caller.say(ask_client("three", &id, "a")).await;
        let text = "Too many invocations of clients wait for their results.";
        assert_eq!(caller.hear().await, error("three", &id, text));
        // the client leaves
        client.0.frame(&Frame::close(1000, "")).await.unwrap();
        let gone = format!("Connection '{id}' is disconnected.");
        let mut heard = [caller.hear().await.to_string(), caller.hear().await.to_string()];
        heard.sort();
        assert_eq!(heard, ["one", "two"].map(|invocation| error(invocation, &id, &gone).to_string()));
        carrier.hear_code(5).await;
        // its server is lost
        let (mut client, id) = welcomed(addr, &mut carrier, only("b")).await;
        caller.say(ask_client("one", &id, "a")).await;
        caller.hear_code(37).await;
        client.expect("ask").await;
        carrier.break_off().await;
        assert_eq!(caller.hear().await, error("one", &id, &format!("Connection '{id}' is disconnected.")));
        client.expect_end(COME_BACK).await;
        was_silent(&mut caller).await;

        options.client_result_timeout = Duration::from_millis(100);
        options.ping_interval = Duration::from_millis(50);
        let addr = start(options).await;
        let mut carrier = server(addr, "b").await;
        let (_client, id) = welcomed(addr, &mut carrier, json!({})).await;
        let mut caller = server(addr, "a").await;
        caller.say(ask_client("one", &id, "a")).await;
        caller.hear_code(37).await;
        assert_eq!(caller.hear().await, error("one", &id, "The client did not answer in time."));
    })
    .await;
}

#[tokio::test]
async fn an_answer_finds_another_connection_of_the_server_that_asked() {
    guard(async {
        let addr = started().await;
        let mut carrier = server(addr, "b").await;
        let (mut client, id) = welcomed(addr, &mut carrier, json!({})).await;
        let mut caller = server(addr, "a").await;
        caller.say(ask_client("one", &id, "a")).await;
        caller.hear_code(37).await;
        carrier.hear_code(34).await;
        client.expect("ask").await;
        let mut second = server(addr, "a").await;
        caller.break_off().await;
        let answer = completion("one", &id, "b", b"done");
        // until the service has seen that the first is gone
        crate::eventually!({
            second.say(ping(["servers", ""])).await;
            second.say(ping(["status", "1"])).await;
            second.hear_code(3).await;
            text(&second.hear_code(3).await, 6) == "2"
        });
        carrier.say(answer.clone()).await;
        assert_eq!(second.hear().await, answer);
        // with its last connection a server's questions go, too
        second.say(ask_client("two", &id, "a")).await;
        second.hear_code(37).await;
        carrier.hear_code(34).await;
        second.break_off().await;
        carrier.say(completion("two", &id, "b", b"for nobody")).await;
        was_silent(&mut carrier).await;
    })
    .await;
}

#[tokio::test]
async fn a_failure_finds_another_connection_of_the_server_that_asked() {
    guard(async {
        let addr = started().await;
        let mut carrier = server(addr, "b").await;
        let (mut client, id) = welcomed(addr, &mut carrier, json!({})).await;
        let mut caller = server(addr, "a").await;
        caller.say(ask_client("one", &id, "a")).await;
        caller.hear_code(37).await;
        carrier.hear_code(34).await;
        client.expect("ask").await;
        let mut second = server(addr, "a").await;
        caller.break_off().await;
        crate::eventually!({
            second.say(ping(["status", "1"])).await;
            text(&second.hear_code(3).await, 6) == "2"
        });
        drop(client);
        let told = second.hear_code(36).await;
        let error = format!("Connection '{id}' is disconnected.");
        assert_eq!([text(&told, 1), text(&told, 2), text(&told, 4)], ["one", &*id, &*error]);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_asked_since_it_does_not_read_keeps_its_connection() {
    guard(async {
        let mut options = ServiceOptions::default();
        options.outbound_limit = 64 * 1024;
        let addr = start(options).await;
        let mut deaf = server(addr, "b").await;
        let (mut client, id) = welcomed(addr, &mut deaf, json!({})).await;
        let mut caller = server(addr, "a").await;
        // until what is on its way to the server that does not read fills all that there is for it
        let (caller_id, mut asked, mut refused) = ("x".repeat(30_000), 0, None);
        while refused.is_none() {
            let invocation = format!("question {asked}");
            asked += 1;
            caller.say(ask_client(&invocation, &id, &caller_id)).await;
            let answer = caller.hear().await;
            match code(&answer) {
                37 => client.expect("ask").await,
                _ => refused = Some((invocation, answer)),
            }
        }
        let (invocation, answer) = refused.expect("one was refused");
        let text = format!("The server of connection '{id}' does not read.");
        let error = message(36, [Mp::str(&invocation), Mp::str(&id), Mp::str(&caller_id), Mp::str(&text), nothing()]);
        assert_eq!(answer, error);
        // it reads on: nothing of what it was asked is lost, and it goes on
        for n in 0..asked - 1 {
            let heard = deaf.hear_code(34).await;
            assert_eq!(crate::support::service_peer::text(&heard, 1), format!("question {n}"));
        }
        client.is_served(&mut deaf, &id).await;
    })
    .await;
}

#[tokio::test]
async fn a_server_is_read_while_it_does_not_take_what_its_clients_say() {
    guard(async {
        let mut options = ServiceOptions::default();
        options.outbound_limit = 64 * 1024;
        let addr = start(options).await;
        let mut writer = server(addr, "a").await;
        let (mut client, _) = welcomed(addr, &mut writer, json!({})).await;
        let mut other = server(addr, "b").await;
        let (mut hears, _) = welcomed(addr, &mut other, only("b")).await;
        let upload = Frame::text(format!("{}\u{1e}", "y".repeat(20_000))).encode().repeat(2000);
        let taken = client.0.push_without_reading(&upload, Duration::from_millis(300)).await;
        assert!(taken < upload.len(), "all of it was taken in");
        // it writes all of this before it reads again, as one does that writes where it reads
        let large = "z".repeat(1000);
        for _ in 0..2000 {
            writer.say(message(10, [list([]), json_payload(&large)])).await;
            hears.expect(&large).await;
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_joins_a_group_whose_name_is_blank_or_too_long() {
    guard(async {
        let addr = started().await;
        let mut own = server(addr, "a").await;
        let (_client, id) = welcomed(addr, &mut own, json!({"asrs.s.uid": "ann"})).await;
        let (longest, too_long) = ("é".repeat(1024), "é".repeat(1025));
        for (name, status) in [("", 4), (" \u{3000}\t", 4), (&*too_long, 4), (&*longest, 1), (" a", 1)] {
            assert_eq!(own.ask(1, join(&id, name, 1)).await, status, "{name:?}");
            assert_eq!(own.ask(2, add_user("ann", name, None, 2)).await, status, "{name:?}");
            // the older forms have no answer
            own.say(message(11, [Mp::str(&id), Mp::str(name)])).await;
            own.say(message(16, [Mp::str("ann"), Mp::str(name)])).await;
            let exists_then = if status == 1 { 1 } else { 2 };
            assert_eq!(own.ask(3, exists(23, name, 3)).await, exists_then, "{name:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_has_not_shaken_hands_ends_at_once_in_a_drain() {
    guard(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut options = ServiceOptions::default();
        options.handshake_timeout = Duration::from_secs(600);
        let service = service(&[KEY], options);
        let routes = service.routes();
        tokio::spawn(async move { hubwire::serve(listener, routes).await });
        let mut silent = ServicePeer::silent(addr, "chat", "a").await;
        let draining = tokio::spawn(async move { service.drain(Duration::from_secs(10)).await });
        assert_eq!(text(&silent.hear_code(2).await, 1), "The service is shutting down.");
        assert_eq!(silent.hear_or_end().await, None);
        drop(silent);
        assert!(draining.await.unwrap(), "all have ended");
    })
    .await;
}

#[tokio::test]
async fn what_is_odd_but_whole_is_passed_over() {
    guard(async {
        let addr = started().await;
        let mut server = server(addr, "a").await;
        let (mut client, id) = welcomed(addr, &mut server, json!({})).await;
        let said = [
            // types that nobody knows, and those that only the service says
            message(99, [Mp::str("x")]),
            Mp::Array(vec![Mp::Int(-5)]),
            handshake(&Introduction::of("a")),
            message(2, [Mp::str("")]),
            message(15, [Mp::str("error")]),
            message(20, [Mp::Int(1), Mp::Int(1), Mp::str("")]),
            message(37, [Mp::str("i"), Mp::str(&id), Mp::str("x"), nothing()]),
            message(38, [Mp::str(&id), nothing()]),
            message(39, [Mp::str(&id), Mp::Int(1), Mp::Int(2), nothing()]),
            message(43, [Mp::str(&id), nothing(), nothing()]),
            // for somebody who has gone, or never was
            message(6, [Mp::str("AAAAAAAAAAAAAAAAAAAAAA"), Mp::Bin(b"late".to_vec()), nothing()]),
            message(6, [Mp::Nil, Mp::Nil]),
            message(5, [Mp::str("nobody"), Mp::Nil]),
            completion("nobody asked", &id, "a", b"x"),
            // members that nobody knows, a filter, and elements behind the known ones
            message(
                10,
                [
                    list([&id]),
                    json_payload("no"),
                    Mp::Map(vec![(Mp::Int(77), list(["x"])), (Mp::Int(4), Mp::str("f"))]),
                    list([]),
                ],
            ),
        ];
        for message in &said {
            server.say(message.clone()).await;
        }
        was_silent(&mut server).await;
        // all of it in one frame, and with bytes behind the arrays
        let all: Vec<u8> = said.iter().flat_map(|message| framed(&[&message.encode()[..], b"more"].concat())).collect();
        server.say_bytes(&all).await;
        was_silent(&mut server).await;
        // a byte a frame
        for byte in framed(&exists(24, &id, 5).encode()) {
            server.say_bytes(&[byte]).await;
        }
        assert_eq!(part(&server.hear_code(20).await, 2), Some(&Mp::Int(1)));
        client.is_served(&mut server, &id).await;
        let refused = [Mp::Nil, Mp::Nil, Mp::str("NotSupported")];
        server.say(message(28, [Mp::str("token"), Mp::Nil, nothing()])).await;
        let answer = server.hear_code(29).await;
        assert_eq!([part(&answer, 1), part(&answer, 2), part(&answer, 3)], refused.each_ref().map(Some));
        // a token that nobody has; the public id is none
        let time = Mp::Ext(-1, vec![0x7f, 0xff, 0xff, 0xff]);
        assert_eq!(server.ask(6, message(41, [Mp::str(&id), nothing(), time, Mp::Int(6), nothing()])).await, 2);
        assert_eq!(server.ask(7, message(42, [Mp::str(&id), Mp::Int(7), nothing()])).await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_broken_message_ends_that_server_connection_alone() {
    guard(async {
        let mut options = ServiceOptions::default();
        options.max_message_size = 1 << 20;
        let addr = start(options).await;
        let mut other = server(addr, "other").await;
        let (mut safe, safe_id) = welcomed(addr, &mut other, json!({})).await;
        for (bytes, reason) in [
            (framed(&[0x93, 6, 0xa0, 7]), "a message of type 6 is broken"),
            (framed(&[0x92, 20, 1]), "a message of type 20 is broken"),
            (framed(&[0x90]), "a message has no type"),
            (framed(b"{\"type\":6}"), "a message has no type"),
            (framed(&[0xc1]), "a message has no type"),
            (varint(1 << 20), "a message is larger than 1048576 bytes"),
            (vec![0xff; 5], "a message is larger than 1048576 bytes"),
        ] {
            let mut server = server(addr, "a").await;
            let (mut client, _) = welcomed(addr, &mut server, only("a")).await;
            server.say_bytes(&bytes).await;
            let told = server.hear_code(15).await;
            assert_eq!(text(&told, 1), format!("The service closes the connection: {reason}."));
            assert_eq!(server.hear_or_end().await, None);
            client.expect_end(COME_BACK).await;
        }
        // what breaks the rules of WebSockets
        for (frame, code) in [(Frame::text("x"), 1002), (Frame { masked: false, ..Frame::binary(b"x") }, 1002)] {
            let mut server = server(addr, "a").await;
            server.raw().frame(&frame).await.unwrap();
            let (frames, _) = server.raw().until_end().await;
            let close = frames.iter().find(|frame| frame.opcode == CLOSE).expect("a close frame");
            assert_eq!(close.code(), code);
        }
        safe.is_served(&mut other, &safe_id).await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_does_not_read_its_answers_is_not_read() {
    guard(async {
        let mut options = ServiceOptions::default();
        options.outbound_limit = 64 * 1024;
        let addr = start(options).await;
        let mut deaf = server(addr, "a").await;
        let mut other = server(addr, "b").await;
        let request = framed(&exists(25, &"x".repeat(1000), 1).encode());
        let answers = 200_000;
        let frame = Frame::binary(request.repeat(100)).encode();
        let many = frame.repeat(answers / 100);
        let taken = deaf.raw().push_without_reading(&many, Duration::from_millis(500)).await;
        assert!(taken < many.len(), "all of it was taken in");
        // nobody else notices
        was_silent(&mut other).await;
        // it reads on, gets an answer to each, and is told what happened
        let (rest, mut acks, mut told) = (many[taken..].to_vec(), 0, 0);
        deaf.raw().send(rest).await.unwrap();
        while acks < answers {
            let heard = deaf.hear().await;
            match code(&heard) {
                20 => acks += 1,
                22 => {
                    assert_eq!([part(&heard, 1), part(&heard, 3)], [Some(&Mp::Int(4)), Some(&Mp::Int(3))]);
                    assert_eq!(text(&heard, 2), "test");
                    told += 1;
                }
                _ => panic!("{heard}"),
            }
        }
        assert!(told > 0);
        was_silent(&mut deaf).await;
    })
    .await;
}

#[tokio::test]
async fn servers_that_are_not_let_in_are_told_a_status() {
    guard(async {
        let mut options = ServiceOptions::default();
        options.endpoints = vec!["http://localhost".into()];
        options.max_server_connections = 3;
        options.max_hubs = 2;
        let addr = start(options).await;
        let hour = now() + 3600;
        let token = |key: &str, exp: u64, aud: &str| sign(key, &json!({"nameid": "a", "exp": exp, "aud": aud}));
        let of_chat = "http://localhost/server/?hub=chat";
        let good = token(KEY, hour, of_chat);
        let secret = KEY.replace('0', "1");
        let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
        let in_query = format!("/server/?hub=chat&access_token={good}");
        let long_id = format!("{}X-ASRS-Server-Id: {}\r\n", bearer(&good), "x".repeat(300));
        for (path, headers, status) in [
            ("/server/?hub=chat", bearer(&good), 101),
            ("/server?hub=chat", format!("authorization: bearer  {good}\r\n"), 101),
            ("/server/?hub=CHAT&hub=other&cid=", bearer(&good), 101),
            ("/server/", bearer(&good), 400),
            ("/server/?hub=", bearer(&good), 400),
            ("/server/?hub=1chat", bearer(&good), 400),
            ("/server/?hub=a%2Fb", bearer(&good), 400),
            ("/server/?hub=a%00", bearer(&good), 400),
            ("/server/?hub=%F0%9F%92%A5", bearer(&good), 400),
            (&format!("/server/?hub={}", "x".repeat(129)), bearer(&good), 400),
            ("/server/?hub=chat", String::new(), 401),
            (&in_query, String::new(), 401),
            ("/server/?hub=chat", format!("Authorization: Basic {good}\r\n"), 401),
            ("/server/?hub=chat", bearer("nonsense"), 401),
            ("/server/?hub=chat", bearer(&token(&secret, hour, of_chat)), 401),
            ("/server/?hub=chat", bearer(&token(KEY, now() - 301, of_chat)), 401),
            ("/server/?hub=chat", bearer(&sign(KEY, &json!({"aud": of_chat}))), 401),
            ("/server/?hub=other", bearer(&good), 401),
            ("/server/?hub=chat", bearer(&token(KEY, hour, "http://localhost/client/?hub=chat")), 401),
            ("/server/?hub=chat", bearer(&token(KEY, hour, "https://localhost/server/?hub=chat")), 401),
            ("/server/?hub=chat", bearer(&token(KEY, hour, "http://elsewhere/server/?hub=chat")), 401),
            ("/server/?hub=chat", long_id, 400),
            ("/server/x?hub=chat", bearer(&good), 404),
        ] {
            let mut peer = tcp(addr).await;
            peer.send(upgrade(path, &headers)).await.unwrap();
            let answer = peer.response_head().await.expect("an answer");
            assert_eq!(answer.status, status, "{path} {headers}");
            if status == 401 {
                assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
            }
            peer.reset_on_drop();
        }
        assert_eq!(request(addr, "GET", "/server/?hub=chat", &bearer(&good)).await.0, 400);
        assert_eq!(request(addr, "POST", "/server/?hub=chat", &bearer(&good)).await.0, 400);

        // as many as there may be
        let mut held = Vec::new();
        crate::eventually!({
            let (hub, id) = [("chat", "a"), ("chat`1", "b"), ("chat", "c")][held.len()];
            let mut peer = tcp(addr).await;
            let headers = bearer(&token(KEY, hour, &format!("http://localhost/server/?hub={hub}")));
            peer.send(upgrade(&format!("/server/?hub={}&cid={id}", hub.replace('`', "%60")), &headers)).await.unwrap();
            // those of before may not have left their places yet
            if peer.response_head().await.expect("an answer").status == 101 {
                held.push(peer);
            }
            held.len() == 3
        });
        let status = async |hub: &str| {
            let mut peer = tcp(addr).await;
            let headers = bearer(&server_token(hub, "a"));
            peer.send(upgrade(&format!("/server/?hub={hub}"), &headers)).await.unwrap();
            peer.response_head().await.expect("an answer").status
        };
        assert_eq!(status("chat").await, 503);
        held.pop();
        crate::eventually!(status("chat").await == 101);
        assert_eq!(status("third").await, 503);
    })
    .await;
}

#[tokio::test]
async fn the_id_of_a_server_is_its_header_or_its_token() {
    guard(async {
        let addr = started().await;
        let mut first = server(addr, "z").await;
        for headers in [
            format!("Authorization: Bearer {}\r\n", server_token("chat", "of the token")),
            format!("Authorization: Bearer {}\r\nX-ASRS-Server-Id: of the header\r\n", server_token("chat", "other")),
        ] {
            let mut peer = open(addr, "/server/?hub=chat", &headers).await;
            peer.frame(&Frame::binary(framed(&handshake(&Introduction::of("")).encode()))).await.unwrap();
            assert!(matches!(within("an answer", peer.recv()).await, Received::Frame(_)));
            tokio::spawn(async move { peer.until_end().await });
        }
        first.say(ping(["servers", ""])).await;
        let servers = first.hear_code(3).await;
        assert!(text(&servers, 2).ends_with(":of the header;of the token;z"), "{servers}");
    })
    .await;
}

#[tokio::test]
async fn a_drain_ends_clients_before_servers_and_lets_nobody_in() {
    guard(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let service = service(&[KEY], ServiceOptions::default());
        let routes = service.routes();
        tokio::spawn(async move { hubwire::serve(listener, routes).await });
        let mut own = server(addr, "a").await;
        let (mut client, id) = welcomed(addr, &mut own, json!({})).await;
        let draining = tokio::spawn(async move { service.drain(Duration::from_secs(10)).await });
        client.expect_end(COME_BACK).await;
        assert_eq!(text(&own.hear_code(5).await, 1), id);
        assert_eq!(own.hear_or_end().await, None);
        drop((client, own));
        assert!(draining.await.unwrap(), "all have ended");
        let mut peer = tcp(addr).await;
        let headers = format!("Authorization: Bearer {}\r\n", server_token("chat", "a"));
        peer.send(upgrade("/server/?hub=chat", &headers)).await.unwrap();
        assert_eq!(peer.response_head().await.unwrap().status, 503);
    })
    .await;
}

#[tokio::test]
async fn servers_are_asked_for_connections_and_told_of_instances_that_are_gone() {
    guard(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let service = service(&[KEY], ServiceOptions::default());
        let routes = service.routes();
        tokio::spawn(async move { hubwire::serve(listener, routes).await });
        let mut first = server(addr, "a").await;
        let mut second = server(addr, "a").await;
        let mut other = ServicePeer::connect(addr, "other", &Introduction::of("a")).await;
        service.ask_for_connections("chat", "here");
        service.ask_for_connections("nowhere", "here");
        assert_eq!(first.hear().await.to_string(), r#"[3, "target", "here"]"#);
        was_silent(&mut second).await;
        was_silent(&mut other).await;
        service.instance_gone("there");
        for server in [&mut first, &mut second, &mut other] {
            assert_eq!(server.hear().await.to_string(), r#"[3, "offline", "there"]"#);
        }
        // such a connection carries clients as any other
        let on_demand = Introduction { connection_type: 1, ..Introduction::of("b") };
        let mut more = ServicePeer::connect(addr, "chat", &on_demand).await;
        welcomed(addr, &mut more, only("b")).await;
    })
    .await;
}

#[tokio::test]
async fn large_messages_pass_in_pieces_of_any_size() {
    guard(async {
        let addr = started().await;
        let mut server = server(addr, "a").await;
        let (mut client, id) = welcomed(addr, &mut server, json!({})).await;
        let large = format!("{}\u{1e}", "x".repeat(300_000));
        let data = framed(&message(6, [Mp::str(&id), Mp::Bin(large.clone().into_bytes()), nothing()]).encode());
        for size in [4096, 65_536, data.len()] {
            for piece in data.chunks(size) {
                server.say_bytes(piece).await;
            }
            assert_eq!(client.hear().await, large.trim_end_matches('\u{1e}'));
        }
        client.say(&"y".repeat(300_000)).await;
        let heard = server.hear_code(6).await;
        assert_eq!(payload(&heard).len(), 300_001);
    })
    .await;
}
