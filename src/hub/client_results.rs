use super::error::short_name;
use super::pending::failure;
use super::shared::Shared;
use super::{Connection, HubError, HubResult};
use crate::backplane::{Answer, Reached};
use crate::lifetime::{Asked, Outgoing};
use crate::protocol::hub::{EncodeArguments, RawValue};
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A question to a client, under way: see [`Client::invoke`](super::Client::invoke). Await it for the answer.
///
/// # Errors
///
/// * The client answered with an error: [`HubError::client`] with its text. Also if it has no such method.
/// * The client's result is no `R`, the time is over, or it was given up: [`HubError::client`], which says so.
/// * The connection does not exist or has ended: an error that is not for clients.
///
/// # Cancel safety
///
/// Dropping it gives up: a late answer is ignored. The client is not told.
#[must_use = "nobody waits for the answer"]
pub struct ClientCall<R> {
    question: HubResult<Question>,
    asker: Option<Connection>,
    timeout: Option<Duration>,
    given_up: Vec<Pin<Box<dyn Future<Output = ()> + Send>>>,
    of: PhantomData<fn() -> R>,
}

struct Question {
    connection: String,
    reached: Reached<()>,
    asked: Asked,
}

impl<R: DeserializeOwned + 'static> ClientCall<R> {
    pub(super) fn ask(
        hub: &Arc<Shared>,
        connection: &str,
        target: &str,
        arguments: &dyn EncodeArguments,
        asker: Option<Connection>,
    ) -> Self {
        let id = hub.lifetime.question_id();
        let message = Outgoing::question(&id, target, arguments);
        let question = hub.lifetime.ask(connection, &id, &message).map_err(failure);
        let question = question.map(|(reached, asked)| Question { connection: connection.to_owned(), reached, asked });
        Self::new(question, asker)
    }

    pub(super) fn refused() -> Self {
        let text = "Client results inside OnConnectedAsync Hub methods are not allowed.";
        Self::new(Err(HubError::named("InvalidOperationException", text)), None)
    }

    /// Gives up after this long.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Gives up when something is ready, for example a [`Cancellation`](super::Cancellation).
    pub fn cancel_on<F>(mut self, signal: F) -> Self
    where
        F: IntoFuture<Output = ()>,
        F::IntoFuture: Send + 'static,
    {
        self.given_up.push(Box::pin(signal.into_future()));
        self
    }

    fn new(question: HubResult<Question>, asker: Option<Connection>) -> Self {
        Self { question, asker, timeout: None, given_up: Vec::new(), of: PhantomData }
    }

    async fn answer(self) -> HubResult<R> {
        let Question { connection, reached, asked } = self.question?;
        if let Some(asker) = &self.asker {
            asker.state().give_slot_back(asker.call());
        }
        let answer = async {
            reached.wait().await.map_err(failure)?;
            Ok::<_, HubError>(asked.answer().await)
        };
        let given_up =
            futures_util::future::select_all(self.given_up.into_iter().chain([Box::pin(elapsed(self.timeout)) as _]));
        let answer = tokio::select! {
            biased;
            answer = answer => answer?,
            _ = given_up => return Err(HubError::client("Invocation canceled by the server.")),
        };
        match answer {
            Answer::Result(protocol, bytes) => decode(RawValue { protocol, bytes: &bytes }),
            Answer::Error(text) => Err(HubError::client(text)),
            Answer::Void => {
                Err(HubError::client("Exception of type 'Microsoft.AspNetCore.SignalR.HubException' was thrown."))
            }
            Answer::Disconnected => {
                Err(HubError::named("IOException", format!("Connection '{connection}' disconnected.")))
            }
        }
    }
}

impl<R: DeserializeOwned + 'static> IntoFuture for ClientCall<R> {
    type Output = HubResult<R>;
    type IntoFuture = Pin<Box<dyn Future<Output = HubResult<R>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.answer())
    }
}

impl<R> fmt::Debug for ClientCall<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCall").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

async fn elapsed(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn decode<R: DeserializeOwned>(raw: RawValue<'_>) -> HubResult<R> {
    raw.decode()
        .map_err(|e| HubError::client(format!("Error trying to deserialize result to {}. {e}", result_name::<R>())))
}

/// The type that the client was asked for: an optional one by the name of what may be missing.
fn result_name<R>() -> &'static str {
    let name = std::any::type_name::<R>();
    short_name(name.strip_prefix("core::option::Option<").and_then(|name| name.strip_suffix('>')).unwrap_or(name))
}
