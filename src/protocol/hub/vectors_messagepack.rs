//! The vectors of the MessagePack encoding, both directions, and what is true of any bytes.

mod file;

use super::messagepack::encode_value;
use super::{
    BindError, Completed, DecodeError, EncodeArguments, Invocation, Message, Protocol, RawValue, Value, next_message,
};
use file::{Case, bytes, vectors};
use std::panic;

/// Vectors that carry headers. Headers are never written (the Java client fails on them), so these go out without.
const WRITTEN_WITHOUT_HEADERS: [&str; 8] = [
    "CancelInvocationWithHeaders",
    "CompletionWithHeadersAndCustomObjectArrayResult",
    "CompletionWithHeadersAndError",
    "CompletionWithHeadersAndNoResult",
    "InvocationWithHeadersNoIdAndArrayOfCustomObjectArgs",
    "InvocationWithTwoHeaders",
    "StreamInvocationWithHeadersAndCustomObjectArrayArg",
    "StreamItemWithHeadersAndCustomObjectArrayItem",
];

#[test]
fn vectors_decode_to_their_message() {
    for case in vectors().cases.iter().filter(|case| case.expected == "ok") {
        let arguments = case.abstract_message().encoded_values();
        assert_eq!(decode(&case.body()), Ok(case.abstract_message().message(&arguments)), "{}", case.name);
    }
}

#[test]
fn vectors_encode_to_their_bytes() {
    let mut without_headers = Vec::new();
    for case in vectors().cases.iter().filter(|case| case.expected == "ok" && case.direction != "read") {
        let message = case.abstract_message();
        let values = message.encoded_values();
        let mut body = case.body();
        if message.headers.is_some() {
            without_headers.push(case.name.clone());
            body = strip_headers(&body);
        }
        assert_eq!(encode(&message.message(&values)), body, "{}", case.name);
    }
    without_headers.sort_unstable();
    assert_eq!(without_headers, WRITTEN_WITHOUT_HEADERS);
}

#[test]
fn vectors_fail_as_they_say() {
    for case in vectors().cases.iter().filter(|case| case.expected != "ok") {
        let (body, name) = (case.body(), &case.name);
        let message = decode(&body);
        match case.error_kind.as_deref() {
            Some("protocol") => {
                let Err(DecodeError::Invalid(text)) = message else { panic!("{name}: {message:?}") };
                assert!(case.expected == "*" || text == case.expected, "{name}: {text}");
            }
            Some("argument_binding") => {
                let Ok(Message::Invocation(invocation)) = message else { panic!("{name}: {message:?}") };
                assert_eq!(bind_one_string(&invocation), Err(case.expected.clone()), "{name}");
            }
            // The texts of these two are the dispatcher's; here the value must be refused.
            Some("stream_binding") => {
                let Ok(Message::StreamItem { item, .. }) = message else { panic!("{name}: {message:?}") };
                assert!(item.decode::<String>().is_err(), "{name}");
            }
            Some("completion_error") => {
                let Ok(Message::Completion { outcome: Completed::Result(result), .. }) = message else {
                    panic!("{name}: {message:?}")
                };
                assert!(result.decode::<String>().is_err(), "{name}");
            }
            Some("ignored") => assert_eq!(message, Ok(Message::Unknown), "{name}"),
            other => panic!("{name}: unknown kind of error {other:?}"),
        }
    }
}

#[test]
fn sizes_are_the_references() {
    for case in &vectors().sizes {
        let values = case.message.encoded_values();
        let body = encode(&case.message.message(&values));
        assert!(body.len() < 128, "the length prefix is one byte");
        assert_eq!(body.len() + 1, case.framed_length, "{}", case.name);
    }
}

#[test]
fn framed_vectors_are_cut_out_however_they_arrive() {
    for case in &vectors().cases {
        let (framed, body) = (bytes(&case.framed), case.body());
        for end in 0..framed.len() {
            assert_eq!(next_message(Protocol::MessagePack, &framed[..end], None), Ok(None), "{} at {end}", case.name);
        }
        let piece = next_message(Protocol::MessagePack, &framed, Some(framed.len())).unwrap().unwrap();
        assert_eq!((&framed[piece.body], piece.used), (&body[..], framed.len()), "{}", case.name);
    }
}

