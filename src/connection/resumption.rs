use super::{CloseReason, Link};
use crate::transport::{Duplex, Resumable, Resume, Seat, Stream};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// What a connection has that may survive its socket.
#[derive(Default)]
pub(super) struct Resumption {
    /// The client shook hands with a version that can resume.
    armed: AtomicBool,
    /// The socket with which the client is back, until the connection's task takes it.
    arrived: Mutex<Option<Arrived>>,
    /// Its place among the connections that are without a socket, or 0.
    place: AtomicU64,
}

/// A new socket, and what came on it right behind the request.
pub(super) struct Arrived {
    pub(super) stream: Box<dyn Stream>,
    pub(super) seat: Option<Seat>,
    pub(super) early: Box<[u8]>,
}

impl Resumption {
    pub(super) fn arm(&self) {
        self.armed.store(true, Relaxed);
    }

    pub(super) fn is_armed(&self) -> bool {
        self.armed.load(Relaxed)
    }

    pub(super) fn take_arrived(&self) -> Option<Arrived> {
        self.arrived.lock().take()
    }
}

impl Resume for Link {
    fn resumable(&self) -> Resumable {
        match &self.resumption {
            _ if self.is_closed() => Resumable::Ended,
            Some(resumption) if resumption.is_armed() => Resumable::Yes,
            _ => Resumable::No,
        }
    }

    fn resume(&self, duplex: Duplex, early: Box<[u8]>) {
        let (stream, seat): (Box<dyn Stream>, _) = match duplex {
            Duplex::Tcp(socket, seat) => (Box::new(socket), seat),
            Duplex::Boxed(stream, seat) => (stream, seat),
            Duplex::Http(_) => return,
        };
        if let Some(resumption) = &self.resumption {
            *resumption.arrived.lock() = Some(Arrived { stream, seat, early });
            self.task.wake();
        }
    }
}

/// Connections that wait for their clients to come back, each with what it has to replay. They have a budget, by owner and in all; when it is
/// spent the oldest end.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    state: Mutex<State>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    oldest_first: BTreeMap<u64, Weak<Link>>,
    by_owner: HashMap<Owner, VecDeque<u64>>,
}

/// Who answers for a connection: its user, or the address it came from.
type Owner = Box<str>;

impl Waiting {
    /// A connection has lost its socket.
    pub(super) fn add(&self, link: &Arc<Link>) {
        let (Some(resumption), options) = (&link.resumption, link.options()) else { return };
        let place = self.next.fetch_add(1, Relaxed) + 1;
        resumption.place.store(place, Relaxed);
        let mut state = self.state.lock();
        state.oldest_first.insert(place, Arc::downgrade(link));
        let own = state.by_owner.entry(owner(link)).or_default();
        own.push_back(place);
        let spent_by_owner = (own.len() > options.max_resumable_per_owner).then(|| own.pop_front()).flatten();
        let mut evicted: Vec<_> =
            spent_by_owner.and_then(|place| state.oldest_first.remove(&place)).into_iter().collect();
        if state.oldest_first.len() > options.max_resumable {
            evicted.extend(state.oldest_first.pop_first().map(|(_, link)| link));
        }
        drop(state);
        // they have left the count already: more may come before their tasks have ended
        for link in evicted.iter().filter_map(Weak::upgrade) {
            link.shared.metrics.resumable_evicted.add(1);
            link.close(CloseReason::TransportLost);
        }
    }

    /// It has one again, or has ended.
    pub(super) fn remove(&self, link: &Link) {
        let Some(resumption) = &link.resumption else { return };
        let place = resumption.place.swap(0, Relaxed);
        if place == 0 {
            return;
        }
        let mut state = self.state.lock();
        state.oldest_first.remove(&place);
        let owner = owner(link);
        if let Some(own) = state.by_owner.get_mut(&owner) {
            own.retain(|p| *p != place);
            if own.is_empty() {
                state.by_owner.remove(&owner);
            }
        }
    }
}

fn owner(link: &Link) -> Owner {
    let facts = link.facts();
    match (facts.identity.user_id(), facts.address) {
        (Some(user), _) => format!("user {user}").into(),
        (None, Some(address)) => address.to_string().into(),
        (None, None) => Box::default(),
    }
}
