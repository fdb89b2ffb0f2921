//! The counters as Prometheus reads them. Nothing here is counted: it is read from where it is when somebody asks.

use super::{HubMetrics, ServerMetrics};
use axum::Router;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// What `/metrics` shows: the process, and each hub by its name. Names come from the configuration, or from whoever has an access key.
pub(crate) struct Exposition {
    pub(crate) started: Instant,
    /// All hubs that there are now.
    pub(crate) figures: AllFigures,
}

/// Gives the figures of all hubs that there are now.
pub(crate) type AllFigures = Arc<dyn Fn() -> Vec<Figures> + Send + Sync>;

/// The figures of one hub.
pub(crate) struct Figures {
    pub(crate) hub: String,
    /// Who has it: a relay and an application server can have hubs of the same name.
    pub(crate) kind: &'static str,
    pub(crate) clients: Arc<HubMetrics>,
    /// Of its application servers.
    pub(crate) servers: Option<Arc<ServerMetrics>>,
}

impl Figures {
    fn labels(&self) -> [(&str, &str); 2] {
        [("hub", &self.hub), ("kind", self.kind)]
    }
}

impl Exposition {
    pub(crate) fn routes<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let registry = Arc::new(registry);
        let show = move |headers: HeaderMap| {
            let registry = registry.clone();
            async move {
                let mut text = String::new();
                encode(&mut text, &registry).expect("a String takes all text");
                match takes_open_metrics(&headers) {
                    true => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
                    false => ([(header::CONTENT_TYPE, PLAIN)], plain(&text)).into_response(),
                }
            }
        };
        Router::new().route("/metrics", get(show))
    }

    fn process(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        let build = encoder.encode_descriptor("hubwire_build_info", "Which build this is", None, GAUGE)?;
        labelled(build, &[("version", version)], ConstGauge::new(1_i64))?;
        let uptime =
            encoder.encode_descriptor("hubwire_uptime", "Since the server started", Some(&Unit::Seconds), GAUGE)?;
        ConstGauge::new(self.started.elapsed().as_secs_f64()).encode(uptime)?;
        if let Some(bytes) = resident_bytes() {
            let resident = encoder.encode_descriptor(
                "process_resident_memory",
                "Memory that is resident",
                Some(&Unit::Bytes),
                GAUGE,
            )?;
            ConstGauge::new(bytes).encode(resident)?;
        }
        if let Some(open) = open_files() {
            let files = encoder.encode_descriptor("process_open_fds", "File descriptors that are open", None, GAUGE)?;
            ConstGauge::new(open).encode(files)?;
        }
        Ok(())
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.process(&mut encoder)?;
        let hubs = (self.figures)();
        let mut open = encoder.encode_descriptor("hubwire_connections", "Connections that are open", None, GAUGE)?;
        for hub in &hubs {
            gauge(hub.clients.connections.value()).encode(open.encode_family(&hub.labels())?)?;
        }
        let help = "Connections that have ended, by reason";
        let mut ended = encoder.encode_descriptor("hubwire_connections_ended", help, None, COUNTER)?;
        for hub in &hubs {
            for (reason, count) in hub.clients.stats().ended {
                let [name, kind] = hub.labels();
                ConstCounter::new(count).encode(ended.encode_family(&[name, kind, ("reason", reason)])?)?;
            }
        }
        for (name, help, value) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, COUNTER)?;
            for hub in &hubs {
                ConstCounter::new(value(&hub.clients)).encode(family.encode_family(&hub.labels())?)?;
            }
        }
        servers(&mut encoder, &hubs)
    }
}

/// Whether it was asked for by name: a browser, or a scraper from before it, would not know what to do with it.
fn takes_open_metrics(headers: &HeaderMap) -> bool {
    let ranges = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    ranges.flat_map(|list| list.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
        named && !parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)))
    })
}

