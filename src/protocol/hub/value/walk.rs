//! MessagePack bytes into any serializer, in one pass.

use super::{binary, timestamp::Timestamp};
use crate::protocol::hub::messagepack::{MAX_VALUE_DEPTH, Token};
use serde::{
    Serialize, Serializer,
    ser::{Error as _, SerializeMap, SerializeSeq},
};
use std::cell::Cell;

/// Serializes one value. A serializer for people gets what JSON can say; others get everything, extension types in the way of
/// rmp-serde.
pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    Walk { rest: &Cell::new(bytes), depth: 0 }.serialize(serializer)
}

/// Serializes the value at the front of `rest` and takes it off.
struct Walk<'c, 'a> {
    rest: &'c Cell<&'a [u8]>,
    /// How many containers are around it.
    depth: usize,
}

impl Serialize for Walk<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match take(self.rest)? {
            Token::Nil => serializer.serialize_unit(),
            Token::Bool(value) => serializer.serialize_bool(value),
            Token::Unsigned(n) => serializer.serialize_u64(n),
            Token::Signed(n) => serializer.serialize_i64(n),
            Token::Float32(n) if n.is_finite() || !serializer.is_human_readable() => serializer.serialize_f32(n),
            Token::Float64(n) if n.is_finite() || !serializer.is_human_readable() => serializer.serialize_f64(n),
            Token::Float32(_) | Token::Float64(_) => Err(S::Error::custom(NOT_FINITE)),
            Token::Str(text) => serializer.serialize_str(utf8(text)?),
            Token::Bin(bytes) => binary::serialize(bytes, serializer),
            Token::Array(count) => {
                let inner = self.inner()?;
                let mut seq = serializer.serialize_seq(Some(count))?;
                for _ in 0..count {
                    seq.serialize_element(&inner)?;
                }
                seq.end()
            }
            Token::Map(count) => {
                let text_keys = serializer.is_human_readable();
                let inner = self.inner()?;
                let mut map = serializer.serialize_map(Some(count))?;
                for _ in 0..count {
                    if text_keys {
                        map.serialize_entry(&TextKey(self.rest), &inner)?;
                    } else {
                        map.serialize_entry(&inner, &inner)?;
                    }
                }
                map.end()
            }
            Token::Ext(kind, data) if serializer.is_human_readable() => serializer.collect_str(&timestamp(kind, data)?),
            Token::Ext(kind, data) => {
                serializer.serialize_newtype_struct(rmp_serde::MSGPACK_EXT_STRUCT_NAME, &(kind, Bytes(data)))
            }
        }
    }
}

impl Walk<'_, '_> {
    fn inner<E: serde::ser::Error>(&self) -> Result<Self, E> {
        if self.depth == MAX_VALUE_DEPTH {
            return Err(E::custom("nested too deep"));
        }
        Ok(Self { rest: self.rest, depth: self.depth + 1 })
    }
}

/// A map's key as JSON knows it: text.
struct TextKey<'c, 'a>(&'c Cell<&'a [u8]>);

impl Serialize for TextKey<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match take(self.0)? {
            Token::Str(text) => serializer.serialize_str(utf8(text)?),
            Token::Unsigned(n) => serializer.collect_str(&n),
            Token::Signed(n) => serializer.collect_str(&n),
            Token::Bool(value) => serializer.serialize_str(if value { "true" } else { "false" }),
            Token::Float32(n) if n.is_finite() => serializer.collect_str(&n),
            Token::Float64(n) if n.is_finite() => serializer.collect_str(&n),
            Token::Float32(_) | Token::Float64(_) => Err(S::Error::custom(NOT_FINITE)),
            Token::Bin(bytes) => binary::serialize(bytes, serializer),
            Token::Ext(kind, data) => serializer.collect_str(&timestamp(kind, data)?),
            Token::Nil | Token::Array(_) | Token::Map(_) => Err(S::Error::custom("a map's key has no text form")),
        }
    }
}

/// Bytes that serialize as such, and not as a sequence of numbers.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

fn take<'a, E: serde::ser::Error>(rest: &Cell<&'a [u8]>) -> Result<Token<'a>, E> {
    let (token, after) = Token::read(rest.get()).ok_or_else(|| E::custom("malformed MessagePack"))?;
    rest.set(after);
    Ok(token)
}

fn utf8<E: serde::ser::Error>(text: &[u8]) -> Result<&str, E> {
    std::str::from_utf8(text).map_err(E::custom)
}

fn timestamp<E: serde::ser::Error>(kind: i8, data: &[u8]) -> Result<Timestamp, E> {
    if kind != TIMESTAMP {
        return Err(E::custom(format_args!("extension type {kind} has no JSON form")));
    }
    Timestamp::read(data).ok_or_else(|| E::custom("a timestamp outside the years 1 to 9999"))
}

/// The extension type of timestamps.
const TIMESTAMP: i8 = -1;
const NOT_FINITE: &str = "NaN and infinities have no JSON form";
