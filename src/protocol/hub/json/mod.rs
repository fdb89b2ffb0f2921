//! The JSON encoding of messages: a scanner checks the text and finds the members, values inside stay raw. Spec
//! sections 4.1 and 4.3.

mod escapes;
pub(super) mod scan;
mod serializer;
#[cfg(test)]
mod tests;
mod write;

pub(super) use serializer::encode_value;
pub(crate) use write::write_text;
pub(super) use write::{begin, encode, write_member};

use super::{Completed, DecodeError, Invocation, Message, Protocol, RawArguments, RawValue};
use scan::{MAX_DEPTH, NotJson, Scanner, Span, Text, Token};
use std::borrow::Cow;

/// Decodes the text of one message. What stands behind its object is not looked at, as in the reference.
pub(super) fn decode(message: &[u8]) -> Result<Message<'_>, DecodeError> {
    let text = valid_text(message);
    let mut scanner = Scanner::new(text.as_bytes());
    open_object(&mut scanner)?;
    let mut envelope = Envelope { text, ..Envelope::default() };
    envelope.usual_members(&mut scanner)?;
    while let Some(name) = scanner.name(!envelope.begun)? {
        envelope.begun = true;
        if name.escaped() {
            envelope.escaped_member(name, &mut scanner)?;
        } else {
            envelope.member(name.raw().of(text.as_bytes()), &mut scanner)?;
        }
    }
    envelope.into_message()
}

/// The type of a message that begins with it, as nearly all do, if it is one digit.
#[cfg(feature = "service")]
pub(super) fn usual_kind(message: &[u8]) -> Option<i32> {
    match message.strip_prefix(b"{\"type\":")? {
        [digit @ b'0'..=b'9', b',' | b'}', ..] => Some(i32::from(digit - b'0')),
        _ => None,
    }
}

/// The text up to the first byte that is not UTF-8. An error behind the object is nobody's concern; one inside it
/// becomes a text that ends too early.
pub(super) fn valid_text(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

/// Splits the first value off what is left of an array, which begins with `[` or a comma. The last value needs no
/// search.
pub(super) fn split_first(array: &[u8], last: bool) -> Option<(&[u8], &[u8])> {
    let (_, inner) = array.split_first()?;
    if last {
        let (_, value) = inner.split_last()?;
        return Some((value.trim_ascii(), b"]"));
    }
    let mut scanner = Scanner::new(inner);
    let (value, _) = scanner.value(ROOT + 1).ok()?;
    let rest = inner.get(value.end()..)?.trim_ascii_start();
    Some((value.of(inner), rest))
}

/// Passes the opening brace of a message.
pub(super) fn open_object(scanner: &mut Scanner<'_>) -> Result<(), DecodeError> {
    let kind = match scanner.token()? {
        Token::Object => return Ok(()),
        Token::Null => "Null",
        Token::True => "True",
        Token::False => "False",
        Token::Number(_) => "Number",
        Token::String(_) => "String",
        Token::Array => "Array",
    };
    Err(invalid(format!("Unexpected JSON Token Type '{kind}'. Expected a JSON Object.")))
}

/// Passes a string.
#[inline(always)]
pub(super) fn string(scanner: &mut Scanner<'_>, property: &str) -> Result<Text, DecodeError> {
    match scanner.text()? {
        Some(text) => Ok(text),
        None => Err(unexpected(scanner, property, "String")),
    }
}

/// Passes an integer, or null. A fraction or an exponent is no integer, whatever its value.
pub(super) fn integer<I: std::str::FromStr>(
    scanner: &mut Scanner<'_>,
    text: &str,
    property: &str,
) -> Result<Option<I>, DecodeError> {
    match scanner.token()? {
        Token::Number(span) => {
            Some(span.of_text(text)).and_then(|digits| digits.parse().ok()).map(Some).ok_or(NOT_JSON)
        }
        Token::Null => Ok(None),
        _ => Err(expected(property, "Number")),
    }
}

/// The text of a string, borrowed if it holds no escapes.
pub(super) fn text_of(source: &str, text: Text) -> Result<Cow<'_, str>, DecodeError> {
    let raw = text.raw().of_text(source);
    if text.escaped() { escapes::unescape(raw).map(Cow::Owned).ok_or(NOT_JSON) } else { Ok(Cow::Borrowed(raw)) }
}

pub(super) fn missing(property: &str) -> DecodeError {
    invalid(format!("Missing required property '{property}'."))
}

/// The properties of a message, whatever their order. Nothing is decoded, and nothing allocated, before all of them are
/// known.
#[derive(Default)]
struct Envelope<'a> {
    text: &'a str,
    /// Whether a member was read.
    begun: bool,
    kind: Option<i32>,
    id: Option<Text>,
    target: Option<Text>,
    error: Option<Text>,
    arguments: Option<(Span, u32)>,
    item: Option<Span>,
    result: Option<Span>,
    /// Where the first string of the array may stand, and how many there are.
    stream_ids: (usize, usize),
    sequence_id: Option<i64>,
    allow_reconnect: bool,
}

