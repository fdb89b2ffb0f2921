//! The page of the development preset: a chat, a list of who is there, a counter, a line that can be cut, and the `curl` that does the same.
//!
//! It is a client of the relay hub like any other, with a small client of the hub protocol of its own (`hub.js`, `channels.js`), and it
//! loads nothing from elsewhere.

use super::assets::{Asset, CSS, HTML};
use crate::auth::{AccessKeys, Claims};
use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use std::time::{Duration, SystemTime};

/// What the page is about.
#[derive(Debug, Clone)]
pub(crate) struct DemoOptions {
    /// The relay hub: served at `/hubs/NAME`, with the counter of the preset.
    pub(crate) hub: String,
    /// What signs the token of the `curl` line. Whoever sees the page can use it, so it is the well-known development key, or else `None`:
    /// then the line has a token made by whoever runs it.
    pub(crate) keys: Option<AccessKeys>,
}

/// Serves the page at `/`, what it is made of under `/demo/`, and what it has to know at `/demo.json`.
pub(crate) fn demo_routes(options: DemoOptions) -> Router {
    Router::new().route("/demo.json", get(facts)).with_state(options).merge(Asset::routes(ASSETS))
}

/// The page builds URLs on its own address, which it knows better than the server does.
async fn facts(State(options): State<DemoOptions>) -> Response {
    let path = format!("/api/hubs/{}/groups/{GROUP}/:send", options.hub);
    // of an audience only the path counts
    let audience = format!("http://localhost{path}");
    let claims = Claims { claims: &[], audience: &audience, now: SystemTime::now(), lifetime: LIFETIME };
    let token = options.keys.as_ref().map(|keys| keys.sign(&claims));
    let facts = json!({
        "hub": format!("/hubs/{}", options.hub),
        "group": GROUP,
        "send": format!("{path}?api-version=2024-12-01"),
        "token": token,
        "lifetime": LIFETIME.as_secs(),
    });
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, facts.to_string()).into_response()
}

/// Where all pages meet.
const GROUP: &str = "lobby";
/// The page asks for a new token in time.
const LIFETIME: Duration = Duration::from_secs(3600);

const SCRIPT: &str = "text/javascript; charset=utf-8";
const ASSETS: [Asset; 6] = [
    Asset { path: "/", content_type: HTML, body: include_str!("page.html") },
    Asset { path: "/demo/page.css", content_type: CSS, body: include_str!("page.css") },
    Asset { path: "/demo/page.js", content_type: SCRIPT, body: include_str!("page.js") },
    Asset { path: "/demo/hub.js", content_type: SCRIPT, body: include_str!("hub.js") },
    Asset { path: "/demo/channels.js", content_type: SCRIPT, body: include_str!("channels.js") },
    Asset::icon("/demo/icon.svg"),
];
