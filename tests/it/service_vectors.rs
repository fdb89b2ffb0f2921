//! Every vector of the service protocol, said by an application server to a live service.

use crate::service_client::{Client, server, started, welcomed};
use crate::support::guard;
use crate::support::msgpack::Mp;
use crate::support::rng::Rng;
use crate::support::service_peer::{ServicePeer, code, message, nothing, part, text};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;

struct Vector {
    name: String,
    kind: i64,
    ack: Option<i64>,
    framed: Vec<u8>,
}

fn vectors() -> Vec<Vector> {
    let all: Value = serde_json::from_str(include_str!("../vectors/service-protocol.json")).unwrap();
    let later: Value = serde_json::from_str(include_str!("../vectors/auth-refresh.json")).unwrap();
    let vectors = all.as_array().unwrap().iter().chain(later["serviceProtocol"].as_array().unwrap());
    vectors
        .map(|vector| Vector {
            name: vector["name"].as_str().unwrap().to_owned(),
            kind: vector["message"]["type"].as_i64().unwrap(),
            ack: vector["message"]["ack_id"].as_i64(),
            framed: STANDARD.decode(vector["base64"].as_str().unwrap()).unwrap(),
        })
        .collect()
}

/// Tells that the connection goes on, and gives what was answered before.
async fn answers(server: &mut ServicePeer) -> Vec<Mp> {
    let known = message(25, [Mp::str("nobody"), Mp::Int(LAST), nothing()]);
    server.say(known).await;
    let mut heard = Vec::new();
    loop {
        let answer = server.hear().await;
        if code(&answer) == 20 && part(&answer, 1) == Some(&Mp::Int(LAST)) {
            return heard;
        }
        heard.push(answer);
    }
}

/// Somebody new is welcomed and served.
async fn is_well(addr: SocketAddr) {
    let mut other = server(addr, "other").await;
    let (mut client, id) =
        welcomed(addr, &mut other, json!({"asrs.s.sn": "other", "asrs.s.ssticky": "Required"})).await;
    client.is_served(&mut other, &id).await;
}

#[tokio::test]
async fn every_vector_is_survived_and_every_request_among_them_acknowledged() {
    guard(async {
        let addr = started().await;
        let (mut seen, mut acknowledged) = (0, BTreeSet::new());
        let mut long = server(addr, "a").await;
        for vector in vectors() {
            let mut fresh = server(addr, "b").await;
            for server in [&mut fresh, &mut long] {
                server.say_bytes(&vector.framed).await;
                let answers = answers(server).await;
                let acks: Vec<_> = answers.iter().filter(|answer| code(answer) == 20).collect();
                match vector.ack.filter(|_| vector.kind != 20) {
                    Some(id) => {
                        assert_eq!(acks.len(), 1, "{}: {answers:?}", vector.name);
                        assert_eq!(part(acks[0], 1), Some(&Mp::Int(id.into())), "{}", vector.name);
                        acknowledged.insert(vector.kind);
                    }
                    None => assert!(acks.is_empty(), "{}: {acks:?}", vector.name),
                }
            }
            seen += 1;
        }
        assert_eq!(seen, 196 + 17);
        let requests = [18, 19, 21, 23, 24, 25, 26, 27, 30, 31, 32, 33, 40, 41, 42];
        assert_eq!(acknowledged, requests.into());
        is_well(addr).await;
    })
    .await;
}

#[tokio::test]
async fn vectors_are_survived_in_any_order_and_in_one_go() {
    guard(async {
        let addr = started().await;
        let mut all = vectors();
        let mut rng = Rng::announced("vectors in any order");
        for _ in 0..4 {
            let mut server = server(addr, "a").await;
            let stream: Vec<u8> = all.iter().flat_map(|vector| vector.framed.clone()).collect();
            server.say_bytes(&stream).await;
            let heard = answers(&mut server).await;
            let requests: Vec<i64> = all.iter().filter(|one| one.kind != 20).filter_map(|one| one.ack).collect();
            let acks: Vec<_> = heard.iter().filter(|one| code(one) == 20).map(|one| part(one, 1).cloned()).collect();
            // in the order in which they were asked
            assert_eq!(acks, requests.iter().map(|id| Some(Mp::Int((*id).into()))).collect::<Vec<_>>());
            shuffle(&mut all, &mut rng);
        }
        is_well(addr).await;
    })
    .await;
}

#[tokio::test]
async fn only_a_handshake_is_taken_first_whatever_else_a_vector_says() {
    guard(async {
        let addr = started().await;
        for vector in vectors().into_iter().filter(|vector| vector.framed.len() < 4096) {
            let mut server = ServicePeer::silent(addr, "chat", "a").await;
            server.say_bytes(&vector.framed).await;
            let answer = server.hear_code(2).await;
            let accepted = part(&answer, 1) == Some(&Mp::str(""));
            assert!(!accepted || vector.kind == 1, "{}", vector.name);
            if accepted {
                answers(&mut server).await;
            } else {
                assert_eq!(server.hear_or_end().await, None, "{}", vector.name);
            }
        }
        is_well(addr).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_said_of_clients_in_odd_orders_is_survived() {
    guard(async {
        let addr = started().await;
        let mut server = server(addr, "a").await;
        // two ask; who came second is answered first, and who came first leaves before it is
        let mut opened = Vec::new();
        for _ in 0..2 {
            let client = Client::ask(addr, json!({})).await;
            let id = text(&server.hear_code(4).await, 1).to_owned();
            server.hear_code(6).await;
            opened.push((client, id));
        }
        let (mut second, second_id) = opened.pop().unwrap();
        let (first, first_id) = opened.pop().unwrap();
        server.data(&second_id, b"{}\x1e").await;
        second.expect("{}").await;
        drop(first);
        assert_eq!(text(&server.hear_code(5).await, 1), first_id);
        for _ in 0..2 {
            server.data(&first_id, b"{}\x1e").await;
            server.close_client(&first_id, "late").await;
        }
        second.is_served(&mut server, &second_id).await;
        // the end of one that was never answered, and what comes behind an end
        let mut third = Client::ask(addr, json!({})).await;
        let third_id = text(&server.hear_code(4).await, 1).to_owned();
        server.hear_code(6).await;
        server.close_client(&third_id, "").await;
        server.data(&third_id, b"{}\x1e").await;
        while third.hear_or_end().await.is_some() {}
        // a second answer to a handshake is a message as any other
        server.data(&second_id, b"{}\x1e").await;
        second.expect("{}").await;
        second.is_served(&mut server, &second_id).await;
        assert!(answers(&mut server).await.is_empty());
    })
    .await;
}

fn shuffle(vectors: &mut [Vector], rng: &mut Rng) {
    for last in (1..vectors.len()).rev() {
        vectors.swap(last, rng.below(last + 1));
    }
}

/// An ack id that no vector has.
const LAST: i128 = 987_654_321;
