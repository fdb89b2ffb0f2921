use super::{Claims, Ext, Headers, Payloads, Timestamp};
use crate::protocol::hub::Token;

/// A position in a message's array. `None` from any of these: the message is broken.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Elements that its lists and maps may still have, all of them together.
    elements: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, elements: MOST_ELEMENTS }
    }

    pub(super) fn array(&mut self) -> Option<usize> {
        match self.token()? {
            Token::Array(count) => Some(count),
            _ => None,
        }
    }

    /// An integer of any width that fits 32 bits.
    pub(super) fn int(&mut self) -> Option<i32> {
        integer(self.token()?)
    }

    pub(super) fn int_or_nil(&mut self) -> Option<Option<i32>> {
        match self.token()? {
            Token::Nil => Some(None),
            token => integer(token).map(Some),
        }
    }

    pub(super) fn bool(&mut self) -> Option<bool> {
        match self.token()? {
            Token::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// A string; nil is an empty one.
    pub(super) fn str(&mut self) -> Option<&'a str> {
        self.str_or_nil().map(Option::unwrap_or_default)
    }

    pub(super) fn str_or_nil(&mut self) -> Option<Option<&'a str>> {
        match self.token()? {
            Token::Str(text) => std::str::from_utf8(text).ok().map(Some),
            Token::Nil => Some(None),
            _ => None,
        }
    }

    /// Bytes; nil is none, and a string will do.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        self.bytes_or_nil().map(Option::unwrap_or_default)
    }

    pub(super) fn bytes_or_nil(&mut self) -> Option<Option<&'a [u8]>> {
        match self.token()? {
            Token::Bin(bytes) | Token::Str(bytes) => Some(Some(bytes)),
            Token::Nil => Some(None),
            _ => None,
        }
    }

    /// Strings; nil is none of them.
    pub(super) fn strings(&mut self) -> Option<Vec<&'a str>> {
        match self.token()? {
            Token::Array(count) => self.strings_of(count),
            Token::Nil => Some(Vec::new()),
            _ => None,
        }
    }

    /// So many strings.
    pub(super) fn strings_of(&mut self, count: usize) -> Option<Vec<&'a str>> {
        self.take_elements(count)?;
        (0..count).map(|_| self.str()).collect()
    }

    pub(super) fn claims(&mut self) -> Option<Claims<'a>> {
        self.map(|me| Some((me.str()?, me.str()?)))
    }

    pub(super) fn headers(&mut self) -> Option<Headers<'a>> {
        self.map(|me| Some((me.str()?, me.strings()?)))
    }

    pub(super) fn payloads(&mut self) -> Option<Payloads<'a>> {
        self.map(|me| Some((me.str()?, me.bytes()?)))
    }

    /// A member that nobody knows has a value all the same.
    pub(super) fn ext(&mut self) -> Option<Ext<'a>> {
        let mut ext = Ext::default();
        for _ in 0..self.map_len()? {
            let key = self.rest;
            let Some(number) = self.int() else {
                self.rest = key;
                self.skip(2)?;
                continue;
            };
            match number {
                1 => match self.token()? {
                    Token::Unsigned(id) => ext.tracing_id = Some(id),
                    Token::Signed(id) => ext.tracing_id = Some(id.cast_unsigned()),
                    _ => return None,
                },
                2 => ext.ttl = Some(self.int()?),
                3 => ext.protocol = self.str_or_nil()?,
                4 => ext.filter = self.str_or_nil()?,
                5 => ext.data_type = self.int()?,
                6 => ext.is_partial = self.bool()?,
                _ => self.skip(1)?,
            }
        }
        Some(ext)
    }

    /// MessagePack's extension of type -1, in any of its forms.
    pub(super) fn timestamp(&mut self) -> Option<Timestamp> {
        let Token::Ext(-1, data) = self.token()? else { return None };
        let timestamp = match data.len() {
            4 => Timestamp { seconds: u32::from_be_bytes(data.try_into().ok()?).into(), nanoseconds: 0 },
            8 => {
                let both = u64::from_be_bytes(data.try_into().ok()?);
                Timestamp { seconds: (both & 0x3_ffff_ffff) as i64, nanoseconds: (both >> 34) as u32 }
            }
            12 => Timestamp {
                seconds: i64::from_be_bytes(data[4..].try_into().ok()?),
                nanoseconds: u32::from_be_bytes(data[..4].try_into().ok()?),
            },
            _ => return None,
        };
        (timestamp.nanoseconds < 1_000_000_000).then_some(timestamp)
    }

    /// Steps over whole values, whatever is in them. A count of what is still to come is all that it takes: nothing is kept of what holds what.
    fn skip(&mut self, values: usize) -> Option<()> {
        let mut left = values;
        while left > 0 {
            left -= 1;
            left = left.checked_add(match self.token()? {
                Token::Array(count) => count,
                Token::Map(count) => count * 2,
                _ => 0,
            })?;
        }
        Some(())
    }

    /// Pairs; nil is none of them.
    fn map<T>(&mut self, mut pair: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.map_len()?;
        self.take_elements(count)?;
        // a pair has at least two bytes, so the bytes that are there bound what is allocated
        let mut pairs = Vec::with_capacity(count.min(EXPECTED_PAIRS));
        for _ in 0..count {
            pairs.push(pair(self)?);
        }
        Some(pairs)
    }

    fn take_elements(&mut self, count: usize) -> Option<()> {
        self.elements = self.elements.checked_sub(count)?;
        Some(())
    }

    fn map_len(&mut self) -> Option<usize> {
        match self.token()? {
            Token::Map(count) => Some(count),
            Token::Nil => Some(0),
            _ => None,
        }
    }

    fn token(&mut self) -> Option<Token<'a>> {
        let (token, rest) = Token::read(self.rest)?;
        self.rest = rest;
        Some(token)
    }
}

fn integer(token: Token<'_>) -> Option<i32> {
    match token {
        Token::Unsigned(n) => n.try_into().ok(),
        Token::Signed(n) => n.try_into().ok(),
        _ => None,
    }
}

/// Elements of the lists and maps of one message: an empty string is a byte on the wire, and dozens in memory. As many connections, by their
/// ids, are over 2 MB.
pub(super) const MOST_ELEMENTS: usize = 100_000;
/// Claims of a usual client; larger maps grow.
const EXPECTED_PAIRS: usize = 16;
