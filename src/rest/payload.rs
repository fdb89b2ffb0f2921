use super::errors::{INVALID, Refusal};
use super::request::Asked;
use crate::backplane::{Audience, BackplaneError, Encoded, Reached};
use crate::lifetime::{Lifetime, Outgoing};
use crate::protocol::Value;
use crate::protocol::hub::{
    Completed, EncodeArguments, EncodeError, Frame, Message, MessagePackToken as Token, Protocol, RawArguments,
    next_message,
};
use axum::http::{StatusCode, header};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// A message as a caller gives it: a call to be encoded, or whole messages, one for each protocol.
#[derive(Debug)]
pub(super) enum Payload {
    Call(Call),
    Framed(Framed),
}

/// A target, and arguments in each encoding. Both are made at once, so that whether a call can be sent does not depend on who listens.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) target: String,
    pub(super) arguments: Arguments,
}

#[derive(Debug)]
pub(super) struct Arguments {
    json: Vec<u8>,
    messagepack: Vec<u8>,
}

/// Messages that are framed already and reach clients as they are.
#[derive(Debug)]
pub(super) struct Framed {
    frames: [Option<Frame>; Protocol::KNOWN.len()],
    /// Messages of one target replace each other where receivers do not keep up.
    target: String,
}

/// What a body is by its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    Binary,
}

impl Kind {
    /// Every other type is refused; parameters say nothing here.
    pub(super) fn of(asked: &Asked<'_>) -> Result<Self, Refusal> {
        let value = asked.header(header::CONTENT_TYPE).unwrap_or_default();
        match &*value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase() {
            "application/json" => Ok(Self::Json),
            "application/octet-stream" | "application/x-msgpack" => Ok(Self::Binary),
            _ => Err(Refusal::of(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                INVALID,
                "The body's type is not application/json or application/octet-stream.",
            )),
        }
    }
}

impl Payload {
    pub(super) fn read(asked: &Asked<'_>, body: &[u8]) -> Result<Self, Refusal> {
        required(body)?;
        match Kind::of(asked)? {
            Kind::Json => Call::of_json(body).map(Self::Call),
            Kind::Binary => Self::of_binary(body),
        }
    }

    /// A map of framed messages by protocol; or, as nobody knows what was meant by the other binary type, a map of target and
    /// arguments, or an invocation as the MessagePack protocol has it.
    fn of_binary(body: &[u8]) -> Result<Self, Refusal> {
        if let Some(pairs) = pairs(body) {
            return Framed::read(&pairs).map(Self::Framed);
        }
        match Token::read(body) {
            Some((Token::Map(_), _)) => {
                let envelope: Plain = rmp_serde::from_slice(body).map_err(|_| Refusal::invalid(NOT_A_MAP))?;
                Call::new(envelope.target, &envelope.arguments.unwrap_or_default()).map(Self::Call)
            }
            Some((Token::Array(_), _)) => match Protocol::MessagePack.decode(body) {
                Ok(message) => Call::of_message(&message).map(Self::Call),
                Err(_) => Err(Refusal::invalid(NOT_A_MAP)),
            },
            _ => Err(Refusal::invalid(NOT_A_MAP)),
        }
    }

    pub(super) fn send(&self, hub: &Lifetime, audience: &Audience) -> Result<Reached<()>, BackplaneError> {
        match self {
            Self::Call(call) => call.send(hub, audience),
            Self::Framed(framed) => hub.send(audience, framed),
        }
    }

    /// Takes it apart, to be sent as a question: what is framed is a call without an id, and a question needs one.
    pub(super) fn into_call(self) -> Result<Call, Refusal> {
        let framed = match self {
            Self::Call(call) => return Ok(call),
            Self::Framed(framed) => framed,
        };
        let call = |protocol: Protocol| {
            let frame = framed.frames[protocol as usize].as_ref()?;
            let piece = next_message(protocol, frame.payload(), None).ok()??;
            let message = protocol.decode(&frame.payload()[piece.body]).ok()?;
            Some(Call::of_message(&message))
        };
        match (call(Protocol::Json), call(Protocol::MessagePack)) {
            // each in the encoding it was given in
            (Some(json), Some(messagepack)) => {
                let (json, messagepack) = (json?, messagepack?);
                let arguments = Arguments { json: json.arguments.json, messagepack: messagepack.arguments.messagepack };
                Ok(Call { target: json.target, arguments })
            }
            (Some(call), None) | (None, Some(call)) => call,
            (None, None) => Err(Refusal::invalid(NOT_A_MESSAGE)),
        }
    }
}

