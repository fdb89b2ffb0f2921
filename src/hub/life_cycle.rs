use super::calls::Seat;
use super::connection::{ConnectionState, Moment};
use super::contain::{Contained, Panicked, contained};
use super::shared::{Handling, LifeCycle};
use super::{Connection, HubError, HubResult};
use crate::connection::CLOSED;
use crate::connection::CloseReason;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use tracing::{Instrument, Span, debug_span, warn};

/// How far a connection has come: `on_disconnected` runs once for each that `on_connected` let in, and never before that has returned.
///
/// ```text
///   Connecting --it returned--> Connected --closed--> Gone, `on_disconnected` runs
///        |                          ^
///        +--closed--> Gone ---------+ it returned: `on_disconnected` runs
///        +--it failed--> Refused
/// ```
#[derive(Debug, Default)]
pub(super) struct LifeCycleState(AtomicU8);

impl LifeCycleState {
    pub(super) fn is_connected(&self) -> bool {
        self.0.load(Ordering::Acquire) == CONNECTED
    }

    fn enter(&self, stage: u8) -> u8 {
        self.0.swap(stage, Ordering::AcqRel)
    }
}

impl ConnectionState {
    /// Runs `on_connected`, if there is one. True: it has returned. False: it goes on as a task, which resumes the connection.
    pub(super) fn connect(self: &Arc<Self>, cx: &mut Context<'_>) -> Result<bool, CloseReason> {
        let Some(handler) = &self.hub.connected else {
            self.life_cycle.enter(CONNECTED);
            return Ok(true);
        };
        let span = self.span("on_connected");
        let begun = span.in_scope(|| contained(|| begin(handler, self, cx)));
        match begun.unwrap_or_else(|panicked| Err(self.panicked(panicked))) {
            Ok(None) => {
                self.life_cycle.enter(CONNECTED);
                Ok(true)
            }
            Ok(Some(handling)) => {
                let state = self.clone();
                self.hub.tasks.spawn(
                    async move {
                        let outcome = Contained::new(handling).await;
                        state.connected(outcome.unwrap_or_else(|panicked| Err(state.panicked(panicked))));
                    }
                    .instrument(span),
                );
                Ok(false)
            }
            Err(error) => {
                self.life_cycle.enter(REFUSED);
                Err(self.refusal(&error))
            }
        }
    }

    /// `on_connected` has returned, on its task.
    fn connected(self: &Arc<Self>, outcome: HubResult) {
        match outcome {
            Ok(()) => {
                if self.life_cycle.enter(CONNECTED) == GONE {
                    self.disconnect();
                } else {
                    self.link.resume();
                }
            }
            Err(error) => {
                self.life_cycle.enter(REFUSED);
                self.link.close(self.refusal(&error));
            }
        }
    }

    /// The client has renewed its credential: runs `on_authentication_refreshed` as a task that counts as a call.
    pub(super) fn refreshed(self: &Arc<Self>) {
        let seat = Seat::take(self, &Arc::default(), None, false, true, Vec::new());
        let span = self.span("on_authentication_refreshed");
        let handler = async move {
            let state = seat.state();
            let Some(handler) = &state.hub.refreshed else { return };
            let mut connection = Connection::at(state, Moment::Refreshed);
            match Contained::new(async { handler(&mut connection)?.await }).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => log_failure(&error),
                Err(panicked) => drop(state.panicked(panicked)),
            }
        };
        self.hub.tasks.spawn(handler.instrument(span));
    }

    /// The connection has ended: runs `on_disconnected` on a task, now or once `on_connected` has returned.
    pub(super) fn disconnect(self: &Arc<Self>) {
        let before = self.life_cycle.enter(GONE);
        if before != CONNECTED || self.hub.disconnected.is_none() {
            return;
        }
        let state = self.clone();
        let span = self.span("on_disconnected");
        self.hub.tasks.spawn(
            async move {
                let mut connection = Connection::at(&state, Moment::Disconnected);
                let handler =
                    async { state.hub.disconnected.as_ref().expect("it was there before")(&mut connection)?.await };
                match Contained::new(handler).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => log_failure(&error),
                    Err(panicked) => drop(state.panicked(panicked)),
                }
            }
            .instrument(span),
        );
    }

    fn refusal(&self, error: &HubError) -> CloseReason {
        log_failure(error);
        CloseReason::ConnectFailed(error.told(CLOSED, self.link.options().detailed_errors).into())
    }

    fn span(&self, handler: &'static str) -> Span {
        debug_span!("life_cycle", connection = self.id(), handler)
    }

    fn panicked(&self, panicked: Panicked) -> HubError {
        self.hub.metrics.panics.add(1);
        warn!("a life-cycle handler panicked");
        panicked.into()
    }
}

/// Calls a handler and polls it once. `None`: it has returned.
fn begin(handler: &LifeCycle, state: &Arc<ConnectionState>, cx: &mut Context<'_>) -> HubResult<Option<Handling>> {
    let mut handling = handler(&mut Connection::at(state, Moment::Connecting))?;
    match handling.as_mut().poll(cx) {
        Poll::Ready(outcome) => outcome.map(|()| None),
        Poll::Pending => Ok(Some(handling)),
    }
}

fn log_failure(error: &HubError) {
    if let Some(cause) = error.cause() {
        warn!(error = %cause, "a life-cycle handler failed");
    }
}

const CONNECTED: u8 = 1;
const GONE: u8 = 2;
const REFUSED: u8 = 3;
