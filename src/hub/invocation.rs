use super::contain::{Panicked, contained};
use super::upload::Upload;
use super::{Connection, HubError, HubResult, UploadStream};
use crate::connection::{Link, Turn};
use crate::protocol::hub::{
    EncodeError, Frame, RawArguments, append_frame, write_completion_result, write_stream_item,
};
use crate::{Policy, Protocol};
use futures_core::Stream;
use pin_project_lite::pin_project;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// One call while its parameters are made; arguments are raw until a parameter claims them.
pub struct Call<'a> {
    connection: &'a Connection,
    arguments: RawArguments<'a>,
    uploads: std::slice::Iter<'a, Arc<Upload>>,
}

impl<'a> Call<'a> {
    pub(super) fn new(connection: &'a Connection, arguments: RawArguments<'a>, uploads: &'a [Arc<Upload>]) -> Self {
        Self { connection, arguments, uploads: uploads.iter() }
    }

    /// Returns the connection that calls.
    pub fn connection(&self) -> &'a Connection {
        self.connection
    }

    /// Decodes the next argument.
    ///
    /// # Errors
    ///
    /// The caller is told that its arguments do not fit.
    pub fn next_argument<T: DeserializeOwned>(&mut self) -> HubResult<T> {
        let raw = self.arguments.next().ok_or_else(|| HubError::binding(TOO_FEW))?;
        raw.decode().map_err(|_| HubError::binding(CANNOT_BIND))
    }

    /// Takes the next upload stream.
    ///
    /// # Errors
    ///
    /// None, as long as [`FromInvocation::UPLOADS`](super::FromInvocation::UPLOADS) tells the truth.
    pub fn next_upload<T: DeserializeOwned>(&mut self) -> HubResult<UploadStream<T>> {
        let upload = self.uploads.next().ok_or_else(|| HubError::binding(TOO_FEW))?;
        Ok(UploadStream::new(upload.clone()))
    }
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("connection", &self.connection)
            .field("arguments", &self.arguments.count)
            .finish_non_exhaustive()
    }
}

/// A method of a hub, without its types: the one place of erasure.
pub(super) struct Method {
    pub(super) name: Box<str>,
    pub(super) arguments: usize,
    pub(super) uploads: usize,
    pub(super) streaming: bool,
    /// Who may call it.
    pub(super) policy: Option<Policy>,
    pub(super) start: Start,
}

