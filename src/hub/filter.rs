use super::invocation::{Answered, Call, Method, Outcome, Place, Running};
use super::upload::Upload;
use super::{Caller, Connection, HubError, HubResult};
use crate::protocol::hub::{Frame, RawArguments};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};

/// Runs around every call of a hub's methods: refuses it, measures it, looks at how it ended.
///
/// The first filter that was given to the hub is the outermost. Where a hub has none, calls pay nothing for there being filters.
/// Async functions and closures are filters, too:
///
/// ```
/// use hubwire::{Hub, HubError, HubResult, Invocation, Next, Outcome};
///
/// async fn only_editors_change(invocation: Invocation, next: Next) -> HubResult<Outcome> {
///     let change = invocation.method().starts_with("Change");
///     if change && !invocation.caller().identity().has_claim("role", "editor") {
///         return Err(HubError::client("only editors may change anything"));
///     }
///     next.run(invocation).await
/// }
/// # let change_title = |title: String| async move { Ok(title) };
///
/// let hub = Hub::with_state(()).method("ChangeTitle", change_title).filter(only_editors_change).build();
/// ```
pub trait Filter: Send + Sync + 'static {
    /// Handles a call, usually by [`Next::run`].
    ///
    /// # Cancel safety
    ///
    /// It is dropped when a streaming call is cancelled; an ordinary call runs to its end.
    fn invoke(&self, invocation: Invocation, next: Next) -> impl Future<Output = HubResult<Outcome>> + Send;
}

impl<F, Fut> Filter for F
where
    F: Fn(Invocation, Next) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = HubResult<Outcome>> + Send,
{
    fn invoke(&self, invocation: Invocation, next: Next) -> impl Future<Output = HubResult<Outcome>> + Send {
        self(invocation, next)
    }
}

/// A call on its way through filters. Cheap to clone.
#[derive(Clone)]
pub struct Invocation(Arc<Parts>);

struct Parts {
    connection: Connection,
    caller: Caller,
    method: Arc<Method>,
    id: Option<Box<str>>,
    arguments: Box<[u8]>,
    uploads: Vec<Arc<Upload>>,
}

impl Invocation {
    pub(super) fn new(
        connection: &Connection,
        method: &Arc<Method>,
        id: Option<&str>,
        arguments: RawArguments<'_>,
        uploads: &[Arc<Upload>],
    ) -> Self {
        Self(Arc::new(Parts {
            connection: connection.clone(),
            caller: Caller::for_test(connection),
            method: method.clone(),
            id: id.map(Into::into),
            arguments: arguments.bytes.into(),
            uploads: uploads.to_vec(),
        }))
    }

    /// Returns the name of the method, as the hub declares it.
    pub fn method(&self) -> &str {
        &self.0.method.name
    }

    /// Tells whether the method is answered by a stream.
    pub fn is_streaming(&self) -> bool {
        self.0.method.streaming
    }

    /// Returns who calls.
    pub fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// Returns the connection: extractors can be made of it.
    pub fn connection(&self) -> &Connection {
        &self.0.connection
    }

    /// Returns the number of arguments, which is what the method takes.
    pub fn argument_count(&self) -> usize {
        self.0.method.arguments
    }

    /// Decodes the argument at an index, as any type that it fits. The method decodes it again.
    ///
    /// # Errors
    ///
    /// The caller is told that its arguments do not fit.
    pub fn argument<T: DeserializeOwned>(&self, index: usize) -> HubResult<T> {
        let raw = self.raw().nth(index).ok_or_else(|| HubError::binding(super::invocation::CANNOT_BIND))?;
        raw.decode().map_err(|_| HubError::binding(super::invocation::CANNOT_BIND))
    }

    /// Makes an outcome without the method, or in place of its own.
    ///
    /// # Errors
    ///
    /// If the value cannot be encoded for this caller, or the caller wants a stream.
    pub fn answer<T: Serialize + ?Sized>(&self, result: &T) -> HubResult<Outcome> {
        if self.is_streaming() {
            return Err(HubError::internal("a streaming call cannot be answered with a single result"));
        }
        let encode = |id: &str| Frame::completion_result(self.0.connection.protocol(), id, result);
        Ok(Outcome(Answered::Ready(self.0.id.as_deref().map(encode).transpose()?)))
    }

    fn raw(&self) -> RawArguments<'_> {
        RawArguments {
            protocol: self.0.connection.protocol(),
            bytes: &self.0.arguments,
            count: self.0.method.arguments,
        }
    }
}

impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocation")
            .field("method", &self.method())
            .field("connection", &self.0.connection.id())
            .finish_non_exhaustive()
    }
}

/// The rest of the way: the filters behind this one, and then the method.
pub struct Next(Box<[Arc<dyn ErasedFilter>]>, usize);

impl Next {
    pub(super) fn first(filters: &[Arc<dyn ErasedFilter>]) -> Self {
        Self(filters.into(), 0)
    }

    /// Goes on with the call.
    ///
    /// # Errors
    ///
    /// What a filter behind this one or the method failed with; return it, or the caller never learns of it.
    pub async fn run(self, invocation: Invocation) -> HubResult<Outcome> {
        let Self(filters, at) = self;
        match filters.get(at).cloned() {
            Some(filter) => filter.invoke(invocation, Self(filters, at + 1)).await,
            None => call(&invocation).await,
        }
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("filters", &(self.0.len() - self.1)).finish()
    }
}

async fn call(invocation: &Invocation) -> HubResult<Outcome> {
    let parts = &*invocation.0;
    let mut running = (parts.method.start)(&mut Call::new(&parts.connection, invocation.raw(), &parts.uploads))?;
    let protocol = parts.connection.protocol();
    poll_fn(|cx| running.as_mut().poll(&mut Place::Filter { cx, protocol, id: parts.id.as_deref() })).await
}

pub(super) trait ErasedFilter: Send + Sync {
    fn invoke(self: Arc<Self>, invocation: Invocation, next: Next) -> Filtering;
}

type Filtering = Pin<Box<dyn Future<Output = HubResult<Outcome>> + Send>>;

impl<F: Filter> ErasedFilter for F {
    fn invoke(self: Arc<Self>, invocation: Invocation, next: Next) -> Filtering {
        Box::pin(async move { Filter::invoke(&*self, invocation, next).await })
    }
}

/// A call that goes through filters.
pub(super) struct Filtered(Filtering);

impl Filtered {
    pub(super) fn start(filters: &[Arc<dyn ErasedFilter>], invocation: Invocation) -> Pin<Box<dyn Running>> {
        Box::pin(Self(Box::pin(Next::first(filters).run(invocation))))
    }
}

impl Running for Filtered {
    fn poll(mut self: Pin<&mut Self>, place: &mut Place<'_, '_, '_>) -> Poll<HubResult<Outcome>> {
        let outcome = ready!(self.0.as_mut().poll(place.cx()))?;
        Poll::Ready(Ok(outcome))
    }
}
