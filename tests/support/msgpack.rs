//! MessagePack values, exactly as they stand on the wire where that matters.

use serde_json::{Map, Number, Value, json};
use std::fmt;

/// A value. Integers are written in their smallest form, and read in any.
#[derive(Debug, Clone, PartialEq)]
pub enum Mp {
    Nil,
    Bool(bool),
    Int(i128),
    F32(f32),
    F64(f64),
    Str(String),
    Bin(Vec<u8>),
    Array(Vec<Mp>),
    Map(Vec<(Mp, Mp)>),
    Ext(i8, Vec<u8>),
    /// Bytes written as they are: a value in a form of its own, or nonsense. Never read.
    Raw(Vec<u8>),
}

impl Mp {
    /// A string.
    pub fn str(text: &str) -> Self {
        Self::Str(text.to_owned())
    }

    /// The value that JSON says, for arguments that are the same in both.
    pub fn from_json(value: &Value) -> Self {
        match value {
            Value::Null => Self::Nil,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Self::Int(value.into()),
                (None, Some(value)) => Self::Int(value.into()),
                (None, None) => Self::F64(number.as_f64().expect("a number")),
            },
            Value::String(text) => Self::str(text),
            Value::Array(items) => Self::Array(items.iter().map(Self::from_json).collect()),
            Value::Object(members) => {
                Self::Map(members.iter().map(|(key, value)| (Self::str(key), Self::from_json(value))).collect())
            }
        }
    }

    /// The nearest JSON: bytes as `{"$bin": hex}`, extensions as `{"$ext": type, "data": hex}`, keys as text.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Nil => Value::Null,
            Self::Bool(value) => json!(value),
            Self::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => json!(value),
                (_, Ok(value)) => json!(value),
                _ => json!(value.to_string()),
            },
            Self::F32(value) => Number::from_f64((*value).into()).map_or(Value::Null, Value::Number),
            Self::F64(value) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
            Self::Str(text) => json!(text),
            Self::Bin(bytes) => json!({ "$bin": hex(bytes) }),
            Self::Ext(kind, bytes) => json!({ "$ext": kind, "data": hex(bytes) }),
            Self::Array(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Self::Map(members) => {
                let mut object = Map::new();
                for (key, value) in members {
                    let key = match key {
                        Self::Str(text) => text.clone(),
                        // a map as a key of a map as a key: as text of text it would double at each level
                        Self::Map(_) | Self::Array(_) => format!("<a key of {} bytes>", key.encode().len()),
                        other => other.to_json().to_string(),
                    };
                    object.insert(key, value.to_json());
                }
                Value::Object(object)
            }
            Self::Raw(_) => panic!("raw bytes are only written"),
        }
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// Reads one value from the front of `bytes`; `None` if it is not whole or not MessagePack.
    pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let tag = take(bytes, 1)?[0];
        Some(match tag {
            0x00..=0x7f => Self::Int(tag.into()),
            0xe0..=0xff => Self::Int((tag as i8).into()),
            0x80..=0x8f => Self::map(bytes, (tag & 15).into())?,
            0x90..=0x9f => Self::array(bytes, (tag & 15).into())?,
            0xa0..=0xbf => Self::string(bytes, (tag & 31).into())?,
            0xc0 => Self::Nil,
            0xc2 | 0xc3 => Self::Bool(tag == 0xc3),
            0xc4..=0xc6 => {
                let length = number(bytes, 1 << (tag - 0xc4))?;
                Self::Bin(take(bytes, length)?.to_vec())
            }
            0xc7..=0xc9 => {
                let length = number(bytes, 1 << (tag - 0xc7))?;
                Self::extension(bytes, length)?
            }
            0xca => Self::F32(f32::from_be_bytes(take(bytes, 4)?.try_into().ok()?)),
            0xcb => Self::F64(f64::from_be_bytes(take(bytes, 8)?.try_into().ok()?)),
            0xcc..=0xcf => {
                let raw = take(bytes, 1 << (tag - 0xcc))?;
                Self::Int(raw.iter().fold(0, |value, byte| value << 8 | i128::from(*byte)))
            }
            0xd0..=0xd3 => {
                let raw = take(bytes, 1 << (tag - 0xd0))?;
                let first = i128::from(raw[0] as i8);
                Self::Int(raw[1..].iter().fold(first, |value, byte| value << 8 | i128::from(*byte)))
            }
            0xd4..=0xd8 => Self::extension(bytes, 1 << (tag - 0xd4))?,
            0xd9..=0xdb => {
                let length = number(bytes, 1 << (tag - 0xd9))?;
                Self::string(bytes, length)?
            }
            0xdc | 0xdd => {
                let length = number(bytes, 2 << (tag - 0xdc))?;
                Self::array(bytes, length)?
            }
            0xde | 0xdf => {
                let length = number(bytes, 2 << (tag - 0xde))?;
                Self::map(bytes, length)?
            }
            0xc1 => return None,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nil => out.push(0xc0),
            Self::Bool(value) => out.push(0xc2 | u8::from(*value)),
            Self::Int(value) => write_int(out, *value),
            Self::F32(value) => {
                out.push(0xca);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::F64(value) => {
                out.push(0xcb);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::Str(text) => {
                match text.len() {
                    length @ 0..32 => out.push(0xa0 | length as u8),
                    length => write_length(out, [0xd9, 0xda, 0xdb], length),
                }
                out.extend_from_slice(text.as_bytes());
            }
            Self::Bin(bytes) => {
                write_length(out, [0xc4, 0xc5, 0xc6], bytes.len());
                out.extend_from_slice(bytes);
            }
            Self::Array(items) => {
                match items.len() {
                    length @ 0..16 => out.push(0x90 | length as u8),
                    length @ 16..=0xffff => {
                        out.push(0xdc);
                        out.extend_from_slice(&(length as u16).to_be_bytes());
                    }
                    length => {
                        out.push(0xdd);
                        out.extend_from_slice(&(length as u32).to_be_bytes());
                    }
                }
                items.iter().for_each(|item| item.write(out));
            }
            Self::Map(members) => {
                assert!(members.len() < 16, "tests need no larger maps");
                out.push(0x80 | members.len() as u8);
                members.iter().for_each(|(key, value)| {
                    key.write(out);
                    value.write(out);
                });
            }
            Self::Ext(kind, bytes) => {
                match bytes.len() {
                    1 | 2 | 4 | 8 | 16 => out.push(0xd4 + bytes.len().trailing_zeros() as u8),
                    length => write_length(out, [0xc7, 0xc8, 0xc9], length),
                }
                out.push(*kind as u8);
                out.extend_from_slice(bytes);
            }
            Self::Raw(bytes) => out.extend_from_slice(bytes),
        }
    }

    fn string(bytes: &mut &[u8], length: usize) -> Option<Self> {
        String::from_utf8(take(bytes, length)?.to_vec()).ok().map(Self::Str)
    }

    fn extension(bytes: &mut &[u8], length: usize) -> Option<Self> {
        let kind = take(bytes, 1)?[0] as i8;
        Some(Self::Ext(kind, take(bytes, length)?.to_vec()))
    }

    fn array(bytes: &mut &[u8], length: usize) -> Option<Self> {
        (0..length).map(|_| Self::decode(bytes)).collect::<Option<_>>().map(Self::Array)
    }

    fn map(bytes: &mut &[u8], length: usize) -> Option<Self> {
        (0..length).map(|_| Some((Self::decode(bytes)?, Self::decode(bytes)?))).collect::<Option<_>>().map(Self::Map)
    }
}

/// Shows what a value is, not how wide it was written: `[1, {}, nil, "target", [7, 2.5f64, bin 00ff, ext 5 07]]`.
impl fmt::Display for Mp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::F32(value) => write!(f, "{value}f32"),
            Self::F64(value) => write!(f, "{value}f64"),
            Self::Str(text) => write!(f, "{}", json!(text)),
            Self::Bin(bytes) => write!(f, "bin {}", hex(bytes)),
            Self::Ext(kind, bytes) => write!(f, "ext {kind} {}", hex(bytes)),
            Self::Raw(bytes) => write!(f, "raw {}", hex(bytes)),
            Self::Array(items) => {
                let items: Vec<String> = items.iter().map(Self::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Map(members) => {
                let members: Vec<String> = members.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                write!(f, "{{{}}}", members.join(", "))
            }
        }
    }
}

