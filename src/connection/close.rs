use crate::protocol::hub::DecodeError;
use std::fmt;

/// Why a connection ended. `on_disconnected` handlers take it as a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The client closed its WebSocket, or sent a `Close` message, which may carry an error text of its own.
    ClientClosed(Option<Box<str>>),
    /// The transport broke off without a goodbye.
    TransportLost,
    /// The client broke the rules of the transport (RFC 6455); the number is the close code that it was sent.
    TransportViolated(u16),
    /// No handshake in time.
    HandshakeTimeout,
    /// The handshake was refused; the text is what the client saw.
    HandshakeRefused(Box<str>),
    /// The client was silent for longer than the client timeout.
    ClientTimeout,
    /// A message could not be understood, or was larger than the receive limit; the text says what was wrong.
    InvalidMessage(Box<str>),
    /// A message came that could be understood and has no place: an answer to another's question, or a `Sequence` beyond what has come; the
    /// text says what was wrong.
    MisplacedMessage(Box<str>),
    /// The `on_connected` handler failed; the text is what the client is told.
    ConnectFailed(Box<str>),
    /// Hub code, or another connection's, closed it.
    Aborted,
    /// Somebody outside of the hub asked for it: the REST API, or an application server.
    Requested {
        /// What the client is told.
        error: Option<Box<str>>,
        /// Whether it may connect again by itself.
        allow_reconnect: bool,
    },
    /// It did not read: more waited for it than the outbound limit allows, or one write took longer than the send timeout.
    SlowReceiver,
    /// The credential it came with has expired.
    AuthenticationExpired,
    /// The application server that it was passed on to has ended it, by the service.
    ServerClosed {
        /// What the server says went wrong, if anything did.
        error: Option<Box<str>>,
        /// The server has sent the hub's `Close` message itself.
        said_goodbye: bool,
    },
    /// The application server that it was passed on to has gone.
    ServerLost,
    /// The server is shutting down.
    Shutdown,
}

impl CloseReason {
    /// Tells whether the client is allowed to connect again by itself.
    pub fn allows_reconnect(&self) -> bool {
        self.row().allow_reconnect
    }

    /// The text of the hub's `Close` message: `None` for a close without error.
    pub(crate) fn error(&self, detailed: bool) -> Option<String> {
        match self {
            Self::ConnectFailed(text) => return Some(text.to_string()),
            Self::Requested { error, .. } => return error.as_deref().map(str::to_owned),
            _ => {}
        }
        if let Self::ServerClosed { error: Some(text), .. } = self {
            return Some(if detailed { format!("{CLOSED} {text}") } else { CLOSED.to_owned() });
        }
        if matches!(self, Self::ServerLost) {
            return detailed.then(|| "Server connection dropped.".to_owned());
        }
        let kind = self.row().error?;
        Some(match self.detail() {
            Some(detail) if detailed => format!("{CLOSED} {kind}: {detail}"),
            _ => CLOSED.to_owned(),
        })
    }

    /// Tells whether the hub says goodbye with a `Close` message.
    pub(crate) fn says_goodbye(&self) -> bool {
        self.row().goodbye
    }

    /// The code of the WebSocket's close frame.
    pub(crate) fn websocket_code(&self) -> u16 {
        match self {
            Self::TransportViolated(code) => *code,
            _ => 1000,
        }
    }

    /// The label in metrics and logs.
    pub(crate) fn label(&self) -> &'static str {
        self.row().label
    }

    fn detail(&self) -> Option<&str> {
        match self {
            Self::InvalidMessage(text) | Self::MisplacedMessage(text) => Some(text),
            Self::ClientTimeout => {
                Some("Client hasn't sent a message/ping within the configured ClientTimeoutInterval.")
            }
            _ => None,
        }
    }

    fn row(&self) -> Row {
        let row = |label, goodbye, error, allow_reconnect| Row { label, goodbye, error, allow_reconnect };
        match self {
            // label, whether there is a `Close`, the exception that its error names, allowReconnect
            Self::ClientClosed(_) => row("client_closed", true, None, false),
            Self::TransportLost => row("transport_lost", false, None, true),
            Self::TransportViolated(_) => row("transport_violated", false, None, true),
            Self::HandshakeTimeout => row("handshake_timeout", false, None, false),
            Self::HandshakeRefused(_) => row("handshake_refused", false, None, false),
            Self::ClientTimeout => row("client_timeout", true, Some("OperationCanceledException"), true),
            Self::InvalidMessage(_) => row("invalid_message", true, Some("InvalidDataException"), true),
            Self::MisplacedMessage(_) => row("misplaced_message", true, Some("InvalidOperationException"), true),
            Self::ConnectFailed(_) => row("connect_failed", true, None, false),
            Self::Aborted => row("aborted", true, None, false),
            Self::Requested { allow_reconnect, .. } => row("requested", true, None, *allow_reconnect),
            Self::SlowReceiver => row("slow_receiver", true, None, true),
            Self::AuthenticationExpired => row("authentication_expired", true, None, true),
            Self::ServerClosed { said_goodbye, .. } => row("server_closed", !said_goodbye, None, false),
            Self::ServerLost => row("server_lost", true, None, true),
            Self::Shutdown => row("shutdown", true, None, true),
        }
    }
}

impl From<DecodeError> for CloseReason {
    fn from(e: DecodeError) -> Self {
        Self::InvalidMessage(e.to_string().into())
    }
}

/// The label, which holds nothing that a client chose.
impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

struct Row {
    label: &'static str,
    goodbye: bool,
    error: Option<&'static str>,
    allow_reconnect: bool,
}

pub(crate) const CLOSED: &str = "Connection closed with an error.";
