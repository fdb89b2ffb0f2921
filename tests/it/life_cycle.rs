//! From the first handler to the last, and the context outside.

use crate::client::{Client, Gate, call, result, serve};
use axum::extract::{FromRef, State};
use hubwire::{Caller, Clients, CloseReason, Groups, Hub, HubBuilder, HubError, HubOptions, HubResult};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

#[derive(Clone, FromRef)]
struct App {
    gate: Arc<Gate>,
    left: mpsc::UnboundedSender<CloseReason>,
}

async fn left(State(left): State<mpsc::UnboundedSender<CloseReason>>, reason: CloseReason) -> HubResult {
    Ok(left.send(reason)?)
}

fn hub() -> (HubBuilder<App>, Arc<Gate>, mpsc::UnboundedReceiver<CloseReason>) {
    let (sender, reasons) = mpsc::unbounded_channel();
    let app = App { gate: Arc::default(), left: sender };
    let gate = app.gate.clone();
    let hub = Hub::with_state(app)
        .on_disconnected(left)
        .method("Now", |n: u32| async move { Ok(n) })
        .method("Id", |caller: Caller| async move { Ok(caller.id().to_owned()) })
        .method(
            "Join",
            |caller: Caller, groups: Groups, group: String| async move { groups.add(caller.id(), group).await },
        )
        .method("Abort", |caller: Caller| async move {
            caller.abort();
            Ok(())
        });
    (hub, gate, reasons)
}

async fn wait(State(gate): State<Arc<Gate>>) -> HubResult {
    gate.pass().await;
    Ok(())
}

#[tokio::test]
async fn calls_wait_for_on_connected_and_sends_do_not() {
    let (hub, gate, _) = hub();
    let hub = hub.on_connected(wait).build();
    let mut client = Client::connect(serve(&hub).await).await;
    client.say_all(&[call("1", "Now", json!([1])), call("2", "Now", json!([2]))]).await;
    gate.reached().await;
    hub.context().all().send("news", ("early",)).await.unwrap();
    assert_eq!(client.next().await["arguments"], json!(["early"]));
    client.expect_nothing().await;
    gate.open();
    assert_eq!(client.next().await, result("1", json!(1)));
    assert_eq!(client.next().await, result("2", json!(2)));
}

#[tokio::test]
async fn who_is_refused_by_on_connected_has_never_been_there() {
    for later in [false, true] {
        let (hub, _, mut reasons) = hub();
        let refuse = move |clients: Clients| async move {
            clients.caller().send("sorry", ()).await?;
            if later {
                tokio::task::yield_now().await;
            }
            Err(HubError::client("we are full"))
        };
        let hub = hub.on_connected(refuse).build();
        let mut client = Client::connect(serve(&hub).await).await;
        client.say(call("1", "Now", json!([1]))).await;
        assert_eq!(client.next().await["target"], "sorry");
        let close = json!({"type": 7, "error": "Connection closed with an error. HubException: we are full"});
        assert_eq!(client.next_or_end().await, Some(close));
        assert_eq!(client.next_or_end().await, None);
        assert!(hub.drain(Duration::from_secs(5)).await);
        assert!(reasons.try_recv().is_err());
    }
}

#[tokio::test]
async fn on_disconnected_waits_for_on_connected() {
    let (hub, gate, mut reasons) = hub();
    let hub = hub.on_connected(wait).build();
    let client = Client::connect(serve(&hub).await).await;
    gate.reached().await;
    drop(client);
    assert!(timeout(Duration::from_millis(50), reasons.recv()).await.is_err());
    gate.open();
    assert_eq!(reasons.recv().await, Some(CloseReason::TransportLost));
}

