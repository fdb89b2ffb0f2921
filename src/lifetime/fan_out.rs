use super::segments::Segments;
use crate::backplane::Encoded;
use crate::connection::{Batch, Link};
use crate::protocol::hub::{EncodeError, Frame, Protocol};
use crate::transport::ConnectionId;
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::num::NonZeroU64;
use std::sync::LazyLock;
use tokio::runtime::Handle;

/// A message in the encodings that its receivers use, on its way to them.
pub(super) struct FanOut {
    frames: [Option<Frame>; Protocol::KNOWN.len()],
    key: Option<NonZeroU64>,
}

impl FanOut {
    /// Encodes the message for every protocol that is in use. If one cannot carry it nobody gets it.
    pub(super) fn encode(message: &dyn Encoded, uses: impl Fn(Protocol) -> bool) -> Result<Self, EncodeError> {
        let mut frames = [const { None }; Protocol::KNOWN.len()];
        for protocol in Protocol::KNOWN {
            if uses(protocol) {
                frames[protocol as usize] = Some(message.frame(protocol)?);
            }
        }
        let key = NonZeroU64::new(KEYS.hash_one(message.key()));
        Ok(Self { frames, key })
    }

    /// Sends to all of them but the excluded ones: queued on everybody before anything is written, so that one sender's messages keep
    /// their order for each receiver. A few are written to from here; for many, a task for each segment does it.
    pub(super) fn to_all(&self, receivers: &Segments, except: &Except, runtime: &Handle) {
        let segments = receivers.list();
        let few = receivers.count() <= FEW;
        let mut batch = Batch::default();
        let snapshots: Vec<_> = segments.iter().map(|segment| segment.snapshot()).collect();
        for link in snapshots.iter().flat_map(|links| links.iter()) {
            if !except.contains(link.id()) {
                self.queue(link);
            }
        }
        for (segment, links) in segments.iter().zip(&snapshots) {
            if few {
                links.iter().filter(|link| !except.contains(link.id())).for_each(|link| link.flush_with(&mut batch));
            } else {
                segment.schedule(links, runtime);
            }
        }
    }

    /// Sends to one.
    pub(super) fn to_one(&self, link: &Link) {
        self.queue(link);
        link.flush();
    }

    fn queue(&self, link: &Link) {
        // a connection whose protocol nobody had when the message was encoded came after it was sent
        if let Some(frame) = &self.frames[link.protocol() as usize] {
            link.push(frame, self.key);
        }
    }
}

/// Connections that a message is not for.
pub(super) enum Except {
    Nobody,
    Few(Vec<ConnectionId>),
    Many(HashSet<ConnectionId>),
}

impl Except {
    /// Ids that no connection can have exclude nobody.
    pub(super) fn ids(ids: &[String]) -> Self {
        let ids = ids.iter().filter_map(|id| ConnectionId::parse(id));
        let ids: Vec<_> = ids.collect();
        match ids.len() {
            0 => Self::Nobody,
            1..=8 => Self::Few(ids),
            _ => Self::Many(ids.into_iter().collect()),
        }
    }

    fn contains(&self, id: &ConnectionId) -> bool {
        match self {
            Self::Nobody => false,
            Self::Few(ids) => ids.contains(id),
            Self::Many(ids) => ids.contains(id),
        }
    }
}

/// Keys are compared as hashes, under a seed of this process that no client can know.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
/// Up to so many receivers a sender writes to itself: handing them to a task would cost more.
const FEW: usize = 64;
