use super::{MAX_STREAM_IDS, NOT_JSON, decode, encode, scan::Scanner};
use crate::protocol::hub::{
    DecodeError, EncodeArguments, Invocation, Message, Protocol, Value, arguments::encode_value, vectors::XorShift,
};
use serde::{Serialize, de::IgnoredAny};
use std::collections::BTreeMap;

#[test]
fn strings_are_borrowed_unless_they_hold_escapes() {
    let call = invocation(r#"{"type":1,"invocationId":"17","target":"Sa\u0079","arguments":[]}"#);
    assert!(matches!(call.id, Some(std::borrow::Cow::Borrowed("17"))));
    assert!(matches!(call.target, std::borrow::Cow::Owned(_)));
    assert_eq!(call.target, "Say");
}

#[test]
fn members_may_come_in_any_order_and_with_any_white_space() {
    let members = [r#""type" : 4"#, "\"invocationId\"\t:\"1\"", "\"target\":\r\n\"t\"", r#""arguments":[ 1 , "a" ]"#];
    for rotation in 0..members.len() {
        let mut turned = members;
        turned.rotate_left(rotation);
        let call = format!(" {{ {} }}\n", turned.join(" , "));
        let call = invocation(&call);
        assert_eq!((call.id.as_deref(), &*call.target, call.streaming), (Some("1"), "t", true));
        let values: Vec<_> = call.arguments.unwrap().map(|value| value.bytes).collect();
        assert_eq!(values, [&b"1"[..], b"\"a\""]);
    }
}

#[test]
fn names_may_be_escaped_and_are_case_sensitive() {
    assert_eq!(decode(br#"{"\u0074\u0079\u0070\u0065":6}"#), Ok(Message::Ping));
    assert_eq!(decode(br#"{"Type":6}"#), Err(invalid("Missing required property 'type'.")));
    assert_eq!(decode(br#"{"\ud800":1,"type":6}"#), Ok(Message::Ping));
}

#[test]
fn two_targets_never_mix_two_methods() {
    let call = invocation(r#"{"type":1,"invocationId":"1","target":"Add","arguments":[1,2],"target":"Throw"}"#);
    assert_eq!((&*call.target, call.arguments.unwrap().count), ("Throw", 2));
    let call =
        invocation(r#"{"type":1,"target":"a","arguments":[1,2],"streamIds":["x"],"arguments":[],"streamIds":[]}"#);
    assert_eq!((call.arguments.unwrap().count, call.stream_ids.len()), (0, 0));
}

#[test]
fn half_a_surrogate_pair_harms_its_sender_at_most() {
    for text in [r"\ud800", r"\udc00", r"x\ud83d", r"\ud83d\ud83d", r"\ud800A", r"\ud83dx", r"\ud83d\u00e9"] {
        for message in [
            format!(r#"{{"type":1,"target":"{text}","arguments":[]}}"#),
            format!(r#"{{"type":1,"target":"t","invocationId":"{text}","arguments":[]}}"#),
            format!(r#"{{"type":1,"target":"t","arguments":[],"streamIds":["{text}"]}}"#),
            format!(r#"{{"type":3,"invocationId":"1","error":"{text}"}}"#),
        ] {
            assert_eq!(decode(message.as_bytes()), Err(NOT_JSON), "{message}");
        }
        let argument = format!(r#"{{"type":1,"target":"t","arguments":[{{"a":"{text}"}}]}}"#);
        let raw = invocation(&argument).arguments.unwrap().next().unwrap();
        assert!(raw.decode::<BTreeMap<String, String>>().is_err());
        if let Ok(value) = raw.decode::<Value>() {
            assert!(encode_value(Protocol::Json, &mut Vec::new(), &value).is_err(), "{text}");
        }
    }
    let call = invocation(r#"{"type":1,"target":"\ud83d\ude00\u00e9\/\"\\\b\f\n\r\t","arguments":[]}"#);
    assert_eq!(call.target, "\u{1f600}é/\"\\\u{8}\u{c}\n\r\t");
}

#[test]
fn a_message_nests_64_levels_and_no_more() {
    let nested = |levels: usize| {
        let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
        format!(r#"{{"type":1,"target":"t","arguments":{open}{close}}}"#)
    };
    assert!(decode(nested(64).as_bytes()).is_ok());
    assert_eq!(decode(nested(65).as_bytes()), Err(NOT_JSON));
    assert_eq!(decode(nested(100_000).as_bytes()), Err(NOT_JSON));
    let unclosed = format!(r#"{{"type":6,"x":{}"#, "[{\"a\":".repeat(100_000));
    assert_eq!(decode(unclosed.as_bytes()), Err(NOT_JSON));
}

#[test]
fn what_stands_behind_the_object_is_not_looked_at() {
    assert_eq!(decode(b"{\"type\":6}\xff{["), Ok(Message::Ping));
    assert_eq!(decode(b"{\"type\":6,\"x\":\"\xff\"}"), Err(NOT_JSON));
    assert_eq!(decode(b"{\"type\":1,\"target\":\"t\",\"arguments\":[\"\xc3\"]}"), Err(NOT_JSON));
    assert_eq!(decode(b"\xef\xbb\xbf{\"type\":6}"), Err(NOT_JSON), "a byte order mark");
}

#[test]
fn integers_are_read_as_the_reference_reads_them() {
    for (digits, expected) in [
        ("-9223372036854775808", Ok(i64::MIN)),
        ("9223372036854775807", Ok(i64::MAX)),
        ("-0", Ok(0)),
        ("9223372036854775808", Err(NOT_JSON)),
        ("1.0", Err(NOT_JSON)),
        ("1e0", Err(NOT_JSON)),
        ("01", Err(NOT_JSON)),
        ("+1", Err(NOT_JSON)),
        ("null", Err(invalid("Missing required property 'sequenceId'."))),
    ] {
        let message = format!(r#"{{"type":8,"sequenceId":{digits}}}"#);
        let expected = expected.map(|sequence_id| Message::Ack { sequence_id });
        assert_eq!(decode(message.as_bytes()), expected, "{digits}");
    }
    assert_eq!(decode(br#"{"type":6.0}"#), Err(NOT_JSON));
    assert_eq!(decode(br#"{"type":4294967302}"#), Err(NOT_JSON));
    assert_eq!(decode(br#"{"type":-6}"#), Ok(Message::Unknown));
}

#[test]
fn required_properties_are_missed_in_the_order_of_the_reference() {
    for (message, property) in [
        (r#"{"type":1,"target":""}"#, "target"),
        (r#"{"type":4,"target":"","invocationId":""}"#, "invocationId"),
        (r#"{"type":4,"target":"","invocationId":"1"}"#, "arguments"),
        (r#"{"type":4,"target":"","invocationId":"1","arguments":[]}"#, "target"),
        (r#"{"type":2,"invocationId":"","item":1}"#, "invocationId"),
        (r#"{"type":3,"invocationId":"","error":"e","result":1}"#, "invocationId"),
        (r#"{"type":5,"invocationId":""}"#, "invocationId"),
    ] {
        let error = invalid(&format!("Missing required property '{property}'."));
        assert_eq!(decode(message.as_bytes()), Err(error), "{message}");
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_told_from_one_that_is_no_json() {
    for (value, error) in [
        ("1", invalid("Expected 'target' to be of type String.")),
        ("[1", invalid("Expected 'target' to be of type String.")),
        ("tru", NOT_JSON),
        ("1.", NOT_JSON),
        ("'a'", NOT_JSON),
        ("", NOT_JSON),
    ] {
        assert_eq!(decode(format!(r#"{{"type":1,"target":{value}"#).as_bytes()), Err(error), "{value}");
    }
}

#[test]
fn stream_ids_are_bounded() {
    let message = |count: usize| {
        let ids = vec!["\"a\\u0062\""; count].join(" , ");
        format!(r#"{{"type":1,"target":"t","arguments":[],"streamIds":[ {ids} ],"streamIds2":[]}}"#)
    };
    for count in [0, 1, 3, MAX_STREAM_IDS] {
        assert_eq!(invocation(&message(count)).stream_ids, vec!["ab"; count]);
    }
    assert!(decode(message(MAX_STREAM_IDS + 1).as_bytes()).is_err());
    for wrong in ["1", "[]", "{}", "true"] {
        let message = format!(r#"{{"type":1,"target":"t","arguments":[],"streamIds":["a",{wrong}]}}"#);
        assert!(decode(message.as_bytes()).is_err());
    }
}

#[test]
fn what_a_json_receiver_could_not_read_is_refused() {
    #[derive(Serialize)]
    struct Reading {
        value: Option<f32>,
    }
    let refused = |value: &dyn EncodeArguments| {
        let mut out = b"before".to_vec();
        let error = value.encode(Protocol::Json, &mut out).unwrap_err();
        assert_eq!(out, b"before", "{error}");
    };
    refused(&(f64::NAN,));
    refused(&(1, vec![Some(f64::INFINITY)]));
    refused(&(Reading { value: Some(f32::NEG_INFINITY) },));
    refused(&(BTreeMap::from([("a", [f32::NAN])]),));
    refused(&(Nested(63),));
    // What is no sequence cannot be arguments.
    refused(&"text");
    refused(&7);
    refused(&Reading { value: None });
}

#[test]
fn arguments_are_an_array() {
    let written = |value: &dyn EncodeArguments| {
        let mut out = Vec::new();
        value.encode(Protocol::Json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!(written(&()), "[]");
    assert_eq!(written(&(1, "a\u{1}\"\\\n\u{7f}é<", None::<u8>)), "[1,\"a\\u0001\\\"\\\\\\n\u{7f}é<\",null]");
    assert_eq!(written(&[0.5, 2.0, -0.0, 1e15]), "[0.5,2,-0,1000000000000000]");
    assert_eq!(written(&vec![(true, 'x', u64::MAX, i128::MIN)]), format!("[[true,\"x\",{},{}]]", u64::MAX, i128::MIN));
    assert_eq!(written(&(Nested(62),)), format!("[{}{}]", "[".repeat(62), "]".repeat(62)));
    let empty: [u8; 0] = [];
    assert_eq!(written(&empty), "[]");
    for protocol in Protocol::ALL {
        let mut out = Vec::new();
        ().encode(protocol, &mut out).unwrap();
        assert_eq!(out, if protocol == Protocol::Json { &b"[]"[..] } else { &[0x90] });
        assert!("text".encode(protocol, &mut out).is_err());
    }
}

#[test]
fn a_raw_value_is_passed_on_with_its_digits() {
    let call = invocation(
        r#"{"type":1,"target":"t","arguments":[[9007199254740993,-9223372036854775808,18446744073709551615]]}"#,
    );
    let value: Value = call.arguments.unwrap().next().unwrap().decode().unwrap();
    let mut out = Vec::new();
    encode_value(Protocol::Json, &mut out, &value).unwrap();
    assert_eq!(out, b"[9007199254740993,-9223372036854775808,18446744073709551615]");
}

#[test]
fn a_message_from_the_other_encoding_is_rewritten() {
    let body = [0x95, 3, 0x80, 0xa1, b'1', 3, 0x92, 0xff, 0xa1, b'a'];
    let mut out = Vec::new();
    encode(&mut out, &Protocol::MessagePack.decode(&body).unwrap());
    assert_eq!(out, br#"{"type":3,"invocationId":"1","result":[-1,"a"]}"#);
    let nan = [&[0x95, 3, 0x80, 0xa1, b'1', 3, 0xcb][..], &f64::NAN.to_be_bytes()].concat();
    out.clear();
    encode(&mut out, &Protocol::MessagePack.decode(&nan).unwrap());
    assert_eq!(out, br#"{"type":3,"invocationId":"1","result":null}"#);
}

#[test]
fn the_scanner_agrees_with_serde_json() {
    let pieces = [
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "\"",
        "\"a\"",
        "\"b\":",
        "\\",
        "\\n",
        "\\u12aF",
        "0",
        "1",
        "-",
        ".",
        "e",
        "E+",
        "1.5e-3",
        "true",
        "false",
        "null",
        "tru",
        " ",
        "\n",
        "\t",
        "\u{1}",
        "é",
        "/",
        "[]",
        "{}",
        "\"\":1,",
        "0123456789abcdef0123456789abcdef",
    ];
    let mut random = XorShift(0x9e37_79b9_7f4a_7c15);
    let mut accepted = 0;
    for _ in 0..100_000 {
        let inside: String = (0..random.below(9)).map(|_| pieces[random.below(pieces.len())]).collect();
        let text = format!("[{inside}]");
        let mut theirs = serde_json::Deserializer::from_str(&text).into_iter::<IgnoredAny>();
        let mut ours = Scanner::new(text.as_bytes());
        let expected = theirs.next().unwrap().is_ok().then(|| theirs.byte_offset());
        assert_eq!(ours.value(0).ok().map(|_| ours.position()), expected, "{text}");
        accepted += usize::from(expected.is_some());
    }
    assert!(accepted > 1_000, "{accepted} were JSON at all");
}

/// Arrays in arrays.
struct Nested(usize);

impl Serialize for Nested {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            1 => serializer.collect_seq::<[(); 0]>([]),
            levels => serializer.collect_seq([Nested(levels - 1)]),
        }
    }
}

fn invocation(text: &str) -> Invocation<'_> {
    match decode(text.as_bytes()) {
        Ok(Message::Invocation(invocation)) => invocation,
        other => panic!("{other:?}"),
    }
}

fn invalid(text: &str) -> DecodeError {
    DecodeError::Invalid(text.to_owned().into())
}
