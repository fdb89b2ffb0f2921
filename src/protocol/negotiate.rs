//! What a client asks before it connects, and the bodies that answer it. Every answer has status 200, errors too.

use crate::protocol::hub::write_json_text;

/// What a client asks for in the query of its negotiate request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NegotiateRequest {
    /// The version that is answered: what the client asked for, but none that is newer than ours.
    pub(crate) version: i32,
    /// Whether the client wants to be able to resume; it counts only where the endpoint allows it.
    pub(crate) stateful_reconnect: bool,
}

impl NegotiateRequest {
    /// Reads the query (what stands behind the question mark). Names are compared without regard to case.
    pub(crate) fn from_query(query: &str, minimum_version: i32) -> Result<Self, NegotiateError> {
        let mut version = None;
        let mut stateful_reconnect = false;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if name.eq_ignore_ascii_case("negotiateVersion") {
                // a repeated parameter is one value with a comma in it
                let asked = value.trim().parse::<i32>().ok().filter(|_| version.is_none());
                version = Some(asked.ok_or(NegotiateError::NotAnInteger)?);
            } else if name.eq_ignore_ascii_case("useStatefulReconnect") {
                stateful_reconnect = value.trim().eq_ignore_ascii_case("true");
            }
        }
        let version = version.unwrap_or(0);
        if version < minimum_version {
            return Err(NegotiateError::TooOld(version));
        }
        Ok(Self { version: version.min(LATEST_VERSION), stateful_reconnect })
    }
}

/// Why a negotiation is refused; `Display` is the text that the client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NegotiateError {
    #[error("The client requested a non-integer protocol version.")]
    NotAnInteger,
    #[error("The client requested version '{0}', but the server does not support this version.")]
    TooOld(i32),
}

/// The transports that an endpoint allows. They are always offered in the order of these fields, which is the order in
/// which clients try them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transports {
    pub(crate) websockets: bool,
    pub(crate) server_sent_events: bool,
    pub(crate) long_polling: bool,
}

impl Transports {
    #[cfg(test)]
    pub(crate) const ALL: Self = Self { websockets: true, server_sent_events: true, long_polling: true };
}

/// Everything that an answer tells the client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NegotiateResponse<'a> {
    pub(crate) version: i32,
    /// Asked for and allowed. Unasked it must not be offered: the JavaScript client would refuse to start.
    pub(crate) stateful_reconnect: bool,
    pub(crate) connection_id: &'a str,
    /// Told from version 1 on; before that the id is the token.
    pub(crate) connection_token: &'a str,
    /// Seconds that the client's credential is good for, where it can be refreshed.
    pub(crate) token_lifetime: Option<u64>,
    pub(crate) transports: Transports,
}

