use super::{BindError, RawArguments, RawValue, json, messagepack};
use std::borrow::Cow;

/// Encoding of a connection, chosen by the client in its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Text, one JSON object a message.
    Json,
    /// Binary, one MessagePack array a message.
    MessagePack,
    /// What Blazor Server speaks: the frames and messages of MessagePack, under a name of its own. No hub of this crate offers it; the
    /// service passes it on to application servers.
    BlazorPack,
}

impl Protocol {
    /// The protocols that hubs speak.
    pub(crate) const ALL: [Self; 2] = [Self::Json, Self::MessagePack];
    /// Every protocol that is known, in the order in which arrays are indexed by it.
    pub(crate) const KNOWN: [Self; 3] = [Self::Json, Self::MessagePack, Self::BlazorPack];

    /// Returns the name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::MessagePack => "messagepack",
            Self::BlazorPack => "blazorpack",
        }
    }

    /// Looks a name up, without regard to case.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::KNOWN.into_iter().find(|p| p.name().eq_ignore_ascii_case(name))
    }

    /// Decodes one message: what [`next_message`](super::next_message) cut out, without its separator or length prefix.
    pub(crate) fn decode(self, message: &[u8]) -> Result<Message<'_>, DecodeError> {
        match self {
            Self::Json => json::decode(message),
            Self::MessagePack | Self::BlazorPack => messagepack::decode(message),
        }
    }

    /// Appends a message without its frame or framing.
    pub(crate) fn encode(self, out: &mut Vec<u8>, message: &Message<'_>) {
        match self {
            Self::Json => json::encode(out, message),
            Self::MessagePack | Self::BlazorPack => messagepack::encode(out, message),
        }
    }
}

/// A message of the hub protocol, in either direction, borrowed from the bytes it came in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Message<'a> {
    /// Types 1 and 4.
    Invocation(Invocation<'a>),
    StreamItem {
        id: Cow<'a, str>,
        item: RawValue<'a>,
    },
    Completion {
        id: Cow<'a, str>,
        outcome: Completed<'a>,
    },
    CancelInvocation {
        id: Cow<'a, str>,
    },
    Ping,
    Close {
        error: Option<Cow<'a, str>>,
        allow_reconnect: bool,
    },
    Ack {
        sequence_id: i64,
    },
    Sequence {
        sequence_id: i64,
    },
    /// A type that is not known: to be skipped.
    Unknown,
}

/// An ordinary or a streaming invocation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Invocation<'a> {
    /// Absent when nobody waits for the outcome; never empty.
    pub(crate) id: Option<Cow<'a, str>>,
    pub(crate) target: Cow<'a, str>,
    /// An error here fails the call, not the connection.
    pub(crate) arguments: Result<RawArguments<'a>, BindError>,
    pub(crate) stream_ids: Vec<Cow<'a, str>>,
    /// Type 4: the client wants a stream.
    pub(crate) streaming: bool,
}

/// How a call or an upload stream ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Completed<'a> {
    Error(Cow<'a, str>),
    Result(RawValue<'a>),
    Void,
}

/// A message that ends its connection. The texts are the reference's, shown to a client only with detailed errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("{0}")]
    Invalid(Cow<'static, str>),
    #[error("The maximum message size of {0}B was exceeded. The message size can be configured in AddHubOptions.")]
    TooLarge(usize),
}