/// Makes the parameters and calls the function; what it returns has not been polled.
pub(super) type Start = Box<dyn Fn(&mut Call<'_>) -> HubResult<Pin<Box<dyn Running>>> + Send + Sync>;

/// A call under way. One allocation, and no other from here to the encoded result.
pub(super) trait Running: Send {
    /// Polls the function; what it returns goes where the place says.
    fn poll(self: Pin<&mut Self>, place: &mut Place<'_, '_, '_>) -> Poll<HubResult<Outcome>>;
}

/// The items of a streaming method under way.
pub(super) trait Feed: Send {
    /// Polls for the next item, and encodes it where the place says.
    fn poll_item(self: Pin<&mut Self>, place: &mut Place<'_, '_, '_>) -> Poll<Option<HubResult<()>>>;
}

/// What a call came to: to be passed on by a [`Filter`](super::Filter).
pub struct Outcome(pub(super) Answered);

pub(super) enum Answered {
    /// The caller has its answer, or wants none.
    Sent,
    /// The answer is encoded, and goes out when all filters have seen it. `None`: the caller wants none.
    Ready(Option<Frame>),
    /// Items follow.
    Stream(Pin<Box<dyn Feed>>),
}

impl Outcome {
    /// Tells whether the call is answered by a stream, whose items and errors are still to come.
    pub fn is_stream(&self) -> bool {
        matches!(self.0, Answered::Stream(_))
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcome").field("is_stream", &self.is_stream()).finish_non_exhaustive()
    }
}

/// Where a call is polled, and where what it returns goes.
pub(super) enum Place<'p, 'a, 'b> {
    /// In its connection's turn: encoded straight into the turn's replies.
    Turn { turn: &'p mut Turn<'a, 'b>, id: Option<&'p str>, written: usize },
    /// On a task of its own. Items are collected where several frames can travel as one.
    Task { cx: &'p mut Context<'b>, link: &'p Link, id: Option<&'p str>, items: &'p mut Vec<u8> },
    /// Below filters, which see the outcome before the caller does.
    Filter { cx: &'p mut Context<'b>, protocol: Protocol, id: Option<&'p str> },
}

impl<'b> Place<'_, '_, 'b> {
    pub(super) fn cx(&mut self) -> &mut Context<'b> {
        match self {
            Self::Turn { turn, .. } => turn.cx,
            Self::Task { cx, .. } | Self::Filter { cx, .. } => cx,
        }
    }

    /// Bytes that have been encoded so far.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Turn { written, .. } => *written,
            Self::Task { items, .. } => items.len(),
            Self::Filter { .. } => 0,
        }
    }

    /// Answers with a result, if anybody waits for one.
    fn result<T: Serialize + ?Sized>(&mut self, result: &T) -> HubResult<Outcome> {
        Ok(Outcome(match self {
            Self::Turn { id: None, .. } | Self::Task { id: None, .. } => Answered::Sent,
            // whoever ends the connection has nothing more to say
            Self::Turn { turn, .. } if turn.link.is_closed() => Answered::Sent,
            Self::Task { link, .. } if link.is_closed() => Answered::Sent,
            Self::Filter { id: None, .. } => Answered::Ready(None),
            Self::Turn { turn, id: Some(id), written } => {
                let protocol = turn.link.protocol();
                turn.reply(|out| {
                    let before = out.len();
                    encoded(protocol, || write_completion_result(out, protocol, id, result))?;
                    *written += out.len() - before;
                    Ok(())
                })?;
                Answered::Sent
            }
            Self::Task { link, id: Some(id), .. } => {
                link.reply(Frame::completion_result(link.protocol(), id, result)?);
                Answered::Sent
            }
            Self::Filter { protocol, id: Some(id), .. } => {
                Answered::Ready(Some(Frame::completion_result(*protocol, id, result)?))
            }
        }))
    }

    fn item<T: Serialize + ?Sized>(&mut self, item: &T) -> HubResult<()> {
        match self {
            Self::Turn { turn, id: Some(id), written } => {
                let protocol = turn.link.protocol();
                turn.reply(|out| {
                    let before = out.len();
                    encoded(protocol, || write_stream_item(out, protocol, id, item))?;
                    *written += out.len() - before;
                    Ok(())
                })?;
            }
            Self::Task { link, id: Some(id), items, .. } => {
                let protocol = link.protocol();
                if link.joins_replies() {
                    append_frame(items, protocol, |out| {
                        encoded(protocol, || write_stream_item(out, protocol, id, item))
                    })?;
                } else {
                    link.reply(Frame::stream_item(protocol, id, item)?);
                }
            }
            // a stream always has an id, and is never read below filters
            Self::Turn { id: None, .. } | Self::Task { id: None, .. } | Self::Filter { .. } => {}
        }
        Ok(())
    }
}

/// Encodes into a buffer that others use as well: a `Serialize` that panics must not leave half a frame in it.
fn encoded(protocol: Protocol, encode: impl FnOnce() -> Result<(), EncodeError>) -> Result<(), EncodeError> {
    contained(encode).unwrap_or_else(|panicked: Panicked| Err(EncodeError { protocol, source: panicked.into() }))
}

pin_project! {
    /// A method that answers once.
    pub(super) struct Answering<F> {
        #[pin]
        future: F,
    }
}

impl<F> Answering<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future }
    }
}

impl<F, T> Running for Answering<F>
where
    F: Future<Output = HubResult<T>> + Send,
    T: Serialize,
{
    fn poll(self: Pin<&mut Self>, place: &mut Place<'_, '_, '_>) -> Poll<HubResult<Outcome>> {
        let result = ready!(self.project().future.poll(place.cx()))?;
        Poll::Ready(place.result(&result))
    }
}

pin_project! {
    /// A streaming method on its way to its stream.
    pub(super) struct Opening<F> {
        #[pin]
        future: F,
    }
}

impl<F> Opening<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future }
    }
}

impl<F, St, T> Running for Opening<F>
where
    F: Future<Output = HubResult<St>> + Send,
    St: Stream<Item = HubResult<T>> + Send + 'static,
    T: Serialize,
{
    fn poll(self: Pin<&mut Self>, place: &mut Place<'_, '_, '_>) -> Poll<HubResult<Outcome>> {
        let stream = ready!(self.project().future.poll(place.cx()))?;
        Poll::Ready(Ok(Outcome(Answered::Stream(Box::pin(Feeding { stream })))))
    }
}

pin_project! {
    struct Feeding<St> {
        #[pin]
        stream: St,
    }
}

impl<St, T> Feed for Feeding<St>
where
    St: Stream<Item = HubResult<T>> + Send,
    T: Serialize,
{
    fn poll_item(self: Pin<&mut Self>, place: &mut Place<'_, '_, '_>) -> Poll<Option<HubResult<()>>> {
        let item = ready!(self.project().stream.poll_next(place.cx()));
        Poll::Ready(item.map(|item| place.item(&item?)))
    }
}

pub(super) const CANNOT_BIND: &str = "Error binding arguments. Make sure that the types of the provided values match the types of the hub method being invoked.";
/// A parameter that takes more than it said it would.
const TOO_FEW: &str = "A parameter takes more than it declares.";