#[test]
fn framing_vectors() {
    for case in &vectors().framing {
        let payload = bytes(&case.payload);
        let mut rest = &payload[..];
        let mut bodies = Vec::new();
        let outcome = loop {
            match next_message(Protocol::MessagePack, rest, None) {
                Ok(Some(piece)) => {
                    bodies.push(rest[piece.body].to_vec());
                    rest = &rest[piece.used..];
                }
                Ok(None) if rest.is_empty() && !payload.is_empty() => break "ok".to_owned(),
                Ok(None) => break "incomplete".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        assert_eq!(outcome, case.expected, "{}", case.name);
        let expected: Vec<_> = case.bodies.iter().flatten().map(|body| bytes(body)).collect();
        assert_eq!(bodies, expected, "{}", case.name);
    }
}

#[test]
fn truncated_vectors_never_panic() {
    for case in &vectors().cases {
        let body = case.body();
        for end in 0..body.len() {
            exercise(&body[..end]);
        }
    }
}

#[test]
fn mutated_vectors_never_panic_and_what_decodes_encodes_again() {
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
    const ITERATIONS: usize = 200_000;
    println!("seed {SEED:#x}");
    let bodies: Vec<_> = vectors().cases.iter().map(Case::body).filter(|body| !body.is_empty()).collect();
    let mut random = XorShift(SEED);
    for _ in 0..ITERATIONS {
        let mut body = bodies[random.below(bodies.len())].clone();
        for _ in 0..=random.below(3) {
            random.mutate(&mut body, &bodies);
        }
        if panic::catch_unwind(|| exercise(&body)).is_err() {
            panic!("seed {SEED:#x}, body {body:02x?}");
        }
    }
}

#[test]
fn counts_without_bytes_are_refused_before_anything_is_kept() {
    let head = [0x96, 1, 0x80, 0xc0, 0xa1, b'a'];
    for header in [[0xdd, 0xff, 0xff, 0xff, 0xff], [0xdf, 0xff, 0xff, 0xff, 0xff], [0xdb, 0xff, 0xff, 0xff, 0xff]] {
        // As the arguments, as one argument, as stream ids, as headers, as the message.
        let body = [&head[..], &header].concat();
        let Ok(Message::Invocation(invocation)) = decode(&body) else { panic!("fails one call only") };
        assert!(invocation.arguments.is_err());
        let body = [&head[..], &[0x91], &header].concat();
        let Ok(Message::Invocation(invocation)) = decode(&body) else { panic!("fails one call only") };
        assert_eq!(bind_one_string(&invocation), Err(CANNOT_BIND.to_owned()));
        let body = [&head[..], &[0x90], &header].concat();
        assert_eq!(decode(&body), Err(invalid("Reading array length for 'streamIds' failed.")));
        let body = [&[0x96, 1], &header[..]].concat();
        assert_eq!(decode(&body), Err(invalid("Reading map length for 'headers' failed.")));
        assert!(decode(&header).is_err());
    }
    let many = [&head[..], &[0x90, 0xdc, 0x03, 0xe9], &[0xa1, b'x'].repeat(1_001)].concat();
    assert_eq!(decode(&many), Err(invalid("Reading array length for 'streamIds' failed.")));
    let most = [&head[..], &[0x90, 0xdc, 0x03, 0xe8], &[0xa1, b'x'].repeat(1_000)].concat();
    assert!(matches!(decode(&most), Ok(Message::Invocation(invocation)) if invocation.stream_ids.len() == 1_000));
}

#[test]
fn nesting_that_json_could_not_carry_fails_its_call_alone() {
    let nested =
        |levels: usize| [&[0x95, 1, 0x80, 0xc0, 0xa1, b'a', 0x91][..], &[0x91].repeat(levels - 1), &[0x90]].concat();
    for (levels, fits) in [(62, true), (63, false), (30_000, false)] {
        let body = nested(levels);
        let Ok(Message::Invocation(invocation)) = decode(&body) else { panic!("the connection lives") };
        assert_eq!(invocation.arguments.is_ok(), fits, "{levels}");
        let Ok(mut arguments) = invocation.arguments else { continue };
        let value: Value = arguments.next().unwrap().decode().unwrap();
        for protocol in Protocol::ALL {
            (&value,).encode(protocol, &mut Vec::new()).unwrap();
        }
    }
}

#[test]
fn text_that_is_not_utf_8_is_refused_where_it_stands() {
    assert_eq!(
        decode(&[0x95, 1, 0x80, 0xa1, 0xff, 0xa1, b'a', 0x90]),
        Err(invalid("Reading 'invocationId' as String failed."))
    );
    assert_eq!(decode(&[0x95, 1, 0x80, 0xc0, 0xa1, 0xff, 0x90]), Err(invalid("Reading 'target' as String failed.")));
    let body = [0x95, 1, 0x80, 0xc0, 0xa1, b'a', 0x91, 0xa1, 0xff];
    let Ok(Message::Invocation(invocation)) = decode(&body) else { panic!("the connection lives") };
    assert_eq!(bind_one_string(&invocation), Err(CANNOT_BIND.to_owned()));
}

#[test]
fn a_repeated_header_is_fatal() {
    let body =
        |second| [&[0x93, 5, 0x82, 0xa1, b'k', 0xa1, b'v', 0xa1, second, 0xa1, b'v'][..], &[0xa1, b'1']].concat();
    assert!(decode(&body(b'l')).is_ok());
    assert!(decode(&body(b'k')).is_err());
}

#[test]
fn a_message_from_the_other_encoding_is_rewritten() {
    let json = br#"{"type":1,"target":"a","arguments":[18446744073709551615,{"k":[1.5]}]}"#;
    let message = Protocol::Json.decode(json).unwrap();
    let expected = [&[0x96, 1, 0x80, 0xc0, 0xa1, b'a', 0x92, 0xcf][..], &[0xff; 8], &[0x81, 0xa1, b'k', 0x91]].concat();
    let expected = [&expected[..], &[0xcb], &1.5f64.to_be_bytes(), &[0x90]].concat();
    assert_eq!(encode(&message), expected);
}

/// Does with bytes all that a connection does, and checks that a message survives being written.
fn exercise(body: &[u8]) {
    let _ = next_message(Protocol::MessagePack, body, Some(32_768));
    let Ok(message) = decode(body) else { return };
    let values: Vec<RawValue<'_>> = match &message {
        Message::Invocation(Invocation { arguments: Ok(arguments), .. }) => {
            assert_eq!(arguments.count(), arguments.count, "every argument that was counted is there");
            arguments.collect()
        }
        Message::StreamItem { item, .. } => vec![*item],
        Message::Completion { outcome: Completed::Result(result), .. } => vec![*result],
        _ => Vec::new(),
    };
    for raw in &values {
        let Ok(value) = raw.decode::<Value>() else {
            assert!(raw.bytes.is_empty(), "a value that passed the walk decodes");
            continue;
        };
        let mut out = Vec::new();
        encode_value(&mut out, &value).expect("what came goes out in its own encoding");
        let again: Value = RawValue { protocol: Protocol::MessagePack, bytes: &out }.decode().unwrap();
        assert_eq!(again, value);
        // JSON has no NaN and few extension types, so this may fail.
        let _ = (&value,).encode(Protocol::Json, &mut out);
    }
    // A value that was missing is written as nil, arguments that do not bind as none.
    let lossy = values.iter().any(|raw| raw.bytes.is_empty())
        || matches!(&message, Message::Invocation(Invocation { arguments: Err(_), .. }))
        || matches!(&message, Message::Close { error: Some(text), .. } if text.is_empty());
    let written = encode(&message);
    let again = decode(&written).expect("what is written can be read");
    assert!(lossy || again == message);
}

/// Binds one string, as the dispatcher does.
fn bind_one_string(invocation: &Invocation<'_>) -> Result<String, String> {
    let mut arguments = invocation.arguments.clone().map_err(|BindError(text)| text.into_owned())?;
    if arguments.count != 1 {
        return Err(format!("Invocation provides {} argument(s) but target expects 1.", arguments.count));
    }
    arguments.next().and_then(|raw| raw.decode().ok()).ok_or_else(|| CANNOT_BIND.to_owned())
}

const CANNOT_BIND: &str = "Error binding arguments. Make sure that the types of the provided values match the types of the hub method being invoked.";

fn decode(body: &[u8]) -> Result<Message<'_>, DecodeError> {
    Protocol::MessagePack.decode(body)
}

fn encode(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    Protocol::MessagePack.encode(&mut out, message);
    out
}

fn invalid(text: &'static str) -> DecodeError {
    DecodeError::Invalid(text.into())
}

/// Replaces the headers, which are the second item, by none.
fn strip_headers(body: &[u8]) -> Vec<u8> {
    let headers = &body[2..];
    let rest = super::messagepack::split_first(headers).unwrap().1;
    [&body[..2], &[0x80], rest].concat()
}

struct XorShift(u64);

impl XorShift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn mutate(&mut self, body: &mut Vec<u8>, others: &[Vec<u8>]) {
        let at = self.below(body.len() + 1);
        match self.below(6) {
            0 => body.truncate(at),
            1 => body.insert(at, self.next() as u8),
            2 => {
                let other = &others[self.below(others.len())];
                let from = self.below(other.len());
                body.splice(at.., other[from..].iter().copied());
            }
            // A marker where its kind matters: the long forms, nil, extension types, containers.
            3 => body.insert(at, 0xc0 + (self.next() % 32) as u8),
            _ if at < body.len() => body[at] = self.next() as u8,
            _ => body.push(0x91),
        }
    }
}
