//! What callers are told, and that a failure is theirs alone.

use crate::client::{Client, call, error, serve, stream};
use futures_util::{Stream, StreamExt, stream as streams};
use hubwire::{Call, Connection, FromConnection, FromInvocation, Hub, HubError, HubOptions, HubResult};
use serde::{Serialize, Serializer};
use serde_json::json;
use std::pin::Pin;
use std::task::{Context, Poll};

fn failed(method: &str) -> String {
    format!("An unexpected error occurred invoking '{method}' on the server.")
}

async fn hidden() -> HubResult {
    Err(std::io::Error::other("secret"))?
}

#[tokio::test]
async fn only_words_for_the_client_reach_it() {
    let build = |detailed| {
        let hub = Hub::with_state(()).method("Hidden", hidden);
        let hub = hub.method("Open", || async { Err::<(), _>(HubError::client("boom")) });
        hub.options(HubOptions::default().with_detailed_errors(detailed)).build()
    };
    let mut client = Client::connect(serve(&build(false)).await).await;
    assert_eq!(client.call("hidden", json!([])).await["error"], failed("Hidden"));
    assert_eq!(client.call("open", json!([])).await["error"], failed("Open") + " HubException: boom");
    assert_eq!(
        client.call("nope", json!([])).await["error"],
        "Failed to invoke 'nope' due to an error on the server. HubException: Method does not exist."
    );
    let mut client = Client::connect(serve(&build(true)).await).await;
    assert_eq!(client.call("hidden", json!([])).await["error"], failed("Hidden") + " Error: secret");
}

/// One that cannot be written.
struct Bomb;

impl Serialize for Bomb {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("on purpose: serialized")
    }
}

/// A future that is ready, and then cannot be dropped.
struct Remains(bool);

impl Future for Remains {
    type Output = HubResult<u8>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<HubResult<u8>> {
        if std::mem::take(&mut self.0) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(7))
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        panic!("on purpose: dropped after its end");
    }
}

#[tokio::test]
async fn a_call_is_answered_once_however_its_future_ends() {
    let hub = Hub::with_state(()).method("Remains", |later: bool| Remains(later)).build();
    let mut client = Client::connect(serve(&hub).await).await;
    for later in [false, true] {
        client.say(call("1", "Remains", json!([later]))).await;
        assert_eq!(client.next().await["result"], 7);
        client.expect_nothing().await;
    }
}

/// One that cannot be dropped.
struct Trap;

impl Drop for Trap {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("on purpose: dropped");
        }
    }
}

impl<S> FromConnection<S> for Trap {
    fn from_connection(_: &Connection, _: &S) -> HubResult<Self> {
        panic!("on purpose: extracted")
    }
}

async fn explode(later: bool) -> HubResult {
    if later {
        tokio::task::yield_now().await;
    }
    panic!("on purpose: called")
}

#[tokio::test]
async fn a_panic_costs_its_caller_the_generic_error_and_nobody_anything_else() {
    #[allow(unreachable_code)]
    fn at_once() -> std::future::Ready<HubResult> {
        panic!("on purpose: before there is a future")
    }
    let hub = Hub::with_state(())
        .method("Explode", explode)
        .method("AtOnce", at_once)
        .method("Extract", |_: Trap| async { Ok(()) })
        .method("Serialize", |later: bool| async move {
            if later {
                tokio::task::yield_now().await;
            }
            Ok(Bomb)
        })
        .method("Drop", |later: bool| async move {
            let _trap = Trap;
            if later {
                tokio::task::yield_now().await;
            }
            Ok(())
        })
        .method("Echo", |n: u32| async move { Ok(n) })
        .build();
    let addr = serve(&hub).await;
    let mut neighbour = Client::connect(addr).await;
    let mut client = Client::connect(addr).await;
    let cases = [
        ("Explode", json!([false])),
        ("Explode", json!([true])),
        ("AtOnce", json!([])),
        ("Extract", json!([])),
        ("Serialize", json!([false])),
        ("Serialize", json!([true])),
        ("Drop", json!([false])),
        ("Drop", json!([true])),
    ];
    for (method, arguments) in cases {
        client.say_all(&[call("1", method, arguments), call("2", "Echo", json!([5]))]).await;
        assert_eq!(client.next().await, error("1", &failed(method)));
        assert_eq!(client.next().await["result"], 5);
        assert_eq!(neighbour.call("Echo", json!([6])).await["result"], 6);
    }
}

#[tokio::test]
async fn a_panic_in_a_stream_ends_the_stream() {
    fn items(first: usize, bomb: bool) -> impl Stream<Item = HubResult<Option<Bomb>>> {
        let last = streams::once(async move { if bomb { Ok(Some(Bomb)) } else { panic!("on purpose: in a stream") } });
        streams::iter((0..first).map(|_| Ok(None))).chain(last)
    }
    let hub =
        Hub::with_state(()).stream("Items", |first: usize, bomb: bool| async move { Ok(items(first, bomb)) }).build();
    let mut client = Client::connect(serve(&hub).await).await;
    for first in [0, 3, 100] {
        for bomb in [false, true] {
            client.say(stream("1", "Items", json!([first, bomb]))).await;
            for _ in 0..first {
                assert_eq!(client.next().await, json!({"type": 2, "invocationId": "1", "item": null}));
            }
            assert_eq!(client.next().await, error("1", "An error occurred on the server while streaming results."));
        }
    }
}

#[tokio::test]
async fn a_result_that_cannot_be_encoded_fails_its_call() {
    let hub = Hub::with_state(())
        .method("Number", |n: Option<f64>| async move { Ok(n.unwrap_or(f64::NAN)) })
        .stream("Numbers", || async { Ok(streams::iter([Ok(1.0), Ok(f64::INFINITY), Ok(2.0)])) })
        .build();
    let mut client = Client::connect(serve(&hub).await).await;
    assert_eq!(client.call("Number", json!([null])).await["error"], failed("Number"));
    assert_eq!(client.call("Number", json!([1.5])).await["result"], 1.5);
    client.say(stream("1", "Numbers", json!([]))).await;
    assert_eq!(client.next().await["item"], 1.0);
    assert_eq!(client.next().await["error"], "An error occurred on the server while streaming results.");
}

struct Even(u32);
enum Checked {}
impl<S> FromInvocation<S, Checked> for Even {
    const ARGUMENTS: usize = 1;
    fn from_invocation(call: &mut Call<'_>, _: &S) -> HubResult<Self> {
        let n = call.next_argument()?;
        if n % 2 == 0 { Ok(Self(n)) } else { Err(HubError::client("must be even")) }
    }
}

#[tokio::test]
async fn a_parameter_of_ones_own_can_refuse_a_call() {
    let hub = Hub::with_state(()).method("Half", |Even(n): Even, _: u8| async move { Ok(n / 2) }).build();
    let mut client = Client::connect(serve(&hub).await).await;
    assert_eq!(client.call("Half", json!([4, 0])).await["result"], 2);
    assert_eq!(client.call("Half", json!([3, 0])).await["error"], failed("Half") + " HubException: must be even");
    let not_invoked = "Failed to invoke 'Half' due to an error on the server.";
    assert_eq!(client.call("Half", json!(["x", 0])).await["error"], not_invoked);
    assert_eq!(client.call("Half", json!([4])).await["error"], not_invoked);
}
