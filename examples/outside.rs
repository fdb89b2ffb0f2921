//! Sends from outside of calls: a clock that ticks, and an HTTP interface beside the hub.
//!
//! ```text
//! cargo run --example outside
//! curl -d 'hello' http://127.0.0.1:5000/announce            # to everybody
//! curl -d 'hello' http://127.0.0.1:5000/announce/sports     # to those who read sports
//! curl http://127.0.0.1:5000/readers/sports                 # who they are
//! ```

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use hubwire::{Caller, ClientMethod, Groups, Hub, HubContext, HubError, HubResult};
use std::time::Duration;

const NEWS: ClientMethod<(String,)> = ClientMethod::new("news");
const TICK: ClientMethod<(u64,)> = ClientMethod::new("tick");

async fn read(caller: Caller, groups: Groups, topic: String) -> HubResult {
    groups.add(caller.id(), topic).await
}

async fn announce(State(news): State<HubContext>, text: String) -> Result<(), StatusCode> {
    news.all().send(NEWS, (text,)).await.map_err(internal)
}

async fn announce_topic(
    State(news): State<HubContext>,
    Path(topic): Path<String>,
    text: String,
) -> Result<(), StatusCode> {
    news.group(topic).send(NEWS, (text,)).await.map_err(internal)
}

async fn readers(State(news): State<HubContext>, Path(topic): Path<String>) -> Result<String, StatusCode> {
    let readers = news.membership().members(topic).await.map_err(internal)?;
    Ok(readers.join("\n"))
}

fn internal(error: HubError) -> StatusCode {
    eprintln!("{error:?}");
    StatusCode::INTERNAL_SERVER_ERROR
}

/// A client that is slow gets the newest tick only, where the hub's policy for slow receivers is to conflate.
async fn tick(news: HubContext) {
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    for n in 0.. {
        clock.tick().await;
        if let Err(error) = news.all().key("clock").send(TICK, (n,)).await {
            eprintln!("{error:?}");
        }
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let hub = Hub::with_state(()).method("read", read).build();
    tokio::spawn(tick(hub.context()));
    let router = Router::new()
        .route("/announce", post(announce))
        .route("/announce/{topic}", post(announce_topic))
        .route("/readers/{topic}", get(readers))
        .merge(hub.routes("/news"))
        .with_state(hub.context());
    let listener = tokio::net::TcpListener::bind(address()).await?;
    println!("clients connect to http://{}/news", listener.local_addr()?);
    hubwire::serve(listener, router).await
}

/// The first argument, if there is one.
fn address() -> String {
    std::env::args().nth(1).unwrap_or("127.0.0.1:5000".into())
}
