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
    first: One,
    /// What follows it with nothing in between.
    behind: Vec<One>,
}

struct One {
    frames: [Option<Frame>; Protocol::KNOWN.len()],
    key: Option<NonZeroU64>,
}

impl FanOut {
    /// Encodes the message for every protocol that is in use. If one cannot carry it nobody gets it.
    pub(super) fn encode(message: &dyn Encoded, uses: impl Fn(Protocol) -> bool) -> Result<Self, EncodeError> {
        let behind = message.behind().into_iter().map(|message| One::encode(message, &uses));
        Ok(Self { first: One::encode(message, &uses)?, behind: behind.collect::<Result<_, _>>()? })
    }

    /// Sends to all of them but the excluded ones: queued on everybody before anything is written, so that one sender's messages keep
    /// their order for each receiver. A few are written to from here; for many, a task for each segment does it.
    pub(super) fn to_all(&self, receivers: &Segments, except: &Except<'_>, runtime: &Handle) {
        let segments = receivers.list();
        let few = receivers.count() <= FEW;
        let mut batch = Batch::default();
        let snapshots: Vec<_> = segments.iter().map(|segment| segment.snapshot()).collect();
        for link in snapshots.iter().flat_map(|links| links.iter()) {
            if !except.contains(link) {
                self.queue(link);
            }
        }
        for (segment, links) in segments.iter().zip(&snapshots) {
            if few {
                links.iter().filter(|link| !except.contains(link)).for_each(|link| link.flush_with(&mut batch));
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
        // a connection whose protocol nobody had when the message was encoded came after it was sent; or it is not for its protocol
        let frame = |one: &'_ One| one.frames[link.protocol() as usize].clone().map(|frame| (frame, one.key));
        if !self.behind.is_empty() {
            let all: Vec<_> = std::iter::once(&self.first).chain(&self.behind).filter_map(frame).collect();
            link.push_together(&all);
        } else if let Some(frame) = &self.first.frames[link.protocol() as usize] {
            link.push(frame, self.first.key);
        }
    }
}

impl One {
    fn encode(message: &dyn Encoded, uses: impl Fn(Protocol) -> bool) -> Result<Self, EncodeError> {
        let mut frames = [const { None }; Protocol::KNOWN.len()];
        for protocol in Protocol::KNOWN {
            if uses(protocol) {
                frames[protocol as usize] = message.frame(protocol)?;
            }
        }
        Ok(Self { frames, key: NonZeroU64::new(KEYS.hash_one(message.key())) })
    }
}

/// Connections that a message is not for.
pub(super) struct Except<'a> {
    ids: Ids,
    users: &'a [String],
}

enum Ids {
    Few(Vec<ConnectionId>),
    Many(HashSet<ConnectionId>),
}

impl<'a> Except<'a> {
    pub(super) const NOBODY: Except<'static> = Except { ids: Ids::Few(Vec::new()), users: &[] };

    /// Ids that no connection can have exclude nobody.
    pub(super) fn new(ids: &[String], users: &'a [String]) -> Self {
        let ids: Vec<_> = ids.iter().filter_map(|id| ConnectionId::parse(id)).collect();
        let ids = if ids.len() <= 8 { Ids::Few(ids) } else { Ids::Many(ids.into_iter().collect()) };
        Self { ids, users }
    }

    pub(super) fn contains(&self, link: &Link) -> bool {
        let by_id = match &self.ids {
            Ids::Few(ids) => ids.contains(link.id()),
            Ids::Many(ids) => ids.contains(link.id()),
        };
        by_id
            || (!self.users.is_empty()
                && link.facts().identity.user_id().is_some_and(|user| self.users.iter().any(|other| other == user)))
    }
}

/// Keys are compared as hashes, under a seed of this process that no client can know.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
/// Up to so many receivers a sender writes to itself: handing them to a task would cost more.
const FEW: usize = 64;
