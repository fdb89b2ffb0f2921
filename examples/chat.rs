//! A chat with rooms, and a page for it.
//!
//! ```text
//! cargo run --example chat
//! ```
//! Then open <http://127.0.0.1:5000> in two windows. Any SignalR client can join in at `http://127.0.0.1:5000/chat`.

use axum::Router;
use axum::extract::State;
use axum::response::Html;
use axum::routing::get;
use hubwire::{Caller, ClientMethod, Clients, CloseReason, Groups, Hub, HubError, HubResult, Items};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MESSAGE: ClientMethod<(String, String)> = ClientMethod::new("message");
const NOTICE: ClientMethod<(String,)> = ClientMethod::new("notice");

/// What was said last, for those who come later.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<VecDeque<(String, String, String)>>>);

impl Log {
    fn add(&self, room: &str, name: &str, text: &str) {
        let mut log = self.0.lock().unwrap();
        log.push_back((room.into(), name.into(), text.into()));
        if log.len() > 100 {
            log.pop_front();
        }
    }

    fn of(&self, room: &str) -> Vec<(String, String)> {
        let log = self.0.lock().unwrap();
        log.iter().filter(|(r, ..)| r == room).map(|(_, name, text)| (name.clone(), text.clone())).collect()
    }
}

/// Kept with the connection once it has joined.
struct Guest {
    name: String,
    room: String,
}

/// Enters a room, and returns what was said there last.
async fn join(
    caller: Caller,
    clients: Clients,
    groups: Groups,
    items: Items,
    State(log): State<Log>,
    name: String,
    room: String,
) -> HubResult<Vec<(String, String)>> {
    if name.trim().is_empty() || name.len() > 40 {
        return Err(HubError::client("a name has between 1 and 40 letters"));
    }
    leave(&caller, &clients, &groups, &items).await?;
    groups.add(caller.id(), &room).await?;
    clients.others_in_group(&room).send(NOTICE, (format!("{name} is here"),)).await?;
    let said = log.of(&room);
    items.insert(Guest { name, room });
    Ok(said)
}

async fn say(clients: Clients, items: Items, State(log): State<Log>, text: String) -> HubResult {
    let guest = items.get::<Guest>().ok_or(HubError::client("join a room first"))?;
    log.add(&guest.room, &guest.name, &text);
    clients.group(&guest.room).send(MESSAGE, (&guest.name, &text)).await
}

async fn gone(caller: Caller, clients: Clients, groups: Groups, items: Items, reason: CloseReason) -> HubResult {
    println!("{} has left: {reason}", caller.id());
    leave(&caller, &clients, &groups, &items).await
}

async fn leave(caller: &Caller, clients: &Clients, groups: &Groups, items: &Items) -> HubResult {
    let Some(guest) = items.remove::<Guest>() else { return Ok(()) };
    groups.remove(caller.id(), &guest.room).await?;
    clients.group(&guest.room).send(NOTICE, (format!("{} has left", guest.name),)).await
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let chat = Hub::with_state(Log::default()).method("join", join).method("say", say).on_disconnected(gone).build();
    let router = Router::new().route("/", get(Html(include_str!("chat.html")))).merge(chat.routes("/chat"));

    let listener = tokio::net::TcpListener::bind(address()).await?;
    println!("open http://{}", listener.local_addr()?);
    let stop = async move {
        let _ = tokio::signal::ctrl_c().await;
        chat.drain(Duration::from_secs(5)).await;
    };
    hubwire::serve(listener, router).with_graceful_shutdown(stop).await
}

/// The first argument, if there is one.
fn address() -> String {
    std::env::args().nth(1).unwrap_or("127.0.0.1:5000".into())
}
