//! The inside of strings: where they end, and what their escapes stand for.

use super::scan::NotJson;

/// Resolves the escapes of a string that was scanned; `None` if half of a surrogate pair is among them.
pub(super) fn unescape(raw: &str) -> Option<String> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let (character, used) = match escape.as_bytes().first()? {
            b'b' => ('\u{8}', 1),
            b'f' => ('\u{c}', 1),
            b'n' => ('\n', 1),
            b'r' => ('\r', 1),
            b't' => ('\t', 1),
            b'u' => unicode_escape(escape)?,
            &same => (char::from(same), 1),
        };
        out.push(character);
        rest = escape.get(used..)?;
    }
    out.push_str(rest);
    Some(out)
}

/// The character of `u` and four hexadecimal digits, or of two such escapes that are a pair.
fn unicode_escape(escape: &str) -> Option<(char, usize)> {
    let unit = |from: usize| u32::from_str_radix(escape.get(from..from + 4)?, 16).ok();
    let first = unit(1)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, 5));
    }
    let second = (escape.get(5..7) == Some("\\u")).then(|| unit(7)).flatten()?;
    if !(0xd800..0xdc00).contains(&first) || !(0xdc00..0xe000).contains(&second) {
        return None;
    }
    let character = char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))?;
    Some((character, 11))
}

/// The length of the escape that stands here.
pub(super) fn escape_length(escape: &[u8]) -> Result<usize, NotJson> {
    match escape.get(1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(2),
        Some(b'u') if escape.get(2..6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => Ok(6),
        _ => Err(NotJson),
    }
}

/// Where the next quote, backslash or control character stands, or the end.
#[inline(always)]
pub(super) fn plain_end(bytes: &[u8], start: usize) -> usize {
    // Most strings are names and ids of a few bytes: the first words decide them, and only what is longer is worth a
    // call.
    let mut at = start;
    while at < start + 16 {
        let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) else { break };
        let hits = special_bytes(u64::from_le_bytes(*chunk));
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    long_plain_end(bytes, at)
}

#[inline(never)]
fn long_plain_end(bytes: &[u8], mut at: usize) -> usize {
    // Tests of a whole block compile to vector instructions; unlike `memchr` they find control characters in the same
    // pass.
    while let Some(block) = bytes.get(at..).and_then(|rest| rest.first_chunk::<32>()) {
        if block.iter().fold(false, |found, &byte| found | is_special(byte)) {
            break;
        }
        at += 32;
    }
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let hits = special_bytes(u64::from_le_bytes(*chunk));
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|&&byte| !is_special(byte)).count()
}

#[inline(always)]
fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

/// Sets the high bit of every special byte. Bits above the lowest that is set may be wrong: borrows run upwards.
#[inline]
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES << 7;
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    let quote = quote.wrapping_sub(ONES) & !quote;
    let backslash = backslash.wrapping_sub(ONES) & !backslash;
    (control | quote | backslash) & HIGH
}
