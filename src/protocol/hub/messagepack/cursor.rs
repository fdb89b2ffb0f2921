//! Reading: one value's header at a time, always borrowed, never recursive.

/// What stands at the front of some bytes: a whole scalar, or the header of a container.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Token<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float32(f32),
    Float64(f64),
    /// Not checked to be UTF-8.
    Str(&'a [u8]),
    Bin(&'a [u8]),
    /// The number of values that follow; that many bytes are there.
    Array(usize),
    /// The number of pairs that follow; twice that many bytes are there.
    Map(usize),
    /// Type and data.
    Ext(i8, &'a [u8]),
}

impl<'a> Token<'a> {
    /// Takes a token off the front; `None` for what is cut short or reserved, and for a count that the bytes left cannot satisfy.
    #[inline]
    pub(crate) fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&first, rest) = bytes.split_first()?;
        Some(match first {
            0x00..=0x7f => (Self::Unsigned(first.into()), rest),
            0x80..=0x8f => Self::map(usize::from(first & 0x0f), rest)?,
            0x90..=0x9f => Self::array(usize::from(first & 0x0f), rest)?,
            0xa0..=0xbf => Self::str(usize::from(first & 0x1f), rest)?,
            0xc0 => (Self::Nil, rest),
            0xc1 => return None,
            0xc2 => (Self::Bool(false), rest),
            0xc3 => (Self::Bool(true), rest),
            0xc4..=0xc6 => {
                let (len, rest) = length(first - 0xc4, rest)?;
                let (data, rest) = rest.split_at_checked(len)?;
                (Self::Bin(data), rest)
            }
            0xc7..=0xc9 => {
                let (len, rest) = length(first - 0xc7, rest)?;
                Self::ext(len, rest)?
            }
            0xca => number(rest, |b| Self::Float32(f32::from_be_bytes(b)))?,
            0xcb => number(rest, |b| Self::Float64(f64::from_be_bytes(b)))?,
            0xcc => number(rest, |b| Self::Unsigned(u8::from_be_bytes(b).into()))?,
            0xcd => number(rest, |b| Self::Unsigned(u16::from_be_bytes(b).into()))?,
            0xce => number(rest, |b| Self::Unsigned(u32::from_be_bytes(b).into()))?,
            0xcf => number(rest, |b| Self::Unsigned(u64::from_be_bytes(b)))?,
            0xd0 => number(rest, |b| Self::Signed(i8::from_be_bytes(b).into()))?,
            0xd1 => number(rest, |b| Self::Signed(i16::from_be_bytes(b).into()))?,
            0xd2 => number(rest, |b| Self::Signed(i32::from_be_bytes(b).into()))?,
            0xd3 => number(rest, |b| Self::Signed(i64::from_be_bytes(b)))?,
            0xd4..=0xd8 => Self::ext(1 << (first - 0xd4), rest)?,
            0xd9..=0xdb => {
                let (len, rest) = length(first - 0xd9, rest)?;
                Self::str(len, rest)?
            }
            0xdc..=0xdd => {
                let (count, rest) = length(first - 0xdc + 1, rest)?;
                Self::array(count, rest)?
            }
            0xde..=0xdf => {
                let (count, rest) = length(first - 0xde + 1, rest)?;
                Self::map(count, rest)?
            }
            0xe0..=0xff => (Self::Signed(i64::from(first.cast_signed())), rest),
        })
    }

    #[inline]
    fn array(count: usize, rest: &'a [u8]) -> Option<(Self, &'a [u8])> {
        (count <= rest.len()).then_some((Self::Array(count), rest))
    }

    #[inline]
    fn map(count: usize, rest: &'a [u8]) -> Option<(Self, &'a [u8])> {
        (count <= rest.len() / 2).then_some((Self::Map(count), rest))
    }

    #[inline]
    fn str(len: usize, rest: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (text, rest) = rest.split_at_checked(len)?;
        Some((Self::Str(text), rest))
    }

    #[inline]
    fn ext(len: usize, rest: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&kind, rest) = rest.split_first()?;
        let (data, rest) = rest.split_at_checked(len)?;
        Some((Self::Ext(kind.cast_signed(), data), rest))
    }
}