/// There is a body, and it is not null.
pub(super) fn required(body: &[u8]) -> Result<(), Refusal> {
    let body = body.trim_ascii();
    if body.is_empty() || body == b"null" { Err(Refusal::invalid(REQUIRED)) } else { Ok(()) }
}

impl Call {
    /// Reads `{"target": …, "arguments": […]}`; other members are passed over, and of a member that is there twice the last one counts.
    pub(super) fn of_json(body: &[u8]) -> Result<Self, Refusal> {
        let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|e| not_json(&e))?;
        let target = envelope.target.map(RawValue::get).filter(|text| *text != "null");
        let target = target.ok_or_else(|| Refusal::invalid(NO_TARGET))?;
        let target: String = serde_json::from_str(target).map_err(|_| Refusal::invalid(TARGET_IS_NO_TEXT))?;
        let arguments = match envelope.arguments.map(RawValue::get) {
            None | Some("null") => Vec::new(),
            Some(list) if list.starts_with('[') => serde_json::from_str(list).map_err(|e| not_json(&e))?,
            Some(_) => return Err(Refusal::invalid(ARGUMENTS_ARE_NO_LIST)),
        };
        Self::new(target, &arguments)
    }

    pub(super) fn send(&self, hub: &Lifetime, audience: &Audience) -> Result<Reached<()>, BackplaneError> {
        hub.send(audience, &Outgoing::new(&self.target, &self.arguments, None))
    }

    fn new(target: String, arguments: &[Value]) -> Result<Self, Refusal> {
        if target.is_empty() {
            return Err(Refusal::invalid(NO_TARGET));
        }
        let encode = |protocol| {
            let mut out = Vec::new();
            EncodeArguments::encode(&arguments, protocol, &mut out).map_err(|_| Refusal::invalid(NOT_CARRIED))?;
            Ok::<_, Refusal>(out)
        };
        let arguments = Arguments { json: encode(Protocol::Json)?, messagepack: encode(Protocol::MessagePack)? };
        Ok(Self { target, arguments })
    }

    fn of_message(message: &Message<'_>) -> Result<Self, Refusal> {
        let Message::Invocation(call) = message else { return Err(Refusal::invalid(NOT_A_MESSAGE)) };
        let raw = call.arguments.as_ref().map_err(|_| Refusal::invalid(NOT_A_MESSAGE))?;
        Self::new(call.target.clone().into_owned(), &values(raw)?)
    }
}

fn values(raw: &RawArguments<'_>) -> Result<Vec<Value>, Refusal> {
    raw.map(|value| value.decode::<Value>().map_err(|_| Refusal::invalid(NOT_CARRIED))).collect()
}

impl EncodeArguments for Arguments {
    fn encode(&self, protocol: Protocol, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.extend_from_slice(match protocol {
            Protocol::Json => &self.json,
            Protocol::MessagePack | Protocol::BlazorPack => &self.messagepack,
        });
        Ok(())
    }
}

impl Framed {
    /// Each value is one whole message, or those who get it could not read on. Of protocols that nobody speaks here nothing is kept. A
    /// message in JSON only is rewritten for the others.
    pub(super) fn read(pairs: &[(&[u8], &[u8])]) -> Result<Self, Refusal> {
        let mut framed = Self { frames: [const { None }; Protocol::KNOWN.len()], target: String::new() };
        for (name, bytes) in pairs {
            let Some(protocol) = std::str::from_utf8(name).ok().and_then(Protocol::by_name) else { continue };
            let piece = next_message(protocol, bytes, None).ok().flatten();
            let piece =
                piece.filter(|piece| piece.used == bytes.len()).ok_or_else(|| Refusal::invalid(NOT_A_MESSAGE))?;
            let message = protocol.decode(&bytes[piece.body]).map_err(|_| Refusal::invalid(NOT_A_MESSAGE))?;
            framed.target = target(&message).into_owned();
            framed.frames[protocol as usize] = Some(Frame::of_framed(protocol, bytes));
            let missing = pairs.iter().all(|(name, _)| !name.eq_ignore_ascii_case(b"messagepack"));
            if protocol == Protocol::Json && missing {
                framed.frames[Protocol::MessagePack as usize] = rewritten(&message)?;
            }
        }
        Ok(framed)
    }
}

impl Encoded for Framed {
    fn frame(&self, protocol: Protocol) -> Result<Option<Frame>, EncodeError> {
        Ok(self.frames[protocol as usize].clone())
    }

    fn key(&self) -> &str {
        &self.target
    }
}

fn target<'m>(message: &'m Message<'_>) -> Cow<'m, str> {
    match message {
        Message::Invocation(call) => Cow::Borrowed(&call.target),
        Message::StreamItem { id, .. } | Message::Completion { id, .. } => Cow::Borrowed(id),
        _ => Cow::Borrowed(""),
    }
}

