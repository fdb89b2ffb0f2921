//! The vectors of the JSON encoding and of the handshake, both directions, and what is true of any text.

mod file;

use super::{
    Completed, DecodeError, Frame, HandshakeError, HandshakeRequest, Invocation, Message, Protocol, RawValue, Value,
    decode_handshake_response, next_message, next_message_from,
};
use file::{Binder, HandshakeMessage, vectors};
use serde::de::IgnoredAny;
use std::panic;

/// Vectors that carry headers. Headers are never written (the Java client fails on them), so these go out without.
const WRITTEN_WITHOUT_HEADERS: [&str; 7] = [
    "CancelInvocationMessage_HasHeaders",
    "CompletionMessage_EmptyWithHeaders",
    "CompletionMessage_HasErrorAndHeaders",
    "CompletionMessage_HasTestHeadersAndCustomItemResult",
    "InvocationMessage_HasHeaders",
    "StreamInvocationMessage_HasHeaders",
    "StreamItemMessage_HasHeaders",
];

/// The reference binds values while it reads, and so meets the wrong type of the first before it knows that there are
/// too many. We bind when the whole message is known, and speak of the count.
const COUNTED_BEFORE_BOUND: (&str, &str) =
    ("ArgumentBinding_NestedTargetNotPickedUp", "Invocation provides 2 argument(s) but target expects 1.");

#[test]
fn vectors_decode_to_their_message() {
    for case in vectors().cases.iter().filter(|case| case.expected == "ok") {
        let expected = case.message.as_ref().unwrap();
        let values = expected.encoded_values();
        assert_eq!(decode(case.payload.as_bytes()), Ok(expected.message(&values)), "{}", case.name);
    }
}

#[test]
fn vectors_encode_to_their_text() {
    let mut without_headers = Vec::new();
    for case in vectors().cases.iter().filter(|case| case.expected == "ok" && case.direction != "read") {
        let message = case.message.as_ref().unwrap();
        let values = message.encoded_values();
        let mut text = case.payload.clone();
        if message.headers.is_some() {
            without_headers.push(case.name.clone());
            let start = text.find("\"headers\"").unwrap();
            let end = text[start..].find("},").unwrap() + start + 2;
            text.replace_range(start..end, "");
        }
        let message = message.message(&values);
        assert_eq!(String::from_utf8(encode(&message)).unwrap(), text, "{}", case.name);
        if let Some(frame) = frame(&message) {
            assert_eq!(frame.payload(), format!("{text}\u{1e}").as_bytes(), "{}", case.name);
        }
    }
    without_headers.sort_unstable();
    assert_eq!(without_headers, WRITTEN_WITHOUT_HEADERS);
}

#[test]
fn vectors_fail_as_they_say() {
    for case in vectors().cases.iter().filter(|case| case.expected != "ok") {
        let message = decode(case.payload.as_bytes());
        let (name, binder) = (&case.name, &case.binder);
        match case.error_kind.as_deref() {
            Some("protocol") => {
                let Err(DecodeError::Invalid(text)) = message else { panic!("{name}: {message:?}") };
                assert_eq!(text, case.expected, "{name}");
            }
            Some("argument_binding") => {
                let Ok(Message::Invocation(invocation)) = message else { panic!("{name}: {message:?}") };
                let expected = if name == COUNTED_BEFORE_BOUND.0 { COUNTED_BEFORE_BOUND.1 } else { &case.expected };
                assert_eq!(bind(&invocation, binder), Err(expected.to_owned()), "{name}");
            }
            Some("stream_binding") => {
                let Ok(Message::StreamItem { id, item }) = message else { panic!("{name}: {message:?}") };
                match binder.streams.get(&*id) {
                    Some(kind) => assert!(!fits(item, kind), "{name}"),
                    // That there is no such stream is for the dispatcher to find out.
                    None => assert_eq!(case.expected, format!("No stream with id '{id}' could be found."), "{name}"),
                }
            }
            // The text is the dispatcher's; here the value must be refused.
            Some("completion_error") => {
                let Ok(Message::Completion { id, outcome: Completed::Result(result) }) = message else {
                    panic!("{name}: {message:?}")
                };
                assert!(!fits(result, &binder.results[&*id]), "{name}");
            }
            Some("ignored") => assert_eq!(message, Ok(Message::Unknown), "{name}"),
            Some("incomplete") => assert_eq!(next_message(Protocol::Json, &case.fed(), None), Ok(None), "{name}"),
            other => panic!("{name}: unknown kind of error {other:?}"),
        }
    }
}