#[tokio::test]
async fn a_panic_in_a_handler_costs_one_connection() {
    let hub = Hub::with_state(())
        .on_connected(|caller: Caller| async move {
            if caller.query_value("x").is_none() {
                panic!("on purpose: connected")
            }
            Ok(())
        })
        .build();
    let mut client = Client::connect(serve(&hub).await).await;
    assert_eq!(client.next_or_end().await, Some(json!({"type": 7, "error": "Connection closed with an error."})));
    assert_eq!(client.next_or_end().await, None);
    assert!(hub.drain(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn client_results_are_refused_in_on_connected() {
    let ask = |clients: Clients| async move { clients.caller().invoke::<u32, _>("answer", ()).await.map(|_| ()) };
    let (sender, mut errors) = mpsc::unbounded_channel();
    let hub = Hub::with_state(())
        .on_connected(move |clients: Clients| {
            let sender = sender.clone();
            async move { Ok(sender.send(ask(clients).await)?) }
        })
        .build();
    let mut client = Client::connect(serve(&hub).await).await;
    let error = errors.recv().await.unwrap().unwrap_err();
    assert_eq!(format!("{error:?}"), "HubError(InvalidOperationException)");
    client.expect_nothing().await;
}

#[tokio::test]
async fn reasons_say_how_it_ended() {
    let (hub, _, mut reasons) = hub();
    let hub = hub.build();
    let addr = serve(&hub).await;
    let mut client = Client::connect(addr).await;
    client.say(json!({"type": 7, "error": "bye"})).await;
    assert_eq!(reasons.recv().await, Some(CloseReason::ClientClosed(Some("bye".into()))));
    client = Client::connect(addr).await;
    client.say(call("1", "Abort", json!([]))).await;
    assert_eq!(client.next().await, json!({"type": 7}), "and no completion");
    assert_eq!(reasons.recv().await, Some(CloseReason::Aborted));
    client = Client::connect(addr).await;
    client.say(json!({"type": "x"})).await;
    assert_eq!(client.next().await["type"], 7);
    assert_eq!(reasons.recv().await, Some(CloseReason::InvalidMessage("Expected 'type' to be of type Number.".into())));
    client = Client::connect(addr).await;
    let read = async { while client.next_or_end().await.is_some() {} };
    let (drained, ()) = tokio::join!(hub.drain(Duration::from_secs(5)), read);
    assert!(drained);
    assert_eq!(reasons.recv().await, Some(CloseReason::Shutdown));
}

#[tokio::test]
async fn the_context_sends_asks_and_closes() {
    let (hub, _, mut reasons) = hub();
    let hub = hub.options(HubOptions::default()).build();
    let addr = serve(&hub).await;
    let context = hub.context();
    let (mut a, mut b) = (Client::connect(addr).await, Client::connect(addr).await);
    let id = async |client: &mut Client| client.call("Id", json!([])).await["result"].as_str().unwrap().to_owned();
    let (a_id, b_id) = (id(&mut a).await, id(&mut b).await);
    a.call("Join", json!(["red"])).await;
    context.membership().add(&b_id, "red").await.unwrap();
    let mut members = context.membership().members("red").await.unwrap();
    members.sort();
    let mut both = vec![a_id.clone(), b_id.clone()];
    both.sort();
    assert_eq!(members, both);
    assert_eq!(context.membership().of_connection(&a_id).await.unwrap(), ["red"]);
    assert_eq!(context.connection_count(), 2);

    context.group_except("red", [&a_id]).send("news", (1,)).await.unwrap();
    context.clients([&a_id]).send("news", (2,)).await.unwrap();
    context.all_except([&a_id]).send("news", (3,)).await.unwrap();
    context.groups(["red", "blue"]).send("news", (4,)).await.unwrap();
    for (client, numbers) in [(&mut a, [2, 4].as_slice()), (&mut b, &[1, 3, 4])] {
        for n in numbers {
            assert_eq!(client.next().await["arguments"], json!([n]));
        }
    }

    assert!(context.is_connected(&a_id).await.unwrap());
    context.client(&a_id).close().await.unwrap();
    assert_eq!(a.next().await, json!({"type": 7}));
    assert_eq!(reasons.recv().await, Some(CloseReason::Aborted));
    assert!(!context.is_connected(&a_id).await.unwrap());
    assert_eq!(context.membership().members("red").await.unwrap(), [b_id]);
}