/// The message in MessagePack; `None` if it is of a type that says nothing there.
fn rewritten(message: &Message<'_>) -> Result<Option<Frame>, Refusal> {
    const TO: Protocol = Protocol::MessagePack;
    let encoded = |frame: Result<Frame, EncodeError>| frame.map(Some).map_err(|_| Refusal::invalid(NOT_CARRIED));
    let value =
        |raw: &crate::protocol::hub::RawValue<'_>| raw.decode::<Value>().map_err(|_| Refusal::invalid(NOT_CARRIED));
    match message {
        Message::Invocation(call) if !call.streaming => {
            let raw = call.arguments.as_ref().map_err(|_| Refusal::invalid(NOT_A_MESSAGE))?;
            encoded(Frame::invocation(TO, call.id.as_deref(), &call.target, &values(raw)?))
        }
        Message::StreamItem { id, item } => encoded(Frame::stream_item(TO, id, &value(item)?)),
        Message::Completion { id, outcome } => match outcome {
            Completed::Error(text) => Ok(Some(Frame::completion_error(TO, id, text))),
            Completed::Void => Ok(Some(Frame::completion_void(TO, id))),
            Completed::Result(raw) => encoded(Frame::completion_result(TO, id, &value(raw)?)),
        },
        Message::Close { error, allow_reconnect } => Ok(Some(Frame::close(TO, error.as_deref(), *allow_reconnect))),
        _ => Ok(None),
    }
}

/// The map's texts and bytes, if it is of these and nothing stands behind it.
pub(super) fn pairs(body: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let (Token::Map(count @ 1..), mut rest) = Token::read(body)? else { return None };
    let mut pairs = Vec::new();
    for _ in 0..count {
        let mut next = || match Token::read(rest)? {
            (Token::Str(bytes) | Token::Bin(bytes), after) => {
                rest = after;
                Some(bytes)
            }
            _ => None,
        };
        pairs.push((next()?, next()?));
    }
    rest.is_empty().then_some(pairs)
}

/// What is wrong with JSON, by its place; a parser's own words may quote what the caller wrote.
pub(super) fn not_json(error: &serde_json::Error) -> Refusal {
    Refusal::invalid(format!("The body is not valid JSON at line {} column {}.", error.line(), error.column()))
}

#[derive(Deserialize)]
struct Plain {
    target: String,
    arguments: Option<Vec<Value>>,
}

