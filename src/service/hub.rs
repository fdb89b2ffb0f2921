use super::client_results::ClientResults;
use super::routing::Servers;
use super::{ClientFace, ClientOptions, Credentials, ServerLink};
use crate::backplane::Bus;
use crate::lifetime::Lifetime;
use crate::observe::{HubMetrics, ServerMetrics};
use std::fmt;
use std::sync::Arc;

/// One hub of the service: the application servers that have it, and their clients.
pub(crate) struct ServiceHub {
    name: Arc<str>,
    pub(crate) lifetime: Arc<Lifetime>,
    pub(crate) servers: Arc<Servers>,
    pub(super) results: Arc<ClientResults>,
    pub(crate) metrics: Arc<HubMetrics>,
    pub(crate) server_metrics: Arc<ServerMetrics>,
    face: Arc<ClientFace>,
    /// How many hold the lifetime for good.
    holders: usize,
}

impl ServiceHub {
    /// `instance` is the name of this process among those of the service.
    pub(super) fn new(name: &str, instance: &Arc<str>, options: &ClientOptions) -> Arc<Self> {
        let (lifetime, metrics) = (Lifetime::new(Bus::single()), Arc::default());
        let servers: Arc<Servers> = Arc::default();
        let results = Arc::new(ClientResults::new(Arc::clone(&servers)));
        let face = ClientFace::new(
            Arc::clone(&lifetime),
            Arc::clone(&servers),
            Arc::clone(&results),
            instance.clone(),
            Arc::clone(&metrics),
            options,
        );
        let (name, server_metrics, holders) = (name.into(), Arc::default(), Arc::strong_count(&lifetime));
        Arc::new(Self { name, lifetime, servers, results, metrics, server_metrics, face, holders })
    }

    /// Nothing is lost with it: no server connection or client is here or on its way, and no user is remembered.
    ///
    /// Asked while nobody can find it: who has found it before holds something of it, and may be about to use that.
    pub(super) fn is_idle(self: &Arc<Self>) -> bool {
        let is_held = Arc::strong_count(self) > 1
            || Arc::strong_count(&self.face) > 1
            || Arc::strong_count(&self.lifetime) > self.holders;
        !is_held && self.lifetime.is_idle() && self.face.is_idle()
    }

    /// In lower case.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// What its clients see of it.
    pub(crate) fn face(&self) -> &Arc<ClientFace> {
        &self.face
    }

    /// Who knows the clients by their secret tokens.
    pub(super) fn credentials(&self) -> &dyn Credentials {
        &*self.face
    }

    /// A server connection has shaken hands: it may carry clients from now on.
    pub(super) fn server_came(&self, link: &Arc<ServerLink>) {
        self.servers.add(link);
        self.face.server_came();
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
