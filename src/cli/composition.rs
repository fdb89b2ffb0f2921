//! What is served, made of a configuration: hubs, and the routes of both kinds of address.

use super::by_query;
use super::forwarded::forwarded;
use crate::admin::demo::{self, DemoOptions};
use crate::config::{self, Config};
use crate::lifetime::Lifetime;
use crate::observe::{Counted, Exposition, Health, HubMetrics, Phase, ServerMetrics};
use crate::rest::{self, Hook, ServerSeen};
use crate::{Hub, Policy, Service, relay};
use axum::Router;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A server that is ready to listen.
pub(super) struct Composition {
    pub(super) health: Health,
    served: Arc<Served>,
    /// Cancelled when somebody tells it to stop over its API.
    pub(super) stop: CancellationToken,
}

/// Every hub: those without code by their names, in lower case, and those of the service.
struct Served {
    relays: BTreeMap<String, Hub>,
    service: Option<Service>,
}

impl rest::Hubs for Served {
    fn hub(&self, name: &str) -> Option<Arc<Lifetime>> {
        match self.relays.get(name) {
            Some(hub) => Some(hub.lifetime().clone()),
            None => Some(self.service.as_ref()?.hub(name)?.lifetime.clone()),
        }
    }

    fn hub_to_keep(&self, name: &str) -> Option<Arc<Lifetime>> {
        match self.relays.get(name) {
            Some(hub) => Some(hub.lifetime().clone()),
            None => Some(self.service.as_ref()?.open(name).ok()?.lifetime.clone()),
        }
    }

    fn names(&self) -> Vec<String> {
        let of_service = self.service.iter().flat_map(Service::hubs).map(|hub| hub.name().to_string());
        self.relays.keys().cloned().chain(of_service).collect()
    }

    fn servers(&self, name: &str) -> Vec<ServerSeen> {
        let hub = self.service.as_ref().and_then(|service| service.hub(name));
        let mut seen: BTreeMap<String, ServerSeen> = BTreeMap::new();
        for link in hub.iter().flat_map(|hub| hub.servers.links()) {
            let id = link.server_id().to_string();
            let server =
                seen.entry(id.clone()).or_insert(ServerSeen { id, connections: 0, clients: 0, leaving: false });
            server.connections += 1;
            server.clients += link.client_count();
            server.leaving |= link.is_leaving();
        }
        seen.into_values().collect()
    }
}

impl Counted for Served {
    fn hubs(&self) -> Vec<(String, Arc<HubMetrics>)> {
        let relays = self.relays.iter().map(|(name, hub)| (name.clone(), hub.metrics().clone()));
        let of_service = self.service.iter().flat_map(Service::hubs);
        relays.chain(of_service.map(|hub| (hub.name().to_string(), hub.metrics.clone()))).collect()
    }

    fn servers(&self) -> Vec<(String, Arc<ServerMetrics>)> {
        let of_service = self.service.iter().flat_map(Service::hubs);
        of_service.map(|hub| (hub.name().to_string(), hub.server_metrics.clone())).collect()
    }
}

impl Composition {
    pub(super) fn new(config: &Config) -> Self {
        let relays = config.hubs.iter().map(|(name, hub)| (name.clone(), relay_hub(hub, config.preset))).collect();
        let served = Served { relays, service: service(config) };
        Self { health: Health::default(), served: Arc::new(served), stop: CancellationToken::new() }
    }

    /// What clients, application servers and REST calls see.
    pub(super) fn data_routes(&self, config: &Config) -> Router {
        let mut clients = Router::new();
        for (name, hub) in &config.hubs {
            let routes = self.served.relays[name].routes(&hub.path);
            clients = clients.merge(match &hub.bearer {
                Some(bearer) => routes.layer(bearer.clone()),
                None => routes,
            });
        }
        // outermost: what asks whether it may come has no token
        if let Some(cors) = &config.cors {
            clients = clients.layer(cors.clone());
        }
        let paths = config.hubs.iter().map(|(name, hub)| (name.clone(), hub.path.clone())).collect();
        let service = self.served.service.as_ref().map_or_else(by_query::nothing, Service::routes);
        let routes = by_query::by_query(service, clients.clone(), paths).merge(clients);
        let routes = match self.rest_routes(config) {
            Some(rest) => routes.merge(rest),
            None => routes,
        };
        let routes = match &config.signing {
            Some(keys) if config.preset => {
                routes.merge(demo::routes(DemoOptions { hub: "chat".into(), keys: keys.clone() }))
            }
            _ => routes,
        };
        forwarded(routes, &config.server.trusted_proxies)
    }

    /// Nobody could call it without a key.
    fn rest_routes(&self, config: &Config) -> Option<Router> {
        let keys = config.signing.clone()?;
        let mut options = config.rest.clone();
        options.public_url = config.server.public_url.as_ref().map(|url| format!("{url}/"));
        let (stop, health) = (self.stop.clone(), self.health.clone());
        options.drain = Some(Hook::new(move || stop.cancel()));
        options.ready = Some(Hook::new(move || health.phase() == Phase::Ready));
        Some(rest::routes(self.served.clone(), keys, options))
    }

    /// What operators see.
    pub(super) fn admin_routes(&self) -> Router {
        let exposition = Exposition { started: Instant::now(), counted: self.served.clone() };
        self.health.routes().merge(exposition.routes())
    }

    /// Lets nobody in any more, and closes who is there, with permission to connect elsewhere. Returns whether all was over in time.
    pub(super) async fn drain(&self, within: Duration) -> bool {
        self.health.enter(Phase::Draining);
        let relays = join_all(self.served.relays.values().map(|hub| hub.drain(within)));
        let service = async {
            match &self.served.service {
                Some(service) => service.drain(within).await,
                None => true,
            }
        };
        let (relays, service) = futures_util::future::join(relays, service).await;
        service && relays.into_iter().all(|done| done)
    }
}

/// Nobody could have a token for it without a key.
fn service(config: &Config) -> Option<Service> {
    let (keys, mut options) = (config.signing.clone()?, config.service.clone()?);
    options.reserved = config.hubs.keys().cloned().collect();
    options.clients.trusts_forwarded |= !config.server.trusted_proxies.is_empty();
    Some(Service::new(keys, options))
}

/// The preset's hub has a counter, which its page shows.
fn relay_hub(hub: &config::Hub, preset: bool) -> Hub {
    let builder = match preset {
        true => relay::demo::hub().options(hub.options.hub.clone()),
        false => relay::hub(hub.options.clone()),
    };
    if hub.anonymous { builder.build() } else { builder.authorize(Policy::authenticated()).build() }
}