struct Envelope<'a> {
    target: Option<&'a RawValue>,
    arguments: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut envelope = Envelope { target: None, arguments: None };
                while let Some(name) = map.next_key::<String>()? {
                    match &*name.to_ascii_lowercase() {
                        "target" => envelope.target = Some(map.next_value()?),
                        "arguments" => envelope.arguments = Some(map.next_value()?),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(envelope)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

pub(super) const REQUIRED: &str = "Message in request body is required.";
const NO_TARGET: &str = "The Target field is required.";
const TARGET_IS_NO_TEXT: &str = "The Target field is not a text.";
const ARGUMENTS_ARE_NO_LIST: &str = "The Arguments field is not a list.";
const NOT_CARRIED: &str =
    "A value cannot be carried: a number beyond 64-bit floating point, half a surrogate pair, or more than 62 levels.";
const NOT_A_MAP: &str = "The body is not one MessagePack map of hub protocol names to framed messages.";
const NOT_A_MESSAGE: &str = "A value of the map is not one whole framed message of its hub protocol.";

#[cfg(test)]
mod tests {
    use super::*;

    fn call(body: &str) -> Option<(String, String, Vec<u8>)> {
        let call = Call::of_json(body.as_bytes()).ok()?;
        Some((call.target, String::from_utf8(call.arguments.json).unwrap(), call.arguments.messagepack))
    }

    #[test]
    fn a_call_keeps_its_values() {
        let body = r#"{"TARGET":"t","rawOnly":true,"Arguments":[18446744073709551615, 1.10, {"a":-1,"b":[null]}, 36893488147419103232]}"#;
        let (target, json, messagepack) = call(body).unwrap();
        assert_eq!(target, "t");
        assert_eq!(json, r#"[18446744073709551615,1.10,{"a":-1,"b":[null]},36893488147419103232]"#);
        let mut want = vec![0x94, 0xcf];
        want.extend([0xff; 8]);
        want.push(0xcb);
        want.extend(1.1f64.to_be_bytes());
        want.extend([0x82, 0xa1, b'a', 0xff, 0xa1, b'b', 0x91, 0xc0, 0xcb]);
        want.extend(36893488147419103232f64.to_be_bytes());
        assert_eq!(messagepack, want);
        for empty in [r#"{"target":"t"}"#, r#"{"target":"t","arguments":null}"#, r#"{"target":"x","target":"t"}"#] {
            assert_eq!(call(empty), Some(("t".into(), "[]".into(), vec![0x90])), "{empty}");
        }
    }

    #[test]
    fn what_is_no_call_is_refused() {
        for body in [
            "{}",
            "[]",
            "1",
            r#"{"target":null}"#,
            r#"{"target":""}"#,
            r#"{"target":1}"#,
            r#"{"target":"\ud800"}"#,
            r#"{"target":"t","arguments":{}}"#,
            r#"{"target":"t","arguments":"[]"}"#,
            r#"{"target":"t","arguments":[1e999]}"#,
            r#"{"target":"t","arguments":["\ud800"]}"#,
            r#"{"target":"t","arguments":[1,]}"#,
            r#"{"target":"t"} x"#,
            r#"{'target':'t'}"#,
            r#"{"target":"t"/**/}"#,
            "{\"target\":\"t",
        ] {
            assert_eq!(call(body), None, "{body}");
        }
        let deep = format!(r#"{{"target":"t","arguments":[{}{}]}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(call(&deep), None);
    }

    #[test]
    fn a_map_is_read_as_a_whole() {
        let json = b"{\"type\":1,\"target\":\"t\",\"arguments\":[1]}\x1e";
        let map = |name: &[u8], value: &[u8]| {
            [&[0x81, 0xa0 | name.len() as u8], name, &[0xc4, value.len() as u8], value].concat()
        };
        let read = |body: &[u8]| match Payload::of_binary(body) {
            Ok(Payload::Framed(framed)) => Some(
                Protocol::ALL.map(|protocol| framed.frame(protocol).unwrap().map(|frame| frame.payload().to_vec())),
            ),
            Ok(Payload::Call(_)) => panic!("framed"),
            Err(_) => None,
        };
        let rewritten = [0x09, 0x96, 1, 0x80, 0xc0, 0xa1, b't', 0x91, 1, 0x90];
        assert_eq!(read(&map(b"json", json)), Some([Some(json.to_vec()), Some(rewritten.to_vec())]));
        assert_eq!(read(&map(b"messagepack", &rewritten)), Some([None, Some(rewritten.to_vec())]));
        assert_eq!(read(&map(b"other", &rewritten)), Some([None, None]));
        for wrong in [
            &[0x80][..],
            &[0xc0],
            &map(b"json", &json[..json.len() - 1]),
            &map(b"json", &[&json[..], json].concat()),
            &map(b"json", b"{}\x1e"),
            &map(b"messagepack", json),
            &[&map(b"json", json)[..], &[0]].concat(),
            &[0xdf, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(read(wrong), None, "{wrong:02x?}");
        }
    }

    #[test]
    fn other_binary_shapes_are_calls() {
        let want = (r#"["a",7]"#, vec![0x92, 0xa1, b'a', 7]);
        let mut envelope = vec![0x82, 0xa6];
        envelope.extend(b"target\xa1t\xa9arguments\x92\xa1a\x07");
        let bare = b"\x95\x01\x80\xc0\xa1t\x92\xa1a\x07".to_vec();
        for body in [envelope, bare] {
            let Ok(Payload::Call(call)) = Payload::of_binary(&body) else { panic!("a call: {body:02x?}") };
            assert_eq!(call.target, "t");
            assert_eq!((std::str::from_utf8(&call.arguments.json).unwrap(), call.arguments.messagepack), want);
        }
    }
    /// Whatever bytes come, they are a payload or they are not, and nothing is kept for what a map only announces.
    #[test]
    fn no_bytes_break_the_reader() {
        let json = b"{\"type\":1,\"target\":\"t\",\"arguments\":[1]}\x1e";
        let map = [
            &b"\x82\xa4json\xc4"[..],
            &[json.len() as u8],
            json,
            b"\xabmessagepack\xc4\x0a\x09\x96\x01\x80\xc0\xa1t\x91\x01\x90",
        ]
        .concat();
        assert!(Payload::of_binary(&map).is_ok());
        let mut state = 20_261_128u64;
        let mut next = |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        for _ in 0..100_000 {
            let mut body = map.clone();
            for _ in 0..1 + next(3) {
                let at = next(body.len());
                body[at] = next(256) as u8;
            }
            body.truncate(1 + next(body.len() + 20));
            if let Ok(payload) = Payload::of_binary(&body) {
                let _ = payload.into_call();
            }
            let _ = Call::of_json(&body);
        }
    }
}
