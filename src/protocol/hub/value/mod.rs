//! Values that keep their encoding, and bytes.

mod binary;
mod capture;
#[cfg(test)]
mod tests;
mod timestamp;
mod walk;

pub use binary::Binary;

use super::{Protocol, messagepack};
use capture::RAW_JSON;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, ser::Error as _};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

pub(super) use capture::json_to_messagepack;

/// Any value a protocol can carry, kept as it came.
///
/// A hub that only passes values on declares them as `Value`: a JSON number keeps its digits, a MessagePack value its integers of 64
/// bits, byte strings, timestamps, extension types and map keys. It can stand wherever a type can: as an argument or a result, in
/// structs, collections, options (`null` becomes `None`) and tuples.
///
/// A value that goes out in the other encoding is rewritten. To JSON, byte strings become base64 text, timestamps ISO 8601 text and
/// map keys text; other extension types, NaN and infinities are refused. To MessagePack, numbers that are no 64-bit integers become
/// floating point; numbers that exceed that, and text with half a surrogate pair, are refused. So are more than 62 levels of nesting.
///
/// ```
/// # use hubwire::Value;
/// let echoed: Value = serde_json::from_str(r#"{"id": 18446744073709551615}"#)?;
/// assert_eq!(serde_json::to_string(&echoed)?, r#"{"id": 18446744073709551615}"#);
///
/// #[derive(serde::Deserialize)]
/// struct Row {
///     id: u64,
/// }
/// assert_eq!(echoed.deserialize_into::<Row>()?.id, u64::MAX);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Value(Repr);

#[derive(Clone)]
enum Repr {
    Json(Box<RawValue>),
    /// One whole value.
    MessagePack(Cow<'static, [u8]>),
}

/// Why a value could not be made or read. The cause is the serializer's, and may quote the value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// No encoding can carry it, or its `Serialize` failed.
    #[error("cannot be made into a value")]
    Encode(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It does not fit the type that was asked for.
    #[error("the value does not fit the type")]
    Decode(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Value {
    /// Returns null: `null` in JSON, nil in MessagePack.
    pub const fn null() -> Self {
        Self(Repr::MessagePack(Cow::Borrowed(NIL)))
    }

    /// Makes a value of anything that serializes. It is kept in MessagePack, where nothing is lost; types that serialize differently
    /// for people and for machines do so for machines.
    ///
    /// ```
    /// # use hubwire::Value;
    /// let value = Value::of(&("lobby", [1, 2, 3]))?;
    /// assert_eq!(serde_json::to_string(&value)?, r#"["lobby",[1,2,3]]"#);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ValueError::Encode`] if its `Serialize` fails.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, ValueError> {
        let mut bytes = Vec::new();
        messagepack::encode_value(&mut bytes, value).map_err(|error| ValueError::Encode(error.source))?;
        Ok(Self(Repr::MessagePack(Cow::Owned(bytes))))
    }

    /// Reads the value as a type, as if it had been declared with that type.
    ///
    /// ```
    /// # use hubwire::Value;
    /// assert_eq!(Value::from("lobby").deserialize_into::<String>()?, "lobby");
    /// assert!(Value::from("lobby").deserialize_into::<u32>().is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ValueError::Decode`] if it does not fit.
    pub fn deserialize_into<T: DeserializeOwned>(&self) -> Result<T, ValueError> {
        match &self.0 {
            Repr::Json(text) => serde_json::from_str(text.get()).map_err(|error| ValueError::Decode(error.into())),
            Repr::MessagePack(bytes) => rmp_serde::from_slice(bytes).map_err(|error| ValueError::Decode(error.into())),
        }
    }

    /// Returns whether this is null.
    pub fn is_null(&self) -> bool {
        match &self.0 {
            Repr::Json(text) => text.get() == "null",
            Repr::MessagePack(bytes) => **bytes == *NIL,
        }
    }

    /// Returns the text, if this is text. It is copied only if it holds JSON escapes.
    ///
    /// ```
    /// # use hubwire::Value;
    /// assert_eq!(Value::from("lobby").as_str().as_deref(), Some("lobby"));
    /// assert_eq!(Value::from(7).as_str(), None);
    /// ```
    pub fn as_str(&self) -> Option<Cow<'_, str>> {
        match &self.0 {
            Repr::Json(text) => {
                let inner = text.get().strip_prefix('"')?.strip_suffix('"')?;
                if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
                    return Some(Cow::Borrowed(inner));
                }
                serde_json::from_str(text.get()).ok().map(Cow::Owned)
            }
            Repr::MessagePack(bytes) => match messagepack::Token::read(bytes)? {
                (messagepack::Token::Str(text), _) => std::str::from_utf8(text).ok().map(Cow::Borrowed),
                _ => None,
            },
        }
    }

