//! The file of vectors, and how its abstract messages become ours.

use crate::protocol::hub::{Completed, Invocation, Message, Protocol, RawArguments, RawValue, arguments::encode_value};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};
use std::{collections::HashMap, fmt};

pub(super) fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../../../tests/vectors/hub-protocol-json.json")).unwrap()
}

#[derive(Deserialize)]
pub(super) struct Vectors {
    pub(super) handshake: Vec<HandshakeCase>,
    pub(super) cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HandshakeCase {
    pub(super) name: String,
    pub(super) direction: String,
    pub(super) payload: String,
    #[serde(default = "yes")]
    pub(super) terminated: bool,
    pub(super) expected: String,
    pub(super) message: Option<HandshakeMessage>,
}

#[derive(Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub(super) enum HandshakeMessage {
    HandshakeRequest { protocol: String, version: i32 },
    HandshakeResponse { error: Option<String> },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) direction: String,
    pub(super) payload: String,
    #[serde(default = "yes")]
    pub(super) terminated: bool,
    pub(super) expected: String,
    pub(super) error_kind: Option<String>,
    pub(super) message: Option<AbstractMessage>,
    #[serde(default)]
    pub(super) binder: Binder,
}

impl Case {
    /// The text as it is fed to the framing.
    pub(super) fn fed(&self) -> Vec<u8> {
        let end = if self.terminated { "\u{1e}" } else { "" };
        format!("{}{end}", self.payload).into_bytes()
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Binder {
    /// Absent for a method that is unknown.
    pub(super) parameter_types: Option<Vec<String>>,
    #[serde(rename = "resultType")]
    _result_type: Option<String>,
    #[serde(default)]
    pub(super) results: HashMap<String, String>,
    #[serde(default)]
    pub(super) streams: HashMap<String, String>,
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
    has_result: Option<bool>,
    #[serde(default)]
    result: Abstract,
    error: Option<String>,
    allow_reconnect: Option<bool>,
    sequence_id: Option<i64>,
}

impl AbstractMessage {
    /// The text that the message borrows: its arguments, its item or its result.
    pub(super) fn encoded_values(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let written = match self.kind.as_str() {
            "StreamItem" => encode_value(Protocol::Json, &mut out, &self.item),
            "Completion" => encode_value(Protocol::Json, &mut out, &self.result),
            _ => encode_value(Protocol::Json, &mut out, &self.arguments),
        };
        written.unwrap();
        out
    }

    pub(super) fn message<'a>(&'a self, values: &'a [u8]) -> Message<'a> {
        let protocol = Protocol::Json;
        let id = || self.invocation_id.as_deref().unwrap().into();
        match self.kind.as_str() {
            "Invocation" | "StreamInvocation" => Message::Invocation(Invocation {
                // To us an empty id is none: nobody waits for the outcome.
                id: self.invocation_id.as_deref().filter(|id| !id.is_empty()).map(Into::into),
                target: self.target.as_deref().unwrap().into(),
                arguments: Ok(RawArguments { protocol, bytes: values, count: self.arguments.len() }),
                stream_ids: self.stream_ids.iter().flatten().map(|id| id.as_str().into()).collect(),
                streaming: self.kind == "StreamInvocation",
            }),
            "StreamItem" => Message::StreamItem { id: id(), item: RawValue { protocol, bytes: values } },
            "Completion" => Message::Completion {
                id: id(),
                outcome: match (&self.error, self.has_result.unwrap()) {
                    (Some(error), _) => Completed::Error(error.into()),
                    (None, true) => Completed::Result(RawValue { protocol, bytes: values }),
                    (None, false) => Completed::Void,
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
    Float(f64),
    Text(String),
    List(Vec<Abstract>),
    Map(Vec<(String, Abstract)>),
}

impl Serialize for Abstract {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(n) => serializer.serialize_i64(*n),
            Self::Float(n) => serializer.serialize_f64(*n),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => items.serialize(serializer),
            Self::Map(members) => match &members[..] {
                [(name, Self::Integer(n))] if name == "$float" => serializer.serialize_f32(*n as f32),
                _ => {
                    let mut map = serializer.serialize_map(Some(members.len()))?;
                    for (name, value) in members {
                        map.serialize_entry(name, value)?;
                    }
                    map.end()
                }
            },
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

fn yes() -> bool {
    true
}