/// Puts the length prefix of the hub protocol before a message.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = varint(body.len() as u64);
    out.extend_from_slice(body);
    out
}

/// A base-128 varint, least significant group first.
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let group = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(group);
            return out;
        }
        out.push(group | 0x80);
    }
}

/// Takes a framed message from the front of `bytes`; `None` if it is not whole.
pub fn unframe<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut rest = *bytes;
    let mut length = 0;
    for shift in (0..35).step_by(7) {
        let byte = take(&mut rest, 1)?[0];
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            let body = take(&mut rest, length)?;
            *bytes = rest;
            return Some(body);
        }
    }
    None
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that hexadecimal digits say; blanks are skipped.
pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal digits"))
        .collect()
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(length)?;
    *bytes = tail;
    Some(head)
}

fn number(bytes: &mut &[u8], width: usize) -> Option<usize> {
    Some(take(bytes, width)?.iter().fold(0, |value, byte| value << 8 | usize::from(*byte)))
}

fn write_int(out: &mut Vec<u8>, value: i128) {
    let (tag, width) = match value {
        -32..=127 => return out.push(value as u8),
        128..=0xff => (0xcc, 1),
        0x100..=0xffff => (0xcd, 2),
        0x1_0000..=0xffff_ffff => (0xce, 4),
        0x1_0000_0000.. => (0xcf, 8),
        -0x80..-32 => (0xd0, 1),
        -0x8000..-0x80 => (0xd1, 2),
        -0x8000_0000..-0x8000 => (0xd2, 4),
        _ => (0xd3, 8),
    };
    out.push(tag);
    out.extend_from_slice(&value.to_be_bytes()[16 - width..]);
}

fn write_length(out: &mut Vec<u8>, tags: [u8; 3], length: usize) {
    match length {
        0..=0xff => out.extend_from_slice(&[tags[0], length as u8]),
        0x100..=0xffff => {
            out.push(tags[1]);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(tags[2]);
            out.extend_from_slice(&(length as u32).to_be_bytes());
        }
    }
}
