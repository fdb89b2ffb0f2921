//! Streams in every direction: down to the client, up from it, and both at once.
//!
//! ```text
//! cargo run --example streaming
//! ```
//! With the JavaScript client:
//!
//! ```js
//! connection.stream('countdown', 5).subscribe({ next: console.log, complete() {}, error: console.error });
//!
//! const numbers = new signalR.Subject();
//! connection.invoke('average', numbers).then(console.log);
//! numbers.next(1); numbers.next(2); numbers.complete();
//!
//! const lines = new signalR.Subject();
//! connection.stream('shout', lines).subscribe({ next: console.log, complete() {}, error: console.error });
//! lines.next('hello');
//! ```

use axum::Router;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use hubwire::{Hub, HubError, HubResult, UploadStream};
use std::time::Duration;

/// An item a second. When the client cancels, the stream is dropped; when it does not take the items, the stream waits.
async fn countdown(from: u32) -> HubResult<impl Stream<Item = HubResult<u32>>> {
    if from > 1000 {
        return Err(HubError::client("that takes too long"));
    }
    Ok(stream::iter((0..=from).rev()).then(|n| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(n)
    }))
}

/// Answers when the client has completed its stream. An error of the client, or an item that is no number, ends the call.
async fn average(mut numbers: UploadStream<f64>) -> HubResult<Option<f64>> {
    let (mut sum, mut count) = (0.0, 0_u32);
    while let Some(number) = numbers.try_next().await? {
        sum += number;
        count += 1;
    }
    Ok((count > 0).then(|| sum / f64::from(count)))
}

/// Sends back what comes, as it comes.
async fn shout(lines: UploadStream<String>) -> HubResult<impl Stream<Item = HubResult<String>>> {
    Ok(lines.map_ok(|line| line.to_uppercase()))
}

/// Two streams of one call, in step.
async fn zip(
    left: UploadStream<i64>,
    right: UploadStream<i64>,
) -> HubResult<impl Stream<Item = HubResult<(i64, i64)>>> {
    Ok(left.zip(right).map(|(left, right)| Ok((left?, right?))))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let hub = Hub::with_state(())
        .stream("countdown", countdown)
        .method("average", average)
        .stream("shout", shout)
        .stream("zip", zip)
        .build();
    let listener = tokio::net::TcpListener::bind(address()).await?;
    println!("clients connect to http://{}/streams", listener.local_addr()?);
    hubwire::serve(listener, Router::new().merge(hub.routes("/streams"))).await
}

/// The first argument, if there is one.
fn address() -> String {
    std::env::args().nth(1).unwrap_or("127.0.0.1:5000".into())
}
