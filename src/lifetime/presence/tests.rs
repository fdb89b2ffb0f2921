use super::*;
use crate::backplane::{Bus, Deliver, Membership};
use crate::transport::Identity;
use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

fn nodes<const N: usize>() -> (Arc<Bus>, [Arc<Lifetime>; N]) {
    let bus = Arc::new(Bus::default());
    (bus.clone(), std::array::from_fn(|_| Lifetime::new(bus.join())))
}

fn come(node: &Lifetime) -> Arc<Link> {
    let link = Link::detached(Identity::anonymous());
    node.add(&link);
    link
}

fn change(node: &Lifetime, link: &Link, change: Membership<'_>) {
    assert!(Deliver::change_group(node, link.id().as_str(), change));
}

fn watch(node: &Arc<Lifetime>, group: &str) -> Watch {
    match node.watch(group) {
        Reached::Done(watch) => watch,
        Reached::Pending(_) => panic!("in memory there is nothing to wait for"),
    }
}

/// What waits for a watcher.
fn taken(watch: &Watch) -> Vec<PresenceChange> {
    let cx = Context::from_waker(Waker::noop());
    let next = || match watch.poll_next(&cx) {
        Poll::Ready(change) => change,
        Poll::Pending => None,
    };
    std::iter::from_fn(next).collect()
}

/// A watcher's picture, which insists that no change is missing and none comes twice.
#[derive(Default)]
struct Picture {
    here: BTreeSet<String>,
    lists: usize,
}

impl Picture {
    fn follow(&mut self, watch: &Watch) {
        for change in taken(watch) {
            match change {
                PresenceChange::Here(list) => {
                    self.here = list.iter().map(|member| member.connection_id().to_owned()).collect();
                    assert_eq!(self.here.len(), list.len());
                    self.lists += 1;
                }
                PresenceChange::Joined(member) => {
                    assert!(self.lists > 0 && self.here.insert(member.connection_id().to_owned()));
                }
                PresenceChange::Left(member) => assert!(self.here.remove(member.connection_id())),
            }
        }
    }
}

use PresenceChange::{Here, Joined, Left};

#[tokio::test]
async fn a_list_is_followed_by_the_later_changes() {
    let (_, [node]) = nodes();
    let ann = Link::detached(Identity::user("ann"));
    node.add(&ann);
    let bob = come(&node);
    let (of_ann, of_bob) = (Member::new(ann.id().as_str(), Some("ann")), Member::new(bob.id().as_str(), None::<&str>));
    let early = watch(&node, "room");
    assert_eq!(taken(&early), [Here(Vec::new())]);
    change(&node, &ann, Membership::Join("room"));
    change(&node, &ann, Membership::Join("room"));
    change(&node, &bob, Membership::Join("other"));
    let late = watch(&node, "room");
    assert_eq!(taken(&late), [Here(vec![of_ann.clone()])]);
    change(&node, &bob, Membership::Join("room"));
    change(&node, &ann, Membership::LeaveAll);
    node.remove(&bob);
    let later = [Joined(of_bob.clone()), Left(of_ann.clone()), Left(of_bob)];
    assert_eq!(taken(&late), later);
    assert_eq!(taken(&early), [&[Joined(of_ann.clone())], &later[..]].concat());
    drop(early);
    change(&node, &ann, Membership::Join("room"));
    assert_eq!(taken(&late), [Joined(of_ann)]);
}

