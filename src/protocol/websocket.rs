//! RFC 6455 frames, as a server reads and writes them. Fed with whatever a read brought, in pieces of any size; keeps no payload.

/// What a piece of input turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Unmasked payload of a data message, as much of it as is there. `opcode` is the message's, `last` ends it.
    Data {
        opcode: u8,
        payload: &'a [u8],
        last: bool,
    },
    /// A ping with its whole payload.
    Ping(&'a [u8]),
    Pong,
    /// The client's close frame; the code is absent when the frame is empty.
    Close(Option<u16>),
}

/// The peer broke the rules; the number is the code of the close frame that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("WebSocket rules broken, close code {0}")]
pub(crate) struct Violation(pub(crate) u16);

/// Reads a client's frames.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    /// The bytes of a header that has not come whole.
    header: [u8; LONGEST_HEADER],
    header_len: u8,
    /// A frame's payload is being read.
    inside: bool,
    opcode: u8,
    fin: bool,
    /// The opcode of the message that is being read, or 0.
    message: u8,
    mask: [u8; 4],
    /// Bytes of this frame's payload that are still to come.
    remaining: u64,
    /// The payload of a control frame that came in pieces: at most 125 bytes.
    control: Vec<u8>,
    utf8: Utf8Tail,
}

impl FrameReader {
    /// Takes one piece off the front of `input`, unmasking in place, and says how many bytes it took. `None`: all was taken and more is
    /// needed.
    pub(crate) fn next<'a>(&'a mut self, input: &'a mut [u8]) -> Result<(usize, Option<Piece<'a>>), Violation> {
        let mut used = 0;
        if !self.inside {
            match self.read_header(input)? {
                None => return Ok((input.len(), None)),
                Some(n) => used = n,
            }
            self.inside = true;
        }
        let rest = &mut input[used..];
        let there = usize::try_from(self.remaining).map_or(rest.len(), |n| n.min(rest.len()));
        let payload = &mut rest[..there];
        unmask(payload, &mut self.mask);
        self.remaining -= there as u64;
        self.inside = self.remaining > 0;
        used += there;
        if self.opcode >= CLOSE {
            return Ok((used, self.control_piece(payload)?));
        }
        if there == 0 && self.inside {
            return Ok((used, None));
        }
        let opcode = self.message;
        let last = !self.inside && self.fin;
        if opcode == TEXT && !self.utf8.accepts(payload, last) {
            return Err(Violation(INVALID_DATA));
        }
        if last {
            self.message = 0;
        }
        Ok((used, Some(Piece::Data { opcode, payload, last })))
    }

    fn control_piece<'a>(&'a mut self, payload: &'a [u8]) -> Result<Option<Piece<'a>>, Violation> {
        if self.inside || !self.control.is_empty() {
            self.control.extend_from_slice(payload);
        }
        if self.inside {
            return Ok(None);
        }
        let payload = if self.control.is_empty() { payload } else { &self.control };
        Ok(Some(match self.opcode {
            CLOSE => Piece::Close(close_code(payload)?),
            PING => Piece::Ping(payload),
            _ => Piece::Pong,
        }))
    }

    /// Reads a frame's header; says how many bytes of `input` it took, or `None` if it is not whole yet (all of `input` is kept then).
    fn read_header(&mut self, input: &[u8]) -> Result<Option<usize>, Violation> {
        self.control = Vec::new();
        let kept = self.header_len as usize;
        let fresh = input.len().min(LONGEST_HEADER - kept);
        self.header[kept..kept + fresh].copy_from_slice(&input[..fresh]);
        let header = &self.header[..kept + fresh];
        // the two first bytes are judged at once: who sends garbage is not waited for
        let length = match header {
            [] => return Ok(None),
            [first] => {
                self.check_first(*first)?;
                None
            }
            [first, second, more @ ..] => {
                self.check_first(*first)?;
                check_second(*first, *second)?;
                match second & 0x7F {
                    126 => more.first_chunk().map(|n| (4, u64::from(u16::from_be_bytes(*n)))),
                    127 => more.first_chunk().map(|n| (10, u64::from_be_bytes(*n))),
                    n => Some((2, u64::from(n))),
                }
            }
        };
        let whole = length.and_then(|(at, length)| Some((at, length, *header[at..].first_chunk::<4>()?)));
        let Some((at, length, mask)) = whole else {
            self.header_len = header.len() as u8;
            return Ok(None);
        };
        if length > u64::MAX / 2 {
            return Err(Violation(PROTOCOL_ERROR));
        }
        let first = header[0];
        self.fin = first & FIN != 0;
        self.opcode = first & 0x0F;
        if matches!(self.opcode, TEXT | BINARY) {
            self.message = self.opcode;
        }
        self.mask = mask;
        self.remaining = length;
        self.header_len = 0;
        Ok(Some(at + 4 - kept))
    }

    fn check_first(&self, first: u8) -> Result<(), Violation> {
        let in_message = self.message != 0;
        let allowed = first & RESERVED == 0
            && match first & 0x0F {
                CONTINUATION => in_message,
                TEXT | BINARY => !in_message,
                CLOSE | PING | PONG => first & FIN != 0,
                _ => false,
            };
        if allowed { Ok(()) } else { Err(Violation(PROTOCOL_ERROR)) }
    }
}

