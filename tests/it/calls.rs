//! Which call runs when.

use crate::client::{Client, Gate, call, cancel, done, error, item, result, serve, stream, upload};
use axum::extract::State;
use futures_util::{TryStreamExt, stream as streams};
use hubwire::{
    Caller, Cancellation, Clients, Hub, HubBuilder, HubError, HubOptions, HubResult, Invocation, Items, Next,
    UploadStream,
};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

async fn wait(State(gate): State<Arc<Gate>>, n: u32) -> HubResult<u32> {
    gate.pass().await;
    Ok(n)
}

async fn sum(mut numbers: UploadStream<u32>) -> HubResult<u32> {
    let mut sum = 0;
    while let Some(n) = numbers.try_next().await? {
        sum += n;
    }
    Ok(sum)
}

async fn forever() -> HubResult<impl futures_util::Stream<Item = HubResult<u32>>> {
    Ok(streams::pending())
}

async fn until_cancelled(cancellation: Cancellation) -> HubResult {
    cancellation.cancelled().await;
    Err(HubError::client("cancelled"))
}

fn hub(gate: &Arc<Gate>) -> HubBuilder<Arc<Gate>> {
    Hub::with_state(gate.clone())
        .method("Wait", wait)
        .method("Now", |n: u32| async move { Ok(n) })
        .method("Sum", sum)
        .stream("Forever", forever)
        .method("UntilCancelled", until_cancelled)
        .method("Ask", |clients: Clients| async move { clients.caller().invoke::<u32, _>("answer", ()).await })
        .method("Cancelled", |caller: Caller| async move { Ok(caller.cancelled_calls()) })
}

