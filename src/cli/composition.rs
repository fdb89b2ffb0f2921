//! What is served, made of a configuration: hubs, and the routes of both kinds of address.

use super::forwarded::forwarded;
use crate::admin::{DemoOptions, Overview, demo_routes};
use crate::config::{self, Config};
use crate::lifetime::Lifetime;
use crate::observe::{Exposition, Health, Phase};
use crate::rest::{self, Hook};
use crate::{Hub, Policy, relay};
use axum::Router;
use futures_util::future::join_all;
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

/// Hubs by their names, in lower case.
struct Hubs(BTreeMap<String, Hub>);

impl rest::Hubs for Hubs {
    fn hub(&self, name: &str) -> Option<Arc<Lifetime>> {
        self.0.get(name).map(|hub| hub.lifetime().clone())
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

impl Composition {
    pub(super) fn new(config: &Config) -> Self {
        let hubs = config.hubs.iter().map(|(name, hub)| (name.clone(), relay_hub(hub, config.preset))).collect();
        Self { health: Health::default(), hubs: Arc::new(Hubs(hubs)), stop: CancellationToken::new() }
    }

    /// What clients, application servers and REST calls see.
    pub(super) fn data_routes(&self, config: &Config) -> Router {
        let mut clients = Router::new();
        for (name, hub) in &config.hubs {
            let routes = self.hubs.0[name].routes(&hub.path);
            clients = clients.merge(match &hub.bearer {
                Some(bearer) => routes.layer(bearer.clone()),
                None => routes,
            });
        }
        // outermost: what asks whether it may come has no token
        if let Some(cors) = &config.cors {
            clients = clients.layer(cors.clone());
        }
        let routes = match self.rest_routes(config) {
            Some(rest) => clients.merge(rest),
            None => clients,
        };
        let routes = match &config.signing {
            Some(keys) if config.preset => {
                routes.merge(demo_routes(DemoOptions { hub: "chat".into(), keys: keys.clone() }))
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
        Some(rest::routes(self.hubs.clone(), keys, options))
    }

    /// What operators see.
    pub(super) fn admin_routes(&self) -> Router {
        let hubs: Vec<_> = self.hubs.0.iter().map(|(name, hub)| (name.clone(), Arc::clone(hub.metrics()))).collect();
        let started = Instant::now();
        let overview = Overview { health: self.health.clone(), started, hubs: hubs.clone() };
        let exposition = Exposition { started, hubs };
        self.health.routes().merge(exposition.routes()).merge(overview.routes())
    }

    /// Lets nobody in any more, and closes who is there, with permission to connect elsewhere. Returns whether all was over in time.
    pub(super) async fn drain(&self, within: Duration) -> bool {
        self.health.enter(Phase::Draining);
        join_all(self.hubs.0.values().map(|hub| hub.drain(within))).await.into_iter().all(|done| done)
    }
}

/// The preset's hub has a counter, which its page shows.
fn relay_hub(hub: &config::Hub, preset: bool) -> Hub {
    let builder = match preset {
        true => relay::demo::hub().options(hub.options.hub.clone()),
        false => relay::hub(hub.options.clone()),
    };
    if hub.anonymous { builder.build() } else { builder.authorize(Policy::authenticated()).build() }
}
