use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::fmt;

/// The public name of a connection: 22 characters of base64url that stand for 128 random bits. Anyone may know it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionId([u8; LENGTH]);

impl ConnectionId {
    /// Draws a new one.
    pub(crate) fn random() -> Self {
        Self(draw())
    }

    /// Reads one; `None` if no connection can have that name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        parse(text).map(Self)
    }

    pub(crate) fn as_str(&self) -> &str {
        as_text(&self.0)
    }

    /// A number that differs from connection to connection, for spreading work.
    pub(crate) fn spread(&self) -> u32 {
        self.0.iter().fold(0, |sum, b| sum.wrapping_mul(31).wrapping_add(u32::from(*b)))
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The secret by which a client finds its connection again: whoever has it can read the connection's messages. Never printed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionToken([u8; LENGTH]);

impl ConnectionToken {
    /// Draws a new one.
    pub(crate) fn random() -> Self {
        Self(draw())
    }

    /// Reads one; `None` if no connection can have that token.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        parse(text).map(Self)
    }

    /// The token of a client that negotiated version 0, or not at all: the id itself.
    pub(crate) fn same_as(id: ConnectionId) -> Self {
        Self(id.0)
    }

    /// The text for the client that it belongs to.
    pub(crate) fn reveal(&self) -> &str {
        as_text(&self.0)
    }
}

impl fmt::Debug for ConnectionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionToken(secret)")
    }
}

fn draw() -> [u8; LENGTH] {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system has a source of randomness");
    let mut text = [0; LENGTH];
    URL_SAFE_NO_PAD.encode_slice(random, &mut text).expect("16 bytes are 22 characters");
    text
}

fn parse(text: &str) -> Option<[u8; LENGTH]> {
    let bytes: [u8; LENGTH] = text.as_bytes().try_into().ok()?;
    bytes.is_ascii().then_some(bytes)
}

fn as_text(bytes: &[u8; LENGTH]) -> &str {
    std::str::from_utf8(bytes).expect("ids are ASCII")
}

const LENGTH: usize = 22;
