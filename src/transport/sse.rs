use super::channel::{Presence, Read, Reading};
use crate::protocol::sse::append_event;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The answer to a GET that opens an event stream: it goes on for as long as the connection does.
pub(super) fn stream(reading: Reading) -> Response {
    let mut response = Response::new(Body::new(Events { reading, begun: false }));
    write_headers(response.headers_mut());
    response
}

fn write_headers(headers: &mut HeaderMap) {
    let mut set = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, "text/event-stream");
    set(header::CACHE_CONTROL, "no-cache,no-store");
    set(header::PRAGMA, "no-cache");
    // keeps layers away that would compress it, and hold it back in order to
    set(header::CONTENT_ENCODING, "identity");
    // not the reference's: nginx buffers responses unless it is told not to
    set(HeaderName::from_static("x-accel-buffering"), "no");
}

/// The body. Dropped when the client goes away, which ends the connection.
struct Events {
    reading: Reading,
    begun: bool,
}

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.begun {
            self.begun = true;
            // clients see the stream open
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b":\r\n")))));
        }
        match self.reading.poll_read(cx, EVENT_SIZE) {
            Poll::Ready(Read::Messages(messages)) => {
                let mut event = Vec::with_capacity(messages.len() + b"data: \r\n\r\n".len());
                append_event(&mut event, &messages);
                Poll::Ready(Some(Ok(Frame::data(event.into()))))
            }
            Poll::Ready(Read::Superseded | Read::Ended) => Poll::Ready(None),
            Poll::Pending => {
                // who asks for more has written what it had
                self.reading.presence(Presence::Waiting);
                Poll::Pending
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // no harm if the connection has ended: the first reason stands
        self.reading.left();
    }
}

/// Messages are gathered into one event up to this size: a client that does not read is not read for, either.
const EVENT_SIZE: usize = 16 * 1024;
