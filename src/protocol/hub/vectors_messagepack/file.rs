//! The file of vectors, and how its abstract messages become ours.

use crate::protocol::hub::messagepack::{
    write_array_len, write_bin, write_ext, write_f32, write_f64, write_map_len, write_sint, write_str,
};
use crate::protocol::hub::{Completed, Invocation, Message, Protocol, RawArguments, RawValue};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, de};
use std::fmt;

pub(super) fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../../../tests/vectors/hub-protocol-messagepack.json")).unwrap()
}

pub(super) fn bytes(base64: &str) -> Vec<u8> {
    STANDARD.decode(base64).unwrap()
}

#[derive(Deserialize)]
pub(super) struct Vectors {
    pub(super) cases: Vec<Case>,
    pub(super) sizes: Vec<SizeCase>,
    pub(super) framing: Vec<FramingCase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) direction: String,
    pub(super) payload: String,
    pub(super) framed: String,
    pub(super) expected: String,
    pub(super) message: Option<AbstractMessage>,
    pub(super) error_kind: Option<String>,
}

impl Case {
    pub(super) fn body(&self) -> Vec<u8> {
        bytes(&self.payload)
    }

    pub(super) fn abstract_message(&self) -> &AbstractMessage {
        self.message.as_ref().unwrap_or_else(|| panic!("{} has a message", self.name))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SizeCase {
    pub(super) name: String,
    pub(super) message: AbstractMessage,
    pub(super) framed_length: usize,
}

#[derive(Deserialize)]
pub(super) struct FramingCase {
    pub(super) name: String,
    pub(super) payload: String,
    pub(super) bodies: Option<Vec<String>>,
    pub(super) expected: String,
}

/// A message as the vectors describe it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AbstractMessage {
    #[serde(rename = "type")]
    kind: String,
    invocation_id: Option<String>,
    target: Option<String>,
    #[serde(default)]
    arguments: Vec<Abstract>,
    stream_ids: Option<Vec<String>>,
    pub(super) headers: Option<Abstract>,
    #[serde(default)]
    item: Abstract,
    result_kind: Option<u8>,
    #[serde(default)]
    result: Abstract,
    error: Option<String>,
    allow_reconnect: Option<bool>,
    sequence_id: Option<i64>,
}

impl AbstractMessage {
    /// The bytes that the message borrows: its arguments, its item or its result.
    pub(super) fn encoded_values(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.kind.as_str() {
            "StreamItem" => self.item.write(&mut out),
            "Completion" => self.result.write(&mut out),
            _ => self.arguments.iter().for_each(|argument| argument.write(&mut out)),
        }
        out
    }

    pub(super) fn message<'a>(&'a self, values: &'a [u8]) -> Message<'a> {
        let protocol = Protocol::MessagePack;
        let id = || self.invocation_id.as_deref().unwrap().into();
        match self.kind.as_str() {
            "Invocation" | "StreamInvocation" => Message::Invocation(Invocation {
                id: self.invocation_id.as_deref().map(Into::into),
                target: self.target.as_deref().unwrap().into(),
                arguments: Ok(RawArguments { protocol, bytes: values, count: self.arguments.len() }),
                stream_ids: self.stream_ids.iter().flatten().map(|id| id.as_str().into()).collect(),
                streaming: self.kind == "StreamInvocation",
            }),
            "StreamItem" => Message::StreamItem { id: id(), item: RawValue { protocol, bytes: values } },
            "Completion" => Message::Completion {
                id: id(),
                outcome: match self.result_kind {
                    Some(1) => Completed::Error(self.error.as_deref().unwrap().into()),
                    Some(2) => Completed::Void,
                    Some(3) => Completed::Result(RawValue { protocol, bytes: values }),
                    other => panic!("result kind {other:?}"),
                },
            },
            "CancelInvocation" => Message::CancelInvocation { id: id() },
            "Ping" => Message::Ping,
            "Close" => Message::Close {
                error: self.error.as_deref().map(Into::into),
                allow_reconnect: self.allow_reconnect.unwrap(),
            },
            "Ack" => Message::Ack { sequence_id: self.sequence_id.unwrap() },
            "Sequence" => Message::Sequence { sequence_id: self.sequence_id.unwrap() },
            other => panic!("message type {other}"),
        }
    }
}

/// A value as the vectors describe it, members in their order.
#[derive(Debug, Default)]
pub(super) enum Abstract {
    #[default]
    Null,
    Bool(bool),
    Integer(i64),
    Text(String),
    List(Vec<Abstract>),
    Map(Vec<(String, Abstract)>),
    Float(f64),
}

impl Abstract {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(0xc0),
            Self::Bool(value) => out.push(if *value { 0xc3 } else { 0xc2 }),
            Self::Integer(n) => write_sint(out, *n),
            Self::Text(text) => write_str(out, text),
            Self::List(items) => {
                write_array_len(out, items.len());
                items.iter().for_each(|item| item.write(out));
            }
            Self::Map(members) => match &members[..] {
                [(name, value)] if name.starts_with('$') => value.write_special(name, out),
                _ => {
                    write_map_len(out, members.len());
                    for (name, value) in members {
                        write_str(out, name);
                        value.write(out);
                    }
                }
            },
            Self::Float(_) => panic!("a vector says which width"),
        }
    }

    fn write_special(&self, name: &str, out: &mut Vec<u8>) {
        match (name, self) {
            ("$float32", Self::Float(n)) => write_f32(out, *n as f32),
            ("$float64", Self::Float(n)) => write_f64(out, *n),
            ("$bin", Self::Text(base64)) => write_bin(out, &bytes(base64)),
            ("$timestamp", Self::Map(members)) => match &members[..] {
                [(_, Self::Integer(seconds)), (_, Self::Integer(0))] => {
                    write_ext(out, -1, &u32::try_from(*seconds).unwrap().to_be_bytes());
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

impl<'de> Deserialize<'de> for Abstract {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AbstractVisitor)
    }
}

struct AbstractVisitor;

impl<'de> de::Visitor<'de> for AbstractVisitor {
    type Value = Abstract;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an abstract value")
    }

    fn visit_unit<E>(self) -> Result<Abstract, E> {
        Ok(Abstract::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Abstract, E> {
        Ok(Abstract::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Abstract, E> {
        i64::try_from(n).map(Abstract::Integer).map_err(E::custom)
    }

    fn visit_i64<E>(self, n: i64) -> Result<Abstract, E> {
        Ok(Abstract::Integer(n))
    }

    fn visit_f64<E>(self, n: f64) -> Result<Abstract, E> {
        Ok(Abstract::Float(n))
    }

    fn visit_str<E>(self, text: &str) -> Result<Abstract, E> {
        Ok(Abstract::Text(text.to_owned()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Abstract, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Abstract::List(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Abstract, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Abstract::Map(members))
    }
}
