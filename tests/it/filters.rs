//! Filters around calls.

use crate::client::{Client, done, item, result, serve, stream, upload};
use axum::extract::State;
use futures_util::{TryStreamExt, stream as streams};
use hubwire::{Filter, FromConnection, Hub, HubError, HubResult, Invocation, Next, Outcome, UploadStream};
use serde_json::json;
use std::sync::{Arc, Mutex};

type Log = Arc<Mutex<Vec<String>>>;

/// Writes down what goes by.
struct Watch(&'static str, Log);

impl Filter for Watch {
    async fn invoke(&self, invocation: Invocation, next: Next) -> HubResult<Outcome> {
        let Self(name, log) = self;
        let method = invocation.method().to_owned();
        log.lock().unwrap().push(format!("{name} {method}"));
        let outcome = next.run(invocation).await;
        let ended = match &outcome {
            Ok(outcome) if outcome.is_stream() => "streams",
            Ok(_) => "answers",
            Err(_) => "fails",
        };
        log.lock().unwrap().push(format!("{name} {method} {ended}"));
        outcome
    }
}

async fn guard(invocation: Invocation, next: Next) -> HubResult<Outcome> {
    if invocation.method() == "Add" {
        match invocation.argument::<i32>(0)? {
            0 => return Err(HubError::client("nothing is added to nothing")),
            1 => return invocation.answer("one and some more"),
            2 => tokio::task::yield_now().await,
            _ => {}
        }
    }
    next.run(invocation).await
}

async fn sum(mut numbers: UploadStream<i32>) -> HubResult<i32> {
    let mut sum = 0;
    while let Some(n) = numbers.try_next().await? {
        sum += n;
    }
    Ok(sum)
}

#[tokio::test]
async fn they_run_in_order_around_every_kind_of_call() {
    let log = Log::default();
    let hub = Hub::with_state(())
        .filter(Watch("outer", log.clone()))
        .method("Add", |a: i32, b: i32| async move { Ok(a + b) })
        .stream("Items", || async { Ok(streams::iter([Ok(1), Ok(2)])) })
        .method("Sum", sum)
        .filter(guard)
        .build();
    let mut client = Client::connect(serve(&hub).await).await;
    assert_eq!(client.call("add", json!([3, 4])).await["result"], 7);
    assert_eq!(client.call("add", json!([2, 4])).await["result"], 6);
    assert_eq!(client.call("add", json!([1, 4])).await["result"], "one and some more");
    let failed = "An unexpected error occurred invoking 'Add' on the server. HubException: nothing is added to nothing";
    assert_eq!(client.call("add", json!([0, 4])).await["error"], failed);
    assert_eq!(
        client.call("add", json!([3, "x"])).await["error"],
        "Failed to invoke 'Add' due to an error on the server."
    );
    client.say(stream("1", "Items", json!([]))).await;
    assert_eq!(client.next().await["item"], 1);
    assert_eq!(client.next().await["item"], 2);
    assert_eq!(client.next().await, done("1"));
    client.say_all(&[upload("2", "Sum", &["a"]), item("a", json!(5)), done("a")]).await;
    assert_eq!(client.next().await, result("2", json!(5)));
    // what is refused before it is a call passes no filter
    assert!(client.call("Nope", json!([])).await["error"].is_string());
    let seen = log.lock().unwrap().join(", ");
    let calls = ["outer Add", "outer Add answers"].repeat(3).join(", ");
    assert_eq!(
        seen,
        format!(
            "{calls}, outer Add, outer Add fails, outer Add, outer Add fails, outer Items, outer Items streams, outer Sum, outer Sum answers"
        )
    );
}

#[tokio::test]
async fn extractors_can_be_made_in_them() {
    let filter = |invocation: Invocation, next: Next| async move {
        let State(secret) = State::<u32>::from_connection(invocation.connection(), &7)?;
        if invocation.argument::<u32>(0)? == secret {
            next.run(invocation).await
        } else {
            Err(HubError::client("wrong"))
        }
    };
    let hub = Hub::with_state(()).method("Open", |_: u32| async { Ok("open") }).filter(filter).build();
    let mut client = Client::connect(serve(&hub).await).await;
    assert_eq!(client.call("Open", json!([7])).await["result"], "open");
    assert!(client.call("Open", json!([8])).await["error"].as_str().unwrap().ends_with("HubException: wrong"));
}
