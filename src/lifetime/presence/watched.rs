use crate::backplane::{Member, News, NodeId, Told};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A change of who is in a group, as one that watches it sees it.
///
/// ```
/// use hubwire::{Member, PresenceChange};
///
/// fn follow(here: &mut Vec<Member>, change: PresenceChange) {
///     match change {
///         PresenceChange::Here(list) => *here = list,
///         PresenceChange::Joined(member) => here.push(member),
///         PresenceChange::Left(member) => here.retain(|other| *other != member),
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PresenceChange {
    /// Everybody who is there, in no order. The first that a watcher sees, and later what takes the place of changes that it did not take
    /// in time.
    Here(Vec<Member>),
    /// Somebody has joined.
    Joined(Member),
    /// Somebody has left.
    Left(Member),
}

/// A group that somebody on this node watches: who is in it, by the nodes that tell, and who watches.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) group: Arc<str>,
    /// Of this node's watchings.
    pub(super) number: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    nodes: BTreeMap<NodeId, Part>,
    /// Nodes that were asked, once they have been, and have not given their list.
    awaited: Option<BTreeSet<NodeId>>,
    watchers: BTreeMap<u64, Watcher>,
    last_watcher: u64,
    ended: bool,
}

/// Those that one node has told of.
#[derive(Debug)]
struct Part {
    /// Of the last change.
    number: u64,
    /// A change was lost, and a list was asked for, when a change of this number came.
    asked: Option<u64>,
    members: BTreeMap<Arc<str>, Member>,
}

#[derive(Debug, Default)]
struct Watcher {
    changes: VecDeque<PresenceChange>,
    /// It has a list, which `changes` follow.
    is_current: bool,
    waker: Option<Waker>,
}

impl Watched {
    pub(super) fn new(group: Arc<str>, number: u64) -> Self {
        Self { group, number, state: Mutex::default() }
    }

    /// Adds a watcher; says whether the nodes have still to be asked.
    pub(super) fn add(&self) -> (u64, bool) {
        let mut state = self.state.lock();
        state.last_watcher += 1;
        let id = state.last_watcher;
        state.watchers.insert(id, Watcher::default());
        (id, !state.is_complete())
    }

    /// Removes a watcher; says whether there is no other.
    pub(super) fn remove(&self, id: u64) -> bool {
        let mut state = self.state.lock();
        state.watchers.remove(&id);
        state.watchers.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().watchers.is_empty()
    }

    /// These nodes were asked, and may have answered already.
    pub(super) fn expect(&self, nodes: Vec<NodeId>) {
        self.change(|state| {
            let awaited = nodes.into_iter().filter(|node| !state.nodes.contains_key(node)).collect();
            state.awaited = Some(awaited);
            Vec::new()
        });
    }

    /// A node has told something; true if it has to be asked again, because something before has been lost.
    pub(super) fn hear(&self, node: NodeId, news: &News) -> bool {
        let mut is_lost = false;
        self.change(|state| {
            if let Told::List(list) = &news.told {
                return state.replace(node, news.number, list);
            }
            let Some(part) = state.nodes.get_mut(&node) else { return Vec::new() };
            if news.number > part.number + 1 {
                is_lost = part.asked.is_none_or(|asked| news.number >= asked + PATIENCE);
                if is_lost {
                    part.asked = Some(news.number);
                }
            } else if news.number == part.number + 1 {
                part.number = news.number;
                return part.apply(&news.told).into_iter().collect();
            }
            // otherwise the list had it
            Vec::new()
        });
        is_lost
    }

    /// A node is gone, and with it its members.
    pub(super) fn lose(&self, node: NodeId) {
        self.change(|state| {
            if let Some(awaited) = &mut state.awaited {
                awaited.remove(&node);
            }
            let part = state.nodes.remove(&node);
            part.into_iter().flat_map(|part| part.members.into_values()).map(PresenceChange::Left).collect()
        });
    }

    /// Nothing will be heard any more.
    pub(super) fn end(&self) {
        self.change(|state| {
            state.ended = true;
            Vec::new()
        });
    }

