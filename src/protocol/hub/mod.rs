//! The hub protocol: handshake, messages, their two encodings, and typed values in them.

mod arguments;
mod encoded;
mod framing;
mod handshake;
mod json;
#[cfg(feature = "service")]
mod kind;
mod message;
mod messagepack;
mod replay;
mod value;

pub(crate) use arguments::{BindError, EncodeArguments, EncodeError, RawArguments, RawValue};
pub(crate) use encoded::{Frame, append_frame, write_completion_result, write_stream_item};
#[cfg(feature = "service")]
pub(in crate::protocol) use framing::read_prefix;
pub(crate) use framing::{next_message, next_message_from};
#[cfg(all(test, not(feature = "service")))]
use handshake::decode_handshake_response;
#[cfg(feature = "service")]
pub(crate) use handshake::decode_handshake_response;
pub(crate) use handshake::{HandshakeError, HandshakeRequest};
pub(crate) use json::write_text as write_json_text;
#[cfg(feature = "service")]
pub(crate) use kind::Kind;
pub use message::Protocol;
pub(crate) use message::{Completed, DecodeError, Invocation, Message};
#[cfg(feature = "service")]
pub(crate) use messagepack::Token as MessagePackToken;
#[cfg(feature = "service")]
pub(in crate::protocol) use messagepack::{
    Token, write_array_len, write_bin, write_ext, write_map_len, write_sint, write_str, write_uint,
};
pub(crate) use replay::{ReceivedCount, SentLog};
pub use value::{Binary, Value, ValueError};

#[cfg(test)]
mod vectors;
#[cfg(test)]
mod vectors_messagepack;
