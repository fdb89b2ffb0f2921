//! The face towards clients: they negotiate and connect here with tokens that application servers gave them, and what they say is passed
//! on, never understood.

mod admission;
mod bound;
mod claims;
mod kept;
mod options;
mod passed;
mod refresh;
mod terms;

#[cfg(feature = "server")]
pub(crate) use admission::LARGEST_IDENTITY;
pub(crate) use admission::{ClientFace, client_routes};
pub use options::ClientOptions;

use super::{ClientResults, Servers};
use crate::connection::{Link, Tenant};
use crate::lifetime::Lifetime;
use crate::protocol::hub::{HandshakeError, HandshakeRequest, Protocol};
use bound::Shared;
use parking_lot::Mutex;
use passed::Passing;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// The clients of one hub, which have it behind the service.
pub(crate) struct Clients {
    lifetime: Arc<Lifetime>,
    servers: Arc<Servers>,
    /// Questions of servers to clients.
    results: Arc<ClientResults>,
    /// The name of this process among those of the service.
    instance: Arc<str>,
    grace: Duration,
    relay_limit: usize,
    tasks: TaskTracker,
    /// Those for which there is no server, or no other one.
    waiting: Mutex<Vec<Weak<Link>>>,
}

impl Clients {
    /// A server connection has shaken hands: whoever waits for one has another look.
    pub(crate) fn server_came(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.iter().filter_map(Weak::upgrade).for_each(|link| link.resume());
    }

    fn wait_for_server(&self, link: &Arc<Link>) {
        let mut waiting = self.waiting.lock();
        if waiting.len() == waiting.capacity() {
            waiting.retain(|link| link.strong_count() > 0);
        }
        waiting.push(Arc::downgrade(link));
    }
}

impl Tenant for Clients {
    type Receive = Passing;

    fn accept(&self, _: &Link, request: &HandshakeRequest, text_only: bool) -> Result<Protocol, HandshakeError> {
        request.pass_on(text_only)
    }

    fn open(self: &Arc<Self>, link: &Arc<Link>, request: &[u8]) -> Passing {
        link.credential.take_news();
        link.hold();
        Passing::new(self.clone(), Arc::new(Shared::new(link.clone(), request, self.relay_limit)))
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}
