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
            let left = messages.len();
            reading.keep(messages);
            Polled::Answer(answer("application/octet-stream", Body::new(Messages { left, reading })))
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
    left: usize,
    reading: Reading,
}

impl hyper::body::Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // in pieces, each of which is asked for when the one before has been written
        let Some(piece) = self.reading.piece(PIECE) else { return Poll::Ready(None) };
        self.left -= piece.len();
        self.reading.presence(Presence::Writing);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

const PIECE: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    #[tokio::test]
    async fn an_answer_that_is_cut_keeps_nothing() {
        let channel = HttpChannel::new(0);
        let reading = channel.enter(None).unwrap();
        let messages = Bytes::from(vec![b'x'; 3 * PIECE]);
        reading.keep(messages.clone());
        let mut body = Body::new(Messages { left: messages.len(), reading }).into_data_stream();
        assert_eq!(body.next().await.unwrap().unwrap().len(), PIECE);
        assert!(!messages.is_unique());
        channel.cut();
        assert!(messages.is_unique(), "the body, which nobody polls, has let go");
        assert!(body.next().await.is_none());
    }
}
