//! Streams from the client.

use crate::client::{Client, Gate, done, error, item, result, serve, stream, upload};
use axum::extract::State;
use futures_util::{StreamExt, TryStreamExt};
use hubwire::{Cancellation, Hub, HubBuilder, HubOptions, HubResult, UploadStream};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

async fn sum(mut numbers: UploadStream<u32>) -> HubResult<u32> {
    let mut sum = 0;
    while let Some(n) = numbers.try_next().await? {
        sum += n;
    }
    Ok(sum)
}

async fn zip(a: UploadStream<u32>, b: UploadStream<String>) -> HubResult<Vec<(u32, String)>> {
    a.zip(b).map(|(a, b)| Ok((a?, b?))).try_collect().await
}

fn hub() -> HubBuilder<()> {
    Hub::with_state(())
        .method("Sum", sum)
        .method("Zip", zip)
        .stream("Double", |numbers: UploadStream<u32>| async { Ok(numbers.map_ok(|n| n * 2)) })
        .method("Ignore", |_: UploadStream<u32>| async { Ok(()) })
}

#[tokio::test]
async fn one_method_takes_several_and_answers_with_one() {
    let hub = hub().build();
    let mut client = Client::connect(serve(&hub).await).await;
    let messages = [upload("1", "Zip", &["x", "y"]), item("y", json!("a")), item("x", json!(1)), done("x"), done("y")];
    client.say_all(&messages).await;
    assert_eq!(client.next().await, result("1", json!([[1, "a"]])));
    let mut both_ways = stream("2", "Double", json!([]));
    both_ways["streamIds"] = json!(["z"]);
    client.say(both_ways).await;
    for n in 0..3 {
        client.say(item("z", json!(n))).await;
        assert_eq!(client.next().await["item"], n * 2);
    }
    client.say(done("z")).await;
    assert_eq!(client.next().await, done("2"));
}

#[tokio::test]
async fn ids_that_are_taken_are_refused_and_the_first_call_keeps_its_stream() {
    let hub = hub().build();
    let mut client = Client::connect(serve(&hub).await).await;
    client.say(upload("1", "Zip", &["a", "a"])).await;
    let refused = |method| {
        format!(
            "An unexpected error occurred invoking '{method}' on the server. HubException: Stream ID 'a' is already in use."
        )
    };
    assert_eq!(client.next().await, error("1", &refused("Zip")));
    client
        .say_all(&[
            upload("2", "Sum", &["a"]),
            item("a", json!(1)),
            upload("3", "Sum", &["a"]),
            item("a", json!(2)),
            done("a"),
        ])
        .await;
    assert_eq!(client.next().await, error("3", &refused("Sum")));
    assert_eq!(client.next().await, result("2", json!(3)));
    // it is free again
    client.say_all(&[upload("4", "Sum", &["a"]), item("a", json!(5)), done("a"), item("a", json!(6))]).await;
    assert_eq!(client.next().await, result("4", json!(5)));
}

#[tokio::test]
async fn an_item_that_does_not_fit_or_an_error_ends_the_stream() {
    let hub = hub().build();
    let mut client = Client::connect(serve(&hub).await).await;
    let failed = "An unexpected error occurred invoking 'Sum' on the server. HubException: ";
    client
        .say_all(&[upload("1", "Sum", &["a"]), item("a", json!(1)), item("a", json!("x")), item("a", json!(2))])
        .await;
    assert_eq!(client.next().await, error("1", &format!("{failed}Failed to bind Stream message.")));
    client.say_all(&[upload("2", "Sum", &["a"]), item("a", json!(1)), error("a", "no more")]).await;
    assert_eq!(client.next().await, error("2", &format!("{failed}no more")));
    client.say_all(&[upload("3", "Ignore", &["a"]), item("a", json!("x")), error("a", "no more")]).await;
    assert_eq!(client.next().await, result("3", json!(null)));
}

#[tokio::test]
async fn what_is_not_read_yet_is_limited_and_nothing_is_lost() {
    async fn late_sum(State(gate): State<Arc<Gate>>, numbers: UploadStream<u32>) -> HubResult<u32> {
        gate.pass().await;
        sum(numbers).await
    }
    let gate = Arc::new(Gate::default());
    let mut options = HubOptions::default();
    options.connection.look_ahead = 1000;
    let hub = Hub::with_state(gate.clone()).method("LateSum", late_sum).options(options).build();
    let mut client = Client::connect(serve(&hub).await).await;
    client.say(upload("1", "LateSum", &["a"])).await;
    gate.reached().await;
    for _ in 0..100 {
        client.say_all(&[const { 0 }; 100].map(|_| item("a", json!(1)))).await;
    }
    client.say(done("a")).await;
    client.expect_nothing().await;
    gate.open();
    assert_eq!(client.next().await, result("1", json!(10_000)));
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_uploads_and_cancels_its_calls() {
    async fn tell(
        State(tell): State<mpsc::UnboundedSender<String>>,
        cancellation: Cancellation,
        mut numbers: UploadStream<u32>,
    ) -> HubResult {
        tell.send("begun".into())?;
        let error = loop {
            match numbers.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("it was not completed"),
            }
        };
        cancellation.cancelled().await;
        tell.send(format!("{error:?} {:?}", error.client_text()))?;
        Ok(())
    }
    let (sender, mut told) = mpsc::unbounded_channel();
    let hub = Hub::with_state(sender).method("Tell", tell).build();
    let mut client = Client::connect(serve(&hub).await).await;
    client.say_all(&[upload("1", "Tell", &["a"]), item("a", json!(1))]).await;
    assert_eq!(told.recv().await.unwrap(), "begun");
    drop(client);
    assert_eq!(told.recv().await.unwrap(), "HubError(OperationCanceledException) None");
    assert!(hub.drain(Duration::from_secs(5)).await);
}
