//! Who is in a group, as it changes.
//!
//! A node that watches a group has all nodes, itself included, [tell](feed::Feed) it of their members: first a list, then each change. What
//! it has been told it keeps, for all that [watch](watched::Watched) there. A group that nobody watches has neither of the two.

mod feed;
#[cfg(test)]
mod tests;
mod watched;

use super::Lifetime;
use super::groups::Group;
use crate::backplane::{Member, News, NodeId, Reached, Told, Watching};
use crate::connection::Link;
use dashmap::DashMap;
pub(super) use feed::Feed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use tokio::runtime::Handle;
pub use watched::PresenceChange;
use watched::Watched;

#[derive(Debug)]
pub(super) struct Presence {
    lifetime: Weak<Lifetime>,
    /// What this node tells.
    feeds: DashMap<Arc<str>, Arc<Feed>>,
    /// How many feeds there are: joining and leaving need not look for one where there is none.
    count: AtomicUsize,
    /// Feeds there have been, so that none uses the numbers of another.
    begun: AtomicU64,
    /// What this node is told.
    watched: DashMap<Arc<str>, Arc<Watched>>,
    watchings: AtomicU64,
    /// Nobody is to watch any more.
    is_over: AtomicBool,
}

/// One that watches a group. It stops when this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    lifetime: Weak<Lifetime>,
    watched: Arc<Watched>,
    id: u64,
}

impl Watch {
    pub(crate) fn group(&self) -> &str {
        &self.watched.group
    }

    /// The next change; `None` when the hub is gone.
    pub(crate) fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<PresenceChange>> {
        self.watched.poll(self.id, cx)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(lifetime) = self.lifetime.upgrade().filter(|_| self.watched.remove(self.id)) else { return };
        let (group, presence) = (&self.watched.group, &lifetime.presence);
        let is_over = |watched: &Arc<Watched>| Arc::ptr_eq(watched, &self.watched) && watched.is_empty();
        if presence.watched.remove_if(group, |_, watched| is_over(watched)).is_some() {
            lifetime.backplane.unwatch(group, self.watched.number);
        }
    }
}

impl Lifetime {
    /// Watches a group on all nodes.
    pub(crate) fn watch(&self, group: &str) -> Reached<Watch> {
        let (watched, (id, is_new)) = {
            let name: Arc<str> = group.into();
            // under the entry's lock, so that the last one's going cannot take it away in between
            let watched = self.presence.watched.entry(name.clone()).or_insert_with(|| {
                let number = self.presence.watchings.fetch_add(1, Ordering::Relaxed);
                Arc::new(Watched::new(name, number))
            });
            (watched.clone(), watched.add())
        };
        // looked at after it was added: one of the two sees the other
        if self.presence.is_over.load(Ordering::SeqCst) {
            watched.end();
        }
        let watch = Watch { lifetime: self.presence.lifetime.clone(), watched: watched.clone(), id };
        if !is_new {
            return Reached::Done(watch);
        }
        self.backplane.watch(group, watched.number).map(move |nodes| {
            watched.expect(nodes);
            watch
        })
    }

    /// Ends all watching, now and from now on: it would never end by itself, and so hold back a drain.
    pub(crate) fn end_watching(&self) {
        self.presence.is_over.store(true, Ordering::SeqCst);
        self.presence.end_all();
    }

    /// Another node, or this one, begins to watch or ends.
    pub(super) fn watched_by(&self, group: &str, watching: Watching, begins: bool) {
        if !begins {
            return self.presence.end(group, |ended| *ended == watching);
        }
        let feed = self.presence.begin(group, watching);
        self.tell(&[feed]);
    }

    pub(super) fn hear_of(&self, node: NodeId, group: &str, news: &News) {
        let Some(watched) = self.presence.watched.get(group).map(|watched| watched.clone()) else { return };
        if watched.hear(node, news)
            && let Reached::Pending(rest) = self.backplane.watch(group, watched.number)
            && let Ok(runtime) = Handle::try_current()
        {
            // if that fails, later changes show again that something is missing
            runtime.spawn(rest);
        }
    }

    /// A node is gone: it neither watches nor tells any more.
    pub(super) fn lose_node(&self, node: NodeId) {
        let groups: Vec<_> = self.presence.feeds.iter().map(|feed| feed.key().clone()).collect();
        groups.iter().for_each(|group| self.presence.end(group, |watching| watching.node == node));
        let watched: Vec<_> = self.presence.watched.iter().map(|watched| watched.clone()).collect();
        watched.iter().for_each(|watched| watched.lose(node));
    }

    /// Tells what was noted.
    pub(super) fn tell(&self, feeds: &[Arc<Feed>]) {
        for feed in feeds {
            if !feed.tell(&self.groups, &*self.backplane) {
                self.tell_on(feed.clone());
            }
        }
    }

    /// Leaves the rest to a task: whoever joins is not to tell for all others as long as they keep coming.
    fn tell_on(&self, feed: Arc<Feed>) {
        let lifetime = self.presence.lifetime.clone();
        let Some(runtime) = self.runtime.get() else { return };
        runtime.spawn(async move {
            while let Some(lifetime) = lifetime.upgrade() {
                if feed.tell(&lifetime.groups, &*lifetime.backplane) {
                    return;
                }
                drop(lifetime);
                tokio::task::yield_now().await;
            }
        });
    }
}

impl Presence {
    pub(super) fn new(lifetime: Weak<Lifetime>) -> Self {
        Self {
            lifetime,
            feeds: DashMap::new(),
            count: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            watched: DashMap::new(),
            watchings: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// Somebody has joined a group. Called under its lock; what is returned is to be told when that is free.
    pub(super) fn joined(&self, group: &Group, link: &Link) -> Option<Arc<Feed>> {
        self.note(group, || Told::Joined(member(link)))
    }

    /// Somebody has left a group. Called as the one above.
    pub(super) fn left(&self, group: &Group, link: &Link) -> Option<Arc<Feed>> {
        self.note(group, || Told::Left(member(link)))
    }

    fn end_all(&self) {
        self.watched.iter().for_each(|watched| watched.end());
    }

    fn note(&self, group: &Group, told: impl FnOnce() -> Told) -> Option<Arc<Feed>> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let feed = self.feeds.get(&group.name)?.clone();
        feed.note(told());
        Some(feed)
    }

    fn begin(&self, group: &str, watching: Watching) -> Arc<Feed> {
        let name: Arc<str> = group.into();
        let feed = self.feeds.entry(name.clone()).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::AcqRel);
            Arc::new(Feed::new(name, self.begun.fetch_add(1, Ordering::Relaxed) << NUMBERS))
        });
        feed.begin(watching);
        feed.clone()
    }

    fn end(&self, group: &str, ends: impl Fn(&Watching) -> bool) {
        if self.feeds.remove_if(group, |_, feed| feed.end(&ends)).is_some() {
            self.count.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.end_all();
    }
}

fn member(link: &Link) -> Member {
    Member::new(link.id().as_str(), link.facts().identity.user_id())
}

/// Bits of the numbers that one feed has for itself.
const NUMBERS: u32 = 32;