impl NegotiateResponse<'_> {
    /// The body, its properties in the order of the reference.
    pub(crate) fn to_json(self) -> String {
        let mut body = Body::new();
        if self.stateful_reconnect {
            body.raw("useStatefulReconnect", "true");
        }
        body.raw("negotiateVersion", &self.version.to_string());
        body.text("connectionId", self.connection_id);
        if self.version > 0 {
            body.text("connectionToken", self.connection_token);
        }
        if let Some(seconds) = self.token_lifetime {
            body.raw("tokenLifetimeSeconds", &seconds.to_string());
        }
        let offered = [
            (self.transports.websockets, r#"{"transport":"WebSockets","transferFormats":["Text","Binary"]}"#),
            (self.transports.server_sent_events, r#"{"transport":"ServerSentEvents","transferFormats":["Text"]}"#),
            (self.transports.long_polling, r#"{"transport":"LongPolling","transferFormats":["Text","Binary"]}"#),
        ];
        let offered: Vec<&str> = offered.iter().filter(|(allowed, _)| *allowed).map(|(_, text)| *text).collect();
        body.raw("availableTransports", &format!("[{}]", offered.join(",")));
        body.finish()
    }
}

/// The body that sends a client to another server, where it negotiates again with this token.
#[cfg_attr(not(test), expect(dead_code, reason = "what a service in front of hubs answers; a hub itself never does"))]
pub(crate) fn redirect(url: &str, access_token: &str) -> String {
    let mut body = Body::new();
    // The Python client looks for a version and for transports before it looks for a redirect.
    body.raw("negotiateVersion", "0");
    body.text("url", url);
    body.text("accessToken", access_token);
    body.raw("availableTransports", "[]");
    body.finish()
}

/// The body that refuses; no connection exists then.
pub(crate) fn refusal(error: &str) -> String {
    let mut body = Body::new();
    body.text("error", error);
    body.finish()
}

/// A JSON object that is written member by member.
struct Body(Vec<u8>);

impl Body {
    fn new() -> Self {
        Self(vec![b'{'])
    }

    fn raw(&mut self, name: &str, value: &str) {
        self.name(name);
        self.0.extend_from_slice(value.as_bytes());
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        write_json_text(&mut self.0, value);
    }

    fn name(&mut self, name: &str) {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        write_json_text(&mut self.0, name);
        self.0.push(b':');
    }

    fn finish(mut self) -> String {
        self.0.push(b'}');
        // Only text was written, so nothing is replaced.
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

const LATEST_VERSION: i32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Vectors {
        negotiate: Vec<Case>,
    }

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Case {
        name: String,
        query: String,
        options: Options,
        connection_id: String,
        connection_token: String,
        body: String,
    }

    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
    #[derive(Default)]
    struct Options {
        minimum_protocol_version: i32,
        allow_stateful_reconnects: bool,
    }

    #[test]
    fn vectors_give_their_bodies() {
        let vectors: Vectors = serde_json::from_str(include_str!("../../tests/vectors/transports.json")).unwrap();
        for case in vectors.negotiate {
            let body = match NegotiateRequest::from_query(&case.query, case.options.minimum_protocol_version) {
                Ok(request) => NegotiateResponse {
                    version: request.version,
                    stateful_reconnect: request.stateful_reconnect && case.options.allow_stateful_reconnects,
                    connection_id: &case.connection_id,
                    connection_token: &case.connection_token,
                    token_lifetime: None,
                    transports: Transports::ALL,
                }
                .to_json(),
                Err(error) => refusal(&error.to_string()),
            };
            assert_eq!(body, case.body, "{}", case.name);
        }
    }

    #[test]
    fn queries_are_read_whatever_their_spelling() {
        let version = |query: &str| NegotiateRequest::from_query(query, 0).map(|request| request.version);
        assert_eq!(version("NEGOTIATEVERSION=1"), Ok(1));
        assert_eq!(version("a=b&&=&negotiate%56ersion=%31&x"), Ok(1));
        assert_eq!(version("negotiateVersion=+1"), Ok(1));
        assert_eq!(version("negotiateVersion=2147483647"), Ok(1));
        assert_eq!(version("negotiateVersion=-1"), Err(NegotiateError::TooOld(-1)));
        for wrong in ["1&negotiateVersion=1", "", "1.0", "2147483648", "1,1", "%", "%zz", "%e2%98%83"] {
            assert_eq!(version(&format!("negotiateVersion={wrong}")), Err(NegotiateError::NotAnInteger), "{wrong}");
        }
        let stateful = |query: &str| NegotiateRequest::from_query(query, 0).unwrap().stateful_reconnect;
        assert!(stateful("UseStatefulReconnect=TRUE"));
        assert!(!stateful("useStatefulReconnect=1") && !stateful("useStatefulReconnect"));
    }

    #[test]
    fn only_what_is_allowed_is_offered() {
        let response = NegotiateResponse {
            version: 1,
            stateful_reconnect: false,
            connection_id: "i",
            connection_token: "t",
            token_lifetime: None,
            transports: Transports { websockets: false, server_sent_events: true, long_polling: false },
        };
        let offered = r#"[{"transport":"ServerSentEvents","transferFormats":["Text"]}]"#;
        let body = format!(
            r#"{{"negotiateVersion":1,"connectionId":"i","connectionToken":"t","availableTransports":{offered}}}"#
        );
        assert_eq!(response.to_json(), body);
    }

    #[test]
    fn a_redirect_names_another_server() {
        let body = r#"{"negotiateVersion":0,"url":"https://a/?q=\"","accessToken":"t","availableTransports":[]}"#;
        assert_eq!(redirect("https://a/?q=\"", "t"), body);
    }
}
