use super::filter::ErasedFilter;
use super::methods::Methods;
use super::{Connection, HubResult};
use crate::lifetime::Lifetime;
use crate::observe::HubMetrics;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio_util::task::TaskTracker;

/// What all connections of a hub share.
pub(crate) struct Shared {
    pub(super) methods: Methods,
    pub(super) connected: Option<LifeCycle>,
    pub(super) refreshed: Option<LifeCycle>,
    pub(super) disconnected: Option<LifeCycle>,
    pub(super) filters: Box<[Arc<dyn ErasedFilter>]>,
    pub(super) max_parallel_invocations: usize,
    pub(super) max_running_calls: usize,
    pub(super) lifetime: Arc<Lifetime>,
    pub(super) metrics: Arc<HubMetrics>,
    pub(super) tasks: TaskTracker,
}

/// A life-cycle handler without its types.
pub(super) type LifeCycle = Box<dyn Fn(&mut Connection) -> HubResult<Handling> + Send + Sync>;
pub(super) type Handling = Pin<Box<dyn Future<Output = HubResult> + Send>>;

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.methods.names().collect();
        names.sort_unstable();
        f.debug_struct("Hub").field("methods", &names).field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}
