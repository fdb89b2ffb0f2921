use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The figures of one hub (or service): made once, read at any time.
#[derive(Debug, Default)]
pub(crate) struct HubMetrics {
    /// Connections that are open now, their closing included.
    pub(crate) connections: Gauge,
    /// WebSockets that run on a TCP stream taken back from the HTTP stack.
    pub(crate) raw_sockets: Counter,
    /// WebSockets on a stream that had to be boxed: TLS, or a server that is not hyper's.
    pub(crate) boxed_streams: Counter,
    /// Messages to slow receivers that were dropped, whatever the policy.
    pub(crate) pushes_dropped: Counter,
    /// Connections that ended because they did not read.
    pub(crate) slow_receivers: Counter,
    /// Connections that could have been resumed and were ended for want of room.
    pub(crate) resumable_evicted: Counter,
    /// Messages of an unknown type, skipped.
    pub(crate) unknown_messages: Counter,
    /// Handlers that panicked.
    pub(crate) panics: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn up(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub(crate) fn down(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