#[tokio::test]
async fn all_nodes_tell_and_take_their_members_along() {
    let (bus, [a, b]) = nodes();
    let (on_a, on_b) = (come(&a), come(&b));
    let member = |link: &Link| Member::new(link.id().as_str(), None::<&str>);
    change(&b, &on_b, Membership::Join("room"));
    let watchers = [watch(&a, "room"), watch(&b, "room")];
    watchers.iter().for_each(|watch| assert_eq!(taken(watch), [Here(vec![member(&on_b)])]));
    change(&a, &on_a, Membership::Join("room"));
    change(&b, &on_b, Membership::Leave("room"));
    watchers.iter().for_each(|watch| assert_eq!(taken(watch), [Joined(member(&on_a)), Left(member(&on_b))]));
    let c = Lifetime::new(bus.join());
    let on_c = come(&c);
    change(&c, &on_c, Membership::Join("room"));
    let late = watch(&c, "room");
    assert_eq!(taken(&late), [Here(vec![member(&on_a), member(&on_c)])]);
    drop((late, c));
    watchers.iter().for_each(|watch| assert_eq!(taken(watch), [Joined(member(&on_c)), Left(member(&on_c))]));
    drop(a);
    assert_eq!(taken(&watchers[1]), [Left(member(&on_a))]);
    assert_eq!(watchers[0].poll_next(&Context::from_waker(Waker::noop())), Poll::Ready(None));
}

#[tokio::test]
async fn a_group_that_nobody_watches_costs_nothing() {
    let (_, [a, b]) = nodes();
    let watchers = [watch(&a, "room"), watch(&b, "room"), watch(&a, "other")];
    let kept = |node: &Lifetime| {
        let presence = &node.presence;
        (presence.feeds.len(), presence.count.load(Ordering::Relaxed), presence.watched.len())
    };
    assert_eq!((kept(&a), kept(&b)), ((2, 2, 2), (2, 2, 1)));
    drop(watchers);
    assert_eq!((kept(&a), kept(&b)), ((0, 0, 0), (0, 0, 0)));
    let link = come(&a);
    change(&a, &link, Membership::Join("room"));
    assert_eq!(kept(&a), (0, 0, 0));
}

#[tokio::test]
async fn who_waits_is_woken() {
    use futures_util::task::{ArcWake, waker};
    struct Flag(AtomicBool);
    impl ArcWake for Flag {
        fn wake_by_ref(flag: &Arc<Self>) {
            flag.0.store(true, Ordering::Relaxed);
        }
    }
    let (_, [node]) = nodes();
    let link = come(&node);
    let watch = watch(&node, "room");
    assert_eq!(taken(&watch).len(), 1);
    let flag = Arc::new(Flag(AtomicBool::new(false)));
    assert!(watch.poll_next(&Context::from_waker(&waker(flag.clone()))).is_pending());
    change(&node, &link, Membership::Join("other"));
    assert!(!flag.0.load(Ordering::Relaxed));
    change(&node, &link, Membership::Join("room"));
    assert!(flag.0.load(Ordering::Relaxed));
}

#[tokio::test]
async fn changes_that_nobody_told_become_a_list() {
    let (_, [node]) = nodes();
    let watch = watch(&node, "room");
    let mut picture = Picture::default();
    picture.follow(&watch);
    let links: Vec<_> = (0..3000).map(|_| come(&node)).collect();
    let mut feeds = Vec::new();
    for (n, link) in links.iter().enumerate() {
        let (joined, feed) = node.join("room", link);
        feeds = feed.into_iter().collect();
        if n % 3 == 0 {
            node.leave(&joined, link);
        }
    }
    node.tell(&feeds);
    picture.follow(&watch);
    assert_eq!(picture.here.len(), 2000);
    change(&node, &links[1], Membership::LeaveAll);
    change(&node, &links[3], Membership::Join("room"));
    picture.follow(&watch);
    assert!(picture.here.contains(links[3].id().as_str()));
}

