use super::Connection;
use super::call::{Refusal, complete, failure, is_detailed, log_failure};
use super::calls::Seat;
use super::connection::ConnectionState;
use super::contain::{Contained, contained};
use super::invocation::{Answered, Feed, Method, Outcome, Place, Running};
use super::{HubError, HubResult};
use crate::connection::{Link, Turn};
use crate::protocol::hub::{Completed, Frame};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use tracing::{Instrument, Span, debug};

/// What a stream's task starts from.
pub(super) enum Source {
    /// The method has not returned its stream yet.
    Running(Pin<Box<dyn Running>>),
    Feed(Pin<Box<dyn Feed>>),
}

/// Sends what a stream has ready, in its connection's turn. Gives the stream back if it has not ended.
pub(super) fn start(
    connection: &Connection,
    turn: &mut Turn<'_, '_>,
    id: &str,
    mut feed: Pin<Box<dyn Feed>>,
) -> Option<Pin<Box<dyn Feed>>> {
    let Taken::Ended(mut outcome) = take_ready(&mut feed, &mut Place::Turn { turn, id: Some(id), written: 0 }) else {
        return Some(feed);
    };
    if let Err(panicked) = contained(|| drop(feed)) {
        outcome = outcome.and(Err(panicked.into()));
    }
    let outcome = match outcome {
        Ok(()) => Completed::Void,
        Err(error) => Completed::Error(broken(connection.state(), &error)),
    };
    complete(turn, id, outcome);
    None
}

/// Goes on with a stream on a task of its own.
pub(super) fn spawn(seat: Seat, method: Arc<Method>, id: &str, source: Source, span: Span) {
    let id: Box<str> = id.into();
    let tasks = seat.state().hub.tasks.clone();
    tasks.spawn(
        async move {
            let link = seat.state().link.clone();
            let token = seat.call().token();
            let outcome = token.run_until_cancelled(Contained::new(run(&seat, &method, &link, &id, source))).await;
            let error = match outcome {
                // the client has stopped listening: that is no error
                None => {
                    debug!("a stream was cancelled");
                    None
                }
                Some(Ok(Ok(()))) => None,
                Some(Ok(Err(text))) => Some(text),
                Some(Err(panicked)) => Some(broken(seat.state(), &panicked.into())),
            };
            link.reply(match error {
                None => Frame::completion_void(link.protocol(), &id),
                Some(text) => Frame::completion_error(link.protocol(), &id, &text),
            });
        }
        .instrument(span),
    );
}

async fn run(seat: &Seat, method: &Method, link: &Link, id: &str, source: Source) -> Result<(), Refusal> {
    let feed = match source {
        Source::Feed(feed) => feed,
        Source::Running(running) => {
            open(link, id, running).await.map_err(|error| failure(seat.state(), method, &error))?
        }
    };
    send_all(link, id, feed).await.map_err(|error| broken(seat.state(), &error))
}

async fn open(link: &Link, id: &str, mut running: Pin<Box<dyn Running>>) -> HubResult<Pin<Box<dyn Feed>>> {
    let mut items = Vec::new();
    let outcome =
        poll_fn(|cx| running.as_mut().poll(&mut Place::Task { cx, link, id: Some(id), items: &mut items })).await?;
    match outcome {
        Outcome(Answered::Stream(feed)) => Ok(feed),
        _ => Err(HubError::internal("a streaming call has to be answered with a stream")),
    }
}

/// Sends items as long as there are any, as fast as the client takes them.
async fn send_all(link: &Link, id: &str, mut feed: Pin<Box<dyn Feed>>) -> HubResult {
    loop {
        link.reply_room().await;
        let mut items = Vec::new();
        let taken = poll_fn(|cx| {
            let taken = take_ready(&mut feed, &mut Place::Task { cx, link, id: Some(id), items: &mut items });
            if matches!(taken, Taken::Waiting) && items.is_empty() { Poll::Pending } else { Poll::Ready(taken) }
        });
        let taken = taken.await;
        if !items.is_empty() {
            link.reply(Frame::of_websocket(items));
        }
        match taken {
            Taken::Waiting => {}
            // a stream that is always ready must not keep others from this thread
            Taken::Full => tokio::task::yield_now().await,
            Taken::Ended(outcome) => return outcome,
        }
    }
}

/// How far a stream came.
enum Taken {
    /// Nothing more is ready.
    Waiting,
    /// Enough for once.
    Full,
    Ended(HubResult),
}

/// Takes items that are ready, up to a number and a size. A panic ends the stream; what was taken before stands.
fn take_ready(feed: &mut Pin<Box<dyn Feed>>, place: &mut Place<'_, '_, '_>) -> Taken {
    for _ in 0..ITEMS_AT_ONCE {
        match contained(|| feed.as_mut().poll_item(place)) {
            Ok(Poll::Pending) => return Taken::Waiting,
            Ok(Poll::Ready(Some(Ok(())))) if place.size() < BYTES_AT_ONCE => {}
            Ok(Poll::Ready(Some(Ok(())))) => return Taken::Full,
            Ok(Poll::Ready(Some(Err(error)))) => return Taken::Ended(Err(error)),
            Ok(Poll::Ready(None)) => return Taken::Ended(Ok(())),
            Err(panicked) => return Taken::Ended(Err(panicked.into())),
        }
    }
    Taken::Full
}

/// Logs why a stream broke, and gives what its caller is told.
fn broken(state: &ConnectionState, error: &HubError) -> Refusal {
    log_failure(state, error);
    error.told("An error occurred on the server while streaming results.", is_detailed(state)).into()
}

/// Items that are sent in one go.
const ITEMS_AT_ONCE: usize = 32;
/// Bytes from which on nothing more is added to what is sent in one go.
const BYTES_AT_ONCE: usize = 16 * 1024;
