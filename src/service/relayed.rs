use crate::backplane::Encoded;
use crate::protocol::hub::{EncodeError, Frame, Protocol};

/// What an application server sends to clients: a hub message that it has framed for each protocol of its hub.
pub(super) struct Relayed<'a>(pub(super) &'a [(&'a str, &'a [u8])]);

impl Relayed<'_> {
    /// What receivers of a protocol get.
    pub(super) fn payload(&self, protocol: &str) -> Option<&[u8]> {
        let found = self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(protocol));
        found.map(|(_, payload)| *payload).filter(|payload| !payload.is_empty())
    }
}

impl Encoded for Relayed<'_> {
    /// The one copy of a payload on its way from a server to its receivers: behind the header that they all get.
    fn frame(&self, protocol: Protocol) -> Result<Option<Frame>, EncodeError> {
        Ok(self.payload(protocol.name()).map(|payload| Frame::of_framed(protocol, payload)))
    }

    /// Targets are not looked at.
    fn key(&self) -> &str {
        ""
    }
}