/// Two threads join by turns, each after the other; others make noise, so that it is not who joined that tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_told_in_the_order_in_which_they_happened() {
    let (_, [node]) = nodes();
    let watch = watch(&node, "room");
    taken(&watch);
    let links: Vec<_> = (0..100).map(|_| come(&node)).collect();
    let noise: Vec<_> = (0..2).map(|_| come(&node)).collect();
    let (turn, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (node, links, turn, is_over) = (&node, &links, &turn, &is_over);
    let mut seen: Vec<String> = Vec::new();
    thread::scope(|scope| {
        for link in &noise {
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    change(node, link, Membership::Join("room"));
                    change(node, link, Membership::Leave("room"));
                    thread::yield_now();
                }
            });
        }
        for half in 0..2 {
            scope.spawn(move || {
                for at in (half..links.len()).step_by(2) {
                    while turn.load(Ordering::Acquire) != at {
                        thread::yield_now();
                    }
                    change(node, &links[at], Membership::Join("room"));
                    turn.store(at + 1, Ordering::Release);
                }
            });
        }
        let until = Instant::now() + PATIENCE;
        let wanted: BTreeSet<_> = links.iter().map(|link| link.id().to_string()).collect();
        while seen.len() < links.len() {
            assert!(Instant::now() < until, "{} of {}", seen.len(), links.len());
            for change in taken(&watch) {
                match change {
                    Joined(member) if wanted.contains(member.connection_id()) => {
                        seen.push(member.connection_id().to_owned());
                    }
                    // the noise was too much: who was missed is behind those that were seen
                    Here(list) => {
                        let here: BTreeSet<_> = list.iter().map(Member::connection_id).collect();
                        let until = links.iter().take_while(|link| here.contains(link.id().as_str())).count();
                        seen.extend(links[seen.len()..until].iter().map(|link| link.id().to_string()));
                    }
                    _ => {}
                }
            }
            thread::yield_now();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(seen.iter().map(String::as_str).eq(links.iter().map(|link| link.id().as_str())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_watches_while_many_come_and_go_has_the_true_picture() {
    let (_, nodes): (_, [_; 2]) = nodes();
    let links: Vec<Vec<_>> = nodes.iter().map(|node| (0..40).map(|_| come(node)).collect()).collect();
    let truth = OnceLock::new();
    let truth = &truth;
    thread::scope(|scope| {
        let mut churn = Vec::new();
        for (node, links) in nodes.iter().zip(&links) {
            for (at, part) in links.chunks(20).enumerate() {
                churn.push(scope.spawn(move || come_and_go(node, part, at)));
            }
        }
        for n in 0..8 {
            let node = &nodes[n % 2];
            scope.spawn(move || {
                // others come and go before this one stays
                (0..n * 5).for_each(|_| Picture::default().follow(&watch(node, "room")));
                let watch = watch(node, "room");
                let mut picture = Picture::default();
                let until = Instant::now() + PATIENCE;
                while truth.get().is_none_or(|truth| *truth != picture.here) {
                    // some sleep until all is over
                    if n % 3 > 0 || truth.get().is_some() {
                        picture.follow(&watch);
                    }
                    assert!(Instant::now() < until, "{:?} and not {truth:?}", picture.here);
                    thread::yield_now();
                }
            });
        }
        churn.into_iter().for_each(|thread| thread.join().unwrap());
        truth.set(nodes.iter().flat_map(|node| ids(node, "room")).collect::<BTreeSet<_>>()).unwrap();
    });
    assert!(nodes.iter().all(|node| node.presence.feeds.is_empty() && node.presence.watched.is_empty()));
}

/// Half of them have left in the end.
fn come_and_go(node: &Lifetime, links: &[Arc<Link>], seed: usize) {
    for round in 0..300 {
        let link = &links[(round * 7 + seed) % links.len()];
        match round % 3 {
            2 => change(node, link, Membership::Leave("room")),
            _ => change(node, link, Membership::Join("room")),
        }
    }
    links.iter().step_by(2).for_each(|link| node.remove(link));
}

fn ids(node: &Lifetime, group: &str) -> Vec<String> {
    let group = node.groups.find(group);
    group.iter().flat_map(|group| group.members.links()).map(|link| link.id().to_string()).collect()
}

const PATIENCE: Duration = Duration::from_secs(20);
