//! The hub protocol: handshake, messages, their two encodings, and typed values in them.

mod arguments;
mod encoded;
mod framing;
mod handshake;
mod json;
mod message;
mod messagepack;
mod replay;
mod value;

pub(crate) use arguments::{BindError, EncodeArguments, EncodeError, RawArguments, RawValue};
pub(crate) use encoded::{Frame, append_frame, write_completion_result, write_invocation, write_stream_item};
pub(crate) use framing::{Piece, SEPARATOR, next_message, next_message_from};
pub(crate) use handshake::{HandshakeError, HandshakeRequest, decode_handshake_response};
pub(crate) use json::write_text as write_json_text;
pub use message::Protocol;
pub(crate) use message::{Completed, DecodeError, Invocation, Message};
pub(crate) use replay::{ReceivedCount, SentLog};
pub use value::{Binary, Value, ValueError};

#[cfg(test)]
mod vectors;
#[cfg(test)]
mod vectors_messagepack;
