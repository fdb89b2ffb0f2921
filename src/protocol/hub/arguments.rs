use super::{Protocol, json, messagepack};
use serde::{Serialize, de::DeserializeOwned};
use std::borrow::Cow;

/// One value as it stands in a message, not yet decoded. Syntax and nesting were checked when the message was decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawValue<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) bytes: &'a [u8],
}

impl RawValue<'_> {
    /// Decodes the value; the error's text is the serializer's, and may quote the value.
    pub(crate) fn decode<T: DeserializeOwned>(self) -> Result<T, BindError> {
        match self.protocol {
            Protocol::Json => serde_json::from_slice(self.bytes).map_err(|e| BindError(e.to_string().into())),
            Protocol::MessagePack | Protocol::BlazorPack => messagepack::decode_value(self.bytes),
        }
    }
}

/// The arguments of an invocation, raw until a parameter claims them. An iterator over the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawArguments<'a> {
    pub(crate) protocol: Protocol,
    /// JSON: the whole array, brackets included; what is left of it begins with the comma. MessagePack: the values,
    /// behind the array's header.
    pub(crate) bytes: &'a [u8],
    /// How many values there are, all of them well-formed.
    pub(crate) count: usize,
}

impl<'a> Iterator for RawArguments<'a> {
    type Item = RawValue<'a>;

    fn next(&mut self) -> Option<RawValue<'a>> {
        self.count = self.count.checked_sub(1)?;
        let (bytes, rest) = match self.protocol {
            Protocol::Json => json::split_first(self.bytes, self.count == 0)?,
            Protocol::MessagePack | Protocol::BlazorPack => messagepack::split_first(self.bytes)?,
        };
        self.bytes = rest;
        Some(RawValue { protocol: self.protocol, bytes })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.count))
    }
}

/// Arguments that do not fit a method: the call fails, the connection lives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BindError(pub(crate) Cow<'static, str>);

/// A value that an encoding cannot carry (NaN in JSON, a map nested too deep, ...), or whose `Serialize` failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot be encoded as {}: {source}", protocol.name())]
pub(crate) struct EncodeError {
    pub(crate) protocol: Protocol,
    pub(crate) source: Box<dyn std::error::Error + Send + Sync>,
}

/// A tuple, slice or array of arguments that can be written in either encoding; object-safe, so that fan-out is
/// compiled once.
pub(crate) trait EncodeArguments {
    /// Appends an array of the values. On an error the buffer is as it was.
    fn encode(&self, protocol: Protocol, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

impl<A: Serialize> EncodeArguments for A {
    fn encode(&self, protocol: Protocol, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        encode_value(protocol, out, self)?;
        // Every way to serialize a sequence ends in an array, so the first byte tells what no trait bound can.
        match (protocol, &out[start..]) {
            (Protocol::Json, [b'[', ..]) => Ok(()),
            (Protocol::MessagePack, [0x90..=0x9f | 0xdc | 0xdd, ..]) => Ok(()),
            // The unit type is the empty tuple.
            (Protocol::Json, b"null") => {
                out.truncate(start);
                out.extend_from_slice(b"[]");
                Ok(())
            }
            (Protocol::MessagePack, [0xc0]) => {
                out[start] = 0x90;
                Ok(())
            }
            _ => {
                out.truncate(start);
                let source = "arguments are a tuple: write `(value,)` for a single one".into();
                Err(EncodeError { protocol, source })
            }
        }
    }
}

/// Appends one value. Refuses what a receiver of this encoding could not read (see the cases in `field-cases.md`). On
/// an error the buffer is as it was.
pub(crate) fn encode_value<T: Serialize + ?Sized>(
    protocol: Protocol,
    out: &mut Vec<u8>,
    value: &T,
) -> Result<(), EncodeError> {
    let start = out.len();
    let written = match protocol {
        Protocol::Json => {
            json::encode_value(out, value).map_err(|source| EncodeError { protocol, source: source.into() })
        }
        Protocol::MessagePack | Protocol::BlazorPack => messagepack::encode_value(out, value),
    };
    if written.is_err() {
        out.truncate(start);
    }
    written
}
