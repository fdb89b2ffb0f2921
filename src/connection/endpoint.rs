use super::driver::Driver;
use super::http_driver::HttpDriver;
use super::resumption::Waiting;
use super::{CloseReason, ConnectionOptions, Link, Sweep, Tenant};
use crate::observe::HubMetrics;
use crate::transport::{Accept, Duplex, Opening, Registration, Source, Stream};
use std::sync::{Arc, Once, Weak};
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// Where the connections of one tenant live: takes over what the transport accepted, and runs a task for each.
pub(crate) struct Endpoint<T> {
    tenant: Arc<T>,
    shared: Arc<Shared>,
    sweeping: Once,
}

/// What every connection of an endpoint shares.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(super) options: Arc<ConnectionOptions>,
    pub(super) sweep: Arc<Sweep>,
    pub(super) waiting: Waiting,
    pub(super) metrics: Arc<HubMetrics>,
    pub(super) tasks: TaskTracker,
}

impl<T: Tenant> Endpoint<T> {
    /// `tasks` is waited for in [`drain`](Self::drain): the connections run on it, and what the tenant starts should as well.
    pub(crate) fn new(
        tenant: Arc<T>,
        options: ConnectionOptions,
        metrics: Arc<HubMetrics>,
        tasks: TaskTracker,
    ) -> Self {
        let shared =
            Shared { options: Arc::new(options), sweep: Arc::default(), waiting: Waiting::default(), metrics, tasks };
        Self { tenant, shared: Arc::new(shared), sweeping: Once::new() }
    }

    /// Closes everybody, with permission to connect again, and waits for connections and calls to end. Says whether all of them did
    /// within that time. New connections have to be kept out by the caller.
    ///
    /// The first half paces who is told; whoever has calls or streams under way is closed when they have ended. Those that have not after
    /// three quarters of the time are closed anyway, paced again.
    ///
    /// Cancel safe: what was closed stays closed.
    pub(crate) async fn drain(&self, within: Duration) -> bool {
        let tasks = &self.shared.tasks;
        tasks.close();
        let start = tokio::time::Instant::now();
        self.tell_all(within / 2, Link::retire).await;
        if tokio::time::timeout_at(start + within.mul_f64(0.75), tasks.wait()).await.is_ok() {
            return true;
        }
        self.tell_all(within / 8, |link| link.close(CloseReason::Shutdown)).await;
        tokio::time::timeout_at(start + within, tasks.wait()).await.is_ok()
    }

    /// Tells everybody something, in batches that are spread over this time.
    async fn tell_all(&self, over: Duration, tell: impl Fn(&Link)) {
        let total = self.shared.sweep.count().max(1) as u32;
        let mut next = tokio::time::Instant::now();
        for links in self.shared.sweep.links() {
            for batch in links.chunks(PACE) {
                tokio::time::sleep_until(next).await;
                batch.iter().for_each(|link| tell(link));
                next += over.mul_f64(batch.len() as f64 / f64::from(total));
            }
        }
    }

    fn sweep(&self) {
        self.sweeping.call_once(|| {
            let shared = Arc::downgrade(&self.shared);
            tokio::spawn(Sweep::run(move || shared.upgrade().map(|s| (s.sweep.clone(), s.options.clone()))));
        });
    }
}

impl<T: Tenant> Accept for Endpoint<T> {
    fn accept(&self, opening: Opening) {
        self.sweep();
        let metrics = &self.shared.metrics;
        let Opening { id, facts, duplex, early, registration } = opening;
        let resumable = registration.as_ref().is_some_and(Registration::may_resume);
        let (socket, boxed, seat, http) = match duplex {
            // its socket is replaced one day, so nobody but its own task may hold it
            Duplex::Tcp(socket, seat) if resumable => (None, Some(Box::new(socket) as Box<dyn Stream>), seat, None),
            Duplex::Tcp(socket, seat) => {
                metrics.raw_sockets.add(1);
                (Some(socket), None, seat, None)
            }
            Duplex::Boxed(stream, seat) => {
                metrics.boxed_streams.add(1);
                (None, Some(stream), seat, None)
            }
            Duplex::Http(channel) => (None, None, None, Some(channel)),
        };
        let resumption = resumable.then(Box::default);
        let link = Link::new(id, facts, self.shared.clone(), socket, http.clone(), resumption);
        if let (true, Some(registration)) = (resumable, &registration) {
            let resume: Weak<Link> = Arc::downgrade(&link);
            registration.resumed_by(resume);
        }
        if let Some(registration) = &registration {
            let standing: Weak<Link> = Arc::downgrade(&link);
            registration.attach(standing);
        }
        self.shared.sweep.add(&link);
        if self.shared.tasks.is_closed() {
            // its upgrade was granted before a drain began, and finished after that had looked here
            link.close(CloseReason::Shutdown);
        }
        metrics.connections.up();
        let tenant = self.tenant.clone();
        match http {
            None => drop(self.shared.tasks.spawn(Driver::new(link, tenant, boxed, seat, early, registration))),
            Some(channel) => {
                let source: Weak<Link> = Arc::downgrade(&link);
                channel.open(source as Weak<dyn Source>);
                self.shared.tasks.spawn(HttpDriver::new(link, tenant, channel, registration));
            }
        }
    }
}

impl<T> std::fmt::Debug for Endpoint<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// Connections that a drain closes at once.
const PACE: usize = 32;
