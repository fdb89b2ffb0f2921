//! Server-sent events, as the SSE transport writes them.

/// Appends one event that carries `payload`: a line of data for each of its lines.
pub(crate) fn append_event(out: &mut Vec<u8>, payload: &[u8]) {
    let mut rest = payload;
    // An empty payload is an event without a line of data.
    while !rest.is_empty() {
        out.extend_from_slice(b"data: ");
        // A carriage return alone ends a line for the receiver too, and must not smuggle in a field of its own.
        let Some(end) = memchr::memchr2(b'\r', b'\n', rest) else {
            out.extend_from_slice(rest);
            out.extend_from_slice(b"\r\n");
            break;
        };
        out.extend_from_slice(&rest[..end]);
        out.extend_from_slice(b"\r\n");
        rest = &rest[end + if rest[end..].starts_with(b"\r\n") { 2 } else { 1 }..];
        if rest.is_empty() {
            // The payload ends with a line end, so one more line follows, and is empty.
            out.extend_from_slice(b"data: \r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Vectors {
        server_sent_events: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        payload: String,
        encoded: String,
    }

    #[test]
    fn vectors_encode_to_their_text() {
        let vectors: Vectors = serde_json::from_str(include_str!("../../tests/vectors/transports.json")).unwrap();
        for Case { name, payload, encoded } in vectors.server_sent_events {
            assert_eq!(event(&payload), encoded, "{name}");
        }
    }

    #[test]
    fn a_payload_cannot_write_a_field_of_its_own() {
        assert_eq!(event("a\rdata: b\r\revent: c"), "data: a\r\ndata: data: b\r\ndata: \r\ndata: event: c\r\n\r\n");
        assert_eq!(event("\n\r"), "data: \r\ndata: \r\ndata: \r\n\r\n");
    }

    fn event(payload: &str) -> String {
        let mut out = Vec::new();
        append_event(&mut out, payload.as_bytes());
        String::from_utf8(out).unwrap()
    }
}