/// A position in a message. What does not read leaves it unspecified: the message is then given up.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    // The shortest forms come first by hand: nearly every message has no others, and it halves the time of a decode.

    #[inline]
    pub(super) fn array_len(&mut self) -> Option<usize> {
        if let [first @ 0x90..=0x9f, rest @ ..] = self.rest
            && usize::from(first & 0x0f) <= rest.len()
        {
            self.rest = rest;
            return Some((first & 0x0f).into());
        }
        match self.token()? {
            Token::Array(count) => Some(count),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn map_len(&mut self) -> Option<usize> {
        if let [0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Some(0);
        }
        match self.token()? {
            Token::Map(count) => Some(count),
            _ => None,
        }
    }

    /// An integer of any width that fits the type.
    #[inline]
    pub(super) fn int<T: From<u8> + TryFrom<u64> + TryFrom<i64>>(&mut self) -> Option<T> {
        if let [first @ 0..=0x7f, rest @ ..] = self.rest {
            self.rest = rest;
            return Some(T::from(*first));
        }
        match self.token()? {
            Token::Unsigned(n) => T::try_from(n).ok(),
            Token::Signed(n) => T::try_from(n).ok(),
            _ => None,
        }
    }

    pub(super) fn bool(&mut self) -> Option<bool> {
        match self.token()? {
            Token::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// A string, or nil, which the reference reads as a null string.
    #[inline]
    pub(super) fn str_or_nil(&mut self) -> Option<Option<&'a str>> {
        if let [first @ 0xa0..=0xbf, rest @ ..] = self.rest
            && let Some((text, rest)) = rest.split_at_checked(usize::from(first & 0x1f))
        {
            self.rest = rest;
            return Some(Some(std::str::from_utf8(text).ok()?));
        }
        match self.token()? {
            Token::Str(text) => Some(Some(std::str::from_utf8(text).ok()?)),
            Token::Nil => Some(None),
            _ => None,
        }
    }

    /// The bytes of that many whole values.
    pub(super) fn values(&mut self, count: usize) -> Option<&'a [u8]> {
        let rest = skip_values(self.rest, count)?;
        let (values, rest) = self.rest.split_at(self.rest.len() - rest.len());
        self.rest = rest;
        Some(values)
    }

    #[inline(never)]
    fn token(&mut self) -> Option<Token<'a>> {
        let (token, rest) = Token::read(self.rest)?;
        self.rest = rest;
        Some(token)
    }
}

/// What is left behind that many values; `None` if one is malformed, not UTF-8 where it is text, or nested too deep.
pub(super) fn skip_values(mut bytes: &[u8], count: usize) -> Option<&[u8]> {
    for _ in 0..count {
        let (token, rest) = Token::read(bytes)?;
        bytes = match contents(token)? {
            None => rest,
            Some(inner) => skip_nested(rest, inner)?,
        };
    }
    Some(bytes)
}

/// Skips what a container holds. Its own function, so that plain values do not pay for the stack of counts.
fn skip_nested(mut bytes: &[u8], count: usize) -> Option<&[u8]> {
    // How many values are still to come on each level around the current one.
    let mut outer = [0; MAX_VALUE_DEPTH - 1];
    let mut depth = 0;
    let mut left = count;
    loop {
        while left == 0 {
            if depth == 0 {
                return Some(bytes);
            }
            depth -= 1;
            left = outer[depth];
        }
        left -= 1;
        let (token, rest) = Token::read(bytes)?;
        bytes = rest;
        if let Some(inner) = contents(token)? {
            *outer.get_mut(depth)? = left;
            depth += 1;
            left = inner;
        }
    }
}

/// How many values a container holds, nothing for a scalar; `None` for text that is not UTF-8.
#[inline]
fn contents(token: Token<'_>) -> Option<Option<usize>> {
    match token {
        Token::Array(count) => Some(Some(count)),
        Token::Map(count) => Some(Some(count * 2)),
        Token::Str(text) => std::str::from_utf8(text).is_ok().then_some(None),
        _ => Some(None),
    }
}

/// A length of 1, 2 or 4 bytes: `width` is its binary logarithm.
#[inline]
fn length(width: u8, rest: &[u8]) -> Option<(usize, &[u8])> {
    match width {
        0 => number(rest, |b| usize::from(u8::from_be_bytes(b))),
        1 => number(rest, |b| usize::from(u16::from_be_bytes(b))),
        _ => {
            let (len, rest) = number(rest, u32::from_be_bytes)?;
            Some((usize::try_from(len).ok()?, rest))
        }
    }
}

#[inline]
fn number<const N: usize, T>(rest: &[u8], read: impl FnOnce([u8; N]) -> T) -> Option<(T, &[u8])> {
    let (bytes, rest) = rest.split_first_chunk::<N>()?;
    Some((read(*bytes), rest))
}

/// Levels of arrays and maps in one value. JSON parsers of clients stop at 64 levels, two of which are the message and its array of
/// arguments; the limit is the same here so that whatever comes in can go out again in either encoding.
pub(crate) const MAX_VALUE_DEPTH: usize = 62;