#[tokio::test]
async fn calls_of_one_connection_run_in_order_one_at_a_time() {
    let gate = Arc::new(Gate::default());
    let hub = hub(&gate).build();
    let mut client = Client::connect(serve(&hub).await).await;
    client.say_all(&[call("1", "Wait", json!([1])), call("2", "Now", json!([2])), call("3", "Now", json!([3]))]).await;
    gate.reached().await;
    client.expect_nothing().await;
    gate.open();
    for n in 1..=3 {
        assert_eq!(client.next().await, result(&n.to_string(), json!(n)));
    }
    drop(client);
    assert!(hub.drain(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn an_option_lets_more_of_them_run() {
    let gate = Arc::new(Gate::default());
    let hub = hub(&gate).options(HubOptions::default().with_max_parallel_invocations(2)).build();
    let mut client = Client::connect(serve(&hub).await).await;
    let calls = [call("1", "Wait", json!([1])), call("2", "Wait", json!([2])), call("3", "Now", json!([3]))];
    client.say_all(&calls).await;
    gate.reached().await;
    client.expect_nothing().await;
    gate.open();
    assert_eq!(client.next().await["type"], 3);
    assert_eq!(client.completion("3").await, result("3", json!(3)));
}

#[tokio::test]
async fn calls_of_others_do_not_wait() {
    let gate = Arc::new(Gate::default());
    let hub = hub(&gate).build();
    let addr = serve(&hub).await;
    let (mut slow, mut quick) = (Client::connect(addr).await, Client::connect(addr).await);
    slow.say(call("1", "Wait", json!([1]))).await;
    gate.reached().await;
    assert_eq!(quick.call("now", json!([7])).await, result("call", json!(7)));
}

#[tokio::test]
async fn a_cancelled_call_sees_it_and_is_answered() {
    let hub = hub(&Arc::default()).build();
    let mut client = Client::connect(serve(&hub).await).await;
    client.say_all(&[call("1", "UntilCancelled", json!([])), cancel("1"), cancel("1")]).await;
    let text = "An unexpected error occurred invoking 'UntilCancelled' on the server. HubException: cancelled";
    assert_eq!(client.next().await, error("1", text));
    assert_eq!(client.call("Cancelled", json!([])).await["result"], 1);
}

#[tokio::test]
async fn a_waiting_call_that_is_cancelled_never_runs() {
    let gate = Arc::new(Gate::default());
    let hub = hub(&gate).build();
    let mut client = Client::connect(serve(&hub).await).await;
    client
        .say_all(&[call("1", "Wait", json!([1])), call("2", "Now", json!([2])), stream("3", "Forever", json!([]))])
        .await;
    gate.reached().await;
    client.say_all(&[cancel("2"), cancel("3")]).await;
    assert_eq!(client.next().await, error("2", "Invocation canceled by the client."));
    assert_eq!(client.next().await, done("3"));
    gate.open();
    assert_eq!(client.next().await, result("1", json!(1)));
    assert_eq!(client.call("Cancelled", json!([])).await["result"], 2);
}

#[tokio::test]
async fn streams_and_uploads_take_no_place_but_keep_their_order() {
    let gate = Arc::new(Gate::default());
    let hub = hub(&gate).build();
    let mut client = Client::connect(serve(&hub).await).await;
    // with nothing waiting they run beside the call
    client.say_all(&[call("1", "Wait", json!([1])), upload("2", "Sum", &["a"]), item("a", json!(3)), done("a")]).await;
    assert_eq!(client.next().await, result("2", json!(3)));
    // behind a call that waits they wait, and so does what they receive
    client.say_all(&[call("3", "Now", json!([3])), upload("4", "Sum", &["b"]), item("b", json!(1))]).await;
    client.say_all(&[call("5", "Now", json!([5])), item("b", json!(2)), item("c", json!(9)), done("b")]).await;
    client.expect_nothing().await;
    gate.open();
    assert_eq!(client.next().await, result("1", json!(1)));
    assert_eq!(client.next().await, result("3", json!(3)));
    let (a, b) = (client.next().await, client.next().await);
    assert!([&a, &b].contains(&&result("4", json!(3))) && [&a, &b].contains(&&result("5", json!(5))), "{a} {b}");
}

#[tokio::test]
async fn a_stream_is_cancelled_while_a_call_runs() {
    let gate = Arc::new(Gate::default());
    let hub = hub(&gate).build();
    let mut client = Client::connect(serve(&hub).await).await;
    client
        .say_all(&[stream("1", "Forever", json!([])), call("2", "Wait", json!([2])), call("3", "Now", json!([3]))])
        .await;
    gate.reached().await;
    client.say(cancel("1")).await;
    assert_eq!(client.next().await, done("1"));
    gate.open();
    assert_eq!(client.next().await, result("2", json!(2)));
    assert_eq!(client.next().await, result("3", json!(3)));
}

#[tokio::test]
async fn what_runs_at_a_time_is_limited() {
    let hub = hub(&Arc::default()).options(HubOptions::default().with_max_running_calls(2)).build();
    let mut client = Client::connect(serve(&hub).await).await;
    let streams = ["1", "2", "3"].map(|id| stream(id, "Forever", json!([])));
    client.say_all(&streams).await;
    let text = "An unexpected error occurred invoking 'Forever' on the server. HubException: The connection has 2 streams open, \
                which is the limit.";
    assert_eq!(client.next().await, error("3", text));
    // ordinary calls are counted apart, and wait instead
    client.say_all(&["4", "5", "6"].map(|id| call(id, "Ask", json!([])))).await;
    let (first, second) = (client.next().await, client.next().await);
    assert_eq!((&first["target"], &second["target"]), (&json!("answer"), &json!("answer")));
    client.expect_nothing().await;
    client.say(result(first["invocationId"].as_str().unwrap(), json!(1))).await;
    assert_eq!(client.next().await, result("4", json!(1)));
    assert_eq!(client.next().await["target"], "answer");
}

#[tokio::test]
async fn what_waits_is_limited_and_nothing_is_lost() {
    let gate = Arc::new(Gate::default());
    let mut options = HubOptions::default();
    options.connection.look_ahead = 1000;
    let hub = hub(&gate).options(options).build();
    let mut client = Client::connect(serve(&hub).await).await;
    client.say(call("0", "Wait", json!([0]))).await;
    gate.reached().await;
    let calls: Vec<_> = (1..=2000).map(|n| call(&n.to_string(), "Now", json!([n]))).collect();
    for some in calls.chunks(100) {
        client.say_all(some).await;
    }
    client.expect_nothing().await;
    gate.open();
    for n in 0..=2000 {
        assert_eq!(client.next().await, result(&n.to_string(), json!(n)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_forgotten_however_they_interleave() {
    async fn later(n: u32) -> HubResult<u32> {
        tokio::task::yield_now().await;
        Ok(n)
    }
    let hub = Hub::with_state(()).method("Later", later).method("Now", |n: u32| async move { Ok(n) }).build();
    let addr = serve(&hub).await;
    let run = async || {
        let mut client = Client::connect(addr).await;
        for round in 0..50 {
            let target = |n: u32| if n % 3 == round % 3 { "Now" } else { "Later" };
            let calls: Vec<_> = (0..40).map(|n| call(&n.to_string(), target(n), json!([n]))).collect();
            client.say_all(&calls).await;
            for n in 0..40 {
                assert_eq!(client.next().await, result(&n.to_string(), json!(n)));
            }
        }
    };
    tokio::join!(run(), run(), run(), run());
    assert!(hub.drain(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn items_last_as_long_as_their_connection() {
    async fn add(items: Items, n: u32) -> HubResult<Vec<u32>> {
        let list = items.get_or_default::<std::sync::Mutex<Vec<u32>>>();
        let mut list = list.lock().unwrap();
        list.push(n);
        Ok(list.clone())
    }
    let hub = Hub::with_state(()).method("Add", add).build();
    let addr = serve(&hub).await;
    let (mut a, mut b) = (Client::connect(addr).await, Client::connect(addr).await);
    assert_eq!(a.call("Add", json!([1])).await["result"], json!([1]));
    assert_eq!(a.call("Add", json!([2])).await["result"], json!([1, 2]));
    assert_eq!(b.call("Add", json!([3])).await["result"], json!([3]));
}

#[tokio::test]
async fn nothing_answers_a_call_without_an_id() {
    let hub = hub(&Arc::default()).build();
    let mut client = Client::connect(serve(&hub).await).await;
    client.say(json!({"type": 1, "target": "Now", "arguments": [1]})).await;
    client.say(json!({"type": 1, "target": "Now", "arguments": []})).await;
    client.say(json!({"type": 1, "target": "Nope", "arguments": []})).await;
    assert_eq!(client.call("Now", json!([2])).await["result"], 2);
}

#[tokio::test]
async fn a_client_that_takes_no_results_is_not_worked_for() {
    async fn large(State(gate): State<Arc<Gate>>, first: bool) -> HubResult<String> {
        if first {
            gate.pass().await;
        }
        Ok("x".repeat(256 * 1024))
    }
    let gate = Arc::new(Gate::default());
    let made = Arc::new(AtomicUsize::new(0));
    let counter = made.clone();
    let count = move |invocation: Invocation, next: Next| {
        counter.fetch_add(1, Ordering::SeqCst);
        next.run(invocation)
    };
    let hub = Hub::with_state(gate.clone()).method("Large", large).filter(count).build();
    let mut client = Client::connect(serve(&hub).await).await;
    let calls: Vec<_> = (0..200).map(|n| call(&n.to_string(), "Large", json!([n == 0]))).collect();
    client.say_all(&calls).await;
    gate.reached().await;
    gate.open();
    let mut before = usize::MAX;
    while before != made.load(Ordering::SeqCst) {
        before = made.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(before < 100, "{before} results of 256 KiB were made for a client that takes none");
    for n in 0..200 {
        assert_eq!(client.next().await["invocationId"], n.to_string());
    }
}
