use super::{
    Completed, EncodeArguments, EncodeError, Message, Protocol,
    arguments::encode_value,
    framing::{MAX_PREFIX, SEPARATOR},
    handshake::encode_handshake_response,
    json, messagepack,
};
use crate::protocol::websocket::header_length;
use bytes::{Buf, Bytes};
use serde::Serialize;
use std::convert::Infallible;

/// A message encoded once, with its WebSocket header in front; shared by all its receivers.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    bytes: Bytes,
    /// Length of the WebSocket header.
    header: u8,
}

impl Frame {
    /// The frame with its WebSocket header.
    pub(crate) fn websocket(&self) -> &Bytes {
        &self.bytes
    }

    /// The framed hub message (separator or length prefix included) without the WebSocket header.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.bytes[usize::from(self.header)..]
    }

    /// The [`payload`](Self::payload), shared as the frame is.
    pub(crate) fn into_payload(self) -> Bytes {
        self.bytes.slice(usize::from(self.header)..)
    }

    pub(crate) fn invocation(
        protocol: Protocol,
        id: Option<&str>,
        target: &str,
        arguments: &dyn EncodeArguments,
    ) -> Result<Self, EncodeError> {
        Self::encode(protocol, |out| write_invocation(out, protocol, id, target, arguments))
    }

    pub(crate) fn stream_item<T: Serialize + ?Sized>(
        protocol: Protocol,
        id: &str,
        item: &T,
    ) -> Result<Self, EncodeError> {
        Self::encode(protocol, |out| write_stream_item(out, protocol, id, item))
    }

    pub(crate) fn completion_result<T: Serialize + ?Sized>(
        protocol: Protocol,
        id: &str,
        result: &T,
    ) -> Result<Self, EncodeError> {
        Self::encode(protocol, |out| write_completion_result(out, protocol, id, result))
    }

    pub(crate) fn completion_error(protocol: Protocol, id: &str, error: &str) -> Self {
        Self::message(protocol, &Message::Completion { id: id.into(), outcome: Completed::Error(error.into()) })
    }

    /// The end of a stream.
    pub(crate) fn completion_void(protocol: Protocol, id: &str) -> Self {
        Self::message(protocol, &Message::Completion { id: id.into(), outcome: Completed::Void })
    }

    /// Shared, never encoded twice.
    pub(crate) fn ping(protocol: Protocol) -> Self {
        Self { bytes: Bytes::from_static(ping_bytes(protocol)), header: 2 }
    }

    pub(crate) fn close(protocol: Protocol, error: Option<&str>, allow_reconnect: bool) -> Self {
        Self::message(protocol, &Message::Close { error: error.map(Into::into), allow_reconnect })
    }

    pub(crate) fn ack(protocol: Protocol, sequence_id: i64) -> Self {
        Self::message(protocol, &Message::Ack { sequence_id })
    }

    pub(crate) fn sequence(protocol: Protocol, sequence_id: i64) -> Self {
        Self::message(protocol, &Message::Sequence { sequence_id })
    }

    /// The answer to a handshake; text unless a protocol that is binary was chosen.
    pub(crate) fn handshake_response(protocol: Protocol, error: Option<&str>) -> Self {
        let mut out = vec![0; MAX_HEADER];
        encode_handshake_response(&mut out, error);
        Self::finish(protocol, out, MAX_HEADER)
    }

    /// Takes bytes that were made by `append_frame`: one frame or several, WebSocket headers in place (so never for SSE
    /// or long polling).
    pub(crate) fn of_websocket(bytes: Vec<u8>) -> Self {
        Self { bytes: bytes.into(), header: 0 }
    }

    /// Takes bytes that were made by one call of `append_frame` on an empty buffer.
    pub(crate) fn of_single(bytes: Vec<u8>) -> Self {
        let header = header_length(&bytes) as u8;
        Self { bytes: bytes.into(), header }
    }

    /// Frames bytes that already are whole framed hub messages (from a backplane, or an application server).
    #[cfg_attr(not(any(test, feature = "service")), expect(dead_code, reason = "only others encode elsewhere"))]
    pub(crate) fn of_framed(protocol: Protocol, framed: &[u8]) -> Self {
        let mut out = Vec::with_capacity(MAX_HEADER + framed.len());
        out.resize(MAX_HEADER, 0);
        out.extend_from_slice(framed);
        Self::finish(protocol, out, MAX_HEADER)
    }

    fn message(protocol: Protocol, message: &Message<'_>) -> Self {
        let encode = |out: &mut Vec<u8>| {
            protocol.encode(out, message);
            Ok::<_, Infallible>(())
        };
        let Ok(frame) = Self::encode(protocol, encode);
        frame
    }

    /// Encodes behind room for the longest header and prefix, and then writes both right in front of the body.
    fn encode<E>(protocol: Protocol, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Self, E> {
        let room = MAX_HEADER + MAX_PREFIX;
        let mut out = Vec::with_capacity(USUAL_SIZE);
        out.resize(room, 0);
        encode(&mut out)?;
        let mut start = room;
        match protocol {
            Protocol::Json => out.push(SEPARATOR),
            Protocol::MessagePack | Protocol::BlazorPack => {
                let prefix = Short::prefix(out.len() - room);
                start -= prefix.len();
                out[start..room].copy_from_slice(&prefix);
            }
        }
        Ok(Self::finish(protocol, out, start))
    }

    /// Writes the WebSocket header in front of the payload, which begins at `start` and goes to the end.
    fn finish(protocol: Protocol, mut out: Vec<u8>, start: usize) -> Self {
        let header = Short::header(protocol, out.len() - start);
        let begin = start - header.len();
        out[begin..start].copy_from_slice(&header);
        let mut bytes = Bytes::from(out);
        bytes.advance(begin);
        Self { bytes, header: header.length }
    }
}

