//! A WebSocket client by hand: any frame, whole, broken, or split anywhere.

use super::http;
use super::server::TestServer;
use super::{PATIENCE, within};
use std::io;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Continuation, text, binary, close, ping and pong.
pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A frame, correct unless a test makes it otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The last of its message.
    pub fin: bool,
    /// The three reserved bits, as the number 0 to 7.
    pub reserved: u8,
    /// The opcode.
    pub opcode: u8,
    /// Whether it is masked, as a client's frames are to be.
    pub masked: bool,
    /// The length to announce in 64 bits, where it is not the payload's own.
    pub announced: Option<u64>,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A whole message of an opcode.
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self { fin: true, reserved: 0, opcode, masked: true, announced: None, payload: payload.into() }
    }

    /// A text message.
    pub fn text(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(TEXT, payload)
    }

    /// A binary message.
    pub fn binary(payload: impl Into<Vec<u8>>) -> Self {
        Self::new(BINARY, payload)
    }

    /// A close frame with a code and a reason.
    pub fn close(code: u16, reason: &str) -> Self {
        Self::new(CLOSE, [&code.to_be_bytes(), reason.as_bytes()].concat())
    }

    /// Makes it a fragment that others follow.
    pub fn unfinished(mut self) -> Self {
        self.fin = false;
        self
    }

    /// Sets reserved bits.
    pub fn reserving(mut self, bits: u8) -> Self {
        self.reserved = bits;
        self
    }

    /// Leaves the mask out.
    pub fn unmasked(mut self) -> Self {
        self.masked = false;
        self
    }

    /// Announces another length than the payload's.
    pub fn announcing(mut self, length: u64) -> Self {
        self.announced = Some(length);
        self
    }

    /// The bytes on the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::from(self.fin) << 7 | self.reserved << 4 | self.opcode];
        let mask_bit = u8::from(self.masked) << 7;
        match (self.announced, self.payload.len()) {
            (Some(length), _) => {
                out.push(mask_bit | 127);
                out.extend_from_slice(&length.to_be_bytes());
            }
            (None, length @ 0..126) => out.push(mask_bit | length as u8),
            (None, length @ 126..=0xffff) => {
                out.push(mask_bit | 126);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            (None, length) => {
                out.push(mask_bit | 127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        if self.masked {
            let mask = [0x37, 0xfa, 0x21, 0x3d];
            out.extend_from_slice(&mask);
            out.extend(self.payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        } else {
            out.extend_from_slice(&self.payload);
        }
        out
    }

    /// The code of a close frame, 1005 for one without.
    pub fn code(&self) -> u16 {
        self.payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]))
    }
}

/// What came from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A whole message (fragments joined) or a control frame.
    Frame(Frame),
    /// The server ended its side of the stream, between frames.
    Eof,
    /// The server reset the connection, or ended it inside a frame.
    Reset,
}

/// One WebSocket connection, or the TCP connection that is to become one.
#[derive(Debug)]
pub struct RawPeer {
    stream: TcpStream,
    input: Vec<u8>,
    /// How much of `input` has been taken out already: cutting each frame off the front would move all the rest.
    taken: usize,
    partial: Option<Frame>,
    closing: bool,
    /// Answer pings with pongs and a close with a close, as a client does. On unless a test turns it off.
    pub polite: bool,
}

impl RawPeer {
    /// Connects TCP only.
    pub async fn tcp(server: &TestServer) -> Self {
        let stream = within("a TCP connection", TcpStream::connect(server.addr())).await.expect("the server accepts");
        Self::over(stream)
    }