impl<'a> Envelope<'a> {
    /// Takes the members that nearly every message has, as long as they come in the usual order and spelling: comparing
    /// them with what is expected is much cheaper than finding out what they are. Leaves everything else to `member`.
    #[inline(always)]
    fn usual_members(&mut self, scanner: &mut Scanner<'_>) -> Result<(), DecodeError> {
        if !scanner.skip(b"\"type\":") {
            return Ok(());
        }
        self.begun = true;
        self.kind = Some(kind(scanner, self.text)?);
        if scanner.skip(b",\"invocationId\":") {
            self.id = Some(string(scanner, "invocationId")?);
        }
        if scanner.skip(b",\"target\":") {
            self.target = Some(string(scanner, "target")?);
        }
        if scanner.skip(b",\"arguments\":") {
            self.arguments = Some(arguments(scanner)?);
        }
        Ok(())
    }

    /// Takes the value of a property. One that is repeated replaces what was there.
    #[inline]
    fn member(&mut self, name: &[u8], scanner: &mut Scanner<'_>) -> Result<(), DecodeError> {
        match name {
            b"type" => self.kind = Some(kind(scanner, self.text)?),
            b"invocationId" => self.id = Some(string(scanner, "invocationId")?),
            b"target" => self.target = Some(string(scanner, "target")?),
            b"arguments" => self.arguments = Some(arguments(scanner)?),
            b"item" => self.item = Some(scanner.value(ROOT)?.0),
            b"result" => self.result = Some(scanner.value(ROOT)?.0),
            b"error" => self.error = Some(string(scanner, "error")?),
            b"streamIds" => self.stream_ids = stream_ids(scanner)?,
            b"headers" => headers(scanner, self.text)?,
            b"sequenceId" => self.sequence_id = integer(scanner, self.text, "sequenceId")?,
            b"allowReconnect" => self.allow_reconnect = boolean(scanner)?,
            _ => {
                scanner.value(ROOT)?;
            }
        }
        Ok(())
    }

    #[cold]
    fn escaped_member(&mut self, name: Text, scanner: &mut Scanner<'_>) -> Result<(), DecodeError> {
        let raw = name.raw().of_text(self.text);
        // No known name is longer, even if all of it is escaped.
        let name = if raw.len() <= 6 * "allowReconnect".len() { escapes::unescape(raw) } else { None };
        self.member(name.unwrap_or_default().as_bytes(), scanner)
    }

    /// Checks in the reference's order that what the type asks for is there.
    fn into_message(self) -> Result<Message<'a>, DecodeError> {
        match self.kind.ok_or_else(|| missing("type"))? {
            1 => self.invocation(false),
            2 => self.stream_item(),
            3 => self.completion(),
            4 => self.stream_invocation(),
            5 => Ok(Message::CancelInvocation { id: self.required_id()? }),
            6 => Ok(Message::Ping),
            7 => Ok(Message::Close { error: self.optional(self.error)?, allow_reconnect: self.allow_reconnect }),
            8 => Ok(Message::Ack { sequence_id: self.required_sequence_id()? }),
            9 => Ok(Message::Sequence { sequence_id: self.required_sequence_id()? }),
            _ => Ok(Message::Unknown),
        }
    }

    fn stream_invocation(&self) -> Result<Message<'a>, DecodeError> {
        if self.target.is_none() {
            return Err(missing("target"));
        }
        if self.id.is_none_or(|id| id.raw().is_empty()) {
            return Err(missing("invocationId"));
        }
        if self.arguments.is_none() {
            return Err(missing("arguments"));
        }
        self.invocation(true)
    }

    fn invocation(&self, streaming: bool) -> Result<Message<'a>, DecodeError> {
        let target = self.target.filter(|target| !target.raw().is_empty()).ok_or_else(|| missing("target"))?;
        let (arguments, count) = self.arguments.ok_or_else(|| missing("arguments"))?;
        Ok(Message::Invocation(Invocation {
            // An empty id is like none: nobody waits for the outcome.
            id: self.optional(self.id.filter(|id| !id.raw().is_empty()))?,
            target: text_of(self.text, target)?,
            arguments: Ok(RawArguments {
                protocol: Protocol::Json,
                bytes: arguments.of(self.text.as_bytes()),
                count: count as usize,
            }),
            stream_ids: self.stream_ids()?,
            streaming,
        }))
    }

    fn stream_item(&self) -> Result<Message<'a>, DecodeError> {
        let id = self.required_id()?;
        let item = self.item.ok_or_else(|| missing("item"))?;
        Ok(Message::StreamItem { id, item: self.raw(item) })
    }

    fn completion(&self) -> Result<Message<'a>, DecodeError> {
        let id = self.required_id()?;
        let outcome = match (self.error, self.result) {
            (Some(_), Some(_)) => return Err(invalid("The 'error' and 'result' properties are mutually exclusive.")),
            (Some(error), None) => Completed::Error(text_of(self.text, error)?),
            (None, Some(result)) => Completed::Result(self.raw(result)),
            (None, None) => Completed::Void,
        };
        Ok(Message::Completion { id, outcome })
    }

    fn stream_ids(&self) -> Result<Vec<Cow<'a, str>>, DecodeError> {
        let (start, count) = self.stream_ids;
        let mut ids = Vec::with_capacity(count);
        let mut scanner = Scanner::new(self.text.as_bytes().get(start..).unwrap_or_default());
        let source = self.text.get(start..).unwrap_or_default();
        while ids.len() < count && scanner.element(ids.is_empty())? {
            ids.push(text_of(source, string(&mut scanner, "streamIds")?)?);
        }
        Ok(ids)
    }

    fn required_id(&self) -> Result<Cow<'a, str>, DecodeError> {
        text_of(self.text, self.id.filter(|id| !id.raw().is_empty()).ok_or_else(|| missing("invocationId"))?)
    }

    fn required_sequence_id(&self) -> Result<i64, DecodeError> {
        self.sequence_id.ok_or_else(|| missing("sequenceId"))
    }

    fn optional(&self, text: Option<Text>) -> Result<Option<Cow<'a, str>>, DecodeError> {
        text.map(|text| text_of(self.text, text)).transpose()
    }

    fn raw(&self, at: Span) -> RawValue<'a> {
        RawValue { protocol: Protocol::Json, bytes: at.of(self.text.as_bytes()) }
    }
}