/// Appends one message with its WebSocket header and its hub framing to a buffer that may hold frames already; `encode`
/// appends the body (JSON object or MessagePack array). On an error the buffer is as it was.
pub(crate) fn append_frame<E>(
    out: &mut Vec<u8>,
    protocol: Protocol,
    encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    // Most messages are short: room for the shortest header and prefix, and the body moves if they turn out longer.
    let room = match protocol {
        Protocol::Json => 2,
        Protocol::MessagePack | Protocol::BlazorPack => 3,
    };
    out.extend_from_slice(&[0; 3][..room]);
    let body = out.len();
    if let Err(error) = encode(out) {
        out.truncate(start);
        return Err(error);
    }
    let prefix = match protocol {
        Protocol::Json => {
            out.push(SEPARATOR);
            Short::default()
        }
        Protocol::MessagePack | Protocol::BlazorPack => Short::prefix(out.len() - body),
    };
    let length = out.len() - body;
    let header = Short::header(protocol, prefix.len() + length);
    let needed = header.len() + prefix.len();
    if needed > room {
        out.resize(out.len() + needed - room, 0);
        out.copy_within(body..body + length, start + needed);
    }
    out[start..start + header.len()].copy_from_slice(&header);
    out[start + header.len()..start + needed].copy_from_slice(&prefix);
    Ok(())
}

/// Appends an invocation, for `append_frame`.
pub(crate) fn write_invocation(
    out: &mut Vec<u8>,
    protocol: Protocol,
    id: Option<&str>,
    target: &str,
    arguments: &dyn EncodeArguments,
) -> Result<(), EncodeError> {
    match protocol {
        Protocol::Json => {
            json::begin(out, 1, id);
            json::write_member(out, "target", target);
            out.extend_from_slice(b",\"arguments\":");
            arguments.encode(protocol, out)?;
            out.push(b'}');
        }
        Protocol::MessagePack | Protocol::BlazorPack => {
            out.extend_from_slice(&[0x96, 1, 0x80]);
            match id {
                Some(id) => messagepack::write_str(out, id),
                None => out.push(0xc0),
            }
            messagepack::write_str(out, target);
            arguments.encode(protocol, out)?;
            // The Python client reads the stream ids without asking whether they are there.
            out.push(0x90);
        }
    }
    Ok(())
}

