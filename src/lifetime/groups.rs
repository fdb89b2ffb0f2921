use super::segments::{Segment, Segments};
use crate::connection::Link;
use dashmap::{DashMap, Entry};
use std::sync::Arc;

/// Connections by a name that they share: groups, or users. A name exists while it has a member.
#[derive(Debug, Default)]
pub(super) struct Groups(DashMap<Arc<str>, Arc<Group>>);

#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    pub(super) members: Segments,
}

/// A membership, to be given back when it ends.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) group: Arc<Group>,
    segment: Arc<Segment>,
}

impl Groups {
    /// Adds a member; says whether it is the first. The caller makes sure that nobody joins twice.
    pub(super) fn join(&self, name: &str, link: &Arc<Link>) -> (Joined, bool) {
        // under the entry's lock, so that the last member's leaving cannot take the group away in between
        match self.0.entry(name.into()) {
            Entry::Occupied(group) => {
                (Joined { segment: group.get().members.add(link), group: group.get().clone() }, false)
            }
            Entry::Vacant(vacant) => {
                let group = Arc::new(Group { name: vacant.key().clone(), members: Segments::default() });
                let segment = group.members.add(link);
                vacant.insert(group.clone());
                (Joined { group, segment }, true)
            }
        }
    }

    /// Ends a membership; says whether it was the last of its group.
    pub(super) fn leave(&self, joined: &Joined, link: &Arc<Link>) -> bool {
        joined.group.members.remove(link, &joined.segment);
        self.0.remove_if(&joined.group.name, |_, group| group.members.count() == 0).is_some()
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<Group>> {
        self.0.get(name).map(|group| group.clone())
    }

    /// Those whose names fit.
    pub(super) fn list(&self, fits: impl Fn(&str) -> bool) -> Vec<Arc<Group>> {
        self.0.iter().filter(|group| fits(group.key())).map(|group| group.value().clone()).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }
}
