use crate::auth::AccessKeys;
use crate::lifetime::Lifetime;
use crate::rest::{Hook, Hubs, RestOptions, routes};
use crate::{Hub, Origins};
use axum::Router;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The REST API on some hubs, for tests of the API itself: the program composes it from its configuration.
#[derive(Default)]
pub struct RestRoutes {
    /// Access keys, the first of which signs.
    pub keys: Vec<String>,
    /// Hubs by their internal names.
    pub hubs: Vec<(String, Hub)>,
    /// Bytes of a body, if not the default.
    pub body_limit: Option<usize>,
    /// How long a body may take, if not the default.
    pub body_timeout: Option<Duration>,
    /// How long a client may take to answer, if not the default.
    pub invoke_timeout: Option<Duration>,
    /// Bodies at once, if not the default.
    pub max_parallel_bodies: Option<usize>,
    /// Questions to clients at once, if not the default.
    pub max_parallel_invokes: Option<usize>,
    /// Pages that may call.
    pub allowed_origins: Option<Origins>,
    /// Where the server is reached.
    pub public_url: Option<String>,
    /// Whether a proxy's headers count.
    pub trust_forwarded: bool,
    /// Whether unknown dates are refused.
    pub strict_version: bool,
    /// What `:drain` calls.
    pub drain: Option<Box<dyn Fn() + Send + Sync>>,
    /// Whether the server takes requests.
    pub ready: Option<Box<dyn Fn() -> bool + Send + Sync>>,
}

impl RestRoutes {
    /// Makes the router.
    ///
    /// # Panics
    ///
    /// If the keys cannot be used.
    pub fn build(self) -> Router {
        let defaults = RestOptions::default();
        let keys = AccessKeys::new(&self.keys).unwrap_or_else(|error| panic!("{error}"));
        let options = RestOptions {
            body_limit: self.body_limit.unwrap_or(defaults.body_limit),
            body_timeout: self.body_timeout.unwrap_or(defaults.body_timeout),
            invoke_timeout: self.invoke_timeout.unwrap_or(defaults.invoke_timeout),
            max_parallel_bodies: self.max_parallel_bodies.unwrap_or(defaults.max_parallel_bodies),
            max_parallel_invokes: self.max_parallel_invokes.unwrap_or(defaults.max_parallel_invokes),
            allowed_origins: self.allowed_origins.unwrap_or(defaults.allowed_origins),
            public_url: self.public_url,
            trust_forwarded: self.trust_forwarded,
            strict_version: self.strict_version,
            drain: self.drain.map(Hook::new),
            ready: self.ready.map(Hook::new),
            ..RestOptions::default()
        };
        routes(Arc::new(Fixed(self.hubs)), keys, options)
    }
}

impl fmt::Debug for RestRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestRoutes").finish_non_exhaustive()
    }
}

struct Fixed(Vec<(String, Hub)>);

impl Hubs for Fixed {
    fn hub(&self, name: &str) -> Option<Arc<Lifetime>> {
        let hub = self.0.iter().find(|hub| hub.0 == name);
        hub.map(|hub| hub.1.lifetime().clone())
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|hub| hub.0.clone()).collect()
    }
}
