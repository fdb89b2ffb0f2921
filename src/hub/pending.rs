use super::{HubError, HubResult};
use crate::backplane::{BackplaneError, Reached};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::task::coop;

/// Something that has begun and may have to be waited for, because other nodes are involved. On this node it is done.
#[must_use = "unless it is awaited nobody learns of an error"]
pub struct Pending<T = ()>(State<T>);

enum State<T> {
    Done(Option<HubResult<T>>),
    Waiting(Pin<Box<dyn Future<Output = HubResult<T>> + Send>>),
}

impl<T: Send + 'static> Pending<T> {
    pub(super) fn of(reached: Reached<T>) -> Self {
        match reached {
            Reached::Done(value) => Self(State::Done(Some(Ok(value)))),
            reached @ Reached::Pending(_) => {
                Self(State::Waiting(Box::pin(async { reached.wait().await.map_err(failure) })))
            }
        }
    }

    pub(super) fn failed(error: HubError) -> Self {
        Self(State::Done(Some(Err(error))))
    }

    /// The same with another value.
    pub(super) fn map<U: Send + 'static>(self, map: impl FnOnce(T) -> U + Send + 'static) -> Pending<U> {
        match self.0 {
            State::Done(value) => Pending(State::Done(value.map(|value| value.map(map)))),
            State::Waiting(rest) => Pending(State::Waiting(Box::pin(async { Ok(map(rest.await?)) }))),
        }
    }
}

impl<T> Future for Pending<T> {
    type Output = HubResult<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<HubResult<T>> {
        match &mut self.get_mut().0 {
            State::Done(value) => {
                // a task that sends all the time is never made to wait by what it sends to, and others want the thread as well
                ready!(coop::poll_proceed(cx)).made_progress();
                Poll::Ready(value.take().expect("a future is not polled after its end"))
            }
            State::Waiting(rest) => rest.as_mut().poll(cx),
        }
    }
}

impl<T> Unpin for Pending<T> {}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("is_done", &matches!(self.0, State::Done(_))).finish()
    }
}

/// What hub code sees of an error below it.
pub(super) fn failure(error: BackplaneError) -> HubError {
    match error {
        BackplaneError::NoConnection(_) => HubError::named("IOException", error.to_string()),
        // the cause says more than "cannot be sent"
        BackplaneError::Encode(cause) => cause.into(),
        #[allow(unreachable_patterns)]
        error => error.into(),
    }
}
