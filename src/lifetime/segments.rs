use crate::connection::{Batch, Link};
use crate::protocol::hub::Protocol;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::runtime::Handle;

/// Receivers, in segments that are copied when they change: a walk clones one `Arc` a segment and holds no lock while it works, so who
/// comes or goes never waits for a broadcast.
#[derive(Debug, Default)]
pub(super) struct Segments {
    list: RwLock<Vec<Arc<Segment>>>,
    /// How many receivers there are of each protocol.
    counts: [AtomicUsize; Protocol::ALL.len()],
    /// The segment that last lost a receiver, and so has room.
    roomy: Mutex<Option<Arc<Segment>>>,
}

/// Some receivers, written to by one task.
#[derive(Debug, Default)]
pub(super) struct Segment {
    receivers: Mutex<Arc<Vec<Arc<Link>>>>,
    /// A task that will write to these receivers has been started.
    scheduled: AtomicBool,
}

impl Segments {
    /// Adds a receiver and says where it is, for [`remove`](Self::remove).
    pub(super) fn add(&self, link: &Arc<Link>) -> Arc<Segment> {
        self.count_of(link).fetch_add(1, Ordering::Relaxed);
        if let Some(roomy) = self.roomy.lock().take()
            && roomy.add(link)
        {
            return roomy;
        }
        if let Some(last) = self.list.read().last()
            && last.add(link)
        {
            return last.clone();
        }
        let fresh = Arc::new(Segment::default());
        fresh.add(link);
        self.list.write().push(fresh.clone());
        fresh
    }

    pub(super) fn remove(&self, link: &Arc<Link>, segment: &Arc<Segment>) {
        if !segment.remove(link) {
            return;
        }
        self.count_of(link).fetch_sub(1, Ordering::Relaxed);
        let mut list = self.list.write();
        // looked at again under the list's lock: an empty segment that is taken out gets no more receivers
        if segment.receivers.lock().is_empty() {
            list.retain(|s| !Arc::ptr_eq(s, segment));
            let mut roomy = self.roomy.lock();
            if roomy.as_ref().is_some_and(|r| Arc::ptr_eq(r, segment)) {
                *roomy = None;
            }
        } else {
            *self.roomy.lock() = Some(segment.clone());
        }
    }

    pub(super) fn count(&self) -> usize {
        self.counts.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn uses(&self, protocol: Protocol) -> bool {
        self.counts[protocol as usize].load(Ordering::Relaxed) > 0
    }

    pub(super) fn list(&self) -> Vec<Arc<Segment>> {
        self.list.read().clone()
    }

    /// Everybody, as they are now.
    pub(super) fn links(&self) -> impl Iterator<Item = Arc<Link>> + use<> {
        self.list().into_iter().flat_map(|segment| segment.snapshot().iter().cloned().collect::<Vec<_>>())
    }

    fn count_of(&self, link: &Link) -> &AtomicUsize {
        &self.counts[link.protocol() as usize]
    }
}

impl Segment {
    pub(super) fn snapshot(&self) -> Arc<Vec<Arc<Link>>> {
        self.receivers.lock().clone()
    }

    /// Has a task write what is queued for these receivers, unless one is about to.
    pub(super) fn schedule(self: &Arc<Self>, runtime: &Handle) {
        if self.scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        let segment = self.clone();
        runtime.spawn(async move {
            // cleared first: what is queued from here on is seen by the walk, or gets a task of its own
            segment.scheduled.store(false, Ordering::Release);
            let mut batch = Batch::default();
            for link in segment.snapshot().iter() {
                link.flush_with(&mut batch);
            }
        });
    }

    fn add(&self, link: &Arc<Link>) -> bool {
        let mut receivers = self.receivers.lock();
        let has_room = receivers.len() < SEGMENT;
        if has_room {
            Arc::make_mut(&mut receivers).push(link.clone());
        }
        has_room
    }

    fn remove(&self, link: &Arc<Link>) -> bool {
        let mut receivers = self.receivers.lock();
        let Some(index) = receivers.iter().position(|r| Arc::ptr_eq(r, link)) else { return false };
        Arc::make_mut(&mut receivers).swap_remove(index);
        true
    }
}

/// Receivers that one task writes to: 0.6 ms of work, so that a neighbour's call is not kept waiting longer.
const SEGMENT: usize = 128;