    pub(super) fn poll(&self, id: u64, cx: &Context<'_>) -> Poll<Option<PresenceChange>> {
        let mut state = self.state.lock();
        if state.ended {
            return Poll::Ready(None);
        }
        let list = if state.is_complete() && state.watchers.get(&id).is_some_and(|watcher| !watcher.is_current) {
            Some(state.list())
        } else {
            None
        };
        let Some(watcher) = state.watchers.get_mut(&id) else { return Poll::Ready(None) };
        if let Some(list) = list {
            watcher.is_current = true;
            return Poll::Ready(Some(PresenceChange::Here(list)));
        }
        match watcher.changes.pop_front() {
            Some(change) => Poll::Ready(Some(change)),
            None => {
                watcher.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Changes the state, passes on what that means for the watchers, and wakes them when the lock is free again.
    fn change(&self, change: impl FnOnce(&mut State) -> Vec<PresenceChange>) {
        let mut state = self.state.lock();
        let was_complete = state.is_complete();
        let changes = change(&mut state);
        if changes.is_empty() && !state.ended && state.is_complete() == was_complete {
            return;
        }
        let mut wakers = Vec::new();
        for watcher in state.watchers.values_mut() {
            watcher.take(&changes);
            wakers.extend(watcher.waker.take());
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// All nodes that were asked have given their lists.
    fn is_complete(&self) -> bool {
        self.awaited.as_ref().is_some_and(BTreeSet::is_empty)
    }

    fn list(&self) -> Vec<Member> {
        self.nodes.values().flat_map(|part| part.members.values().cloned()).collect()
    }

    /// A list has come: gives what is new in it, which is nothing for most.
    fn replace(&mut self, node: NodeId, number: u64, list: &[Member]) -> Vec<PresenceChange> {
        if self.nodes.get(&node).is_some_and(|part| part.number >= number) {
            return Vec::new();
        }
        let members = list.iter().map(|member| (member.shared_id().clone(), member.clone())).collect();
        let part = Part { number, asked: None, members };
        let before = self.nodes.insert(node, part).map(|part| part.members).unwrap_or_default();
        if let Some(awaited) = &mut self.awaited {
            awaited.remove(&node);
        }
        let now = &self.nodes[&node].members;
        let left = before.iter().filter(|(id, _)| !now.contains_key(*id)).map(|(_, member)| member);
        let joined = now.iter().filter(|(id, _)| !before.contains_key(*id)).map(|(_, member)| member);
        let left = left.cloned().map(PresenceChange::Left);
        left.chain(joined.cloned().map(PresenceChange::Joined)).collect()
    }
}

impl Part {
    fn apply(&mut self, told: &Told) -> Option<PresenceChange> {
        match told {
            Told::Joined(member) => {
                let before = self.members.insert(member.shared_id().clone(), member.clone());
                before.is_none().then(|| PresenceChange::Joined(member.clone()))
            }
            Told::Left(member) => self.members.remove(member.connection_id()).map(PresenceChange::Left),
            Told::List(_) => None,
        }
    }
}

impl Watcher {
    fn take(&mut self, changes: &[PresenceChange]) {
        if !self.is_current {
            return;
        }
        if self.changes.len() + changes.len() > WAITING {
            self.changes = VecDeque::new();
            self.is_current = false;
        } else {
            self.changes.extend(changes.iter().cloned());
        }
    }
}

/// Changes that wait for one watcher: more than that are forgotten, and it is given a list.
const WAITING: usize = 256;
/// Changes after which a node that has not given the list that it was asked for is asked again.
const PATIENCE: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str) -> Member {
        Member::new(id, None::<&str>)
    }

    fn news(number: u64, told: Told) -> News {
        News { number, told }
    }

    fn taken(watched: &Watched, watcher: u64) -> Vec<PresenceChange> {
        let cx = Context::from_waker(Waker::noop());
        let next = || match watched.poll(watcher, &cx) {
            Poll::Ready(change) => change,
            Poll::Pending => None,
        };
        std::iter::from_fn(next).collect()
    }

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    /// A group with a member on each of two nodes, whose watcher knows it.
    fn watched() -> (Watched, u64) {
        let watched = Watched::new("room".into(), 1);
        let (watcher, _) = watched.add();
        watched.hear(A, &news(10, Told::List(vec![member("a")])));
        watched.expect(vec![A, B]);
        assert_eq!(taken(&watched, watcher), []);
        watched.hear(B, &news(20, Told::List(vec![member("b")])));
        assert_eq!(taken(&watched, watcher), [PresenceChange::Here(vec![member("a"), member("b")])]);
        (watched, watcher)
    }

    #[test]
    fn what_a_list_had_is_not_told_again() {
        let (watched, watcher) = watched();
        assert!(!watched.hear(A, &news(10, Told::Joined(member("a")))));
        assert!(!watched.hear(A, &news(9, Told::List(Vec::new()))));
        assert!(!watched.hear(A, &news(11, Told::Left(member("a")))));
        assert!(!watched.hear(NodeId(3), &news(7, Told::Joined(member("c")))), "its list is still to come");
        assert_eq!(taken(&watched, watcher), [PresenceChange::Left(member("a"))]);
        watched.hear(NodeId(3), &news(7, Told::List(vec![member("c")])));
        assert_eq!(taken(&watched, watcher), [PresenceChange::Joined(member("c"))]);
    }

    #[test]
    fn what_was_lost_is_asked_for_once_and_made_good() {
        let (watched, watcher) = watched();
        assert!(watched.hear(B, &news(22, Told::Joined(member("y")))));
        assert!(!watched.hear(B, &news(23, Told::Joined(member("z")))));
        assert_eq!(taken(&watched, watcher), []);
        assert!(!watched.hear(B, &news(23, Told::List(vec![member("y"), member("z")]))));
        assert_eq!(
            taken(&watched, watcher),
            [
                PresenceChange::Left(member("b")),
                PresenceChange::Joined(member("y")),
                PresenceChange::Joined(member("z"))
            ]
        );
        assert!(!watched.hear(B, &news(24, Told::Left(member("y")))));
    }

    #[test]
    fn a_node_that_is_gone_takes_its_members_along() {
        let (watched, watcher) = watched();
        watched.lose(B);
        assert_eq!(taken(&watched, watcher), [PresenceChange::Left(member("b"))]);
        let late = Watched::new("room".into(), 2);
        let (watcher, _) = late.add();
        late.expect(vec![A]);
        late.lose(A);
        assert_eq!(taken(&late, watcher), [PresenceChange::Here(Vec::new())]);
    }

    #[test]
    fn who_is_slow_is_given_a_list() {
        let (watched, watcher) = watched();
        for n in 1..=WAITING as u64 + 1 {
            watched.hear(A, &news(10 + n, Told::Joined(member(&n.to_string()))));
        }
        let PresenceChange::Here(list) = taken(&watched, watcher).remove(0) else { panic!("no list") };
        assert_eq!(list.len(), WAITING + 3);
        watched.hear(A, &news(12 + WAITING as u64, Told::Left(member("a"))));
        assert_eq!(taken(&watched, watcher), [PresenceChange::Left(member("a"))]);
    }
}
