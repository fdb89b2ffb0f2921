use super::{Client, ServerLink};
use parking_lot::RwLock;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The server connections of a hub that have shaken hands.
#[derive(Debug, Default)]
pub(crate) struct Servers {
    links: RwLock<Vec<Arc<ServerLink>>>,
    turn: AtomicUsize,
}

/// What a client's token says about the server that should carry it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Sticky<'a> {
    #[default]
    No,
    /// The server with this id if it is here, else any.
    Preferred(&'a str),
    /// The server with this id and no other.
    Required(&'a str),
}

impl Servers {
    /// Chooses the server connection for a client: the one that carries the fewest, equals in turn; one that takes no more for now only if all
    /// are like that. `None` if there is none that may.
    ///
    /// Passed over are weak connections, those that have ended, and all of a server of which one has announced that it goes away: its others
    /// are about to.
    pub(crate) fn choose(&self, sticky: Sticky<'_>) -> Option<Arc<ServerLink>> {
        let links = self.links.read();
        match sticky {
            Sticky::No => self.least_loaded(&links, None),
            Sticky::Required(server) => self.least_loaded(&links, Some(server)),
            Sticky::Preferred(server) => {
                self.least_loaded(&links, Some(server)).or_else(|| self.least_loaded(&links, None))
            }
        }
    }

    /// A client of the hub, and the connection that carries it.
    pub(crate) fn client(&self, id: &str) -> Option<(Arc<ServerLink>, Arc<dyn Client>)> {
        self.links.read().iter().find_map(|link| Some((link.clone(), link.client(id)?)))
    }

    /// A live connection of a server: one that takes more before one that does not, then this one before others.
    pub(crate) fn of_server(&self, preferred: &Arc<ServerLink>) -> Option<Arc<ServerLink>> {
        let lives = |link: &&Arc<ServerLink>| link.server_id() == preferred.server_id() && !link.is_closed();
        if lives(&preferred) && !preferred.is_stuck() {
            return Some(preferred.clone());
        }
        let links = self.links.read();
        let others = links.iter().filter(lives);
        others.min_by_key(|link| (link.is_stuck(), !Arc::ptr_eq(link, preferred))).cloned()
    }

    pub(crate) fn links(&self) -> Vec<Arc<ServerLink>> {
        self.links.read().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.links.read().len()
    }

    /// One connection of each server.
    pub(crate) fn one_of_each_server(&self) -> Vec<Arc<ServerLink>> {
        let mut links = self.links();
        links.sort_by(|a, b| a.server_id().cmp(b.server_id()));
        links.dedup_by(|a, b| a.server_id() == b.server_id());
        links
    }

    /// Every server once, in the order of their ids.
    pub(crate) fn server_ids(&self) -> BTreeSet<Arc<str>> {
        self.links.read().iter().map(|link| link.server_id().clone()).collect()
    }

    pub(super) fn add(&self, link: &Arc<ServerLink>) {
        self.links.write().push(link.clone());
    }

    /// Says whether it was the last of its server.
    pub(super) fn remove(&self, link: &Arc<ServerLink>) -> bool {
        let mut links = self.links.write();
        links.retain(|other| !Arc::ptr_eq(other, link));
        links.iter().all(|other| other.server_id() != link.server_id())
    }

    fn least_loaded(&self, links: &[Arc<ServerLink>], server: Option<&str>) -> Option<Arc<ServerLink>> {
        let leaving: BTreeSet<_> = links.iter().filter(|link| link.is_leaving()).map(|link| link.server_id()).collect();
        let fits = |link: &&Arc<ServerLink>| {
            link.is_routable()
                && !leaving.contains(link.server_id())
                && server.is_none_or(|server| **link.server_id() == *server)
        };
        let start = self.turn.fetch_add(1, Ordering::Relaxed) % links.len().max(1);
        let (before, after) = links.split_at(start);
        after.iter().chain(before).filter(fits).min_by_key(|link| (link.is_stuck(), link.client_count())).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::service::Message;
    use crate::service::{ClientOptions, ServerFacts, ServerKind, ServiceHub};

    fn link(servers: &Servers, server: &str, kind: ServerKind) -> Arc<ServerLink> {
        let facts = ServerFacts { kind, ..ServerFacts::default() };
        let link =
            ServerLink::new("", server.into(), &ServiceHub::new("hub", &"".into(), &ClientOptions::default()), 1024);
        link.shake_hands(facts);
        servers.add(&link);
        link
    }

    #[derive(Debug)]
    struct Somebody(crate::transport::ConnectionId);

    impl Client for Somebody {
        fn id(&self) -> &crate::transport::ConnectionId {
            &self.0
        }
        fn data(&self, _: &[u8], _: i32) {}
        fn close(&self, _: &str) {}
        fn lost(&self) {}
        fn migrate(&self) {}
    }

    fn bind(link: &ServerLink) {
        assert!(link.bind(Arc::new(Somebody(crate::transport::ConnectionId::random()))));
    }

    #[test]
    fn the_least_loaded_connection_that_may_carry_clients_is_chosen() {
        let servers = Servers::default();
        assert!(servers.choose(Sticky::No).is_none());
        let weak = link(&servers, "a", ServerKind::Weak);
        assert!(servers.choose(Sticky::No).is_none());
        let (one, two) = (link(&servers, "a", ServerKind::Default), link(&servers, "b", ServerKind::OnDemand));
        for expected in [1, 2, 3] {
            (0..2).for_each(|_| bind(&servers.choose(Sticky::No).unwrap()));
            assert_eq!([one.client_count(), two.client_count(), weak.client_count()], [expected, expected, 0]);
        }
        two.leave();
        assert!(Arc::ptr_eq(&servers.choose(Sticky::No).unwrap(), &one));
        one.close(crate::service::ServerGone::Lost);
        assert!(servers.choose(Sticky::No).is_none());
        assert!(!servers.remove(&one) && servers.remove(&weak));
    }

    #[test]
    fn a_connection_that_is_stuck_gets_no_client_while_another_is_not() {
        let servers = Servers::default();
        let (stuck, other) = (link(&servers, "a", ServerKind::Default), link(&servers, "a", ServerKind::Default));
        stuck.send(&Message::ServiceError { error: &"x".repeat(1100) });
        for _ in 0..5 {
            bind(&servers.choose(Sticky::No).unwrap());
        }
        assert_eq!([stuck.client_count(), other.client_count()], [0, 5]);
        assert!(Arc::ptr_eq(&servers.of_server(&stuck).unwrap(), &other));
        other.send(&Message::ServiceError { error: &"x".repeat(1100) });
        assert!(Arc::ptr_eq(&servers.choose(Sticky::No).unwrap(), &stuck), "all are stuck");
        assert!(Arc::ptr_eq(&servers.of_server(&stuck).unwrap(), &stuck));
    }

    #[test]
    fn stickiness_names_a_server() {
        let servers = Servers::default();
        let (one, two) = (link(&servers, "a", ServerKind::Default), link(&servers, "b", ServerKind::Default));
        bind(&two);
        for _ in 0..3 {
            assert!(Arc::ptr_eq(&servers.choose(Sticky::Required("b")).unwrap(), &two));
            assert!(Arc::ptr_eq(&servers.choose(Sticky::Preferred("b")).unwrap(), &two));
            assert!(Arc::ptr_eq(&servers.choose(Sticky::Preferred("c")).unwrap(), &one));
        }
        assert!(servers.choose(Sticky::Required("c")).is_none());
    }

    #[test]
    fn a_server_of_which_one_connection_goes_gets_nobody() {
        let servers = Servers::default();
        let (one, _two) = (link(&servers, "a", ServerKind::Default), link(&servers, "a", ServerKind::Default));
        let other = link(&servers, "b", ServerKind::Default);
        bind(&other);
        one.leave();
        assert!(Arc::ptr_eq(&servers.choose(Sticky::Preferred("a")).unwrap(), &other));
    }
}
