use super::HttpChannel;
use super::serve::Seat;
use std::fmt;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// What carries a connection, both ways.
pub(crate) enum Duplex {
    /// A WebSocket on the TCP stream itself: anybody may write to it without waking its task. Its place in our accept loop's count, if it
    /// came from there, is to be kept as long as the stream.
    Tcp(TcpStream, Option<Seat>),
    /// A WebSocket on whatever else a server gave: TLS, a pipe. Only the connection's own task touches it. With its place, as above.
    Boxed(Box<dyn Stream>, Option<Seat>),
    /// HTTP requests, for server-sent events and long polling.
    Http(Arc<HttpChannel>),
}

/// A stream of bytes both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

impl fmt::Debug for Duplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(..) => "Duplex::Tcp",
            Self::Boxed(..) => "Duplex::Boxed",
            Self::Http(_) => "Duplex::Http",
        })
    }
}
