//! The server asks a client and waits for its answer: a game in which one client picks a number and the others guess.
//!
//! ```text
//! cargo run --example client_results
//! ```
//! A client's handler returns the answer:
//!
//! ```js
//! connection.on('pick', (from, to) => from + Math.floor(Math.random() * (to - from + 1)));
//! connection.on('confirm', (question) => window.confirm(question));
//! ```

use axum::Router;
use hubwire::{Caller, Cancellation, ClientMethod, Clients, Groups, Hub, HubError, HubResult};
use std::time::Duration;

/// The second parameter is the type of the answer.
const PICK: ClientMethod<(u32, u32), u32> = ClientMethod::new("pick");
const CONFIRM: ClientMethod<(String,), bool> = ClientMethod::new("confirm");

/// Asks another client. It may be gone, fail, or have no such method: each is an error here.
async fn guess(clients: Clients, cancellation: Cancellation, opponent: String, number: u32) -> HubResult<bool> {
    let pick = clients.client(opponent).invoke(PICK, (1, 10)).timeout(Duration::from_secs(10)).cancel_on(cancellation);
    Ok(pick.await? == number)
}

/// Asks its own caller in the middle of its call: the calls behind it may start meanwhile.
async fn leave(caller: Caller, clients: Clients, groups: Groups) -> HubResult<bool> {
    let sure = clients.caller().invoke(CONFIRM, ("Leave the game?",)).timeout(Duration::from_secs(60)).await?;
    if sure {
        groups.remove(caller.id(), "players").await?;
    }
    Ok(sure)
}

async fn enter(caller: Caller, groups: Groups) -> HubResult<Vec<String>> {
    let players = groups.members("players").await?;
    if players.len() >= 100 {
        return Err(HubError::client("the game is full"));
    }
    groups.add(caller.id(), "players").await?;
    Ok(players)
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let hub = Hub::with_state(()).method("enter", enter).method("guess", guess).method("leave", leave).build();
    let listener = tokio::net::TcpListener::bind(address()).await?;
    println!("clients connect to http://{}/game", listener.local_addr()?);
    hubwire::serve(listener, Router::new().merge(hub.routes("/game"))).await
}

/// The first argument, if there is one.
fn address() -> String {
    std::env::args().nth(1).unwrap_or("127.0.0.1:5000".into())
}
