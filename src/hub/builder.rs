use super::filter::ErasedFilter;
use super::invocation::{Answering, Method, Opening, Running, Start};
use super::methods::Methods;
use super::shared::{LifeCycle, Shared};
use super::{Bind, Call, Callable, Connection, Filter, Hub, HubOptions, HubResult};
use crate::backplane::Bus;
use crate::connection::Endpoint;
use crate::lifetime::Lifetime;
use crate::observe::HubMetrics;
use crate::transport::{Endpoints, Policy};
use futures_core::Stream;
use serde::Serialize;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use tokio_util::task::TaskTracker;

/// Collects the functions of a hub: see [`Hub::with_state`].
#[must_use = "a hub is made by `build`"]
pub struct HubBuilder<S> {
    state: Arc<S>,
    methods: Methods,
    connected: Option<LifeCycle>,
    refreshed: Option<LifeCycle>,
    disconnected: Option<LifeCycle>,
    policy: Option<Policy>,
    filters: Vec<Arc<dyn ErasedFilter>>,
    options: HubOptions,
}

impl<S: Send + Sync + 'static> HubBuilder<S> {
    pub(super) fn new(state: S) -> Self {
        Self {
            state: Arc::new(state),
            methods: Methods::default(),
            connected: None,
            refreshed: None,
            disconnected: None,
            policy: None,
            filters: Vec::new(),
            options: HubOptions::default(),
        }
    }

    /// Adds a method that answers once. Clients find it by this name, whatever the case they write it in.
    ///
    /// # Panics
    ///
    /// If there is a method of that name, in any case.
    pub fn method<F, A, K, T>(mut self, name: &str, f: F) -> Self
    where
        F: Callable<A, Output = HubResult<T>>,
        A: for<'a> Bind<S, Call<'a>, K> + 'static,
        T: Serialize + 'static,
    {
        let state = self.state.clone();
        let start: Start = Box::new(move |call| {
            let parameters = A::bind(call, &state)?;
            Ok(Box::pin(Answering::new(f.call(parameters))) as Pin<Box<dyn Running>>)
        });
        self.methods.add(declare::<S, A, K>(name, false, start));
        self
    }

    /// Adds a method that answers with a stream. The client can cancel it, which drops the stream.
    ///
    /// An error of the stream ends it; its items are sent as fast as the client takes them.
    ///
    /// # Panics
    ///
    /// If there is a method of that name, in any case.
    pub fn stream<F, A, K, T, St>(mut self, name: &str, f: F) -> Self
    where
        F: Callable<A, Output = HubResult<St>>,
        A: for<'a> Bind<S, Call<'a>, K> + 'static,
        St: Stream<Item = HubResult<T>> + Send + 'static,
        T: Serialize + 'static,
    {
        let state = self.state.clone();
        let start: Start = Box::new(move |call| {
            let parameters = A::bind(call, &state)?;
            Ok(Box::pin(Opening::new(f.call(parameters))) as Pin<Box<dyn Running>>)
        });
        self.methods.add(declare::<S, A, K>(name, true, start));
        self
    }

    /// Runs a function for each new connection. Its calls wait until this has returned; messages from others reach it already. If it
    /// fails the connection ends, and [`on_disconnected`](Self::on_disconnected) does not run for it.
    ///
    /// Given twice, the last one counts.
    pub fn on_connected<F, A>(mut self, f: F) -> Self
    where
        F: Callable<A, Output = HubResult>,
        A: Bind<S, Connection, ()> + 'static,
    {
        self.connected = Some(self.life_cycle(f));
        self
    }

    /// Runs a function after a client has renewed the credential of its connection: see [`AuthenticationRefresh`](crate::AuthenticationRefresh).
    /// It takes a place among the ordinary calls, so by default it waits for the one that runs; of several renewals that wait it sees the
    /// last. Filters do not see it, and it cannot ask a client for a result. If it fails, that is only logged.
    ///
    /// Given twice, the last one counts.
    pub fn on_authentication_refreshed<F, A>(mut self, f: F) -> Self
    where
        F: Callable<A, Output = HubResult>,
        A: Bind<S, Connection, ()> + 'static,
    {
        self.refreshed = Some(self.life_cycle(f));
        self
    }

    /// Lets only those whom a policy allows use the hub. Everybody else is answered 401, or 403 when it is known who it is, on every route and
    /// before anything else is looked at.
    ///
    /// Given several times, all of them have to allow it.
    ///
    /// ```
    /// use hubwire::{Hub, Policy};
    /// # let ban = |name: String| async move { Ok(name) };
    /// let hub = Hub::with_state(()).authorize(Policy::authenticated()).method("Ban", ban).authorize_method("Ban", Policy::role("admin")).build();
    /// ```
    pub fn authorize(mut self, policy: Policy) -> Self {
        self.policy = Some(match self.policy {
            Some(before) => before.and(policy),
            None => policy,
        });
        self
    }

    /// Lets only those whom a policy allows call a method. It is asked for each call, by the credential that is in force then.
    ///
    /// Given several times, all of them have to allow it.
    ///
    /// # Panics
    ///
    /// If the hub has no method of that name, in any case: add it before.
    pub fn authorize_method(mut self, name: &str, policy: Policy) -> Self {
        self.methods.guard(name, policy);
        self
    }

    /// Runs a function for each connection that has ended, whatever the reason, which is a parameter that it may take. It can send to
    /// others. Calls that still run may end after it.
    ///
    /// Given twice, the last one counts.
    pub fn on_disconnected<F, A>(mut self, f: F) -> Self
    where
        F: Callable<A, Output = HubResult>,
        A: Bind<S, Connection, ()> + 'static,
    {
        self.disconnected = Some(self.life_cycle(f));
        self
    }

    /// Adds a filter around all methods, those already added as well. The first one added is the outermost.
    pub fn filter(mut self, filter: impl Filter) -> Self {
        self.filters.push(Arc::new(filter));
        self
    }

    /// Replaces the options.
    pub fn options(mut self, options: HubOptions) -> Self {
        self.options = options;
        self
    }

    /// Finishes the hub.
    ///
    /// # Panics
    ///
    /// If the options allow no invocation at a time, or no protocol.
    #[must_use]
    pub fn build(self) -> Hub {
        let options = self.options;
        assert!(options.max_parallel_invocations > 0, "a connection runs at least one invocation at a time");
        assert!(!options.connection.protocols.is_empty(), "There are no supported protocols");
        let metrics = Arc::new(HubMetrics::default());
        let shared = Arc::new(Shared {
            methods: self.methods,
            connected: self.connected,
            refreshed: self.refreshed,
            disconnected: self.disconnected,
            filters: self.filters.into(),
            max_parallel_invocations: options.max_parallel_invocations,
            max_running_calls: options.max_running_calls,
            lifetime: Lifetime::counting(Bus::single(), metrics.users_forgotten.clone()),
            metrics,
            tasks: TaskTracker::new(),
        });
        let endpoint = Endpoint::new(shared.clone(), options.connection, shared.metrics.clone(), shared.tasks.clone());
        let endpoint = Arc::new(endpoint);
        let endpoints = Endpoints::new(options.transport, self.policy, endpoint.clone());
        Hub { shared, endpoint, endpoints }
    }

    fn life_cycle<F, A>(&self, f: F) -> LifeCycle
    where
        F: Callable<A, Output = HubResult>,
        A: Bind<S, Connection, ()> + 'static,
    {
        let state = self.state.clone();
        Box::new(move |connection| Ok(Box::pin(f.call(A::bind(connection, &state)?))))
    }
}

fn declare<S, A, K>(name: &str, streaming: bool, start: Start) -> Method
where
    A: for<'a> Bind<S, Call<'a>, K>,
{
    let arguments = <A as Bind<S, Call<'static>, K>>::ARGUMENTS;
    let uploads = <A as Bind<S, Call<'static>, K>>::UPLOADS;
    Method { name: name.into(), arguments, uploads, streaming, policy: None, start }
}

impl<S> fmt::Debug for HubBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> = self.methods.names().collect();
        names.sort_unstable();
        f.debug_struct("HubBuilder").field("methods", &names).field("options", &self.options).finish_non_exhaustive()
    }
}
