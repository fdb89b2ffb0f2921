use super::calls::Seat;
use super::connection::ConnectionState;
use super::contain::{Contained, contained};
use super::filter::{Filtered, Invocation as FilteredInvocation};
use super::invocation::{Answered, CANNOT_BIND, Call, Method, Outcome, Place, Running};
use super::kept::{KeptCall, is_ordinary};
use super::streams::{self, Source};
use super::upload::Upload;
use super::{Connection, HubError, HubResult};
use crate::connection::Turn;
use crate::protocol::hub::{Completed, Frame, Invocation, Message, RawArguments};
use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use tracing::{Instrument, debug, debug_span, warn};

/// Runs a call: checks it, calls the method and polls it once where it stands. Only what is not ready then becomes a task. Gives the bytes
/// of the result, if there is one already.
pub(super) fn run(connection: &Connection, turn: &mut Turn<'_, '_>, invocation: &Invocation<'_>) -> usize {
    let id = invocation.id.as_deref();
    let method = match find(connection, invocation) {
        Ok(method) => method,
        Err(text) => {
            debug!(connection = connection.id(), "a call was refused");
            return refuse(turn, id, text);
        }
    };
    let span = debug_span!("invocation", connection = connection.id(), id, target = &*method.name);
    let entered = span.enter();
    let admitted = admit(connection, method, invocation);
    let begun = admitted.and_then(|(arguments, uploads)| {
        let begun = begin(connection, turn, method, id, arguments, &uploads)?;
        Ok((begun, uploads))
    });
    let ((begun, written), uploads) = match begun {
        Ok(begun) => begun,
        Err(text) => return refuse(turn, id, text),
    };
    let source = match begun {
        Begun::Done(Outcome(Answered::Sent | Answered::Ready(None))) => return written,
        Begun::Done(Outcome(Answered::Ready(Some(frame)))) => {
            turn.link.reply(frame);
            return written;
        }
        Begun::Done(Outcome(Answered::Stream(feed))) => {
            match id.and_then(|id| streams::start(connection, turn, id, feed)) {
                None => return written,
                Some(feed) => Source::Feed(feed),
            }
        }
        Begun::Pending(running) => Source::Running(running),
    };
    drop(entered);
    let ordinary = is_ordinary(method.streaming, uploads.len());
    let seat = Seat::take(connection.state(), connection.call(), id, method.streaming, ordinary, uploads);
    match (source, id) {
        (source, Some(id)) if method.streaming => streams::spawn(seat, method.clone(), id, source, span),
        (Source::Running(running), id) => {
            let tasks = &connection.state().hub.tasks;
            tasks.spawn(finish(seat, method.clone(), id.map(Into::into), running).instrument(span));
        }
        // a method that does not stream has no items
        (Source::Feed(_), _) => {}
    }
    written
}

/// A kept call was cancelled: it never runs, and its caller is answered.
pub(super) fn cancelled_before_start(turn: &mut Turn<'_, '_>, call: &KeptCall) {
    let Some(id) = call.id() else { return };
    let outcome = if call.is_streaming() {
        Completed::Void
    } else {
        Completed::Error("Invocation canceled by the client.".into())
    };
    complete(turn, id, outcome);
}

/// What the first poll came to.
enum Begun {
    Done(Outcome),
    Pending(Pin<Box<dyn Running>>),
}

/// What a refused caller is told.
pub(super) type Refusal = Cow<'static, str>;

/// The method, if the call is one that it takes. The order of the checks is the reference's.
fn find<'a>(connection: &'a Connection, invocation: &Invocation<'_>) -> Result<&'a Arc<Method>, Refusal> {
    let target = &*invocation.target;
    let Some(method) = connection.state().hub.methods.find(target) else {
        return Err(format!("{} HubException: Method does not exist.", not_invoked(target)).into());
    };
    let (name, detailed) = (&*method.name, is_detailed(connection.state()));
    let arguments = invocation.arguments.as_ref().map_err(|e| HubError::binding(e.to_string()));
    let count = arguments.and_then(|a| check_count(a.count, method.arguments));
    count.map_err(|e| e.told(&not_invoked(name), detailed))?;
    if method.policy.as_ref().is_some_and(|policy| !policy.allows(connection.identity())) {
        return Err(format!("Failed to invoke '{name}' because user is unauthorized").into());
    }
    if method.streaming && !invocation.streaming {
        return Err(format!(
            "The client attempted to invoke the streaming '{name}' method with a non-streaming invocation."
        )
        .into());
    }
    if invocation.streaming && !method.streaming {
        return Err(format!(
            "The client attempted to invoke the non-streaming '{name}' method with a streaming invocation."
        )
        .into());
    }
    let (sent, expected) = (invocation.stream_ids.len(), method.uploads);
    if sent != expected {
        return Err(refusal(name, format_args!("Client sent {sent} stream(s), Hub method expects {expected}.")));
    }
    Ok(method)
}

fn check_count(sent: usize, expected: usize) -> HubResult {
    if sent == expected {
        return Ok(());
    }
    Err(HubError::binding(format!("Invocation provides {sent} argument(s) but target expects {expected}.")))
}