/// The same in the older format, in which the lines above a counter name it as its samples do, and there are no units and no mark at the
/// end.
fn plain(text: &str) -> String {
    // HELP stands before TYPE, which says whether it is a counter
    let counters: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("UNIT" | "EOF"), ..) => {}
            (Some("#"), Some(word), Some(name), Some(rest)) => {
                let total = if counters.contains(&name) { "_total" } else { "" };
                out.push_str(&format!("# {word} {name}{total} {rest}\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

/// The application servers of the service's hubs.
fn servers(encoder: &mut DescriptorEncoder<'_>, hubs: &[Figures]) -> fmt::Result {
    let servers = || hubs.iter().filter_map(|hub| Some((hub.hub.as_str(), hub.servers.as_ref()?)));
    let help = "Connections of application servers that are open";
    let mut open = encoder.encode_descriptor("hubwire_server_connections", help, None, GAUGE)?;
    for (hub, metrics) in servers() {
        gauge(metrics.connections.value()).encode(open.encode_family(&[("hub", hub)])?)?;
    }
    let help = "Connections of application servers that have ended, by reason";
    let mut ended = encoder.encode_descriptor("hubwire_server_connections_ended", help, None, COUNTER)?;
    for (hub, metrics) in servers() {
        for (reason, count) in metrics.endings() {
            ConstCounter::new(count).encode(ended.encode_family(&[("hub", hub), ("reason", reason)])?)?;
        }
    }
    for (name, help, value) in SERVER_COUNTERS {
        let mut family = encoder.encode_descriptor(name, help, None, COUNTER)?;
        for (hub, metrics) in servers() {
            ConstCounter::new(value(metrics)).encode(family.encode_family(&[("hub", hub)])?)?;
        }
    }
    Ok(())
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

fn labelled(mut family: MetricEncoder<'_>, labels: &impl EncodeLabelSet, metric: impl EncodeMetric) -> fmt::Result {
    metric.encode(family.encode_family(labels)?)
}

#[cfg(target_os = "linux")]
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<i64>().ok().map(|kilobytes| kilobytes * 1024)
}

#[cfg(not(target_os = "linux"))]
fn resident_bytes() -> Option<i64> {
    None
}

#[cfg(target_os = "linux")]
fn open_files() -> Option<i64> {
    i64::try_from(std::fs::read_dir("/proc/self/fd").ok()?.count()).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_files() -> Option<i64> {
    None
}

type Row<M> = (&'static str, &'static str, fn(&M) -> u64);

const COUNTERS: [Row<HubMetrics>; 6] = [
    ("hubwire_messages_dropped", "Messages that a slow receiver did not get", |m| m.pushes_dropped.value()),
    ("hubwire_resumable_evicted", "Connections that could have been resumed and ended for want of room", |m| {
        m.resumable_evicted.value()
    }),
    ("hubwire_messages_unknown", "Messages of an unknown type, skipped", |m| m.unknown_messages.value()),
    ("hubwire_handler_panics", "Handlers that panicked", |m| m.panics.value()),
    ("hubwire_sockets_raw", "WebSockets on a plain TCP stream", |m| m.raw_sockets.value()),
    ("hubwire_sockets_boxed", "WebSockets on TLS", |m| m.boxed_streams.value()),
];
const SERVER_COUNTERS: [Row<ServerMetrics>; 5] = [
    ("hubwire_server_messages_received", "Messages from application servers", |m| m.received_messages.value()),
    ("hubwire_server_bytes_received", "Bytes of messages from application servers", |m| m.received_bytes.value()),
    ("hubwire_server_messages_sent", "Messages to application servers", |m| m.sent_messages.value()),
    ("hubwire_server_bytes_sent", "Bytes that have left for application servers", |m| m.sent_bytes.value()),
    ("hubwire_server_acks_failed", "Requests of application servers that came to an error", |m| m.acks_failed.value()),
];
const GAUGE: prometheus_client::metrics::MetricType = prometheus_client::metrics::MetricType::Gauge;
const COUNTER: prometheus_client::metrics::MetricType = prometheus_client::metrics::MetricType::Counter;
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").finish_non_exhaustive()
    }
}
