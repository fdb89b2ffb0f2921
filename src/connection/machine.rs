use super::ConnectionOptions;
use crate::protocol::hub::{DecodeError, HandshakeError, HandshakeRequest, Message, Protocol, next_message_from};

/// The hub protocol's side of a connection, without I/O and without a clock: bytes in, steps out.
///
/// ```text
///   Handshaking --a request that is accepted--> Open(protocol)
///        |                                        |
///        +--refused------> the caller ends <------+ a message that is not one
/// ```
#[derive(Debug, Default)]
pub(super) struct Machine {
    protocol: Option<Protocol>,
    /// How much of an unfinished text message was searched for its end: dripped bytes are looked at once.
    scanned: usize,
}

/// What the next bytes came to.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// The handshake is accepted; its response is due. `resumes`: its version permits stateful reconnect.
    Accepted {
        protocol: Protocol,
        resumes: bool,
    },
    Message(Message<'a>),
}

/// Input that ends the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Handshake(HandshakeError),
    Message(DecodeError),
}

impl Machine {
    /// Takes one step over `input`, which starts where the last step ended (so it holds what was not whole then, too), and says how many
    /// bytes it took. `None`: more is needed.
    pub(super) fn step<'a>(
        &mut self,
        input: &'a [u8],
        options: &ConnectionOptions,
        text_only: bool,
    ) -> Result<Option<(usize, Step<'a>)>, Refusal> {
        let limit = options.maximum_receive_message_size;
        let Some(protocol) = self.protocol else {
            return self.shake_hands(input, options, text_only);
        };
        match next_message_from(protocol, input, limit, &mut self.scanned).map_err(Refusal::Message)? {
            None => Ok(None),
            Some(piece) => {
                let message = protocol.decode(&input[piece.body]).map_err(Refusal::Message)?;
                Ok(Some((piece.used, Step::Message(message))))
            }
        }
    }

    /// What was not whole will not be finished.
    pub(super) fn forget_part(&mut self) {
        self.scanned = 0;
    }

    pub(super) fn is_open(&self) -> bool {
        self.protocol.is_some()
    }

    fn shake_hands<'a>(
        &mut self,
        input: &[u8],
        options: &ConnectionOptions,
        text_only: bool,
    ) -> Result<Option<(usize, Step<'a>)>, Refusal> {
        // the request is a JSON text with the same separator and the same limit, whatever protocol it asks for
        let piece =
            match next_message_from(Protocol::Json, input, options.maximum_receive_message_size, &mut self.scanned) {
                Ok(None) => return Ok(None),
                Ok(Some(piece)) => piece,
                Err(_) => return Err(Refusal::Handshake(HandshakeError::Canceled)),
            };
        let request = HandshakeRequest::decode(&input[piece.body]).map_err(Refusal::Handshake)?;
        let protocol = request.accept(&options.protocols, text_only).map_err(Refusal::Handshake)?;
        self.protocol = Some(protocol);
        Ok(Some((piece.used, Step::Accepted { protocol, resumes: request.version >= RESUMING_VERSION })))
    }
}

/// The first version of the protocols that permits stateful reconnect.
const RESUMING_VERSION: i32 = 2;