#[test]
fn vectors_are_cut_out_however_they_arrive() {
    for case in vectors().cases.iter().filter(|case| case.terminated) {
        let (fed, mut scanned) = (case.fed(), 0);
        for end in 0..fed.len() {
            let waiting = Ok(None);
            assert_eq!(next_message(Protocol::Json, &fed[..end], Some(fed.len())), waiting, "{} at {end}", case.name);
            assert_eq!(next_message_from(Protocol::Json, &fed[..end], None, &mut scanned), waiting, "{}", case.name);
            assert_eq!(scanned, end);
        }
        // A message of exactly the limit is accepted, with what follows it in the buffer.
        let longer = [&fed[..], b"{\"type\":6}\x1e"].concat();
        let piece = next_message_from(Protocol::Json, &longer, Some(fed.len()), &mut scanned).unwrap().unwrap();
        assert_eq!((&fed[piece.body], piece.used), (case.payload.as_bytes(), fed.len()), "{}", case.name);
        assert_eq!(scanned, 0);
        let too_large = Err(DecodeError::TooLarge(fed.len() - 1));
        assert_eq!(next_message(Protocol::Json, &fed, Some(fed.len() - 1)), too_large, "{}", case.name);
    }
}

#[test]
fn handshake_vectors() {
    for case in &vectors().handshake {
        let (name, text) = (&case.name, case.payload.as_bytes());
        let mut out = Vec::new();
        match &case.message {
            Some(HandshakeMessage::HandshakeRequest { protocol, version }) => {
                let request = HandshakeRequest { protocol: protocol.clone(), version: *version };
                assert_eq!(HandshakeRequest::decode(text), Ok(request.clone()), "{name}");
                request.encode(&mut out);
                assert_eq!(HandshakeRequest::decode(out.strip_suffix(b"\x1e").unwrap()), Ok(request), "{name}");
            }
            Some(HandshakeMessage::HandshakeResponse { error }) => {
                assert_eq!(decode_handshake_response(text).as_ref(), Ok(error), "{name}");
                if case.direction != "read" {
                    let frame = Frame::handshake_response(Protocol::Json, error.as_deref());
                    assert_eq!(frame.payload(), format!("{}\u{1e}", case.payload).as_bytes(), "{name}");
                }
            }
            None if !case.terminated => {
                assert_eq!(case.expected, "incomplete");
                assert_eq!(next_message(Protocol::Json, text, None), Ok(None), "{name}");
            }
            None => {
                let malformed = HandshakeError::Malformed(case.expected.clone());
                assert_eq!(HandshakeRequest::decode(text), Err(malformed), "{name}");
            }
        }
    }
}

#[test]
fn truncated_vectors_never_panic() {
    for case in &vectors().cases {
        for end in 0..case.payload.len() {
            exercise(&case.payload.as_bytes()[..end]);
        }
    }
}

#[test]
fn mutated_vectors_never_panic_and_what_decodes_encodes_again() {
    const SEED: u64 = 0x2545_f491_4f6c_dd1d;
    const ITERATIONS: usize = 100_000;
    println!("seed {SEED:#x}");
    let texts: Vec<_> = vectors().cases.into_iter().map(|case| case.payload.into_bytes()).collect();
    let mut random = XorShift(SEED);
    for _ in 0..ITERATIONS {
        let mut text = texts[random.below(texts.len())].clone();
        for _ in 0..=random.below(3) {
            random.mutate(&mut text, &texts);
        }
        if panic::catch_unwind(|| exercise(&text)).is_err() {
            panic!("seed {SEED:#x}, text {:?}", String::from_utf8_lossy(&text));
        }
    }
}

/// Does with a text all that a connection does, and checks that a message survives being written.
fn exercise(text: &[u8]) {
    let _ = HandshakeRequest::decode(text);
    let _ = next_message(Protocol::Json, text, Some(32_768));
    let Ok(message) = decode(text) else { return };
    let object = serde_json::Deserializer::from_slice(text).into_iter::<IgnoredAny>().next();
    assert!(object.is_some_and(|object| object.is_ok()), "what decodes is JSON");
    let values: Vec<RawValue<'_>> = match &message {
        Message::Invocation(Invocation { arguments: Ok(arguments), .. }) => {
            assert_eq!(arguments.count(), arguments.count, "every argument that was counted is there");
            let whole: Vec<IgnoredAny> = serde_json::from_slice(arguments.bytes).unwrap();
            assert_eq!(whole.len(), arguments.count);
            arguments.collect()
        }
        Message::StreamItem { item, .. } => vec![*item],
        Message::Completion { outcome: Completed::Result(result), .. } => vec![*result],
        _ => Vec::new(),
    };
    for value in values {
        value.decode::<IgnoredAny>().expect("what passed the scanner is one value");
        let _ = value.decode::<Value>().map(|value| Frame::stream_item(Protocol::Json, "1", &value));
    }
    let written = encode(&message);
    if message != Message::Unknown {
        assert_eq!(decode(&written), Ok(message), "what is written can be read");
    }
}

