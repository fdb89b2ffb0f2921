use super::connection::ConnectionState;
use super::{Clients, Connection, FromConnection, Groups, HubError, HubResult, Items};
use crate::transport::{Identity, Transport};
use crate::{CloseReason, Protocol};
use axum::extract::{FromRef, State};
use std::borrow::Cow;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The connection that calls: who and what it is.
#[derive(Clone)]
pub struct Caller {
    state: Arc<ConnectionState>,
    renewed: Option<Identity>,
}

impl Caller {
    pub(super) fn of(connection: &Connection) -> Self {
        Self { state: connection.state().clone(), renewed: connection.renewed().cloned() }
    }

    /// Makes one for a unit test.
    pub fn for_test(connection: &Connection) -> Self {
        Self::of(connection)
    }

    /// Returns the public id of the connection: what others send to. Not a secret.
    pub fn id(&self) -> &str {
        self.state.id()
    }

    /// Returns the user id, if the connection belongs to a user.
    pub fn user_id(&self) -> Option<&str> {
        self.identity().user_id()
    }

    /// Returns the user id and the claims, by the credential in force when the call started.
    pub fn identity(&self) -> &Identity {
        self.renewed.as_ref().unwrap_or(self.state.identity())
    }

    /// Returns the encoding that the client chose.
    pub fn protocol(&self) -> Protocol {
        self.state.link.protocol()
    }

    /// Returns how the client is connected.
    pub fn transport(&self) -> Transport {
        self.state.link.facts().transport
    }

    /// Returns the query of the request that opened the connection, decoded, without the tokens in it.
    pub fn query(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        self.state.query().pairs()
    }

    /// Returns the value of a name in that query, whose case does not matter. Several values are joined by commas.
    pub fn query_value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.state.query().value(name)
    }

    /// Ends the connection, without permission to connect again by itself. What was sent before still reaches the client.
    pub fn abort(&self) {
        self.state.link.close(CloseReason::Aborted);
    }

    /// Returns how many of its calls and streams the client has cancelled before they were over.
    pub fn cancelled_calls(&self) -> u64 {
        self.state.calls.cancelled()
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").field(&self.id()).finish()
    }
}

/// Fires when the client cancels the call, or is gone.
///
/// A cancelled stream is dropped without further ado; an ordinary call goes on until it looks at this, and is answered with whatever it
/// returns. In `on_connected` it fires when the connection ends.
///
/// ```
/// use hubwire::{Cancellation, HubError, HubResult};
/// use std::time::Duration;
///
/// async fn search(cancellation: Cancellation, words: String) -> HubResult<Vec<String>> {
///     tokio::select! {
///         found = look_everywhere(&words) => Ok(found),
///         () = cancellation.cancelled() => Err(HubError::client("cancelled")),
///     }
/// }
/// # async fn look_everywhere(_: &str) -> Vec<String> { vec![] }
/// # hubwire::Hub::with_state(()).method("Search", search).build();
/// ```
#[derive(Clone)]
pub struct Cancellation(CancellationToken);

impl Cancellation {
    /// Waits until the call is cancelled.
    ///
    /// Cancel safe.
    pub async fn cancelled(&self) {
        self.0.cancelled().await;
    }

    /// Tells whether the call is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Makes one for a unit test, and what cancels it.
    ///
    /// ```
    /// let (cancellation, cancel) = hubwire::Cancellation::for_test();
    /// assert!(!cancellation.is_cancelled());
    /// cancel();
    /// assert!(cancellation.is_cancelled());
    /// ```
    pub fn for_test() -> (Self, impl Fn() + Send + Sync + 'static) {
        let token = CancellationToken::new();
        (Self(token.clone()), move || token.cancel())
    }
}

/// Awaited, it waits until the call is cancelled.
impl IntoFuture for Cancellation {
    type Output = ();
    type IntoFuture = Cancelled;

    fn into_future(self) -> Cancelled {
        Cancelled(Box::pin(self.0.cancelled_owned()))
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancellation").field("is_cancelled", &self.is_cancelled()).finish()
    }
}

/// The future that a [`Cancellation`] turns into.
#[derive(Debug)]
pub struct Cancelled(Pin<Box<WaitForCancellationFutureOwned>>);

impl Future for Cancelled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl<S> FromConnection<S> for Caller {
    fn from_connection(connection: &Connection, _: &S) -> HubResult<Self> {
        Ok(Self::of(connection))
    }
}

impl<S> FromConnection<S> for Clients {
    fn from_connection(connection: &Connection, _: &S) -> HubResult<Self> {
        Ok(Self::of(connection))
    }
}

impl<S> FromConnection<S> for Groups {
    fn from_connection(connection: &Connection, _: &S) -> HubResult<Self> {
        Ok(Self::of(connection.state().hub.clone()))
    }
}

impl<S> FromConnection<S> for Items {
    fn from_connection(connection: &Connection, _: &S) -> HubResult<Self> {
        Ok(Self::of(connection.state()))
    }
}

impl<S> FromConnection<S> for Cancellation {
    fn from_connection(connection: &Connection, _: &S) -> HubResult<Self> {
        Ok(Self(connection.cancellation()))
    }
}

impl<S> FromConnection<S> for Identity {
    fn from_connection(connection: &Connection, _: &S) -> HubResult<Self> {
        Ok(connection.identity().clone())
    }
}

/// The connection itself, for what nothing else gives.
impl<S> FromConnection<S> for Connection {
    fn from_connection(connection: &Connection, _: &S) -> HubResult<Self> {
        Ok(connection.clone())
    }
}

/// For `on_disconnected`; anywhere else the call fails.
impl<S> FromConnection<S> for CloseReason {
    fn from_connection(connection: &Connection, _: &S) -> HubResult<Self> {
        connection
            .close_reason()
            .cloned()
            .ok_or_else(|| HubError::internal("a close reason is for `on_disconnected`: here the connection is open"))
    }
}

/// A part of the hub's state, or all of it: axum's own extractor.
impl<S, T: FromRef<S>> FromConnection<S> for State<T> {
    fn from_connection(_: &Connection, state: &S) -> HubResult<Self> {
        Ok(Self(T::from_ref(state)))
    }
}

/// `None` instead of a failed call.
impl<S, T: FromConnection<S>> FromConnection<S> for Option<T> {
    fn from_connection(connection: &Connection, state: &S) -> HubResult<Self> {
        Ok(T::from_connection(connection, state).ok())
    }
}
