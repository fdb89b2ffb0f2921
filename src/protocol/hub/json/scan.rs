use super::escapes::{escape_length, plain_end, unescape};

/// The bytes are not JSON, or nest too deep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::protocol::hub) struct NotJson;

/// Finds where tokens and values of a JSON text end and checks their syntax on the way; builds nothing, and needs no
/// stack for nesting.
///
/// It works on bytes and leaves UTF-8 to its callers: every boundary it reports stands beside an ASCII byte. It sees no
/// more than the first [`MAX_LENGTH`] bytes.
#[derive(Debug, Clone)]
pub(in crate::protocol::hub) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Refuse half surrogate pairs: they are legal JSON, but no receiver can read them as text.
    whole_characters: bool,
}

/// Where something stands. Offsets of 32 bits keep all that the scanner returns in registers, which is a third of its
/// time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::protocol::hub) struct Span {
    start: u32,
    end: u32,
}

/// A string as it stands, without its quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::protocol::hub) struct Text {
    start: u32,
    /// The highest bit says whether there are escapes in it: a field for it would leave a hole, and reading around the
    /// hole stalls.
    end: u32,
}

/// What a value begins with: the whole of a scalar, the bracket of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::protocol::hub) enum Token {
    Null,
    True,
    False,
    Number(Span),
    String(Text),
    Array,
    Object,
}

/// Nesting of a whole message that the reference reads.
pub(in crate::protocol::hub) const MAX_DEPTH: u32 = 64;