    /// `content` is the length of what follows the longest header.
    fn made(content: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut bytes = Vec::with_capacity(content + LONGEST_HEADER);
        write(&mut bytes);
        Self(Repr::MessagePack(Cow::Owned(bytes)))
    }

    /// The value in MessagePack; an error if it has no such form.
    fn to_messagepack(&self) -> Result<Cow<'_, [u8]>, serde_json::Error> {
        match &self.0 {
            Repr::MessagePack(bytes) => Ok(Cow::Borrowed(bytes)),
            Repr::Json(text) => {
                let mut bytes = Vec::with_capacity(text.get().len());
                json_to_messagepack(&mut bytes, text.get().as_bytes())?;
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

impl Default for Value {
    fn default() -> Self {
        Self::null()
    }
}

/// Shows the encoding and the length, never the content: a value may hold anything, and logs are read by others.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (protocol, len) = match &self.0 {
            Repr::Json(text) => (Protocol::Json, text.get().len()),
            Repr::MessagePack(bytes) => (Protocol::MessagePack, bytes.len()),
        };
        f.debug_struct("Value").field("protocol", &protocol.name()).field("len", &len).finish()
    }
}

/// Two values are equal if they are the same in MessagePack: `1` and `1.0` differ, and so do maps in another order. Values that have no
/// form there are equal if their JSON text is.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        if let (Repr::Json(one), Repr::Json(other)) = (&self.0, &other.0)
            && one.get() == other.get()
        {
            return true;
        }
        matches!((self.to_messagepack(), other.to_messagepack()), (Ok(one), Ok(other)) if one == other)
    }
}

impl Eq for Value {}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(RAW_JSON, capture::ValueVisitor::default())
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Repr::Json(text) if serializer.is_human_readable() => text.serialize(serializer),
            Repr::MessagePack(bytes) => walk::serialize(bytes, serializer),
            Repr::Json(_) => {
                let bytes = self.to_messagepack().map_err(S::Error::custom)?;
                walk::serialize(&bytes, serializer)
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::made(text.len(), |out| messagepack::write_str(out, text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self(Repr::MessagePack(Cow::Borrowed(if value { TRUE } else { FALSE })))
    }
}

impl From<f64> for Value {
    fn from(n: f64) -> Self {
        Self::made(8, |out| messagepack::write_f64(out, n))
    }
}

impl From<f32> for Value {
    fn from(n: f32) -> Self {
        Self::made(4, |out| messagepack::write_f32(out, n))
    }
}

impl From<Binary> for Value {
    fn from(binary: Binary) -> Self {
        Self::made(binary.len(), |out| messagepack::write_bin(out, &binary))
    }
}

macro_rules! from_integers {
    ($write:ident: $($integer:ty),*) => {$(
        impl From<$integer> for Value {
            fn from(n: $integer) -> Self {
                Self::made(size_of::<$integer>(), |out| messagepack::$write(out, n as _))
            }
        }
    )*};
}
from_integers!(write_uint: u8, u16, u32, u64, usize);
from_integers!(write_sint: i8, i16, i32, i64, isize);

const LONGEST_HEADER: usize = 5;
const NIL: &[u8] = &[0xc0];
const FALSE: &[u8] = &[0xc2];
const TRUE: &[u8] = &[0xc3];
