use super::channel::{HttpChannel, Presence, Read, Reading};
use super::serve::Line;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;

/// What a poll came to.
pub(super) enum Polled {
    /// Whole messages, or none: poll again.
    Answer(Response),
    /// Nothing, as a newer poll has taken over.
    Superseded,
    /// Nothing, and nothing will come: the client has fetched everything there was.
    Over,
}

/// The first poll has started the connection, and is answered at once: clients wait for it before they send anything.
pub(super) fn opened() -> Response {
    answer("application/octet-stream", Body::empty())
}

/// Waits for messages, in the place of the poll before.
pub(super) async fn poll(channel: &Arc<HttpChannel>, line: Option<Line>, limit: Duration) -> Polled {
    let Some(reading) = channel.take_over(line).await else {
        return if channel.is_over() { Polled::Over } else { Polled::Superseded };
    };
    match timeout(limit, poll_fn(|cx| reading.poll_read(cx, usize::MAX))).await {
        Ok(Read::Messages(messages)) => {
            Polled::Answer(answer("application/octet-stream", Body::new(Messages { messages, reading })))
        }
        Ok(Read::Superseded) => Polled::Superseded,
        Ok(Read::Ended) => {
            reading.channel().dispose();
            Polled::Over
        }
        Err(_) => Polled::Answer(answer("text/plain", Body::empty())),
    }
}

/// The headers of every answer to a poll, errors included.
pub(super) fn forbid_caching(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(header::EXPIRES, HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
}

fn answer(content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The body of an answer with messages. The poll lasts until all of it has been taken by the HTTP stack, so that a next poll does not
/// overtake it.
struct Messages {
    messages: Bytes,
    reading: Reading,
}

impl hyper::body::Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.messages.is_empty() {
            return Poll::Ready(None);
        }
        // in pieces, each of which is asked for when the one before has been written
        let size = self.messages.len().min(PIECE);
        let piece = self.messages.split_to(size);
        self.reading.presence(Presence::Writing);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.messages.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.messages.len() as u64)
    }
}

const PIECE: usize = 16 * 1024;