    /// A peer on a socket that is connected already, to the server or to something in between.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a TCP socket");
        Self { stream, input: Vec::new(), taken: 0, partial: None, closing: false, polite: true }
    }

    /// Opens a WebSocket without negotiating.
    pub async fn open(server: &TestServer, path: &str) -> Self {
        let mut peer = Self::tcp(server).await;
        peer.send(upgrade_request(path)).await.expect("the server reads");
        peer.expect_upgrade().await;
        peer
    }

    /// Negotiates in version 1, then opens a WebSocket with the token; gives the public connection id too.
    pub async fn negotiated(server: &TestServer, hub: &str) -> (Self, String) {
        let answer = http::negotiate(server, hub, "?negotiateVersion=1").await;
        let token = answer["connectionToken"].as_str().expect("a token");
        let id = answer["connectionId"].as_str().expect("an id").to_owned();
        (Self::open(server, &format!("{hub}?id={token}")).await, id)
    }

    /// Reads the answer to an upgrade, which must be 101.
    pub async fn expect_upgrade(&mut self) -> http::Response {
        let head = self.response_head().await.expect("an answer to the upgrade");
        assert_eq!(head.status, 101, "{head:?}");
        head
    }

    /// Reads the head of an HTTP answer; `None` when the server ends the stream first.
    pub async fn response_head(&mut self) -> Option<http::Response> {
        within("the head of an answer", http::read_head(&mut self.stream, &mut self.input)).await
    }

    /// Reads to the end of the stream, and gives the status if what came was HTTP/1, else 0; `None` if nothing came.
    pub async fn response_head_or_garbage(&mut self) -> Option<u16> {
        use tokio::io::AsyncReadExt;
        let mut bytes = Vec::new();
        // A reset is an end like any other here.
        let _ = within("the end of the stream", self.stream.read_to_end(&mut bytes)).await;
        let bytes = [std::mem::take(&mut self.input), bytes].concat();
        let line = String::from_utf8_lossy(bytes.get(..12)?).into_owned();
        Some(line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok()).unwrap_or(0))
    }

    /// Reads an HTTP answer with its body; `None` when the server ends the stream first.
    pub async fn response(&mut self) -> Option<http::Response> {
        within("an answer", http::read_response(&mut self.stream, &mut self.input)).await
    }

    /// Reads the next chunk of a chunked HTTP body, empty at its end; `None` when the server ends the stream first.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        within("a chunk", http::read_chunk(&mut self.stream, &mut self.input)).await
    }

    /// Sends bytes, and takes in whatever the server sends meanwhile, so that neither side can block the other.
    ///
    /// # Errors
    ///
    /// When the server has ended the connection; what it sent before can still be received.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let mut rest = bytes.as_ref();
        let mut open = true;
        while !rest.is_empty() {
            match self.stream.try_write(rest) {
                Ok(sent) => rest = &rest[sent..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let interest = if open { Interest::READABLE | Interest::WRITABLE } else { Interest::WRITABLE };
                    let ready = self.stream.ready(interest);
                    let ready = tokio::time::timeout(PATIENCE, ready)
                        .await
                        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the server takes no more bytes"))??;
                    if open && ready.is_readable() {
                        open = self.take_in()?;
                    }
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Sends bytes without ever reading; how many the server and the kernel took before `limit` passed without progress.
    pub async fn push_without_reading(&mut self, bytes: &[u8], limit: std::time::Duration) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.try_write(&bytes[sent..]) {
                Ok(length) => sent += length,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    match tokio::time::timeout(limit, self.stream.writable()).await {
                        Ok(Ok(())) => {}
                        _ => break,
                    }
                }
                Err(_) => break,
            }
        }
        sent
    }

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// When the server has ended the connection.
    pub async fn frame(&mut self, frame: &Frame) -> io::Result<()> {
        self.closing |= frame.opcode == CLOSE;
        self.send(frame.encode()).await
    }

    /// The next message or control frame, or the end.
    pub async fn recv(&mut self) -> Received {
        within("a frame or the end of the connection", self.recv_patiently()).await
    }

    /// [`recv`](Self::recv) without a limit of its own.
    pub async fn recv_patiently(&mut self) -> Received {
        loop {
            while let Some(frame) = self.frame_in_input() {
                if let Some(whole) = self.assemble(frame) {
                    self.answer(&whole).await;
                    return Received::Frame(whole);
                }
            }
            match self.stream.readable().await.and_then(|()| self.take_in()) {
                Ok(true) => {}
                Ok(false) if self.taken == self.input.len() => return Received::Eof,
                _ => return Received::Reset,
            }
        }
    }

    /// Reads to the end: whatever frames still come, then how it ended.
    pub async fn until_end(&mut self) -> (Vec<Frame>, Received) {
        let mut frames = Vec::new();
        loop {
            match self.recv().await {
                Received::Frame(frame) => frames.push(frame),
                end => return (frames, end),
            }
        }
    }

    /// Ends the client's side of the stream, without a close frame.
    pub async fn shut_down(&mut self) {
        use tokio::io::AsyncWriteExt;
        let _ = self.stream.shutdown().await;
    }

    /// Makes dropping the peer a TCP reset.
    pub fn reset_on_drop(&self) {
        socket2_linger(&self.stream);
    }

    /// Reads what is there; false at the end of the stream.
    fn take_in(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.try_read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(length) => {
                self.input.extend_from_slice(&chunk[..length]);
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(true),
            Err(e) => Err(e),
        }
    }

    /// Cuts a frame from the input, checking what every server's frame must be.
    fn frame_in_input(&mut self) -> Option<Frame> {
        if self.taken > self.input.len() / 2 {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        let input = &self.input[self.taken..];
        let head = input.get(..2)?;
        let (first, second) = (head[0], head[1]);
        let extended = |width: usize| {
            let bytes = input.get(2..2 + width)?;
            Some(bytes.iter().fold(0usize, |value, byte| value << 8 | usize::from(*byte)))
        };
        let (start, length): (usize, usize) = match second & 0x7f {
            126 => (4, extended(2)?),
            127 => (10, extended(8)?),
            short => (2, short.into()),
        };
        let payload = input.get(start..start.checked_add(length)?)?.to_vec();
        assert_eq!(second & 0x80, 0, "a server's frame is never masked");
        assert_eq!(first & 0x70, 0, "no extension was negotiated, so no reserved bit is set");
        assert!(length < 126 || length > 125 && start > 2, "the shortest form of a length");
        self.taken += start + length;
        Some(Frame { masked: false, fin: first & 0x80 != 0, ..Frame::new(first & 0x0f, payload) })
    }

    /// Joins fragments; a control frame between them comes out at once.
    fn assemble(&mut self, frame: Frame) -> Option<Frame> {
        if frame.opcode >= CLOSE {
            assert!(frame.fin && frame.payload.len() <= 125, "a control frame is short and whole: {frame:?}");
            return Some(frame);
        }
        let fin = frame.fin;
        match (&mut self.partial, frame.opcode) {
            (Some(partial), CONTINUATION) => {
                partial.payload.extend_from_slice(&frame.payload);
                partial.fin = fin;
            }
            (None, TEXT | BINARY) => self.partial = Some(frame),
            (partial, _) => panic!("a frame out of place: {frame:?} after {partial:?}"),
        }
        if fin { self.partial.take() } else { None }
    }

    async fn answer(&mut self, frame: &Frame) {
        if !self.polite {
            return;
        }
        // The server may be gone already, which the next read tells.
        let _ = match frame.opcode {
            PING => self.frame(&Frame::new(PONG, frame.payload.clone())).await,
            CLOSE if !self.closing => self.frame(&Frame::new(CLOSE, frame.payload.clone())).await,
            _ => Ok(()),
        };
    }
}

/// A correct upgrade request.
pub fn upgrade_request(path: &str) -> String {
    upgrade_request_with(path, "Connection: Upgrade\r\nUpgrade: websocket\r\n")
}

/// An upgrade request with these lines for `Connection`, `Upgrade` and whatever else a test wants there.
pub fn upgrade_request_with(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: test\r\n{headers}Sec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// What the server must answer to the key in [`upgrade_request`] (RFC 6455, 1.3).
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn socket2_linger(stream: &TcpStream) {
    #[allow(deprecated)] // A zero linger does not block, which is what the deprecation warns of.
    stream.set_linger(Some(std::time::Duration::ZERO)).expect("a TCP socket");
}
