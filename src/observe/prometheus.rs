//! The counters as Prometheus reads them. Nothing here is counted: it is read from where it is when somebody asks.

use super::{HubMetrics, ServerMetrics};
use axum::Router;
use axum::http::header;
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

/// What `/metrics` shows: the process, and each hub by its name. Names come from the configuration, never from a client.
pub(crate) struct Exposition {
    pub(crate) started: Instant,
    pub(crate) counted: Arc<dyn Counted>,
}

/// Where the counters are, by hub.
pub(crate) trait Counted: Send + Sync + 'static {
    fn hubs(&self) -> Vec<(String, Arc<HubMetrics>)>;
    /// Of application servers.
    fn servers(&self) -> Vec<(String, Arc<ServerMetrics>)>;
}

impl fmt::Debug for Exposition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exposition").field("started", &self.started).finish_non_exhaustive()
    }
}

impl Exposition {
    pub(crate) fn routes<S: Clone + Send + Sync + 'static>(self) -> Router<S> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let registry = Arc::new(registry);
        let show = move || {
            let registry = registry.clone();
            async move {
                let mut text = String::new();
                encode(&mut text, &registry).expect("a String takes all text");
                ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response()
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

    fn counter<M>(
        encoder: &mut DescriptorEncoder<'_>,
        hubs: &[(String, Arc<M>)],
        (name, help, value): Row<M>,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, COUNTER)?;
        for (hub, metrics) in hubs {
            ConstCounter::new(value(metrics)).encode(family.encode_family(&[("hub", hub.as_str())])?)?;
        }
        Ok(())
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.process(&mut encoder)?;
        let (hubs, servers) = (self.counted.hubs(), self.counted.servers());
        let mut open = encoder.encode_descriptor("hubwire_connections", "Connections that are open", None, GAUGE)?;
        for (hub, metrics) in &hubs {
            let value = i64::try_from(metrics.connections.value()).unwrap_or(i64::MAX);
            ConstGauge::new(value).encode(open.encode_family(&[("hub", hub.as_str())])?)?;
        }
        let mut open = encoder.encode_descriptor(
            "hubwire_server_connections",
            "Connections of application servers that are open",
            None,
            GAUGE,
        )?;
        for (hub, metrics) in &servers {
            let value = i64::try_from(metrics.connections.value()).unwrap_or(i64::MAX);
            ConstGauge::new(value).encode(open.encode_family(&[("hub", hub.as_str())])?)?;
        }
        let mut ended = encoder.encode_descriptor(
            "hubwire_server_connections_ended",
            "Connections of application servers that have ended, by reason",
            None,
            COUNTER,
        )?;
        for (hub, metrics) in &servers {
            for (reason, count) in metrics.endings() {
                let labels = [("hub", hub.as_str()), ("reason", reason)];
                ConstCounter::new(count).encode(ended.encode_family(&labels)?)?;
            }
        }
        let mut ended = encoder.encode_descriptor(
            "hubwire_connections_ended",
            "Connections that have ended, by reason",
            None,
            COUNTER,
        )?;
        for (hub, metrics) in &hubs {
            for (reason, count) in metrics.stats().ended {
                let labels = [("hub", hub.as_str()), ("reason", reason)];
                ConstCounter::new(count).encode(ended.encode_family(&labels)?)?;
            }
        }
        for row in COUNTERS {
            Self::counter(&mut encoder, &hubs, row)?;
        }
        for row in SERVER_COUNTERS {
            Self::counter(&mut encoder, &servers, row)?;
        }
        Ok(())
    }
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
    ("hubwire_server_bytes_received", "Bytes from application servers", |m| m.received_bytes.value()),
    ("hubwire_server_messages_sent", "Messages to application servers", |m| m.sent_messages.value()),
    ("hubwire_server_bytes_sent", "Bytes to application servers", |m| m.sent_bytes.value()),
    ("hubwire_server_requests_failed", "Requests of application servers that came to an error", |m| {
        m.acks_failed.value()
    }),
];
const GAUGE: prometheus_client::metrics::MetricType = prometheus_client::metrics::MetricType::Gauge;
const COUNTER: prometheus_client::metrics::MetricType = prometheus_client::metrics::MetricType::Counter;
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