/// Appends a stream item, for `append_frame`.
pub(crate) fn write_stream_item<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    protocol: Protocol,
    id: &str,
    item: &T,
) -> Result<(), EncodeError> {
    match protocol {
        Protocol::Json => {
            json::begin(out, 2, Some(id));
            out.extend_from_slice(b",\"item\":");
            encode_value(protocol, out, item)?;
            out.push(b'}');
        }
        Protocol::MessagePack | Protocol::BlazorPack => {
            out.extend_from_slice(&[0x94, 2, 0x80]);
            messagepack::write_str(out, id);
            encode_value(protocol, out, item)?;
        }
    }
    Ok(())
}

/// Appends a completion that carries a result, for `append_frame`.
pub(crate) fn write_completion_result<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    protocol: Protocol,
    id: &str,
    result: &T,
) -> Result<(), EncodeError> {
    match protocol {
        Protocol::Json => {
            json::begin(out, 3, Some(id));
            out.extend_from_slice(b",\"result\":");
            encode_value(protocol, out, result)?;
            out.push(b'}');
        }
        Protocol::MessagePack | Protocol::BlazorPack => {
            out.extend_from_slice(&[0x95, 3, 0x80]);
            messagepack::write_str(out, id);
            out.push(3);
            encode_value(protocol, out, result)?;
        }
    }
    Ok(())
}

/// A few bytes without an allocation: a WebSocket header or a length prefix.
#[derive(Default)]
struct Short {
    bytes: [u8; MAX_HEADER],
    length: u8,
}

impl Short {
    /// The header of a final, unmasked frame (RFC 6455, section 5.2).
    fn header(protocol: Protocol, payload: usize) -> Self {
        let opcode = match protocol {
            Protocol::Json => 0x81,
            Protocol::MessagePack | Protocol::BlazorPack => 0x82,
        };
        let mut bytes = [0; MAX_HEADER];
        bytes[0] = opcode;
        let length = match payload {
            0..=125 => {
                bytes[1] = payload as u8;
                2
            }
            126..=0xffff => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&(payload as u16).to_be_bytes());
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..10].copy_from_slice(&(payload as u64).to_be_bytes());
                10
            }
        };
        Self { bytes, length }
    }

    /// The length of a MessagePack body, seven bits a byte, the lowest first.
    fn prefix(mut body: usize) -> Self {
        let mut short = Self::default();
        loop {
            let last = body < 0x80;
            short.bytes[usize::from(short.length)] = (body & 0x7f) as u8 | if last { 0 } else { 0x80 };
            short.length += 1;
            body >>= 7;
            if last {
                return short;
            }
        }
    }
}

impl std::ops::Deref for Short {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

fn ping_bytes(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Json => b"\x81\x0b{\"type\":6}\x1e",
        Protocol::MessagePack | Protocol::BlazorPack => b"\x82\x03\x02\x91\x06",
    }
}

