use std::fmt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The bytes of a WebSocket, both ways, once the HTTP stack has let go of them.
pub(crate) enum Duplex {
    /// The TCP stream itself: anybody may write to it without waking its task.
    Tcp(TcpStream),
    /// Whatever else an embedder's server gave: TLS, a pipe. Only the connection's own task touches it.
    Boxed(Box<dyn Stream>),
}

/// A stream of bytes both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

impl fmt::Debug for Duplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Duplex::Tcp",
            Self::Boxed(_) => "Duplex::Boxed",
        })
    }
}
