use super::{
    DecodeError, Protocol,
    framing::SEPARATOR,
    json::{self, scan::Scanner},
};

/// What a client asks for first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HandshakeRequest {
    pub(crate) protocol: String,
    pub(crate) version: i32,
}

impl HandshakeRequest {
    /// Decodes the text before the first separator.
    pub(crate) fn decode(text: &[u8]) -> Result<Self, HandshakeError> {
        let (protocol, version) = read_request(text)?;
        let missing = |property| {
            let content = String::from_utf8_lossy(text);
            HandshakeError::Malformed(format!("{} Message content: {content}", json::missing(property)))
        };
        Ok(Self {
            protocol: protocol.ok_or_else(|| missing("protocol"))?,
            version: version.ok_or_else(|| missing("version"))?,
        })
    }

    /// The protocol asked for, if it is among those offered and the version and transport allow it (checked in that
    /// order).
    pub(crate) fn accept(&self, offered: &[Protocol], text_only: bool) -> Result<Protocol, HandshakeError> {
        let protocol = self.known(offered)?;
        if self.version > LATEST_VERSION {
            return Err(HandshakeError::Version { protocol: self.protocol.clone(), version: self.version });
        }
        self.carried(protocol, text_only)
    }

    /// The protocol asked for, as somebody sees it who only cuts its messages apart: which versions there are, and which protocols a hub
    /// has, is for another to say.
    #[cfg(feature = "service")]
    pub(crate) fn pass_on(&self, text_only: bool) -> Result<Protocol, HandshakeError> {
        self.carried(self.known(&Protocol::KNOWN)?, text_only)
    }

    fn known(&self, offered: &[Protocol]) -> Result<Protocol, HandshakeError> {
        let protocol = Protocol::by_name(&self.protocol).filter(|protocol| offered.contains(protocol));
        protocol.ok_or_else(|| HandshakeError::UnknownProtocol(self.protocol.clone()))
    }

    fn carried(&self, protocol: Protocol, text_only: bool) -> Result<Protocol, HandshakeError> {
        if text_only && protocol != Protocol::Json {
            return Err(HandshakeError::TransferFormat(protocol.name()));
        }
        Ok(protocol)
    }

    /// Appends the request, separator included (for clients and tests).
    #[cfg(test)]
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"protocol\":");
        json::write_text(out, &self.protocol);
        out.extend_from_slice(format!(",\"version\":{}}}", self.version).as_bytes());
        out.push(SEPARATOR);
    }
}

/// Decodes the answer to a handshake, without its separator: the error that it carries, if any.
#[cfg(any(test, feature = "service"))]
pub(crate) fn decode_handshake_response(text: &[u8]) -> Result<Option<String>, HandshakeError> {
    let mut error = None;
    read_object(text, |name, scanner, source| {
        if name != b"error" {
            return Ok(scanner.value(1).map(drop)?);
        }
        error = Some(json::text_of(source, json::string(scanner, "error")?)?.into_owned());
        Ok(())
    })?;
    Ok(error)
}

/// Appends the answer to a handshake, separator included.
pub(super) fn encode_handshake_response(out: &mut Vec<u8>, error: Option<&str>) {
    out.push(b'{');
    if let Some(error) = error {
        out.extend_from_slice(b"\"error\":");
        json::write_text(out, error);
    }
    out.extend_from_slice(&[b'}', SEPARATOR]);
}

/// Why a handshake is refused; `Display` is the text that the client sees (without the detail of `Malformed`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("The protocol '{0}' is not supported.")]
    UnknownProtocol(String),
    #[error("The server does not support version {version} of the '{protocol}' protocol.")]
    Version { protocol: String, version: i32 },
    #[error(
        "Cannot use the '{0}' protocol on the current transport. The transport does not support 'Binary' transfer format."
    )]
    TransferFormat(&'static str),
    /// Time ran out, or no separator within the receive limit.
    #[error("Handshake was canceled.")]
    Canceled,
    /// Shown with its detail only when detailed errors are on. The detail may quote the request: it is not for logs.
    #[error("An unexpected error occurred during connection handshake.")]
    Malformed(String),
}