/// Bytes of the longest WebSocket header.
const MAX_HEADER: usize = 10;
/// Room for a small message, so that it is written without growing the buffer.
const USUAL_SIZE: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::hub::{RawValue, next_message};

    #[test]
    fn a_frame_is_header_framing_and_body_at_every_length() {
        for protocol in Protocol::ALL {
            for length in [0, 80, 90, 100, 110, 120, 125, 126, 127, 128, 200, 16_370, 16_390, 65_510, 65_540, 2_100_000]
            {
                let text = "x".repeat(length);
                let frame = Frame::stream_item(protocol, "1", &text).unwrap();
                let mut body = Vec::new();
                write_stream_item(&mut body, protocol, "1", &text).unwrap();
                let payload = frame.payload();
                let piece = next_message(protocol, payload, Some(payload.len())).unwrap().unwrap();
                assert_eq!((&payload[piece.body], piece.used), (&body[..], payload.len()));
                let header = &frame.websocket()[..frame.websocket().len() - payload.len()];
                assert_eq!(header, expected_header(protocol, payload.len()));
                assert_eq!(Frame::of_framed(protocol, payload).websocket(), frame.websocket());

                let mut out = b"before".to_vec();
                append_frame(&mut out, protocol, |out| write_stream_item(out, protocol, "1", &text)).unwrap();
                assert_eq!(out[6..], frame.websocket()[..]);
                assert_eq!(Frame::of_single(out.split_off(6)).into_payload(), payload);
            }
        }
    }

    #[test]
    fn an_error_leaves_the_buffer_as_it_was() {
        for protocol in Protocol::ALL {
            let mut out = b"before".to_vec();
            let failed = append_frame(&mut out, protocol, |out| {
                out.extend_from_slice(&[b'x'; 1000]);
                Err(())
            });
            assert_eq!((failed, &out[..]), (Err(()), &b"before"[..]));
        }
        assert!(Frame::completion_result(Protocol::Json, "1", &f64::NAN).is_err());
        assert!(Frame::invocation(Protocol::Json, None, "t", &"no tuple").is_err());
    }

    #[test]
    fn frames_hold_what_the_codec_writes() {
        let id = "a\"\\\u{1}é";
        for protocol in Protocol::ALL {
            let payload = |message: &Message<'_>| Frame::message(protocol, message).payload().to_vec();
            let mut result = Vec::new();
            encode_value(protocol, &mut result, &(1, "é")).unwrap();
            let raw = RawValue { protocol, bytes: &result };
            let item = Message::StreamItem { id: id.into(), item: raw };
            assert_eq!(Frame::stream_item(protocol, id, &(1, "é")).unwrap().payload(), payload(&item));
            let completion = Message::Completion { id: id.into(), outcome: Completed::Result(raw) };
            assert_eq!(Frame::completion_result(protocol, id, &(1, "é")).unwrap().payload(), payload(&completion));
            assert_eq!(Frame::ping(protocol).payload(), payload(&Message::Ping));
            for id in [Some(id), None] {
                let frame = Frame::invocation(protocol, id, "t\n", &(1, "é")).unwrap();
                let piece = next_message(protocol, frame.payload(), None).unwrap().unwrap();
                let message = protocol.decode(&frame.payload()[piece.body]).unwrap();
                assert_eq!(frame.payload(), payload(&message));
                let Message::Invocation(call) = message else { panic!("an invocation") };
                assert_eq!((call.id.as_deref(), &*call.target, call.arguments.unwrap().count), (id, "t\n", 2));
            }
        }
    }

    #[test]
    fn pings_and_handshakes_travel_in_the_opcode_of_their_protocol() {
        assert_eq!(Frame::ping(Protocol::Json).websocket()[..], *b"\x81\x0b{\"type\":6}\x1e");
        assert_eq!(Frame::ping(Protocol::MessagePack).websocket()[..], [0x82, 3, 2, 0x91, 6]);
        assert_eq!(Frame::handshake_response(Protocol::Json, None).websocket()[..], *b"\x81\x03{}\x1e");
        assert_eq!(Frame::handshake_response(Protocol::MessagePack, None).websocket()[..], *b"\x82\x03{}\x1e");
        let refused = Frame::handshake_response(Protocol::Json, Some("no"));
        assert_eq!(refused.websocket()[..], *b"\x81\x0f{\"error\":\"no\"}\x1e");
    }

    fn expected_header(protocol: Protocol, length: usize) -> Vec<u8> {
        let first = if protocol == Protocol::Json { 0x81 } else { 0x82 };
        match length {
            0..=125 => vec![first, length as u8],
            126..=65_535 => [&[first, 126][..], &(length as u16).to_be_bytes()].concat(),
            _ => [&[first, 127][..], &(length as u64).to_be_bytes()].concat(),
        }
    }
}
