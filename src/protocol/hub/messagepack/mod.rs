//! The MessagePack encoding of messages: a cursor reads the fixed positions, values inside stay raw. Spec sections 4.2 and 4.4.

mod cursor;
mod write;

pub(crate) use cursor::{MAX_VALUE_DEPTH, Token};
pub(super) use write::{encode, encode_value};
pub(crate) use write::{
    write_array_len, write_bin, write_ext, write_f32, write_f64, write_map_len, write_sint, write_str, write_uint,
};

use super::{BindError, Completed, DecodeError, Invocation, Message, Protocol, RawArguments, RawValue};
use cursor::{Cursor, skip_values};
use serde::de::DeserializeOwned;
use std::borrow::Cow;

/// Decodes the body of one message, without its length prefix.
pub(super) fn decode(message: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut cursor = Cursor::new(message);
    let items = cursor.array_len().ok_or_else(|| invalid("Reading array length for the message failed."))?;
    let kind: i32 = cursor.int().ok_or_else(|| invalid("Reading 'messageType' as Int32 failed."))?;
    match kind {
        INVOCATION => invocation(&mut cursor, items, &ORDINARY),
        STREAM_ITEM => stream_item(&mut cursor),
        COMPLETION => completion(&mut cursor),
        STREAM_INVOCATION => invocation(&mut cursor, items, &STREAMING),
        CANCEL_INVOCATION => {
            skip_headers(&mut cursor)?;
            Ok(Message::CancelInvocation {
                id: required_id(&mut cursor, "Null or empty invocation ID for CancelInvocation message.")?,
            })
        }
        PING => Ok(Message::Ping),
        CLOSE => close(&mut cursor, items),
        ACK => Ok(Message::Ack { sequence_id: sequence_id(&mut cursor)? }),
        SEQUENCE => Ok(Message::Sequence { sequence_id: sequence_id(&mut cursor)? }),
        _ => Ok(Message::Unknown),
    }
}

/// The type of a message.
#[cfg(feature = "service")]
pub(super) fn usual_kind(message: &[u8]) -> Option<i32> {
    let mut cursor = Cursor::new(message);
    cursor.array_len()?;
    cursor.int()
}

/// Decodes one value; no bytes at all stand for a value that was missing or malformed.
pub(super) fn decode_value<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BindError> {
    rmp_serde::from_slice(bytes).map_err(|error| BindError(error.to_string().into()))
}

/// Splits the first whole value off.
pub(super) fn split_first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = skip_values(bytes, 1)?;
    Some(bytes.split_at(bytes.len() - rest.len()))
}

/// What differs between types 1 and 4.
struct InvocationKind {
    streaming: bool,
    no_target: &'static str,
}

fn invocation<'a>(cursor: &mut Cursor<'a>, items: usize, kind: &InvocationKind) -> Result<Message<'a>, DecodeError> {
    skip_headers(cursor)?;
    let id = if kind.streaming {
        Some(required_id(cursor, "Null or empty invocation ID for StreamInvocation message.")?)
    } else {
        string(cursor, "invocationId")?.filter(|id| !id.is_empty()).map(Cow::Borrowed)
    };
    let target = string(cursor, "target")?.filter(|t| !t.is_empty()).ok_or_else(|| invalid(kind.no_target))?;
    let arguments = arguments(cursor);
    // Where broken arguments end is not known, so nothing is read behind them; their call fails anyway, and its streams with it.
    let stream_ids = if items > 5 && arguments.is_ok() { stream_ids(cursor)? } else { Vec::new() };
    Ok(Message::Invocation(Invocation {
        id,
        target: Cow::Borrowed(target),
        arguments,
        stream_ids,
        streaming: kind.streaming,
    }))
}

fn arguments<'a>(cursor: &mut Cursor<'a>) -> Result<RawArguments<'a>, BindError> {
    let count = cursor.array_len().ok_or(BindError(Cow::Borrowed("Reading array length for 'arguments' failed.")))?;
    let bytes = cursor.values(count).ok_or(BindError(Cow::Borrowed(CANNOT_BIND)))?;
    Ok(RawArguments { protocol: Protocol::MessagePack, bytes, count })
}

fn stream_ids<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<Cow<'a, str>>, DecodeError> {
    let count = cursor.array_len().filter(|&count| count <= MAX_STREAM_IDS);
    let count = count.ok_or_else(|| invalid("Reading array length for 'streamIds' failed."))?;
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        let id = string(cursor, "streamIds")?.filter(|id| !id.is_empty());
        ids.push(Cow::Borrowed(id.ok_or_else(|| invalid("Null or empty value in streamIds received."))?));
    }
    Ok(ids)
}

fn stream_item<'a>(cursor: &mut Cursor<'a>) -> Result<Message<'a>, DecodeError> {
    skip_headers(cursor)?;
    let id = required_id(cursor, "Null or empty invocation ID for StreamItem message.")?;
    Ok(Message::StreamItem { id, item: raw_value(cursor) })
}

