//! Writing: messages in the shape that every client reads, values in their smallest form.

use super::{
    ACK, CANCEL_INVOCATION, CLOSE, COMPLETION, ERROR_RESULT, INVOCATION, NON_VOID_RESULT, PING, SEQUENCE,
    STREAM_INVOCATION, STREAM_ITEM, VOID_RESULT,
};
use crate::protocol::hub::{Completed, EncodeError, Message, Protocol, RawArguments, RawValue, value};
use serde::Serialize;

/// Appends the body of a message, without its length prefix.
///
/// Headers are always empty, an invocation always has six items (the Python client reads the sixth unasked) and a close three.
pub(in crate::protocol::hub) fn encode(out: &mut Vec<u8>, message: &Message<'_>) {
    match message {
        Message::Invocation(invocation) => {
            begin(out, 6, if invocation.streaming { STREAM_INVOCATION } else { INVOCATION });
            out.push(NO_HEADERS);
            write_str_or_nil(out, invocation.id.as_deref());
            write_str(out, &invocation.target);
            match &invocation.arguments {
                Ok(arguments) => append_arguments(out, arguments),
                Err(_) => write_array_len(out, 0),
            }
            write_array_len(out, invocation.stream_ids.len());
            for id in &invocation.stream_ids {
                write_str(out, id);
            }
        }
        Message::StreamItem { id, item } => {
            begin_with_id(out, 4, STREAM_ITEM, id);
            append_value(out, item);
        }
        Message::Completion { id, outcome } => encode_completion(out, id, outcome),
        Message::CancelInvocation { id } => begin_with_id(out, 3, CANCEL_INVOCATION, id),
        Message::Ping => begin(out, 1, PING),
        Message::Close { error, allow_reconnect } => {
            begin(out, 3, CLOSE);
            write_str_or_nil(out, error.as_deref().filter(|text| !text.is_empty()));
            out.push(if *allow_reconnect { TRUE } else { FALSE });
        }
        Message::Ack { sequence_id } => {
            begin(out, 2, ACK);
            write_sint(out, *sequence_id);
        }
        Message::Sequence { sequence_id } => {
            begin(out, 2, SEQUENCE);
            write_sint(out, *sequence_id);
        }
        // A type that no reader knows, as it was read.
        Message::Unknown => begin(out, 1, 0),
    }
}

/// Appends one value: structs as maps with their names, integers in their smallest form. On an error `out` is as it was.
pub(in crate::protocol::hub) fn encode_value<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    value: &T,
) -> Result<(), EncodeError> {
    let start = out.len();
    let mut serializer = rmp_serde::Serializer::new(&mut *out).with_struct_map();
    value.serialize(&mut serializer).map_err(|error| {
        out.truncate(start);
        EncodeError { protocol: Protocol::MessagePack, source: error.into() }
    })
}

fn encode_completion(out: &mut Vec<u8>, id: &str, outcome: &Completed<'_>) {
    match outcome {
        Completed::Error(text) => {
            begin_with_id(out, 5, COMPLETION, id);
            write_int(out, ERROR_RESULT);
            write_str(out, text);
        }
        Completed::Void => {
            begin_with_id(out, 4, COMPLETION, id);
            write_int(out, VOID_RESULT);
        }
        Completed::Result(value) => {
            begin_with_id(out, 5, COMPLETION, id);
            write_int(out, NON_VOID_RESULT);
            append_value(out, value);
        }
    }
}

fn begin(out: &mut Vec<u8>, items: usize, kind: i32) {
    write_array_len(out, items);
    write_int(out, kind);
}

fn begin_with_id(out: &mut Vec<u8>, items: usize, kind: i32, id: &str) {
    begin(out, items, kind);
    out.push(NO_HEADERS);
    write_str(out, id);
}

/// Splices a value in; one that came in JSON is rewritten. What has no form here, and a value that was missing, becomes nil.
fn append_value(out: &mut Vec<u8>, value: &RawValue<'_>) {
    match value.protocol {
        Protocol::MessagePack | Protocol::BlazorPack if !value.bytes.is_empty() => out.extend_from_slice(value.bytes),
        Protocol::Json if value::json_to_messagepack(out, value.bytes).is_ok() => {}
        _ => out.push(NIL),
    }
}

