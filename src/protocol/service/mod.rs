//! What application servers and the service say to each other. Spec: `service-protocol.md`.

mod decode;
mod encode;
mod framing;
pub(crate) mod message;
mod reader;
#[cfg(test)]
mod vectors;

pub(crate) use decode::decode;
pub(crate) use encode::{append, write_claims, write_members_page};
pub(crate) use framing::Assembler;
pub(crate) use message::{Claims, Ext, Headers, Message, Payloads, Timestamp};

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DecodeError {
    /// It is no array, or has no type.
    #[error("a message has no type")]
    NoType,
    /// A type that is known, in a form that it does not have.
    #[error("a message of type {0} is broken")]
    Broken(i32),
    /// By its declared length: nothing of it was kept.
    #[error("a message is larger than {0} bytes")]
    TooLarge(usize),
}
