use super::ConnectionOptions;
use super::Receive;
use crate::protocol::hub::{DecodeError, HandshakeError, HandshakeRequest, Protocol, next_message_from};
use std::marker::PhantomData;

/// The hub protocol's side of a connection, without I/O and without a clock: bytes in, steps out.
///
/// ```text
///   Handshaking --a request that the caller accepts--> Open(protocol)
///        |                                               |
///        +--refused---------> the caller ends <----------+ a message that is not one
/// ```
///
/// What a message is made of is the receiver's to say.
#[derive(Debug)]
pub(super) struct Machine<R> {
    protocol: Option<Protocol>,
    /// How much of an unfinished text message was searched for its end: dripped bytes are looked at once.
    scanned: usize,
    reads: PhantomData<fn() -> R>,
}

impl<R> Default for Machine<R> {
    fn default() -> Self {
        Self { protocol: None, scanned: 0, reads: PhantomData }
    }
}

/// What the next bytes came to.
#[derive(Debug)]
pub(super) enum Step<M> {
    /// The client asks for a protocol; [`open`](Machine::open) accepts it.
    Handshake(HandshakeRequest),
    Message(M),
}

/// How many bytes a step took, and what they are.
type Taken<M> = (usize, Step<M>);

/// Input that ends the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Handshake(HandshakeError),
    Message(DecodeError),
}

impl<R: Receive> Machine<R> {
    /// Takes one step over `input`, which starts where the last step ended (so it holds what was not whole then, too), and says how many
    /// bytes it took. `None`: more is needed.
    pub(super) fn step<'a>(
        &mut self,
        input: &'a [u8],
        options: &ConnectionOptions,
    ) -> Result<Option<Taken<R::Message<'a>>>, Refusal> {
        let limit = options.maximum_receive_message_size;
        let Some(protocol) = self.protocol else {
            return self.shake_hands(input, options);
        };
        match next_message_from(protocol, input, limit, &mut self.scanned).map_err(Refusal::Message)? {
            None => Ok(None),
            Some(piece) => {
                let message = R::read(protocol, &input[..piece.used], piece.body).map_err(Refusal::Message)?;
                Ok(Some((piece.used, Step::Message(message))))
            }
        }
    }

    /// What comes from here on are messages of this protocol.
    pub(super) fn open(&mut self, protocol: Protocol) {
        self.protocol = Some(protocol);
    }

    /// What was not whole will not be finished.
    pub(super) fn forget_part(&mut self) {
        self.scanned = 0;
    }

    pub(super) fn is_open(&self) -> bool {
        self.protocol.is_some()
    }

    fn shake_hands<M>(&mut self, input: &[u8], options: &ConnectionOptions) -> Result<Option<Taken<M>>, Refusal> {
        // the request is a JSON text with the same separator and the same limit, whatever protocol it asks for
        let piece =
            match next_message_from(Protocol::Json, input, options.maximum_receive_message_size, &mut self.scanned) {
                Ok(None) => return Ok(None),
                Ok(Some(piece)) => piece,
                Err(_) => return Err(Refusal::Handshake(HandshakeError::Canceled)),
            };
        let request = HandshakeRequest::decode(&input[piece.body]).map_err(Refusal::Handshake)?;
        Ok(Some((piece.used, Step::Handshake(request))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{CloseReason, Link, Turn};
    use crate::protocol::hub::Message;
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde_json::Value;
    use std::ops::Range;
    use std::sync::Arc;

    const LIMIT: usize = 4096;
    const PIECE: usize = 700;

    /// Every vector, as it travels.
    fn vectors(protocol: Protocol) -> Vec<Vec<u8>> {
        let text = match protocol {
            Protocol::Json => include_str!("../../tests/vectors/hub-protocol-json.json"),
            Protocol::MessagePack | Protocol::BlazorPack => {
                include_str!("../../tests/vectors/hub-protocol-messagepack.json")
            }
        };
        let file: Value = serde_json::from_str(text).unwrap();
        let framed = |case: &Value| match protocol {
            Protocol::Json => Some([case["payload"].as_str()?.as_bytes(), b"\x1e"].concat()),
            Protocol::MessagePack | Protocol::BlazorPack => STANDARD.decode(case["framed"].as_str()?).ok(),
        };
        file["cases"].as_array().unwrap().iter().filter_map(framed).collect()
    }

    /// Reads as a hub does.
    struct Judge;

    impl Receive for Judge {
        type Message<'a> = Message<'a>;

        fn read<'a>(protocol: Protocol, framed: &'a [u8], body: Range<usize>) -> Result<Message<'a>, DecodeError> {
            protocol.decode(&framed[body])
        }

        fn opened(&mut self, _: &mut Turn<'_, '_>) -> Result<(), CloseReason> {
            Ok(())
        }

        fn receive(&mut self, _: &mut Turn<'_, '_>, _: Message<'_>) -> Result<(), CloseReason> {
            Ok(())
        }

        fn resume(&mut self, _: &mut Turn<'_, '_>) -> Result<(), CloseReason> {
            Ok(())
        }

        fn held(&self) -> usize {
            0
        }

        fn closed(&mut self, _: &Arc<Link>, _: &CloseReason) {}
    }

    /// Feeds a stream in pieces, as a session does, and gives the most bytes that had to be kept between two of them.
    fn kept_at_most(stream: &[u8], piece: usize, protocol: Protocol) -> usize {
        let options = ConnectionOptions { maximum_receive_message_size: Some(LIMIT), ..ConnectionOptions::default() };
        let mut machine = Machine::<Judge>::default();
        machine.open(protocol);
        let (mut kept, mut most) = (Vec::new(), 0);
        for part in stream.chunks(piece) {
            kept.extend_from_slice(part);
            let mut at = 0;
            loop {
                match machine.step(&kept[at..], &options) {
                    Ok(Some((used, _))) => at += used,
                    Ok(None) => break,
                    Err(_) => return most,
                }
            }
            kept.drain(..at);
            most = most.max(kept.len());
        }
        most
    }

    #[test]
    fn whatever_comes_no_more_is_kept_than_the_receive_limit() {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        println!("seed {seed:#x}");
        let mut below = move |n: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % n as u64) as usize
        };
        for protocol in Protocol::ALL {
            let vectors = vectors(protocol);
            assert!(vectors.len() > 90, "{protocol:?}: {}", vectors.len());
            let mut longest = 0;
            for _ in 0..20_000 {
                let mut stream = Vec::new();
                while stream.len() < 2 * LIMIT && below(40) > 0 {
                    stream.extend_from_slice(&vectors[below(vectors.len())]);
                }
                for _ in 0..below(6) {
                    // a byte changed, a length made huge, a separator taken away
                    let at = below(stream.len().max(1));
                    if let Some(byte) = stream.get_mut(at) {
                        *byte = [0xFF, 0x7F, b'x', 0, b'"', 0xDD][below(6)];
                    }
                }
                longest = longest.max(kept_at_most(&stream, below(PIECE) + 1, protocol));
            }
            // a message without end, dripped and in one go
            for piece in [1, PIECE, 2 * LIMIT] {
                longest = longest.max(kept_at_most(&vec![b'7'; 3 * LIMIT], piece, protocol));
            }
            println!("{protocol:?}: {longest} bytes were kept at most");
            assert!(longest <= LIMIT, "{protocol:?}: {longest} bytes were kept");
        }
    }
}
