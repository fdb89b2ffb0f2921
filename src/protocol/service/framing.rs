use super::DecodeError;
use crate::protocol::hub::{self, Protocol};
use std::ops::Range;

/// Cuts messages out of a stream of bytes that comes in pieces of any size.
///
/// A message that is whole in one piece is handed out where it stands. Of one that is not, its bytes so far are kept, and no others: a
/// length is checked against the limit as soon as it is known, before anything is kept for it.
#[derive(Debug)]
pub(crate) struct Assembler {
    part: Vec<u8>,
    /// What is kept was handed out.
    used: bool,
    limit: usize,
}

impl Assembler {
    /// `limit` is for one message, its length prefix included.
    pub(crate) fn new(limit: usize) -> Self {
        Self { part: Vec::new(), used: false, limit }
    }

    /// Takes the body of the next message, or keeps what there is of one; called until there is none.
    pub(crate) fn next<'a, 'p: 'a>(&'a mut self, piece: &mut &'p [u8]) -> Result<Option<&'a [u8]>, DecodeError> {
        if self.used {
            self.used = false;
            self.part.clear();
            self.part.shrink_to(KEPT_CAPACITY);
        }
        if self.part.is_empty() {
            let Some((body, used)) = self.cut(piece)? else {
                self.part.extend_from_slice(piece);
                *piece = &[];
                return Ok(None);
            };
            let body = &piece[body];
            *piece = &piece[used..];
            return Ok(Some(body));
        }
        while !piece.is_empty() {
            // so much of the piece as belongs to the message that has begun, and not a byte more
            let (fresh, rest) = piece.split_at(self.missing()?.min(piece.len()));
            self.part.extend_from_slice(fresh);
            *piece = rest;
            if let Some((body, _)) = self.cut(&self.part)? {
                self.used = true;
                return Ok(Some(&self.part[body]));
            }
        }
        Ok(None)
    }

    fn cut(&self, bytes: &[u8]) -> Result<Option<(Range<usize>, usize)>, DecodeError> {
        let next = hub::next_message(Protocol::MessagePack, bytes, Some(self.limit));
        let piece = next.map_err(|_| DecodeError::TooLarge(self.limit))?;
        Ok(piece.map(|piece| (piece.body, piece.used)))
    }

    /// Bytes that the message needs which has begun: one, while its length is not known.
    fn missing(&self) -> Result<usize, DecodeError> {
        let prefix = hub::read_prefix(&self.part).map_err(|_| DecodeError::TooLarge(self.limit))?;
        Ok(prefix.map_or(1, |(length, prefix)| length + prefix - self.part.len()))
    }
}

/// What is kept allocated between messages that come in parts.
const KEPT_CAPACITY: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stream: &[u8], cut: usize, limit: usize) -> Result<Vec<Vec<u8>>, DecodeError> {
        let (mut assembler, mut bodies) = (Assembler::new(limit), Vec::new());
        for mut piece in stream.chunks(cut) {
            while let Some(body) = assembler.next(&mut piece)? {
                bodies.push(body.to_vec());
            }
            assert!(assembler.part.len() <= limit);
        }
        Ok(bodies)
    }

    #[test]
    fn a_stream_reads_the_same_however_it_is_cut() {
        let bodies: Vec<Vec<u8>> = [0, 1, 127, 128, 300, 20_000].map(|n| vec![7; n]).into();
        let mut stream = Vec::new();
        for body in &bodies {
            let mut length = body.len();
            while length >= 0x80 {
                stream.push(length as u8 | 0x80);
                length >>= 7;
            }
            stream.push(length as u8);
            stream.extend_from_slice(body);
        }
        for cut in [1, 2, 3, 5, 130, 4096, stream.len()] {
            assert_eq!(read(&stream, cut, 20_003).as_ref(), Ok(&bodies), "cut every {cut} bytes");
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_it_is_kept() {
        for cut in [1, 9] {
            assert_eq!(read(&[0xe8, 0x07, 0], cut, 1000), Err(DecodeError::TooLarge(1000)));
            assert_eq!(read(&[0x80, 0x80, 0x80, 0x80, 0x08], cut, usize::MAX), Err(DecodeError::TooLarge(usize::MAX)));
        }
    }
}
