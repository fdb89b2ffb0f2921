use super::pings::{Totals, ping};
use super::{ServerGone, ServiceHub, ServiceOptions, client_routes, server_endpoint};
use crate::auth::AccessKeys;
use axum::Router;
use futures_util::future::join_all;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What takes the place of Azure SignalR Service. Cheap to clone.
#[derive(Clone)]
pub struct Service(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) keys: AccessKeys,
    pub(super) options: ServiceOptions,
    /// The name of this process among those of the service.
    pub(super) instance: Arc<str>,
    hubs: RwLock<HashMap<Arc<str>, Arc<ServiceHub>>>,
    /// Places for server connections.
    pub(super) places: Arc<Semaphore>,
    /// Nobody new gets in, once it is cancelled.
    pub(super) closed: CancellationToken,
    /// When a refused token was last warned of.
    pub(super) warned: Mutex<Option<Instant>>,
    pub(super) tasks: TaskTracker,
}

/// Why there is no hub of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoHub {
    #[error("there are too many hubs")]
    TooMany,
    /// The configuration does not have it, or it is somebody else's.
    #[error("there is no such hub")]
    NotServed,
}

impl Service {
    /// `keys` are those of the connection strings that application servers have.
    #[cfg_attr(not(any(feature = "server", feature = "testing")), allow(dead_code, reason = "the program makes it"))]
    pub(crate) fn new(keys: AccessKeys, options: ServiceOptions) -> Self {
        Self(Arc::new(Shared {
            keys,
            places: Arc::new(Semaphore::new(options.max_server_connections.min(Semaphore::MAX_PERMITS))),
            options,
            instance: random_name().into(),
            hubs: RwLock::default(),
            closed: CancellationToken::new(),
            warned: Mutex::new(None),
            tasks: TaskTracker::new(),
        }))
    }

    /// Makes the routes of both faces.
    pub fn routes<S: Clone + Send + Sync + 'static>(&self) -> Router<S> {
        server_endpoint::routes(self.clone()).merge(client_routes(self.clone()))
    }

    /// A hub that somebody had a valid token for, by its name in lower case.
    pub(crate) fn hub(&self, name: &str) -> Option<Arc<ServiceHub>> {
        self.0.hubs.read().get(name).cloned()
    }

    /// Finds a hub by its name in lower case, or makes it: somebody has a valid token for it.
    pub(crate) fn open(&self, name: &str) -> Result<Arc<ServiceHub>, NoHub> {
        if let Some(hub) = self.hub(name) {
            return Ok(hub);
        }
        let options = &self.0.options;
        let is_listed = options.hubs.is_empty() || options.hubs.iter().any(|hub| hub.eq_ignore_ascii_case(name));
        if !is_listed || options.reserved.iter().any(|taken| taken == name) {
            return Err(NoHub::NotServed);
        }
        let mut hubs = self.0.hubs.write();
        if let Some(hub) = hubs.get(name) {
            return Ok(hub.clone());
        }
        if hubs.len() >= self.0.options.max_hubs {
            let idle = hubs.iter().find(|(_, hub)| hub.is_idle()).map(|(name, _)| name.clone());
            hubs.remove(&idle.ok_or(NoHub::TooMany)?);
        }
        let hub = ServiceHub::new(name, &self.0.instance, &self.0.options.clients);
        hubs.insert(hub.name().clone(), hub.clone());
        Ok(hub)
    }

    /// In no order.
    pub(crate) fn hubs(&self) -> Vec<Arc<ServiceHub>> {
        self.0.hubs.read().values().cloned().collect()
    }

    /// The name of this process among those of the service.
    pub(crate) fn instance(&self) -> &Arc<str> {
        &self.0.instance
    }

    /// Asks every application server of a hub for one more connection, to the instance of the service of this name.
    pub fn ask_for_connections(&self, hub: &str, instance: &str) {
        for link in self.hub(hub).iter().flat_map(|hub| hub.servers.one_of_each_server()) {
            link.send(&ping("target", instance));
        }
    }

    /// Tells every application server, on every connection, that another instance of the service is gone, and its clients with it.
    pub fn instance_gone(&self, instance: &str) {
        for link in self.hubs().iter().flat_map(|hub| hub.servers.links()) {
            link.send(&ping("offline", instance));
        }
    }

    /// Clients and server connections over all hubs.
    pub(super) fn totals(&self) -> Totals {
        let hubs = self.0.hubs.read();
        let clients = hubs.values().map(|hub| hub.lifetime.connection_count()).sum();
        Totals { clients, servers: hubs.values().map(|hub| hub.servers.count()).sum() }
    }

    /// Answers 503 to everybody new from now on, and ends the server connections that have not shaken hands.
    pub(crate) fn close(&self) {
        self.0.closed.cancel();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled()
    }

    /// Lets nobody in any more, closes the clients in paced batches, with permission to connect again elsewhere, then the server
    /// connections, and says whether all of it had ended `within` that time.
    ///
    /// Cancel safe: what was closed stays closed.
    pub async fn drain(&self, within: Duration) -> bool {
        let end = tokio::time::Instant::now() + within;
        self.close();
        self.0.tasks.close();
        let hubs = self.hubs();
        let clients_left = join_all(hubs.iter().map(|hub| hub.face().drain(within.mul_f64(CLIENTS_SHARE)))).await;
        for link in self.hubs().iter().flat_map(|hub| hub.servers.links()) {
            link.close(ServerGone::Shutdown);
        }
        let servers_left = tokio::time::timeout_at(end, self.0.tasks.wait()).await.is_ok();
        servers_left && clients_left.into_iter().all(|left| left)
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("instance", &self.0.instance)
            .field("hubs", &self.0.hubs.read().len())
            .finish_non_exhaustive()
    }
}