fn append_arguments(out: &mut Vec<u8>, arguments: &RawArguments<'_>) {
    match arguments.protocol {
        Protocol::MessagePack | Protocol::BlazorPack => {
            write_array_len(out, arguments.count);
            out.extend_from_slice(arguments.bytes);
        }
        Protocol::Json if value::json_to_messagepack(out, arguments.bytes).is_ok() => {}
        Protocol::Json => write_array_len(out, 0),
    }
}

fn write_str_or_nil(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => write_str(out, text),
        None => out.push(NIL),
    }
}

fn write_int(out: &mut Vec<u8>, n: i32) {
    write_sint(out, n.into());
}

/// Appends an integer in its smallest form.
pub(crate) fn write_uint(out: &mut Vec<u8>, n: u64) {
    match n {
        0..=0x7f => out.push(n as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, n as u8]),
        0x100..=0xffff => tagged(out, 0xcd, (n as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => tagged(out, 0xce, (n as u32).to_be_bytes()),
        _ => tagged(out, 0xcf, n.to_be_bytes()),
    }
}

/// Appends an integer in its smallest form.
pub(crate) fn write_sint(out: &mut Vec<u8>, n: i64) {
    match n {
        0.. => write_uint(out, n as u64),
        -0x20..0 => out.push(n as u8),
        -0x80..-0x20 => out.extend_from_slice(&[0xd0, n as u8]),
        -0x8000..-0x80 => tagged(out, 0xd1, (n as i16).to_be_bytes()),
        -0x8000_0000..-0x8000 => tagged(out, 0xd2, (n as i32).to_be_bytes()),
        _ => tagged(out, 0xd3, n.to_be_bytes()),
    }
}

pub(crate) fn write_f32(out: &mut Vec<u8>, n: f32) {
    tagged(out, 0xca, n.to_be_bytes());
}

pub(crate) fn write_f64(out: &mut Vec<u8>, n: f64) {
    tagged(out, 0xcb, n.to_be_bytes());
}

pub(crate) fn write_str(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        len @ 0..=31 => out.push(0xa0 | len as u8),
        len => write_long(out, Some(0xd9), 0xda, len),
    }
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn write_bin(out: &mut Vec<u8>, data: &[u8]) {
    write_long(out, Some(0xc4), 0xc5, data.len());
    out.extend_from_slice(data);
}

pub(crate) fn write_ext(out: &mut Vec<u8>, kind: i8, data: &[u8]) {
    match data.len() {
        len @ (1 | 2 | 4 | 8 | 16) => out.push(0xd4 + len.trailing_zeros() as u8),
        len => write_long(out, Some(0xc7), 0xc8, len),
    }
    out.push(kind.cast_unsigned());
    out.extend_from_slice(data);
}

pub(crate) fn write_array_len(out: &mut Vec<u8>, count: usize) {
    match count {
        0..=15 => out.push(0x90 | count as u8),
        _ => write_long(out, None, 0xdc, count),
    }
}

pub(crate) fn write_map_len(out: &mut Vec<u8>, count: usize) {
    match count {
        0..=15 => out.push(0x80 | count as u8),
        _ => write_long(out, None, 0xde, count),
    }
}

/// Appends a length of 1 (where there is such a form), 2 or 4 bytes. Nothing that was in memory as text, and no message, which ends
/// at 2 GB, has a longer one.
fn write_long(out: &mut Vec<u8>, one_byte: Option<u8>, two_bytes: u8, len: usize) {
    match (len, one_byte) {
        (0..=0xff, Some(code)) => out.extend_from_slice(&[code, len as u8]),
        (0..=0xffff, _) => tagged(out, two_bytes, (len as u16).to_be_bytes()),
        _ => tagged(out, two_bytes + 1, (len as u32).to_be_bytes()),
    }
}

fn tagged<const N: usize>(out: &mut Vec<u8>, code: u8, bytes: [u8; N]) {
    out.push(code);
    out.extend_from_slice(&bytes);
}

const NIL: u8 = 0xc0;
const FALSE: u8 = 0xc2;
const TRUE: u8 = 0xc3;
const NO_HEADERS: u8 = 0x80;