impl HandshakeError {
    /// The text for the client; what was wrong with a malformed request is for detailed errors only.
    pub(crate) fn text(&self, detailed: bool) -> String {
        match self {
            Self::Malformed(detail) if detailed => format!("{self} InvalidDataException: {detail}"),
            _ => self.to_string(),
        }
    }
}

impl From<DecodeError> for HandshakeError {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

fn read_request(text: &[u8]) -> Result<(Option<String>, Option<i32>), DecodeError> {
    let (mut protocol, mut version) = (None, None);
    read_object(text, |name, scanner, source| {
        match name {
            b"protocol" => protocol = Some(json::text_of(source, json::string(scanner, "protocol")?)?.into_owned()),
            b"version" => version = json::integer(scanner, source, "version")?,
            _ => drop(scanner.value(1)?),
        }
        Ok(())
    })?;
    Ok((protocol, version))
}

/// Gives each member of an object to `member`, which passes its value.
fn read_object(
    text: &[u8],
    mut member: impl FnMut(&[u8], &mut Scanner<'_>, &str) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let source = json::valid_text(text);
    let mut scanner = Scanner::new(source.as_bytes());
    json::open_object(&mut scanner)?;
    let mut first = true;
    while let Some(name) = scanner.name(first)? {
        first = false;
        let name = json::text_of(source, name).unwrap_or_default();
        member(name.as_bytes(), &mut scanner, source)?;
    }
    Ok(())
}

/// Version 2 permits stateful reconnect; every older one is accepted, zero and negative ones too.
const LATEST_VERSION: i32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_version_and_transfer_format_are_checked_in_that_order() {
        let accept = |protocol: &str, version, offered: &[Protocol], text_only| {
            let request = HandshakeRequest { protocol: protocol.to_owned(), version };
            request.accept(offered, text_only).map_err(|error| error.to_string())
        };
        let (json, binary) = (Protocol::Json, Protocol::MessagePack);
        for version in [i32::MIN, 0, 1, 2] {
            assert_eq!(accept("JSON", version, &Protocol::ALL, true), Ok(json));
            assert_eq!(accept("messagePack", version, &Protocol::ALL, false), Ok(binary));
        }
        let unknown = Err("The protocol 'MessagePack' is not supported.".to_owned());
        assert_eq!(accept("MessagePack", 3, &[json], true), unknown);
        let version = Err("The server does not support version 3 of the 'MessagePack' protocol.".to_owned());
        assert_eq!(accept("MessagePack", 3, &Protocol::ALL, true), version);
        let format = "Cannot use the 'messagepack' protocol on the current transport. \
            The transport does not support 'Binary' transfer format.";
        assert_eq!(accept("MessagePack", 1, &Protocol::ALL, true), Err(format.to_owned()));
    }

    #[test]
    fn what_the_request_holds_beside_is_skipped() {
        let text = br#" {"x":{"protocol":"no"},"version":2,"pro\u0074ocol":"j\u0073on"} rest"#;
        let request = HandshakeRequest { protocol: "json".to_owned(), version: 2 };
        assert_eq!(HandshakeRequest::decode(text), Ok(request));
        for text in [
            &b"{\"protocol\":\"json\",\"version\":1"[..],
            b"",
            b"{\"protocol\":\"\\ud800\",\"version\":1}",
            b"{]",
            b"\xff{}",
        ] {
            assert_eq!(
                HandshakeRequest::decode(text),
                Err(HandshakeError::Malformed("Error reading JSON.".to_owned()))
            );
        }
        let missing = "Missing required property 'version'. Message content: {\"protocol\":\"json\",\"version\":null}";
        let malformed = Err(HandshakeError::Malformed(missing.to_owned()));
        assert_eq!(HandshakeRequest::decode(b"{\"protocol\":\"json\",\"version\":null}"), malformed);
    }
}