impl<'a> Scanner<'a> {
    pub(in crate::protocol::hub) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: &bytes[..bytes.len().min(MAX_LENGTH)], at: 0, whole_characters: false }
    }

    pub(in crate::protocol::hub) fn with_whole_characters(bytes: &'a [u8]) -> Self {
        Self { whole_characters: true, ..Self::new(bytes) }
    }

    pub(in crate::protocol::hub) fn position(&self) -> usize {
        self.at
    }

    /// The next byte that is not white space, left where it is.
    #[inline(always)]
    pub(in crate::protocol::hub) fn peek(&mut self) -> Result<u8, NotJson> {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                Some(&byte) => return Ok(byte),
                None => return Err(NotJson),
            }
        }
    }

    /// Behind `{` (`first`) or behind a member: the name of the next member, its colon passed; `None` once `}` is
    /// passed.
    #[inline]
    pub(in crate::protocol::hub) fn name(&mut self, first: bool) -> Result<Option<Text>, NotJson> {
        if !self.another(b'}', first)? {
            return Ok(None);
        }
        self.member_name().map(Some)
    }

    /// Behind `[` (`first`) or behind an element: whether another element follows; `]` is passed.
    pub(in crate::protocol::hub) fn element(&mut self, first: bool) -> Result<bool, NotJson> {
        self.another(b']', first)
    }

    /// Passes these bytes, if they are what follows.
    #[inline(always)]
    pub(in crate::protocol::hub) fn skip(&mut self, exactly: &[u8]) -> bool {
        let found = self.bytes[self.at..].starts_with(exactly);
        if found {
            self.at += exactly.len();
        }
        found
    }

    /// Passes a number of a single digit that ends at once.
    #[inline(always)]
    pub(in crate::protocol::hub) fn digit(&mut self) -> Option<u8> {
        let [digit @ b'0'..=b'9', b',' | b'}', ..] = self.bytes[self.at..] else { return None };
        self.at += 1;
        Some(digit - b'0')
    }

    /// Passes a string, if that is what comes next.
    #[inline(always)]
    pub(in crate::protocol::hub) fn text(&mut self) -> Result<Option<Text>, NotJson> {
        if self.peek()? == b'"' { self.string().map(Some) } else { Ok(None) }
    }

    /// Passes the next token.
    pub(in crate::protocol::hub) fn token(&mut self) -> Result<Token, NotJson> {
        match self.peek()? {
            b'"' => self.string().map(Token::String),
            b'[' => {
                self.at += 1;
                Ok(Token::Array)
            }
            b'{' => {
                self.at += 1;
                Ok(Token::Object)
            }
            b'n' => self.literal(b"null").map(|()| Token::Null),
            b't' => self.literal(b"true").map(|()| Token::True),
            b'f' => self.literal(b"false").map(|()| Token::False),
            _ => self.number().map(Token::Number),
        }
    }

    /// Passes a whole value that stands inside `depth` containers. Returns where it is, and how many values it holds
    /// directly (members, for an object).
    pub(in crate::protocol::hub) fn value(&mut self, depth: u32) -> Result<(Span, u32), NotJson> {
        let first = self.peek()?;
        let start = self.at;
        let children =
            if matches!(first, b'[' | b'{') { self.container(depth)? } else { self.scalar(first).map(|()| 0)? };
        Ok((Span::new(start, self.at), children))
    }

    /// Passes the container that begins here.
    fn container(&mut self, depth: u32) -> Result<u32, NotJson> {
        let mut children = 0;
        // One bit per open container, the innermost lowest: whether it is an object.
        let mut objects = 0u64;
        let mut level = 0;
        loop {
            // A value begins.
            let byte = self.peek()?;
            let opens = matches!(byte, b'[' | b'{');
            if opens {
                self.at += 1;
                level += 1;
                if depth + level > MAX_DEPTH {
                    return Err(NotJson);
                }
                objects = objects << 1 | u64::from(byte == b'{');
            } else {
                self.scalar(byte)?;
            }
            // Behind an opening bracket, or behind a value: whatever ends here ends.
            let mut first = opens;
            loop {
                let object = objects & 1 == 1;
                if self.another(if object { b'}' } else { b']' }, first)? {
                    children += u32::from(level == 1);
                    if object {
                        self.member_name()?;
                    }
                    break;
                }
                first = false;
                objects >>= 1;
                level -= 1;
                if level == 0 {
                    return Ok(children);
                }
            }
        }
    }

    /// Passes the scalar that begins with `first` here.
    #[inline(always)]
    fn scalar(&mut self, first: u8) -> Result<(), NotJson> {
        match first {
            b'"' => self.string().map(drop),
            b'n' => self.literal(b"null"),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            _ => self.number().map(drop),
        }
    }

    #[inline(always)]
    fn another(&mut self, close: u8, first: bool) -> Result<bool, NotJson> {
        let byte = self.peek()?;
        if byte == close {
            self.at += 1;
            return Ok(false);
        }
        if !first {
            if byte != b',' {
                return Err(NotJson);
            }
            // What follows must be a value or a name, which a closing bracket is not.
            self.at += 1;
        }
        Ok(true)
    }

    #[inline(always)]
    fn member_name(&mut self) -> Result<Text, NotJson> {
        if self.peek()? != b'"' {
            return Err(NotJson);
        }
        let name = self.string()?;
        if self.peek()? != b':' {
            return Err(NotJson);
        }
        self.at += 1;
        Ok(name)
    }

    /// Passes the string whose opening quote stands here.
    #[inline(always)]
    fn string(&mut self) -> Result<Text, NotJson> {
        let start = self.at + 1;
        let end = plain_end(self.bytes, start);
        if self.bytes.get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(Text::new(start, end));
        }
        self.escaped_string(start, end)
    }

    #[cold]
    fn escaped_string(&mut self, start: usize, mut at: usize) -> Result<Text, NotJson> {
        loop {
            match self.bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => at += escape_length(&self.bytes[at..])?,
                _ => return Err(NotJson),
            }
            at = plain_end(self.bytes, at);
        }
        self.at = at + 1;
        let text = Text::new(start, at).with_escapes();
        if self.whole_characters
            && !std::str::from_utf8(text.raw().of(self.bytes)).is_ok_and(|raw| unescape(raw).is_some())
        {
            return Err(NotJson);
        }
        Ok(text)
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), NotJson> {
        if self.skip(literal) { Ok(()) } else { Err(NotJson) }
    }

    /// Passes a number; whatever stands behind it is the next token's affair.
    fn number(&mut self) -> Result<Span, NotJson> {
        let start = self.at;
        if self.byte() == b'-' {
            self.at += 1;
        }
        if self.byte() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.byte(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Span::new(start, self.at))
    }

    /// The byte that stands here; zero behind the end, where it is part of nothing.
    #[inline(always)]
    fn byte(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn digits(&mut self) -> Result<(), NotJson> {
        if !self.byte().is_ascii_digit() {
            return Err(NotJson);
        }
        while self.byte().is_ascii_digit() {
            self.at += 1;
        }
        Ok(())
    }
}

impl Text {
    const ESCAPED: u32 = 1 << 31;

    #[inline(always)]
    fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    fn with_escapes(self) -> Self {
        Self { end: self.end | Self::ESCAPED, ..self }
    }

    #[inline(always)]
    pub(in crate::protocol::hub) fn escaped(self) -> bool {
        self.end & Self::ESCAPED != 0
    }

    #[inline(always)]
    pub(in crate::protocol::hub) fn raw(self) -> Span {
        Span { start: self.start, end: self.end & !Self::ESCAPED }
    }
}

impl Span {
    #[inline(always)]
    fn new(start: usize, end: usize) -> Self {
        // The scanner sees no byte that is further away.
        Self { start: start as u32, end: end as u32 }
    }

    #[inline(always)]
    pub(in crate::protocol::hub) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    #[inline(always)]
    pub(in crate::protocol::hub) fn of_text(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    pub(in crate::protocol::hub) fn is_empty(self) -> bool {
        self.start == self.end
    }

    pub(in crate::protocol::hub) fn end(self) -> usize {
        self.end as usize
    }
}

/// Longer texts end here for the scanner. The reference does not take messages of more than 2 GB either.
const MAX_LENGTH: usize = i32::MAX as usize;
