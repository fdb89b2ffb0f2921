//! A WebSocket client over any stream of bytes, which shows how a connection ends.

use crate::client::PATIENCE;
use serde_json::Value;
use std::collections::VecDeque;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(crate) struct Peer {
    stream: Box<dyn Stream>,
    input: Vec<u8>,
    messages: VecDeque<Value>,
}

/// What comes from the server.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    Message(Value),
    /// A close frame with its code.
    Close(u16),
    /// The end of the stream, as its own rules want it: over TLS with `close_notify`.
    End,
    /// Any other end.
    Broken(io::ErrorKind),
}

impl Peer {
    pub(crate) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, input: Vec::new(), messages: VecDeque::new() }
    }

    /// Goes on where so much of what the server sent was taken from the stream already.
    pub(crate) fn having_read(mut self, bytes: &[u8]) -> Self {
        self.input.extend_from_slice(bytes);
        self
    }

    /// Opens the hub's WebSocket on a stream and shakes hands.
    pub(crate) async fn open(stream: Box<dyn Stream>) -> Self {
        let mut peer = Self::new(stream);
        peer.write(UPGRADE.as_bytes()).await;
        assert_eq!(peer.head().await, 101);
        peer.write(&handshake()).await;
        assert_eq!(peer.next().await, Event::Message(serde_json::json!({})));
        peer
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(PATIENCE, write).await.expect("the server reads").unwrap();
    }

    pub(crate) async fn say(&mut self, message: Value) {
        self.write(&text(&message)).await;
    }

    /// Says something without waiting for the server to read it, and reads meanwhile.
    pub(crate) async fn say_and_hear(&mut self, message: Value) -> Event {
        let bytes = text(&message);
        let mut written = 0;
        while written < bytes.len() {
            let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
            let step = async {
                tokio::select! {
                    result = writer.write(&bytes[written..]) => result.map(|n| written += n),
                    result = reader.read_buf(&mut self.input) => result.map(drop),
                }
            };
            timeout(PATIENCE, step).await.expect("the server reads or writes").unwrap();
        }
        self.stream.flush().await.unwrap();
        self.next().await
    }

    /// The status of the answer to a request that was written.
    pub(crate) async fn head(&mut self) -> u16 {
        let end = loop {
            match self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => assert_ne!(self.read().await.unwrap(), 0, "the server answers"),
            }
        };
        let head = String::from_utf8(self.input.drain(..end).collect()).unwrap();
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// The JSON body, of known length, behind a head.
    pub(crate) async fn json(&mut self) -> Value {
        loop {
            if let Ok(value) = serde_json::from_slice(&self.input) {
                self.input.clear();
                return value;
            }
            assert_ne!(self.read().await.unwrap(), 0, "a whole body");
        }
    }

    /// What comes next, pings apart.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            match self.messages.pop_front() {
                Some(message) if message["type"] == 6 => continue,
                Some(message) => return Event::Message(message),
                None => {}
            }
            if let Some((opcode, payload)) = self.frame() {
                match opcode {
                    1 => {
                        let texts = payload.split(|b| *b == 0x1e).filter(|text| !text.is_empty());
                        self.messages.extend(texts.map(|text| serde_json::from_slice::<Value>(text).unwrap()));
                    }
                    8 => return Event::Close(u16::from_be_bytes(payload.try_into().expect("a code and no reason"))),
                    other => panic!("a frame of opcode {other}"),
                }
                continue;
            }
            match self.read().await {
                Ok(0) => return Event::End,
                Ok(_) => {}
                Err(e) => return Event::Broken(e.kind()),
            }
        }
    }

    /// A frame that has come whole.
    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let input = &self.input;
        let (length, header) = match *input.get(1)? {
            126 => (u16::from_be_bytes(input.get(2..4)?.try_into().ok()?).into(), 4),
            127 => (usize::try_from(u64::from_be_bytes(input.get(2..10)?.try_into().ok()?)).ok()?, 10),
            length => (length.into(), 2),
        };
        let payload = input.get(header..header + length)?.to_vec();
        let opcode = input[0] & 15;
        self.input.drain(..header + length);
        Some((opcode, payload))
    }

    /// Ends our side of the stream without a goodbye, and waits until the server has let go of its own.
    pub(crate) async fn lose(mut self) {
        self.stream.shutdown().await.unwrap();
        while self.read().await.is_ok_and(|n| n > 0) {}
    }

    async fn read(&mut self) -> io::Result<usize> {
        timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await.expect("something comes")
    }
}

pub(crate) fn handshake() -> Vec<u8> {
    frame(1, b"{\"protocol\":\"json\",\"version\":1}\x1e")
}

/// The frame of a hub message.
pub(crate) fn text(message: &Value) -> Vec<u8> {
    frame(1, &[message.to_string().as_bytes(), b"\x1e"].concat())
}

pub(crate) fn close(code: u16) -> Vec<u8> {
    frame(8, &code.to_be_bytes())
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..=125 => bytes.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            bytes.push(0xfe);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0xff);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

pub(crate) const UPGRADE: &str = "GET /hub HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
