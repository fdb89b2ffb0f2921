//! Writing: messages in the shape that every client reads, text with as few escapes as JSON allows.

use super::{encode_value, escapes::plain_end};
use crate::protocol::hub::{Completed, Invocation, Message, Protocol, RawValue, Value};

/// Appends the text of a message. Raw values in JSON are copied.
pub(in crate::protocol::hub) fn encode(out: &mut Vec<u8>, message: &Message<'_>) {
    match message {
        Message::Invocation(invocation) => encode_invocation(out, invocation),
        Message::StreamItem { id, item } => {
            begin(out, 2, Some(id));
            out.extend_from_slice(b",\"item\":");
            append_value(out, item);
        }
        Message::Completion { id, outcome } => {
            begin(out, 3, Some(id));
            match outcome {
                Completed::Error(error) => write_member(out, "error", error),
                Completed::Result(result) => {
                    out.extend_from_slice(b",\"result\":");
                    append_value(out, result);
                }
                Completed::Void => {}
            }
        }
        Message::CancelInvocation { id } => begin(out, 5, Some(id)),
        Message::Ping => begin(out, 6, None),
        Message::Close { error, allow_reconnect } => {
            begin(out, 7, None);
            if let Some(error) = error {
                write_member(out, "error", error);
            }
            if *allow_reconnect {
                out.extend_from_slice(b",\"allowReconnect\":true");
            }
        }
        Message::Ack { sequence_id } => encode_sequence_id(out, 8, *sequence_id),
        Message::Sequence { sequence_id } => encode_sequence_id(out, 9, *sequence_id),
        // No type of that number will ever be given out.
        Message::Unknown => begin(out, 0, None),
    }
    out.push(b'}');
}

fn encode_invocation(out: &mut Vec<u8>, invocation: &Invocation<'_>) {
    begin(out, if invocation.streaming { 4 } else { 1 }, invocation.id.as_deref());
    write_member(out, "target", &invocation.target);
    out.extend_from_slice(b",\"arguments\":");
    append_arguments(out, invocation);
    if !invocation.stream_ids.is_empty() {
        out.extend_from_slice(b",\"streamIds\":");
        for (index, id) in invocation.stream_ids.iter().enumerate() {
            out.push(if index == 0 { b'[' } else { b',' });
            write_text(out, id);
        }
        out.push(b']');
    }
}

/// Appends a value; one that came in MessagePack is rewritten. What has no form in JSON becomes null.
fn append_value(out: &mut Vec<u8>, raw: &RawValue<'_>) {
    let rewritten = match raw.protocol {
        Protocol::Json => return out.extend_from_slice(raw.bytes),
        Protocol::MessagePack | Protocol::BlazorPack => raw.decode::<Value>(),
    };
    let start = out.len();
    if !rewritten.is_ok_and(|value| encode_value(out, &value).is_ok()) {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

/// Appends the array of arguments, which is empty if they could not be read.
fn append_arguments(out: &mut Vec<u8>, invocation: &Invocation<'_>) {
    match &invocation.arguments {
        Ok(arguments) if arguments.protocol == Protocol::Json => out.extend_from_slice(arguments.bytes),
        Ok(arguments) => {
            out.push(b'[');
            for (index, argument) in arguments.enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                append_value(out, &argument);
            }
            out.push(b']');
        }
        Err(_) => out.extend_from_slice(b"[]"),
    }
}

fn encode_sequence_id(out: &mut Vec<u8>, kind: u8, sequence_id: i64) {
    begin(out, kind, None);
    out.extend_from_slice(b",\"sequenceId\":");
    out.extend_from_slice(sequence_id.to_string().as_bytes());
}

/// Appends the opening brace, the type and the id if there is one.
pub(in crate::protocol::hub) fn begin(out: &mut Vec<u8>, kind: u8, id: Option<&str>) {
    out.extend_from_slice(b"{\"type\":");
    out.push(b'0' + kind);
    if let Some(id) = id {
        write_member(out, "invocationId", id);
    }
}

/// Appends a comma, a name and a text.
pub(in crate::protocol::hub) fn write_member(out: &mut Vec<u8>, name: &str, text: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    write_text(out, text);
}

/// Appends a string. Only what must be escaped is: quote, backslash and control characters.
pub(crate) fn write_text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    let mut start = 0;
    out.push(b'"');
    loop {
        let end = plain_end(bytes, start);
        out.extend_from_slice(&bytes[start..end]);
        let Some(&special) = bytes.get(end) else { break };
        match special {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', special]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(&[
                    b'\\',
                    b'u',
                    b'0',
                    b'0',
                    HEX[usize::from(special >> 4)],
                    HEX[usize::from(special & 15)],
                ]);
            }
        }
        start = end + 1;
    }
    out.push(b'"');
}
