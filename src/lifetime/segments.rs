use crate::connection::{Batch, Link};
use crate::protocol::hub::Protocol;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::runtime::Handle;

/// Receivers, in segments that are copied when they change: a walk clones one `Arc` a segment and holds no lock while it works, so who
/// comes or goes never waits for a broadcast.
#[derive(Debug, Default)]
pub(super) struct Segments {
    list: RwLock<Vec<Arc<Segment>>>,
    /// How many receivers there are of each protocol.
    counts: [AtomicUsize; Protocol::KNOWN.len()],
    /// The segment that last lost a receiver, and so has room.
    roomy: Mutex<Option<Arc<Segment>>>,
}

/// Some receivers, written to by one task.
#[derive(Debug, Default)]
pub(super) struct Segment {
    receivers: Mutex<Receivers>,
    /// What a task that has been started will write to: the very receivers that something was queued on, since who leaves a group
    /// meanwhile still has it coming. One entry, unless somebody came or went between two sends.
    scheduled: Mutex<Vec<Receivers>>,
}

/// The receivers of a segment at some moment.
pub(super) type Receivers = Arc<Vec<Arc<Link>>>;

impl Segments {
    /// Adds a receiver and says where it is, for [`remove`](Self::remove).
    pub(super) fn add(&self, link: &Arc<Link>) -> Arc<Segment> {
        self.count_of(link).fetch_add(1, Ordering::Relaxed);
        {
            // held while adding: a segment that is found empty under the list's lock is taken out, and must not get a receiver then
            let list = self.list.read();
            let roomy = self.roomy.lock().take();
            if let Some(segment) = roomy.iter().chain(list.last()).find(|segment| segment.add(link)) {
                return segment.clone();
            }
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

    /// The receivers of all segments.
    pub(super) fn snapshots(&self) -> Vec<Receivers> {
        self.list.read().iter().map(|segment| segment.snapshot()).collect()
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
    pub(super) fn snapshot(&self) -> Receivers {
        self.receivers.lock().clone()
    }

    /// Has a task write what is queued for these receivers of this segment, unless one is about to.
    pub(super) fn schedule(self: &Arc<Self>, receivers: &Receivers, runtime: &Handle) {
        let mut scheduled = self.scheduled.lock();
        if scheduled.last().is_some_and(|last| Arc::ptr_eq(last, receivers)) {
            return;
        }
        scheduled.push(receivers.clone());
        if scheduled.len() > 1 {
            return;
        }
        drop(scheduled);
        let segment = self.clone();
        runtime.spawn(async move {
            // taken out first: what is queued from here on is seen by the walk, or gets a task of its own
            let scheduled = std::mem::take(&mut *segment.scheduled.lock());
            let mut batch = Batch::default();
            for link in scheduled.iter().flat_map(|receivers| receivers.iter()) {
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
