use super::assets::{Asset, CSS, HTML, SAFETY};
use crate::observe::{AllFigures, Figures, Health, Phase};
use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the first page of the admin address tells people: what runs here, since when, and how many are connected. Programs read the metrics.
pub(crate) struct Overview {
    pub(crate) health: Health,
    pub(crate) started: Instant,
    pub(crate) figures: AllFigures,
}

impl Overview {
    pub(crate) fn routes(self) -> Router {
        let overview = Arc::new(self);
        let page = get(move || async move { overview.answer() });
        Router::new().route("/", page).merge(Asset::routes(ASSETS))
    }

    fn answer(&self) -> Response {
        let headers = [(header::CONTENT_TYPE, HTML), (header::CACHE_CONTROL, "no-store")];
        (SAFETY, headers, self.page()).into_response()
    }

    fn page(&self) -> String {
        let phase = match self.health.phase() {
            Phase::Starting => "Starting",
            Phase::Ready => "Ready for clients",
            Phase::Draining => "Draining: clients are being closed, and no more are let in",
        };
        let rows: String = (self.figures)().iter().map(row).collect();
        TEMPLATE
            .replace("{version}", env!("CARGO_PKG_VERSION"))
            .replace("{phase}", phase)
            .replace("{uptime}", &uptime(self.started.elapsed()))
            .replace("{rows}", &rows)
    }
}

fn row(hub: &Figures) -> String {
    let stats = hub.clients.stats();
    let ended: u64 = stats.ended.values().sum();
    let servers =
        hub.servers.as_ref().map_or_else(|| "–".to_owned(), |servers| servers.connections.value().to_string());
    let cells = [
        stats.connections.to_string(),
        servers,
        ended.to_string(),
        stats.messages_dropped.to_string(),
        stats.panics.to_string(),
    ];
    let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
    format!("<tr><th scope=\"row\">{}</th>{cells}</tr>", escaped(&hub.hub))
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut html, letter| {
        match letter {
            '<' | '>' | '&' | '"' | '\'' => {
                let _ = write!(html, "&#{};", u32::from(letter));
            }
            _ => html.push(letter),
        }
        html
    })
}

/// In the two largest units that there are.
fn uptime(since: Duration) -> String {
    let seconds = since.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

const TEMPLATE: &str = r#"<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>hubwire: overview</title>
  <link rel="icon" href="/overview.svg" type="image/svg+xml">
  <link rel="stylesheet" href="/overview.css">
</head>
<body>
  <header>
    <h1><img src="/overview.svg" alt="" width="28" height="28"> hubwire <small>{version}</small></h1>
    <p>{phase}. Up for {uptime}.</p>
  </header>
  <main class="card">
    <table>
      <caption>Connections of this node</caption>
      <thead><tr><th scope="col">Hub</th><th scope="col">Open</th><th scope="col" title="Connections of application servers">Servers</th><th scope="col">Ended</th><th scope="col" title="Messages that slow receivers did not get">Dropped</th><th scope="col" title="Handlers that panicked">Panics</th></tr></thead>
      <tbody>{rows}</tbody>
    </table>
  </main>
  <nav aria-label="For programs">
    <ul>
      <li><a href="/metrics">/metrics</a></li>
      <li><a href="/healthz">/healthz</a></li>
      <li><a href="/readyz">/readyz</a></li>
    </ul>
  </nav>
</body>
</html>
"#;
const ASSETS: [Asset; 2] = [
    Asset { path: "/overview.css", content_type: CSS, body: include_str!("overview.css") },
    Asset::icon("/overview.svg"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::HubMetrics;

    #[test]
    fn the_page_shows_each_hub_and_no_markup_of_its_name() {
        let clients = Arc::new(HubMetrics::default());
        clients.connections.up();
        let figures: AllFigures = Arc::new(move || {
            let relay = Figures { hub: "a<b>&\"".into(), kind: "relay", clients: Arc::default(), servers: None };
            let served = Figures {
                hub: "chat".into(),
                kind: "service",
                clients: clients.clone(),
                servers: Some(Arc::default()),
            };
            vec![relay, served]
        });
        let health = Health::default();
        health.enter(Phase::Draining);
        let page = Overview { health, started: Instant::now(), figures }.page();
        assert!(page.contains("<th scope=\"row\">a&#60;b&#62;&#38;&#34;</th><td>0</td><td>–</td>"), "{page}");
        assert!(
            page.contains("<th scope=\"row\">chat</th><td>1</td><td>0</td>") && page.contains("Draining"),
            "{page}"
        );
        assert!(!page.contains("{"), "a place was not filled: {page}");
    }

    #[test]
    fn times_are_told_in_two_units() {
        let told = [5, 65, 3_720, 90_000].map(|seconds| uptime(Duration::from_secs(seconds)));
        assert_eq!(told, ["5 s", "1 min 5 s", "1 h 2 min", "1 d 1 h"]);
    }
}