/// Binds as the dispatcher does: the count first, then one value after the other.
fn bind(invocation: &Invocation<'_>, binder: &Binder) -> Result<(), String> {
    let arguments = invocation.arguments.clone().unwrap();
    let Some(types) = &binder.parameter_types else { return Err("Method does not exist.".to_owned()) };
    if arguments.count != types.len() {
        let (count, expected) = (arguments.count, types.len());
        return Err(format!("Invocation provides {count} argument(s) but target expects {expected}."));
    }
    if arguments.zip(types).all(|(value, kind)| fits(value, kind)) {
        return Ok(());
    }
    Err(CANNOT_BIND.to_owned())
}

fn fits(value: RawValue<'_>, kind: &str) -> bool {
    match kind {
        "int32" => value.decode::<i32>().is_ok(),
        "string" => value.decode::<String>().is_ok(),
        other => panic!("type {other}"),
    }
}

/// The same message by the way that the server writes it, if it is one that a server sends.
fn frame(message: &Message<'_>) -> Option<Frame> {
    let json = Protocol::Json;
    Some(match message {
        Message::Invocation(call) if !call.streaming && call.stream_ids.is_empty() => {
            let arguments: Vec<Value> = call.arguments.clone().unwrap().map(|raw| raw.decode().unwrap()).collect();
            Frame::invocation(json, call.id.as_deref(), &call.target, &arguments).unwrap()
        }
        Message::StreamItem { id, item } => Frame::stream_item(json, id, &item.decode::<Value>().unwrap()).unwrap(),
        Message::Completion { id, outcome } => match outcome {
            Completed::Error(error) => Frame::completion_error(json, id, error),
            Completed::Result(raw) => Frame::completion_result(json, id, &raw.decode::<Value>().unwrap()).unwrap(),
            Completed::Void => Frame::completion_void(json, id),
        },
        Message::Ping => Frame::ping(json),
        Message::Close { error, allow_reconnect } => Frame::close(json, error.as_deref(), *allow_reconnect),
        Message::Ack { sequence_id } => Frame::ack(json, *sequence_id),
        Message::Sequence { sequence_id } => Frame::sequence(json, *sequence_id),
        _ => return None,
    })
}

fn decode(text: &[u8]) -> Result<Message<'_>, DecodeError> {
    Protocol::Json.decode(text)
}

fn encode(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    Protocol::Json.encode(&mut out, message);
    out
}

const CANNOT_BIND: &str = "Error binding arguments. \
    Make sure that the types of the provided values match the types of the hub method being invoked.";

/// A small generator of random numbers.
pub(super) struct XorShift(pub(super) u64);

impl XorShift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn mutate(&mut self, text: &mut Vec<u8>, others: &[Vec<u8>]) {
        const TOKENS: [&[u8]; 20] = [
            b"\"",
            b"\\",
            b"\\u",
            b"\\ud800",
            b"\\udc00",
            b"\\u0000",
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b" ",
            b"0",
            b"-",
            b"1e5",
            b".5",
            b"null",
            b"true",
            b"\xc3\xa9",
        ];
        let at = self.below(text.len() + 1);
        let part = match self.below(7) {
            0 => return text.truncate(at),
            1 => return drop(text.drain(at..(at + 1 + self.below(4)).min(text.len()).max(at))),
            2 => vec![self.next() as u8],
            3 | 4 => TOKENS[self.below(TOKENS.len())].to_vec(),
            5 => {
                let other = &others[self.below(others.len())];
                let from = self.below(other.len() + 1);
                other[from..(from + self.below(40)).min(other.len())].to_vec()
            }
            _ => {
                let until = (at + self.below(40)).min(text.len());
                text[at..until].to_vec()
            }
        };
        text.splice(at..at, part);
    }
}