#[inline(always)]
fn kind(scanner: &mut Scanner<'_>, text: &str) -> Result<i32, DecodeError> {
    match scanner.digit() {
        Some(digit) => Ok(i32::from(digit)),
        None => integer(scanner, text, "type")?.ok_or_else(|| expected("type", "Number")),
    }
}

#[inline(always)]
fn arguments(scanner: &mut Scanner<'_>) -> Result<(Span, u32), DecodeError> {
    if scanner.peek()? != b'[' {
        return Err(unexpected(scanner, "arguments", "Array"));
    }
    Ok(scanner.value(ROOT)?)
}

fn stream_ids(scanner: &mut Scanner<'_>) -> Result<(usize, usize), DecodeError> {
    if scanner.token()? != Token::Array {
        return Err(expected("streamIds", "Array"));
    }
    let start = scanner.position();
    let mut count = 0;
    while scanner.element(count == 0)? {
        count += 1;
        match scanner.token()? {
            Token::String(_) if count <= MAX_STREAM_IDS => {}
            Token::String(_) => return Err(invalid(format!("More than {MAX_STREAM_IDS} values in 'streamIds'."))),
            Token::Null => return Err(invalid("Null value for 'streamIds' is not valid.")),
            _ => return Err(invalid("Expected values of 'streamIds' to be of type String.")),
        }
    }
    Ok((start, count))
}

/// Checks the headers, which nothing here has a use for.
fn headers(scanner: &mut Scanner<'_>, text: &str) -> Result<(), DecodeError> {
    if scanner.token()? != Token::Object {
        return Err(expected("headers", "StartObject"));
    }
    let mut first = true;
    while let Some(name) = scanner.name(first)? {
        first = false;
        if !matches!(scanner.token()?, Token::String(_)) {
            return Err(invalid(format!("Expected header '{}' to be of type String.", text_of(text, name)?)));
        }
    }
    Ok(())
}

fn boolean(scanner: &mut Scanner<'_>) -> Result<bool, DecodeError> {
    match scanner.token()? {
        Token::True => Ok(true),
        Token::False => Ok(false),
        _ => Err(invalid("Expected 'allowReconnect' to be true or false.")),
    }
}

/// What is wrong with a value that begins here and is not of the kind expected: that, unless it is no JSON at all.
#[cold]
fn unexpected(scanner: &mut Scanner<'_>, property: &str, kind: &str) -> DecodeError {
    match scanner.token() {
        Ok(_) => expected(property, kind),
        Err(not_json) => not_json.into(),
    }
}

#[cold]
fn expected(property: &str, kind: &str) -> DecodeError {
    invalid(format!("Expected '{property}' to be of type {kind}."))
}

fn invalid(text: impl Into<Cow<'static, str>>) -> DecodeError {
    DecodeError::Invalid(text.into())
}

impl From<NotJson> for DecodeError {
    fn from(_: NotJson) -> Self {
        NOT_JSON
    }
}

/// The containers that a property's value stands in: the message itself.
const ROOT: u32 = 1;
/// What a value may nest so that the message around it can still be read.
const MAX_VALUE_DEPTH: u32 = MAX_DEPTH - ROOT;
/// No method has as many parameters; more would only cost memory.
const MAX_STREAM_IDS: usize = 1000;
const NOT_JSON: DecodeError = DecodeError::Invalid(Cow::Borrowed("Error reading JSON."));