fn completion<'a>(cursor: &mut Cursor<'a>) -> Result<Message<'a>, DecodeError> {
    skip_headers(cursor)?;
    let id = required_id(cursor, "Null or empty invocation ID for Completion message.")?;
    let kind: i32 = cursor.int().ok_or_else(|| invalid("Reading 'resultKind' as Int32 failed."))?;
    let outcome = match kind {
        // The reference takes an error of nil for no error at all.
        ERROR_RESULT => string(cursor, "error")?.map_or(Completed::Void, |text| Completed::Error(Cow::Borrowed(text))),
        VOID_RESULT => Completed::Void,
        NON_VOID_RESULT => Completed::Result(raw_value(cursor)),
        _ => return Err(invalid("Invalid invocation result kind.")),
    };
    Ok(Message::Completion { id, outcome })
}

fn close<'a>(cursor: &mut Cursor<'a>, items: usize) -> Result<Message<'a>, DecodeError> {
    let error = string(cursor, "error")?.map(Cow::Borrowed);
    let allow_reconnect = if items > 2 {
        cursor.bool().ok_or_else(|| invalid("Reading 'allowReconnect' as Boolean failed."))?
    } else {
        false
    };
    Ok(Message::Close { error, allow_reconnect })
}

fn sequence_id(cursor: &mut Cursor<'_>) -> Result<i64, DecodeError> {
    cursor.int().ok_or_else(|| invalid("Reading 'sequenceId' as Int64 failed."))
}

fn required_id<'a>(cursor: &mut Cursor<'a>, empty: &'static str) -> Result<Cow<'a, str>, DecodeError> {
    let id = string(cursor, "invocationId")?.filter(|id| !id.is_empty());
    id.map(Cow::Borrowed).ok_or_else(|| invalid(empty))
}

/// A value that is missing, malformed or too deep becomes one without bytes: it fails its call or stream, when it is decoded, and not
/// the connection. Nothing is read behind it.
fn raw_value<'a>(cursor: &mut Cursor<'a>) -> RawValue<'a> {
    RawValue { protocol: Protocol::MessagePack, bytes: cursor.values(1).unwrap_or_default() }
}

/// Checks headers and forgets them: no client can see any, and some of them hold tokens.
fn skip_headers(cursor: &mut Cursor<'_>) -> Result<(), DecodeError> {
    let count = cursor.map_len().ok_or_else(|| invalid("Reading map length for 'headers' failed."))?;
    let mut keys = Vec::new();
    for i in 0..count {
        let key =
            cursor.str_or_nil().ok_or_else(|| invalid(format!("Reading 'headers[{i}].Key' as String failed.")))?;
        keys.push(key.filter(|key| !key.is_empty()).ok_or_else(|| invalid("Null or empty key in header."))?);
        let value =
            cursor.str_or_nil().ok_or_else(|| invalid(format!("Reading 'headers[{i}].Value' as String failed.")))?;
        value.filter(|value| !value.is_empty()).ok_or_else(|| invalid("Null or empty value in header."))?;
    }
    // Sorted, as comparing each with each would let one message without a size limit hold a thread.
    keys.sort_unstable();
    if keys.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(invalid("An item with the same key has already been added."));
    }
    Ok(())
}

fn string<'a>(cursor: &mut Cursor<'a>, field: &'static str) -> Result<Option<&'a str>, DecodeError> {
    cursor.str_or_nil().ok_or_else(|| invalid(format!("Reading '{field}' as String failed.")))
}

#[cold]
fn invalid(text: impl Into<Cow<'static, str>>) -> DecodeError {
    DecodeError::Invalid(text.into())
}

const INVOCATION: i32 = 1;
const STREAM_ITEM: i32 = 2;
const COMPLETION: i32 = 3;
const STREAM_INVOCATION: i32 = 4;
const CANCEL_INVOCATION: i32 = 5;
const PING: i32 = 6;
const CLOSE: i32 = 7;
const ACK: i32 = 8;
const SEQUENCE: i32 = 9;

const ERROR_RESULT: i32 = 1;
const VOID_RESULT: i32 = 2;
const NON_VOID_RESULT: i32 = 3;

const ORDINARY: InvocationKind =
    InvocationKind { streaming: false, no_target: "Null or empty target for Invocation message." };
const STREAMING: InvocationKind =
    InvocationKind { streaming: true, no_target: "Null or empty target for StreamInvocation message." };

const CANNOT_BIND: &str = "Error binding arguments. Make sure that the types of the provided values match the types of the hub method being invoked.";

/// Far more upload streams than a method can take; each costs an allocation, an empty message of the default size could hold 30,000.
const MAX_STREAM_IDS: usize = 1_000;