/// Appends the header of an unfragmented, unmasked frame.
pub(crate) fn write_header(out: &mut Vec<u8>, opcode: u8, length: usize) {
    out.push(FIN | opcode);
    match length {
        0..=125 => out.push(length as u8),
        126..=0xFFFF => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Appends a whole frame.
pub(crate) fn write_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// Length of the header at the front of an unmasked frame.
pub(crate) fn header_length(frame: &[u8]) -> usize {
    match frame.get(1) {
        Some(126) => 4,
        Some(127) => 10,
        _ => 2,
    }
}

/// RFC 6455 5.1: a client's frames are masked, empty ones too; 5.5: control frames are short.
fn check_second(first: u8, second: u8) -> Result<(), Violation> {
    let is_control = first & 0x0F >= CLOSE;
    if second & MASKED == 0 || (is_control && second & 0x7F > 125) { Err(Violation(PROTOCOL_ERROR)) } else { Ok(()) }
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    match payload {
        [] => Ok(None),
        [_] => Err(Violation(PROTOCOL_ERROR)),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(Violation(PROTOCOL_ERROR));
            }
            if std::str::from_utf8(reason).is_err() {
                return Err(Violation(INVALID_DATA));
            }
            Ok(Some(code))
        }
    }
}

/// Unmasks eight bytes a step, and turns the key so that the next piece goes on where this one ended.
fn unmask(payload: &mut [u8], key: &mut [u8; 4]) {
    let [a, b, c, d] = *key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (steps, rest) = payload.as_chunks_mut::<8>();
    for step in steps {
        *step = (u64::from_ne_bytes(*step) ^ wide).to_ne_bytes();
    }
    for (i, byte) in rest.iter_mut().enumerate() {
        *byte ^= key[i & 3];
    }
    key.rotate_left(rest.len() & 3);
}

/// The start of a character that the next piece of a text message has to finish.
#[derive(Debug, Default)]
struct Utf8Tail {
    bytes: [u8; 4],
    len: u8,
}