/// A name that no other process has.
pub(super) fn random_name() -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system has a source of randomness");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The part of a drain's time that clients have, whose goodbyes pass through the server connections.
const CLIENTS_SHARE: f64 = 0.8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backplane::UserMembership;

    #[tokio::test]
    async fn a_hub_that_nobody_uses_makes_room_for_another() {
        let options = ServiceOptions { max_hubs: 2, ..ServiceOptions::default() };
        let service = Service::new(AccessKeys::new(["k".repeat(32)]).unwrap(), options);
        let held = service.open("held").unwrap();
        let users = service.open("users").unwrap().lifetime.clone();
        assert_eq!(service.open("other").unwrap_err(), NoHub::TooMany, "somebody may be about to use it");
        let join = UserMembership::Join { group: "g", remembered: None };
        users.change_user("ann", join).wait().await.unwrap();
        drop(users);
        assert_eq!(service.open("other").unwrap_err(), NoHub::TooMany, "a user is remembered");
        let users = service.open("users").unwrap().lifetime.clone();
        users.change_user("ann", UserMembership::LeaveAll).wait().await.unwrap();
        drop(users);
        assert!(service.open("other").is_ok());
        assert!(Arc::ptr_eq(&service.hub("held").unwrap(), &held) && service.hub("users").is_none());
        let face = service.hub("other").unwrap().face().clone();
        assert_eq!(service.open("another").unwrap_err(), NoHub::TooMany, "a request is under way");
        drop(face);
        assert!(service.open("another").is_ok());
    }

    #[test]
    fn no_hub_is_given_up_that_somebody_has_just_found() {
        let options = ServiceOptions { max_hubs: 3, ..ServiceOptions::default() };
        let service = Service::new(AccessKeys::new(["k".repeat(32)]).unwrap(), options);
        let opened = std::thread::scope(|scope| {
            let run = |thread: usize| {
                let service = &service;
                move || {
                    let names = (0..2000).map(|n| format!("hub{}", (n * 7 + thread) % 5));
                    let found = names.filter_map(|name| service.open(&name).ok().map(|hub| (name, hub)));
                    let is_kept = |(name, hub): (String, Arc<ServiceHub>)| {
                        std::thread::yield_now();
                        service.hub(&name).is_some_and(|known| Arc::ptr_eq(&known, &hub))
                    };
                    found.map(is_kept).inspect(|kept| assert!(kept, "it was given up")).count()
                }
            };
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(run(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert!(opened > 2000, "{opened}");
        assert!(service.hubs().len() <= 3);
    }
}
