use super::{DecodeError, Protocol};
use memchr::memchr;
use std::ops::Range;

/// One message cut out of a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where the message's body stands: without separator or length prefix.
    pub(crate) body: Range<usize>,
    /// Bytes used up, framing included.
    pub(crate) used: usize,
}

/// What ends every JSON message and every handshake.
pub(crate) const SEPARATOR: u8 = 0x1e;

/// Cuts the first whole message off `buffer`; `None` means that more bytes are needed. `limit` is the receive limit of
/// one framed message; `None` is no limit. A declared length is checked before anything is kept for it.
pub(crate) fn next_message(
    protocol: Protocol,
    buffer: &[u8],
    limit: Option<usize>,
) -> Result<Option<Piece>, DecodeError> {
    next_message_from(protocol, buffer, limit, &mut 0)
}

/// Does what [`next_message`] does for a buffer that grows: `scanned` says how much of it an earlier call has searched
/// in vain, so that a message that drips in is not searched over and over. It is zero for a new buffer, and is set to
/// zero with every message.
pub(crate) fn next_message_from(
    protocol: Protocol,
    buffer: &[u8],
    limit: Option<usize>,
    scanned: &mut usize,
) -> Result<Option<Piece>, DecodeError> {
    let limit = limit.unwrap_or(usize::MAX);
    match protocol {
        Protocol::Json => next_record(buffer, limit, scanned),
        Protocol::MessagePack | Protocol::BlazorPack => next_prefixed(buffer, limit),
    }
}

/// Cuts off what stands before the first separator; a message of exactly `limit` bytes, separator included, is
/// accepted.
fn next_record(buffer: &[u8], limit: usize, scanned: &mut usize) -> Result<Option<Piece>, DecodeError> {
    let within = &buffer[..buffer.len().min(limit)];
    let from = (*scanned).min(within.len());
    if let Some(found) = memchr(SEPARATOR, &within[from..]) {
        let end = from + found;
        *scanned = 0;
        return Ok(Some(Piece { body: 0..end, used: end + 1 }));
    }
    if buffer.len() > limit {
        return Err(DecodeError::TooLarge(limit));
    }
    *scanned = within.len();
    Ok(None)
}

fn next_prefixed(buffer: &[u8], limit: usize) -> Result<Option<Piece>, DecodeError> {
    let Some((length, prefix)) = read_prefix(buffer)? else {
        return if buffer.len() > limit { Err(DecodeError::TooLarge(limit)) } else { Ok(None) };
    };
    let used = length.checked_add(prefix).ok_or(DecodeError::TooLarge(limit))?;
    if used > limit {
        return Err(DecodeError::TooLarge(limit));
    }
    Ok((used <= buffer.len()).then_some(Piece { body: prefix..used, used }))
}

/// The length that a message declares, and how many bytes say so.
pub(in crate::protocol) fn read_prefix(buffer: &[u8]) -> Result<Option<(usize, usize)>, DecodeError> {
    let mut length = 0usize;
    for (index, &byte) in buffer.iter().take(MAX_PREFIX).enumerate() {
        if index + 1 == MAX_PREFIX && byte > 0x07 {
            return Err(DecodeError::Invalid("Messages over 2GB in size are not supported.".into()));
        }
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((length, index + 1)));
        }
    }
    Ok(None)
}

/// Bytes of the longest length prefix.
pub(super) const MAX_PREFIX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_length_over_the_limit_is_refused_before_it_arrives() {
        let gigabytes = [0xff, 0xff, 0xff, 0xff, 0x07];
        assert_eq!(next(&gigabytes, Some(32_768)), Err(DecodeError::TooLarge(32_768)));
        assert_eq!(next(&gigabytes, None), Ok(None));
        assert_eq!(next(&[126], Some(127)), Ok(None));
        assert_eq!(next(&[127], Some(127)), Err(DecodeError::TooLarge(127)));
    }

    #[test]
    fn a_fifth_byte_of_a_length_holds_three_bits() {
        let too_large = Err(DecodeError::Invalid("Messages over 2GB in size are not supported.".into()));
        assert_eq!(next(&[0x80, 0x80, 0x80, 0x80, 0x08], None), too_large);
        assert_eq!(next(&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Some(10)), too_large);
        assert_eq!(next(&[0x80, 0x80, 0x80, 0x80], None), Ok(None));
        // A length may be longer than it has to be.
        assert_eq!(next(&[0x80, 0x80, 0x80, 0x80, 0x00], None), Ok(Some(Piece { body: 5..5, used: 5 })));
    }

    #[test]
    fn a_buffer_over_the_limit_without_a_whole_message_is_too_large() {
        assert_eq!(next_message(Protocol::Json, b"abc", Some(3)), Ok(None));
        assert_eq!(next_message(Protocol::Json, b"abcd", Some(3)), Err(DecodeError::TooLarge(3)));
        assert_eq!(next_message(Protocol::Json, b"abc\x1e", Some(3)), Err(DecodeError::TooLarge(3)));
        assert_eq!(next_message(Protocol::Json, b"ab\x1ecdefg", Some(3)), Ok(Some(Piece { body: 0..2, used: 3 })));
        assert_eq!(next(&[0x80, 0x80], Some(1)), Err(DecodeError::TooLarge(1)));
    }

    fn next(buffer: &[u8], limit: Option<usize>) -> Result<Option<Piece>, DecodeError> {
        next_message(Protocol::MessagePack, buffer, limit)
    }
}
