use super::client_results::ClientResults;
use super::routing::Servers;
use super::{Credentials, ServerLink};
use crate::backplane::Bus;
use crate::lifetime::Lifetime;
use crate::observe::{HubMetrics, ServerMetrics};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// One hub of the service: the application servers that have it, and their clients.
pub(crate) struct ServiceHub {
    name: Arc<str>,
    pub(crate) lifetime: Arc<Lifetime>,
    pub(crate) servers: Arc<Servers>,
    pub(super) results: Arc<ClientResults>,
    pub(crate) metrics: Arc<HubMetrics>,
    pub(crate) server_metrics: Arc<ServerMetrics>,
    credentials: OnceLock<Arc<dyn Credentials>>,
}

impl ServiceHub {
    pub(super) fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            lifetime: Lifetime::new(Bus::single()),
            servers: Arc::default(),
            results: Arc::default(),
            metrics: Arc::default(),
            server_metrics: Arc::default(),
            credentials: OnceLock::new(),
        })
    }

    /// In lower case.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Who knows the clients by their secret tokens. Set once, by the face towards them.
    pub(crate) fn set_credentials(&self, credentials: Arc<dyn Credentials>) {
        let _ = self.credentials.set(credentials);
    }

    pub(super) fn credentials(&self) -> Option<&Arc<dyn Credentials>> {
        self.credentials.get()
    }

    /// A server connection has shaken hands: it may carry clients from now on.
    pub(super) fn server_came(&self, link: &Arc<ServerLink>) {
        self.servers.add(link);
    }

    /// It has ended: its clients may connect again, and nobody waits for its questions or answers.
    pub(super) fn server_left(&self, link: &Arc<ServerLink>) {
        let was_last = self.servers.remove(link);
        for client in link.finish() {
            client.lost();
        }
        if was_last {
            self.results.caller_gone(link.server_id());
        }
    }
}

impl fmt::Debug for ServiceHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceHub")
            .field("name", &self.name)
            .field("servers", &self.servers.count())
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}