/// Opens the call's uploads, unless ids are taken or too much is running.
fn admit<'a>(
    connection: &Connection,
    method: &Method,
    invocation: &Invocation<'a>,
) -> Result<(RawArguments<'a>, Vec<Arc<Upload>>), Refusal> {
    let (state, name) = (connection.state(), &*method.name);
    let Ok(arguments) = invocation.arguments else { return Err(Cow::Borrowed(CANNOT_BIND)) };
    if method.streaming || method.uploads > 0 {
        let most = state.hub.max_running_calls;
        if !state.calls.may_stream(most) {
            return Err(refusal(name, format_args!("The connection has {most} streams open, which is the limit.")));
        }
    }
    if let Some(id) = invocation.id.as_deref()
        && method.streaming
        && state.calls.streams(id)
    {
        return Err(format!("Invocation ID '{id}' is already in use.").into());
    }
    let mut uploads: Vec<Arc<Upload>> = Vec::new();
    for id in &invocation.stream_ids {
        if uploads.iter().any(|upload| upload.id() == id) || state.calls.upload(id).is_some() {
            return Err(refusal(name, format_args!("Stream ID '{id}' is already in use.")));
        }
        uploads.push(Upload::new(id, connection.call(), state));
    }
    Ok((arguments, uploads))
}

/// Makes the parameters, calls the method, and polls it once. All that is the user's is contained, the drop at the end included.
fn begin(
    connection: &Connection,
    turn: &mut Turn<'_, '_>,
    method: &Arc<Method>,
    id: Option<&str>,
    arguments: RawArguments<'_>,
    uploads: &[Arc<Upload>],
) -> Result<(Begun, usize), Refusal> {
    let filters = &*connection.state().hub.filters;
    let mut place = Place::Turn { turn, id, written: 0 };
    let mut outcome = None;
    let begun = contained(|| {
        let mut running = if filters.is_empty() {
            (method.start)(&mut Call::new(connection, arguments, uploads))?
        } else {
            Filtered::start(filters, FilteredInvocation::new(connection, method, id, arguments, uploads))
        };
        match running.as_mut().poll(&mut place) {
            // noted before it is dropped: what was sent stands, however its remains take it
            Poll::Ready(ready) => outcome = Some(ready),
            Poll::Pending => return Ok(Some(running)),
        }
        Ok(None)
    });
    let failed = match (outcome, begun) {
        (Some(Ok(outcome)), _) => return Ok((Begun::Done(outcome), place.size())),
        (None, Ok(Ok(Some(running)))) => return Ok((Begun::Pending(running), 0)),
        (Some(Err(error)), _) | (None, Ok(Err(error))) => error,
        (None, Err(panicked)) => panicked.into(),
        (None, Ok(Ok(None))) => HubError::internal("a call ended without an outcome"),
    };
    Err(failure(connection.state(), method, &failed))
}

/// Goes on with an ordinary call that was not ready at once.
async fn finish(seat: Seat, method: Arc<Method>, id: Option<Box<str>>, mut running: Pin<Box<dyn Running>>) {
    let link = seat.state().link.clone();
    let id = id.as_deref();
    let polled = {
        let (link, id) = (&*link, id);
        // an ordinary call has no items
        let mut items = Vec::new();
        Contained::new(poll_fn(move |cx| running.as_mut().poll(&mut Place::Task { cx, link, id, items: &mut items })))
            .await
    };
    let error = match polled {
        Ok(Ok(Outcome(Answered::Sent | Answered::Ready(None)))) => return,
        Ok(Ok(Outcome(Answered::Ready(Some(frame))))) => return link.reply(frame),
        Ok(Ok(Outcome(Answered::Stream(_)))) => HubError::internal("an ordinary call cannot be answered with a stream"),
        Ok(Err(error)) => error,
        Err(panicked) => panicked.into(),
    };
    let text = failure(seat.state(), &method, &error);
    if let Some(id) = id {
        link.reply(Frame::completion_error(link.protocol(), id, &text));
    }
}

/// Logs why a call failed, and gives what its caller is told.
pub(super) fn failure(state: &ConnectionState, method: &Method, error: &HubError) -> Refusal {
    log_failure(state, error);
    let base = if error.is_binding() { not_invoked(&method.name) } else { failed(&method.name) };
    error.told(&base, is_detailed(state)).into()
}

pub(super) fn log_failure(state: &ConnectionState, error: &HubError) {
    use super::contain::Panicked;
    match error.cause() {
        Some(cause) if cause.is::<Panicked>() => {
            state.hub.metrics.panics.add(1);
            warn!(connection = state.id(), "a hub method panicked");
        }
        Some(cause) => warn!(connection = state.id(), error = %cause, "a hub method failed"),
        // words for the client, or arguments that do not fit: the client's affair
        None => debug!(connection = state.id(), kind = error.name(), "a hub method refused a call"),
    }
}

pub(super) fn is_detailed(state: &ConnectionState) -> bool {
    state.link.options().detailed_errors
}

pub(super) fn complete(turn: &mut Turn<'_, '_>, id: &str, outcome: Completed<'_>) {
    let protocol = turn.link.protocol();
    let message = Message::Completion { id: id.into(), outcome };
    let encoded = turn.reply(|out| {
        protocol.encode(out, &message);
        Ok(())
    });
    debug_assert!(encoded.is_ok(), "a message of texts can be encoded");
}

fn refuse(turn: &mut Turn<'_, '_>, id: Option<&str>, text: Refusal) -> usize {
    let Some(id) = id else { return 0 };
    let size = text.len();
    complete(turn, id, Completed::Error(text));
    size
}

/// A refusal that the client is always told in full.
fn refusal(method: &str, detail: std::fmt::Arguments<'_>) -> Refusal {
    format!("{} HubException: {detail}", failed(method)).into()
}

fn not_invoked(target: &str) -> String {
    format!("Failed to invoke '{target}' due to an error on the server.")
}

fn failed(method: &str) -> String {
    format!("An unexpected error occurred invoking '{method}' on the server.")
}
