//! Any deserializer into a [`Value`]: JSON as its text, everything else as MessagePack bytes.

use super::{Binary, Repr, Value};
use crate::protocol::hub::messagepack::{
    MAX_VALUE_DEPTH, write_array_len, write_bin, write_ext, write_f32, write_f64, write_map_len, write_sint, write_str,
    write_uint,
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// Appends JSON text, rewritten in MessagePack. On an error `out` is as it was.
pub(in crate::protocol::hub) fn json_to_messagepack(out: &mut Vec<u8>, json: &[u8]) -> Result<(), serde_json::Error> {
    let start = out.len();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let captured = Capture { out, depth: 0 }.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    captured.inspect_err(|_| out.truncate(start))
}

/// The name under which serde_json gives out a value's raw text. It is not documented; should it ever change, values arrive in their
/// structure instead, which costs only the digits of numbers beyond 64 bits. A test would say so.
pub(super) const RAW_JSON: &str = "$serde_json::private::RawValue";

/// Takes what a deserializer gives when it is asked for [`RAW_JSON`]: serde_json gives the text, others the value behind a newtype, or
/// just the value. (Not `is_human_readable`: it is also true behind `#[serde(flatten)]`, where there is no text any more.)
#[derive(Default)]
pub(super) struct ValueVisitor {
    /// The newtype is open: what comes is the value itself.
    inside: bool,
}

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        if self.inside {
            return captured(|capture| capture.visit_map(map));
        }
        let text = Box::<RawValue>::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Value(Repr::Json(text)))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.inside {
            return captured(|capture| capture.visit_newtype_struct(deserializer));
        }
        deserializer.deserialize_any(Self { inside: true })
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Value, A::Error> {
        captured(|capture| capture.visit_seq(seq))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::null())
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::null())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_f32<E: Error>(self, n: f32) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_f64<E: Error>(self, n: f64) -> Result<Value, E> {
        Ok(n.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Value, E> {
        captured(|capture| capture.visit_bytes(bytes))
    }
}

fn captured<E>(capture: impl FnOnce(Capture<'_>) -> Result<(), E>) -> Result<Value, E> {
    // Spares a small value the first growths; containers are rarely smaller.
    let mut bytes = Vec::with_capacity(64);
    capture(Capture { out: &mut bytes, depth: 0 })?;
    Ok(Value(Repr::MessagePack(Cow::Owned(bytes))))
}

/// Appends one value in MessagePack, smallest forms.
struct Capture<'o> {
    out: &'o mut Vec<u8>,
    /// How many containers are around it.
    depth: usize,
}

impl Capture<'_> {
    fn inner<E: Error>(&mut self) -> Result<Capture<'_>, E> {
        if self.depth == MAX_VALUE_DEPTH {
            return Err(E::custom("nested too deep"));
        }
        Ok(Capture { out: self.out, depth: self.depth + 1 })
    }

    fn again(&mut self) -> Capture<'_> {
        Capture { out: self.out, depth: self.depth }
    }
}

impl<'de> DeserializeSeed<'de> for Capture<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Capture<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let mut inner = self.inner()?;
        let header = Header::begin(inner.out, seq.size_hint(), write_array_len);
        let mut count = 0;
        while seq.next_element_seed(inner.again())?.is_some() {
            count += 1;
        }
        header.end(inner.out, count, write_array_len);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut inner = self.inner()?;
        let header = Header::begin(inner.out, map.size_hint(), write_map_len);
        let mut count = 0;
        while map.next_key_seed(inner.again())?.is_some() {
            if count == 0 && inner.out[header.start + header.len..] == *BIG_NUMBER {
                let digits = map.next_value::<Cow<'_, str>>()?;
                inner.out.truncate(header.start);
                return number(inner.out, &digits);
            }
            map.next_value_seed(inner.again())?;
            count += 1;
        }
        header.end(inner.out, count, write_map_len);
        Ok(())
    }

    /// Only an extension type arrives here: rmp-serde hands it out as a newtype around its type and its data.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(CaptureExtension(self.out))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.out.push(0xc0);
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.out.push(0xc2 + u8::from(value));
        Ok(())
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<(), E> {
        write_uint(self.out, n);
        Ok(())
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<(), E> {
        write_sint(self.out, n);
        Ok(())
    }

    fn visit_f32<E: Error>(self, n: f32) -> Result<(), E> {
        write_f32(self.out, n);
        Ok(())
    }

    fn visit_f64<E: Error>(self, n: f64) -> Result<(), E> {
        write_f64(self.out, n);
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        write_str(self.out, text);
        Ok(())
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<(), E> {
        write_bin(self.out, bytes);
        Ok(())
    }
}

struct CaptureExtension<'o>(&'o mut Vec<u8>);

impl<'de> Visitor<'de> for CaptureExtension<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an extension type")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let kind = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(0, &self))?;
        let data: Binary = seq.next_element()?.ok_or_else(|| A::Error::invalid_length(1, &self))?;
        write_ext(self.0, kind, &data);
        Ok(())
    }
}

/// Where a container's count stands. Most deserializers of MessagePack know it first; serde_json never does.
struct Header {
    start: usize,
    len: usize,
    count: usize,
}

impl Header {
    fn begin(out: &mut Vec<u8>, hint: Option<usize>, write: fn(&mut Vec<u8>, usize)) -> Self {
        let (start, count) = (out.len(), hint.unwrap_or(0));
        write(out, count);
        Self { start, len: out.len() - start, count }
    }

    fn end(self, out: &mut Vec<u8>, count: usize, write: fn(&mut Vec<u8>, usize)) {
        if count != self.count {
            let mut header = Vec::with_capacity(5);
            write(&mut header, count);
            out.splice(self.start..self.start + self.len, header);
        }
    }
}

/// Appends a number given as text, as serde_json does it once anything in a build turns on its feature `arbitrary_precision`.
fn number<E: Error>(out: &mut Vec<u8>, digits: &str) -> Result<(), E> {
    if let Ok(n) = digits.parse() {
        write_uint(out, n);
    } else if let Ok(n) = digits.parse() {
        write_sint(out, n);
    } else {
        let n = digits.parse().ok().filter(|n: &f64| n.is_finite());
        write_f64(out, n.ok_or_else(|| E::custom("number out of range"))?);
    }
    Ok(())
}

/// The key, in MessagePack, under which such a number stands.
const BIG_NUMBER: &[u8] = b"\xbc$serde_json::private::Number";
