use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
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
    /// Connections that have ended, by the label of their reason.
    ended: Mutex<BTreeMap<&'static str, u64>>,
    /// Connections that could have been resumed and were ended for want of room.
    pub(crate) resumable_evicted: Counter,
    /// Users whose memberships were forgotten for want of room.
    pub(crate) users_forgotten: Arc<Counter>,
    /// Messages of an unknown type, skipped.
    pub(crate) unknown_messages: Counter,
    /// Handlers that panicked.
    pub(crate) panics: Counter,
}

/// The figures of the application servers of one hub of the service.
#[cfg(feature = "service")]
#[derive(Debug, Default)]
pub(crate) struct ServerMetrics {
    /// Server connections that are open now, those included that have not shaken hands or are closing.
    pub(crate) connections: Gauge,
    /// Messages from servers, and their bytes.
    pub(crate) received_messages: Counter,
    pub(crate) received_bytes: Counter,
    /// Messages to servers, and the bytes that have left.
    pub(crate) sent_messages: Counter,
    pub(crate) sent_bytes: Counter,
    /// Requests of servers that came to an error: neither done nor for something that is not there.
    pub(crate) acks_failed: Counter,
    /// Server connections that have ended, by the label of their reason.
    ended: Mutex<BTreeMap<&'static str, u64>>,
}

#[cfg(feature = "service")]
impl ServerMetrics {
    /// A server connection has ended; the reason is one of a few labels.
    pub(crate) fn ended(&self, reason: &'static str) {
        *self.ended.lock().entry(reason).or_default() += 1;
    }

    /// How many have ended for which reason.
    #[cfg_attr(not(feature = "server"), allow(dead_code, reason = "the page of metrics reads it"))]
    pub(crate) fn endings(&self) -> BTreeMap<&'static str, u64> {
        self.ended.lock().clone()
    }
}

/// What has happened to the connections of a hub since it was built, on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HubStats {
    /// Connections that are open now, those included that are closing.
    pub connections: u64,
    /// Messages that were dropped because a receiver did not read, whatever the policy.
    pub messages_dropped: u64,
    /// Connections that could have been resumed and were ended for want of room.
    pub resumable_evicted: u64,
    /// Messages of a type that is not known, which were skipped.
    pub unknown_messages: u64,
    /// Handlers that panicked.
    pub panics: u64,
    /// Connections that have ended, by reason: a label as [`CloseReason`](crate::CloseReason) prints it, and how many.
    pub ended: BTreeMap<&'static str, u64>,
}

impl HubMetrics {
    pub(crate) fn stats(&self) -> HubStats {
        HubStats {
            connections: self.connections.value(),
            messages_dropped: self.pushes_dropped.value(),
            resumable_evicted: self.resumable_evicted.value(),
            unknown_messages: self.unknown_messages.value(),
            panics: self.panics.value(),
            ended: self.ended.lock().clone(),
        }
    }

    /// A connection has ended; the reason is one of a few labels.
    pub(crate) fn ended(&self, reason: &'static str) {
        *self.ended.lock().entry(reason).or_default() += 1;
    }
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
