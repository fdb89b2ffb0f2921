//! Hubs as async functions: what users write, and the dispatcher that calls it.

mod bind;
mod builder;
mod call;
mod callable;
mod calls;
mod client_results;
mod clients;
mod connection;
mod contain;
mod context;
mod dispatch;
mod error;
mod extract;
mod filter;
mod invocation;
mod items;
mod kept;
mod life_cycle;
mod methods;
mod options;
mod pending;
mod permissions;
mod presence;
mod shared;
mod streams;
mod target;
mod test_connection;
mod upload;

pub use bind::{Argument, Bind, Extracted, FromConnection, FromInvocation, Uploaded};
pub use builder::HubBuilder;
pub use callable::Callable;
pub use client_results::ClientCall;
pub use clients::{Client, Clients, Groups, Receivers};
pub use connection::Connection;
pub use context::HubContext;
pub use error::{HubError, HubResult};
pub use extract::{Caller, Cancellation, Cancelled};
pub use filter::{Filter, Invocation, Next};
pub use invocation::{Call, Outcome};
pub use items::Items;
pub use options::HubOptions;
pub use pending::Pending;
pub use permissions::Permissions;
pub use presence::Presence;
pub use target::{Answers, Arguments, ClientMethod, Fits, Target};
pub use test_connection::Inbox;
pub use upload::UploadStream;

use crate::connection::Endpoint;
use crate::transport::{self, Endpoints};
use axum::Router;
use shared::Shared;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A hub, ready to be mounted in an axum router. Cheap to clone.
///
/// ```
/// use axum::Router;
/// use hubwire::{Clients, Hub, HubResult};
///
/// async fn say(clients: Clients, text: String) -> HubResult {
///     clients.all().send("Said", (text,)).await
/// }
///
/// let hub = Hub::with_state(()).method("Say", say).build();
/// let router: Router = Router::new().merge(hub.routes("/hubs/chat"));
/// ```
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
    endpoint: Arc<Endpoint<Shared>>,
    endpoints: Arc<Endpoints>,
}

impl Hub {
    /// Starts a hub whose functions may ask for parts of `state`, by axum's `State`. A hub without a state has the state `()`.
    pub fn with_state<S: Send + Sync + 'static>(state: S) -> HubBuilder<S> {
        HubBuilder::new(state)
    }

    /// Returns the routes at a path, for a router of any state: merge them into it. Every mount is the same hub.
    ///
    /// Who connects is what the router's layers say: one that authenticates puts an [`Identity`](crate::Identity) into the request's
    /// extensions.
    ///
    /// # Panics
    ///
    /// If the path does not start with a slash, as axum's `route` does.
    pub fn routes<R: Clone + Send + Sync + 'static>(&self, path: &str) -> Router<R> {
        transport::routes(path, self.endpoints.clone())
    }

    /// Returns a handle for code outside of calls.
    pub fn context(&self) -> HubContext {
        HubContext::of(&self.shared)
    }

    /// Lets nobody in any more, and closes the connections in paced batches, with permission to connect again elsewhere: each once its calls
    /// and streams have ended ([`Presence`] ends at once), those that go on after three quarters of the time all the same. Returns whether all was over `within` it.
    ///
    /// # Cancel safety
    ///
    /// What was closed stays closed.
    pub async fn drain(&self, within: Duration) -> bool {
        self.endpoints.close();
        self.shared.lifetime.end_watching();
        self.endpoint.drain(within).await
    }

    /// Who is connected: what the REST API works on.
    #[cfg(feature = "service")]
    #[cfg_attr(not(feature = "server"), allow(dead_code, reason = "for what composes the server"))]
    pub(crate) fn lifetime(&self) -> &Arc<crate::lifetime::Lifetime> {
        &self.shared.lifetime
    }

    #[cfg(any(feature = "server", feature = "testing"))]
    pub(crate) fn metrics(&self) -> &Arc<crate::observe::HubMetrics> {
        &self.shared.metrics
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}
