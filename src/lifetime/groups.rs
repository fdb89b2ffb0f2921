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
    /// Adds a member; says whether it is the first. The caller makes sure that nobody joins twice. `note` runs under the group's lock, so
    /// that what it notes has the order in which members come and go.
    pub(super) fn join<T>(&self, name: &str, link: &Arc<Link>, note: impl FnOnce(&Group) -> T) -> (Joined, bool, T) {
        // under the entry's lock, so that the last member's leaving cannot take the group away in between
        let (group, is_first) = match self.0.entry(name.into()) {
            Entry::Occupied(group) => (group.into_ref(), false),
            Entry::Vacant(vacant) => {
                let group = Arc::new(Group { name: vacant.key().clone(), members: Segments::default() });
                (vacant.insert(group), true)
            }
        };
        let joined = Joined { segment: group.members.add(link), group: group.clone() };
        let noted = note(&group);
        (joined, is_first, noted)
    }

    /// Ends a membership; says whether it was the last of its group. `note` runs as in [`join`](Self::join).
    pub(super) fn leave<T>(&self, joined: &Joined, link: &Arc<Link>, note: impl FnOnce(&Group) -> T) -> (bool, T) {
        let entry = self.0.entry(joined.group.name.clone());
        joined.group.members.remove(link, &joined.segment);
        let noted = note(&joined.group);
        let is_last = joined.group.members.count() == 0;
        if let (Entry::Occupied(group), true) = (entry, is_last) {
            group.remove();
        }
        (is_last, noted)
    }

    /// Calls `f` while nobody joins or leaves a group.
    pub(super) fn still<T>(&self, name: &str, f: impl FnOnce(Option<&Group>) -> T) -> T {
        match self.0.entry(name.into()) {
            Entry::Occupied(group) => f(Some(group.get())),
            Entry::Vacant(_) => f(None),
        }
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
