//! What is served, made of a configuration: hubs, and the routes of both kinds of address.

use super::by_query;
use super::forwarded::forwarded;
use crate::admin::{DemoOptions, Overview, demo_routes};
use crate::config::{self, Config};
use crate::lifetime::Lifetime;
use crate::observe::{AllFigures, Exposition, Figures, Health, Phase};
use crate::rest::{self, Hook, ServerSeen};
use crate::service::Service;
use crate::{Hub, Policy, relay};
use axum::Router;
use futures_util::future::{join, join_all};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A server that is ready to listen.
pub(super) struct Composition {
    pub(super) health: Health,
    hubs: Arc<Hubs>,
    /// Cancelled when somebody tells it to stop over its API.
    pub(super) stop: CancellationToken,
}

/// All hubs: those without code by their names, in lower case, and those of application servers.
struct Hubs {
    relays: BTreeMap<String, Hub>,
    service: Option<Service>,
}

impl rest::Hubs for Hubs {
    fn hub(&self, name: &str) -> Option<Arc<Lifetime>> {
        match self.relays.get(name) {
            Some(hub) => Some(hub.lifetime().clone()),
            None => Some(self.service.as_ref()?.hub(name)?.lifetime.clone()),
        }
    }

    fn hub_to_keep(&self, name: &str) -> Option<Arc<Lifetime>> {
        self.hub(name).or_else(|| Some(self.service.as_ref()?.open(name).ok()?.lifetime.clone()))
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

impl Hubs {
    fn figures(&self) -> Vec<Figures> {
        let relays = self.relays.iter().map(|(name, hub)| Figures {
            hub: name.clone(),
            kind: "relay",
            clients: hub.metrics().clone(),
            servers: None,
        });
        let service = self.service.iter().flat_map(Service::hubs).map(|hub| Figures {
            hub: hub.name().to_string(),
            kind: "service",
            clients: hub.metrics.clone(),
            servers: Some(hub.server_metrics.clone()),
        });
        relays.chain(service).collect()
    }
}

impl Composition {
    pub(super) fn new(config: &Config) -> Self {
        let relays = config.hubs.iter().map(|(name, hub)| (name.clone(), relay_hub(hub, config.preset))).collect();
        let hubs = Arc::new(Hubs { relays, service: service(config) });
        Self { health: Health::default(), hubs, stop: CancellationToken::new() }
    }

    /// What clients, application servers and REST calls see.
    pub(super) fn data_routes(&self, config: &Config) -> Router {
        let mut clients = Router::new();
        for (name, hub) in &config.hubs {
            let routes = self.hubs.relays[name].routes(&hub.path);
            clients = clients.merge(match &hub.bearer {
                Some(bearer) => routes.layer(bearer.clone()),
                None => routes,
            });
        }
        // outermost: what asks whether it may come has no token
        if let Some(cors) = &config.cors {
            clients = clients.layer(cors.clone());
        }
        // these two see to tokens and origins themselves
        let service = self.hubs.service.as_ref().map_or_else(by_query::nothing, Service::routes);
        let paths = config.hubs.iter().map(|(name, hub)| (name.clone(), hub.path.clone())).collect();
        let service = by_query::by_query(service, clients.clone(), paths);
        let rest = self.rest_routes(config).unwrap_or_else(|| self.health.api_routes());
        let routes = clients.merge(service).merge(rest);
        let routes = match &config.signing {
            Some(keys) if config.preset => {
                let keys = config.signs_for_anybody().then(|| keys.clone());
                routes.merge(demo_routes(DemoOptions { hub: "chat".into(), keys }))
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
        options.https = config.server.tls.is_some();
        let (stop, health) = (self.stop.clone(), self.health.clone());
        options.drain = Some(Hook::new(move || stop.cancel()));
        options.ready = Some(Hook::new(move || health.phase() == Phase::Ready));
        Some(rest::routes(self.hubs.clone(), keys, options))
    }

    /// What operators see.
    pub(super) fn admin_routes(&self) -> Router {
        let hubs = self.hubs.clone();
        let figures: AllFigures = Arc::new(move || hubs.figures());
        let started = Instant::now();
        let overview = Overview { health: self.health.clone(), started, figures: figures.clone() };
        self.health.routes().merge(Exposition { started, figures }.routes()).merge(overview.routes())
    }

    /// Lets nobody in any more, and closes who is there, with permission to connect elsewhere. Returns whether all was over in time.
    pub(super) async fn drain(&self, within: Duration) -> bool {
        self.health.enter(Phase::Draining);
        let relays = join_all(self.hubs.relays.values().map(|hub| hub.drain(within)));
        let service = async {
            match &self.hubs.service {
                Some(service) => service.drain(within).await,
                None => true,
            }
        };
        let (relays, service) = join(relays, service).await;
        service && relays.into_iter().all(|done| done)
    }
}

/// Nobody could have a token for it without a key.
fn service(config: &Config) -> Option<Service> {
    let (keys, mut options) = (config.signing.clone()?, config.service.clone()?);
    options.reserved = config.hubs.keys().cloned().collect();
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
