//! Streams to the client.

use crate::client::{Client, cancel, done, error, serve, stream};
use futures_util::{Stream, StreamExt, stream as streams};
use hubwire::{Hub, HubError, HubResult};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

async fn count(n: u32) -> HubResult<impl Stream<Item = HubResult<u32>>> {
    Ok(streams::iter((0..n).map(Ok)))
}

/// Counts how often it was dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn items_come_in_order_and_then_the_end() {
    let hub = Hub::with_state(()).stream("Count", count).build();
    let mut client = Client::connect(serve(&hub).await).await;
    for n in [0, 1, 31, 32, 33, 5000] {
        client.say(stream("1", "Count", json!([n]))).await;
        for i in 0..n {
            assert_eq!(client.next().await["item"], i);
        }
        assert_eq!(client.next().await, done("1"));
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_streamed_to() {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = made.clone();
    let endless = move || {
        let counter = counter.clone();
        async move {
            Ok(streams::repeat_with(move || {
                counter.fetch_add(1, Ordering::SeqCst);
                Ok("x".repeat(1000))
            }))
        }
    };
    let hub = Hub::with_state(()).stream("Endless", endless).build();
    let mut client = Client::connect(serve(&hub).await).await;
    client.say(stream("1", "Endless", json!([]))).await;
    let mut before = usize::MAX;
    while before != made.load(Ordering::SeqCst) {
        before = made.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(before < 20_000, "{before} items of 1,000 bytes were made for a client that takes none");
    client.say(cancel("1")).await;
    while client.next().await != done("1") {}
}

#[tokio::test]
async fn a_cancelled_stream_is_dropped() {
    let drops = Arc::new(AtomicUsize::new(0));
    let counter = drops.clone();
    let slow = move |opens: bool| {
        let dropped = Dropped(counter.clone());
        async move {
            if !opens {
                std::future::pending::<()>().await;
            }
            Ok(streams::pending::<HubResult<()>>().chain(streams::iter(std::iter::from_fn(move || {
                let _ = &dropped;
                None
            }))))
        }
    };
    let hub = Hub::with_state(()).stream("Slow", slow).build();
    let addr = serve(&hub).await;
    let mut client = Client::connect(addr).await;
    for (n, opens) in [true, false].into_iter().enumerate() {
        client.say(stream("1", "Slow", json!([opens]))).await;
        client.expect_nothing().await;
        client.say(cancel("1")).await;
        assert_eq!(client.next().await, done("1"));
        assert_eq!(drops.load(Ordering::SeqCst), n + 1);
    }
    // a client that leaves cancels as well
    client.say(stream("1", "Slow", json!([true]))).await;
    client.expect_nothing().await;
    drop(client);
    assert!(hub.drain(Duration::from_secs(5)).await);
    assert_eq!(drops.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn an_id_that_streams_is_refused_and_the_first_stream_goes_on() {
    let ticks = || async {
        Ok(streams::unfold(0, |n| async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Some((Ok::<_, HubError>(n), n + 1))
        }))
    };
    let hub = Hub::with_state(()).stream("Ticks", ticks).build();
    let mut client = Client::connect(serve(&hub).await).await;
    client
        .say_all(&[stream("1", "Ticks", json!([])), stream("1", "Ticks", json!([])), stream("1", "Ticks", json!([]))])
        .await;
    let refused = error("1", "Invocation ID '1' is already in use.");
    let mut refusals = 0;
    for n in 0..5 {
        loop {
            let next = client.next().await;
            if next == refused {
                refusals += 1;
                continue;
            }
            assert_eq!(next["item"], n);
            break;
        }
    }
    assert_eq!(refusals, 2);
    client.say(cancel("1")).await;
    while client.next().await != done("1") {}
    client.expect_nothing().await;
}
