use super::{Message, Protocol, json, messagepack};

/// What a message is, for somebody who passes it on: found at its front where that is possible, without looking at the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Invocations, stream items and cancellations: numbered for stateful reconnect, as completions are.
    Call,
    Completion,
    Ping,
    Close,
    Ack(i64),
    Sequence(i64),
    /// A type that is not known, or no message at all: for the receiver to judge.
    Unknown,
}

impl Kind {
    /// Takes a message without its separator or length prefix.
    pub(crate) fn of(protocol: Protocol, message: &[u8]) -> Self {
        let usual = match protocol {
            Protocol::Json => json::usual_kind(message),
            Protocol::MessagePack | Protocol::BlazorPack => messagepack::usual_kind(message),
        };
        match usual {
            Some(1 | 2 | 4 | 5) => Self::Call,
            Some(3) => Self::Completion,
            Some(6) => Self::Ping,
            Some(7) => Self::Close,
            // these two are for us, if they are what they seem
            _ => Self::decoded(protocol, message),
        }
    }

    /// Tells whether both sides of a connection that can be resumed count it.
    pub(crate) fn is_numbered(self) -> bool {
        matches!(self, Self::Call | Self::Completion)
    }

    fn decoded(protocol: Protocol, message: &[u8]) -> Self {
        match protocol.decode(message) {
            Ok(Message::Invocation(_) | Message::StreamItem { .. } | Message::CancelInvocation { .. }) => Self::Call,
            Ok(Message::Completion { .. }) => Self::Completion,
            Ok(Message::Ping) => Self::Ping,
            Ok(Message::Close { .. }) => Self::Close,
            Ok(Message::Ack { sequence_id }) => Self::Ack(sequence_id),
            Ok(Message::Sequence { sequence_id }) => Self::Sequence(sequence_id),
            Ok(Message::Unknown) | Err(_) => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_what_its_type_says_wherever_that_stands() {
        let json = |text: &str| Kind::of(Protocol::Json, text.as_bytes());
        assert_eq!(json(r#"{"type":1,"target":"t","arguments":[nonsense"#), Kind::Call);
        assert_eq!(json(r#" { "target":"t", "arguments":[], "type" : 1 }"#), Kind::Call);
        assert_eq!(json(r#"{"invocationId":"1","type":3}"#), Kind::Completion);
        assert_eq!([json(r#"{"type":6}"#), json(r#"{"type":7,"error":"x"}"#)], [Kind::Ping, Kind::Close]);
        assert_eq!(
            [json(r#"{"type":8,"sequenceId":4}"#), json(r#"{"type":9,"sequenceId":5}"#)],
            [Kind::Ack(4), Kind::Sequence(5)]
        );
        for other in [r#"{"type":66}"#, r#"{"type":10}"#, r#"{"type":8}"#, r#"{"type":"#, "", "[]"] {
            assert_eq!(json(other), Kind::Unknown, "{other}");
        }
        let packed = |bytes: &[u8]| Kind::of(Protocol::BlazorPack, bytes);
        assert_eq!(packed(&[0x96, 1, 0x80, 0xc0, 0xa1, b't', 0xc1]), Kind::Call);
        assert_eq!(packed(&[0x94, 3, 0x80, 0xa1, b'1', 2]), Kind::Completion);
        assert_eq!([packed(&[0x91, 6]), packed(&[0x91, 0xcc, 6])], [Kind::Ping; 2]);
        assert_eq!([packed(&[0x92, 8, 4]), packed(&[0x92, 9, 5])], [Kind::Ack(4), Kind::Sequence(5)]);
        assert_eq!([packed(&[0x91, 77]), packed(&[]), packed(&[0xc0])], [Kind::Unknown; 3]);
    }
}
