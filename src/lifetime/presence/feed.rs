use super::super::groups::Groups;
use super::member;
use crate::backplane::{Backplane, News, Told, Watching};
use crate::connection::Link;
use parking_lot::Mutex;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// What this node tells of one group, as long as any node watches it.
///
/// Changes are noted under the group's lock, so that they have its order, and told outside of all locks by one thread at a time, so that
/// they keep it.
#[derive(Debug)]
pub(in crate::lifetime) struct Feed {
    group: Arc<str>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    watchings: BTreeSet<Watching>,
    /// Number of the last change.
    last: u64,
    /// Changes that have not been told.
    changes: VecDeque<News>,
    /// A list has to be told behind them.
    list_due: bool,
    /// There were too many of them: the list is told in place of all that is noted before it is made.
    skipping: bool,
    /// Somebody is about to tell.
    telling: bool,
}

impl Feed {
    /// Numbers that are used for the first time start behind `last`.
    pub(super) fn new(group: Arc<str>, last: u64) -> Self {
        let state = State {
            watchings: BTreeSet::new(),
            last,
            changes: VecDeque::new(),
            list_due: false,
            skipping: false,
            telling: false,
        };
        Self { group, state: Mutex::new(state) }
    }

    /// A list goes to a node that begins to watch, and to one that has lost count.
    pub(super) fn begin(&self, watching: Watching) {
        let mut state = self.state.lock();
        state.watchings.insert(watching);
        state.list_due = true;
    }

    /// Forgets those that match; says whether nobody watches any more.
    pub(super) fn end(&self, ends: impl Fn(&Watching) -> bool) -> bool {
        let mut state = self.state.lock();
        state.watchings.retain(|watching| !ends(watching));
        state.watchings.is_empty()
    }

    /// Somebody has come or gone. Called under the group's lock.
    pub(super) fn note(&self, told: Told) {
        let mut state = self.state.lock();
        state.last += 1;
        if state.skipping {
            return;
        }
        if state.changes.len() == CHANGES {
            state.changes = VecDeque::new();
            state.skipping = true;
            state.list_due = true;
        } else {
            let number = state.last;
            state.changes.push_back(News { number, told });
        }
    }

    /// Tells what there is to tell; if somebody is about it already, that one does. False: more has come than one is to tell for others.
    pub(super) fn tell(&self, groups: &Groups, backplane: &dyn Backplane) -> bool {
        for _ in 0..TURNS {
            let Some((changes, list_due)) = self.take_turn() else { return true };
            for news in &changes {
                backplane.tell(&self.group, news);
            }
            if list_due {
                backplane.tell(&self.group, &self.list(groups));
            }
            self.state.lock().telling = false;
        }
        false
    }

    fn take_turn(&self) -> Option<(VecDeque<News>, bool)> {
        let mut state = self.state.lock();
        if state.telling || (state.changes.is_empty() && !state.list_due) {
            return None;
        }
        state.telling = true;
        Some((std::mem::take(&mut state.changes), std::mem::take(&mut state.list_due)))
    }

    fn list(&self, groups: &Groups) -> News {
        let (number, receivers) = groups.still(&self.group, |group| {
            let mut state = self.state.lock();
            state.skipping = false;
            (state.last, group.map(|group| group.members.snapshots()).unwrap_or_default())
        });
        let links = receivers.iter().flat_map(|receivers| receivers.iter());
        News { number, told: Told::List(links.map(|link: &Arc<Link>| member(link)).collect()) }
    }
}

/// Changes that wait for whoever tells them; more than that are told as a list.
const CHANGES: usize = 1024;
/// How often whoever tells looks for what others have noted meanwhile.
const TURNS: usize = 8;