impl Utf8Tail {
    /// Checks the next piece of a text; `last` ends it.
    fn accepts(&mut self, mut piece: &[u8], last: bool) -> bool {
        while self.len > 0 && !piece.is_empty() {
            self.bytes[self.len as usize] = piece[0];
            self.len += 1;
            piece = &piece[1..];
            match std::str::from_utf8(&self.bytes[..self.len as usize]) {
                Ok(_) => self.len = 0,
                Err(e) if e.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        match std::str::from_utf8(piece) {
            Ok(_) => {}
            Err(e) if e.error_len().is_some() => return false,
            Err(e) => {
                let tail = &piece[e.valid_up_to()..];
                self.bytes[..tail.len()].copy_from_slice(tail);
                self.len = tail.len() as u8;
            }
        }
        let whole = self.len == 0;
        if last {
            self.len = 0;
        }
        whole || !last
    }
}

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;
pub(crate) const PROTOCOL_ERROR: u16 = 1002;
pub(crate) const INVALID_DATA: u16 = 1007;
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;
/// Two bytes, a length of eight, a mask of four.
const LONGEST_HEADER: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        write_header(&mut frame, 0, payload.len());
        frame[0] = first;
        frame[1] |= MASKED;
        let key = [1, 2, 3, 4];
        frame.extend_from_slice(&key);
        frame.extend(payload.iter().enumerate().map(|(i, b)| b ^ key[i & 3]));
        frame
    }

    /// Everything a stream comes to, its data joined by message, however it is cut.
    fn read(stream: &[u8], cut: usize) -> Result<Vec<String>, Violation> {
        let mut reader = FrameReader::default();
        let (mut seen, mut message) = (Vec::new(), Vec::new());
        for part in stream.chunks(cut) {
            let mut part = part.to_vec();
            let mut at = 0;
            while at < part.len() {
                let (used, piece) = reader.next(&mut part[at..])?;
                match piece {
                    Some(Piece::Data { opcode, payload, last }) => {
                        message.extend_from_slice(payload);
                        if last {
                            seen.push(format!("{opcode} {}", String::from_utf8_lossy(&std::mem::take(&mut message))));
                        }
                    }
                    Some(Piece::Ping(p)) => seen.push(format!("ping {}", String::from_utf8_lossy(p))),
                    Some(Piece::Pong) => seen.push("pong".into()),
                    Some(Piece::Close(code)) => seen.push(format!("close {code:?}")),
                    None => assert_eq!(at + used, part.len()),
                }
                at += used;
            }
        }
        Ok(seen)
    }

    #[test]
    fn a_stream_reads_the_same_however_it_is_cut() {
        let mut stream = masked(0x81, "grüße".as_bytes());
        stream.extend(masked(0x02, &[b'x'; 300]));
        stream.extend(masked(0x89, b"are you there"));
        stream.extend(masked(0x00, b""));
        stream.extend(masked(0x80, b"end"));
        stream.extend(masked(0x82, b""));
        stream.extend(masked(0x8A, b"late"));
        stream.extend(masked(0x88, &[0x03, 0xE8, b'o', b'k']));
        let want = read(&stream, stream.len()).unwrap();
        assert_eq!(want.len(), 6);
        assert_eq!(want[5], "close Some(1000)");
        for cut in 1..stream.len() {
            assert_eq!(read(&stream, cut).unwrap(), want, "cut every {cut} bytes");
        }
    }

    #[test]
    fn broken_rules_are_named_at_the_first_byte_that_shows_them() {
        for (stream, code) in [
            (vec![0xC1], 1002),                     // a reserved bit
            (vec![0x83], 1002),                     // a reserved opcode
            (vec![0x80], 1002),                     // a continuation of nothing
            (vec![0x09], 1002),                     // a ping in fragments
            (vec![0x81, 0x00], 1002),               // not masked
            (vec![0x89, 0xFE], 1002),               // a ping of more than 125 bytes
            (masked(0x88, &[3]), 1002),             // half a code
            (masked(0x88, &[0x03, 0xED]), 1002),    // 1005 never travels
            (masked(0x88, &[3, 0xE8, 0xFF]), 1007), // a reason that is no text
            (masked(0x81, &[b'a', 0xFF]), 1007),    // a text that is no text
            (masked(0x81, &[0xE2, 0x98]), 1007),    // a text that ends inside a character
        ] {
            assert_eq!(read(&stream, 1).unwrap_err(), Violation(code), "{stream:x?}");
        }
    }
}
