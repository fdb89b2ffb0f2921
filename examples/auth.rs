//! A hub for those who have signed in, with a method that only some of them may call, and a page for it.
//!
//! ```text
//! cargo run --example auth
//! ```
//! Then open <http://127.0.0.1:5000>. Tokens are good for a minute and renewed before it is over; take `refresh` out of the page, and the
//! connection ends with its token.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post};
use hubwire::{
    AuthenticationRefresh, Caller, ClientMethod, Clients, Groups, Hub, HubError, HubOptions, HubResult, JwtBearer,
    Permissions, Policy,
};
use serde::Deserialize;
use std::time::{Duration, SystemTime};

const NOTICE: ClientMethod<(String,)> = ClientMethod::new("notice");

async fn who_am_i(caller: Caller) -> HubResult<String> {
    let identity = caller.identity();
    let roles: Vec<_> = identity.claims().filter(|(kind, _)| *kind == "role").map(|(_, role)| role).collect();
    Ok(format!("{} ({})", identity.user_id().unwrap_or("a program"), roles.join(", ")))
}

/// A room that the caller's rights cover: everybody has an inbox, staff has rooms of its own.
async fn enter(caller: Caller, groups: Groups, State(rights): State<Permissions>, room: String) -> HubResult {
    if !rights.allow(caller.identity(), "enter", &room) {
        return Err(HubError::client("that room is not for you"));
    }
    groups.add(caller.id(), room).await
}

/// For administrators only: the hub sees to that.
async fn announce(caller: Caller, clients: Clients, text: String) -> HubResult {
    clients.all().send(NOTICE, (format!("{}: {text}", caller.user_id().unwrap_or_default()),)).await
}

async fn refreshed(clients: Clients) -> HubResult {
    clients.caller().send(NOTICE, ("your token was renewed",)).await
}

#[derive(Deserialize)]
struct SignIn {
    user: String,
    role: String,
}

/// Stands for whatever knows who people are. This one believes what it is told.
async fn sign_in(State(secret): State<Secret>, Query(who): Query<SignIn>) -> Result<String, StatusCode> {
    let expires =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + Duration::from_secs(60);
    let claims =
        serde_json::json!({ "sub": who.user, "role": who.role, "exp": expires.as_secs(), "aud": "auth-example" });
    let key = jsonwebtoken::EncodingKey::from_secret(secret.0.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

#[derive(Clone)]
struct Secret(String);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // a program of yours reads it from where it keeps secrets
    let secret = Secret("an example's secret, which everybody can read".into());
    let rights = Permissions::default().grant("enter", "inbox-{user}", Policy::authenticated()).grant(
        "enter",
        "staff-*",
        Policy::role("staff").or(Policy::role("admin")),
    );
    let mut options = HubOptions::default();
    options.connection.close_on_authentication_expiration = true;
    options.transport.authentication_refresh = Some(AuthenticationRefresh::default());
    let hub = Hub::with_state(rights)
        .authorize(Policy::authenticated())
        .method("whoAmI", who_am_i)
        .method("enter", enter)
        .method("announce", announce)
        .authorize_method("announce", Policy::role("admin"))
        .on_authentication_refreshed(refreshed)
        .options(options)
        .build();

    let bearer = JwtBearer::builder().secret(&secret.0).audience("auth-example").build()?;
    let router = Router::new()
        .route("/", get(Html(include_str!("auth.html"))))
        .route("/sign-in", post(sign_in).with_state(secret))
        .merge(hub.routes("/hub").layer(bearer));
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:5000".into());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("open http://{}", listener.local_addr()?);
    let stop = async move {
        let _ = tokio::signal::ctrl_c().await;
        hub.drain(Duration::from_secs(5)).await;
    };
    Ok(hubwire::serve(listener, router).with_graceful_shutdown(stop).await?)
}
