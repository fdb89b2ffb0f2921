use crate::{ConnectionOptions, TransportOptions};

/// What a hub allows: its own limits, and those of its connections and transports.
///
/// ```
/// use hubwire::{Hub, HubOptions};
///
/// let mut options = HubOptions::default().with_max_parallel_invocations(4);
/// options.connection.detailed_errors = cfg!(debug_assertions);
/// let hub = Hub::with_state(()).options(options).build();
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HubOptions {
    /// Limits and times of a connection.
    pub connection: ConnectionOptions,
    /// What the HTTP side offers.
    pub transport: TransportOptions,
    /// Ordinary calls of one connection that run at a time; the others wait, in order, within
    /// [`ConnectionOptions::look_ahead`]. Default 1, at least 1. Calls that stream, in either direction, are not counted; one that waits for
    /// a client result gives its place to the next.
    pub max_parallel_invocations: usize,
    /// Calls that stream, in either direction, of one connection that run at a time; one more is refused. As many ordinary calls may run
    /// at a time that have given their place away; one more waits. Default 256: a client makes the server hold up to twice as many tasks.
    pub max_running_calls: usize,
}

impl HubOptions {
    /// Sets how many ordinary calls of one connection run at a time.
    #[must_use]
    pub fn with_max_parallel_invocations(mut self, calls: usize) -> Self {
        self.max_parallel_invocations = calls;
        self
    }

    /// Sets how many calls that stream, and as many others, of one connection run at a time.
    #[must_use]
    pub fn with_max_running_calls(mut self, calls: usize) -> Self {
        self.max_running_calls = calls;
        self
    }

    /// Tells clients in full about errors that were not meant for them: for development.
    #[must_use]
    pub fn with_detailed_errors(mut self, detailed: bool) -> Self {
        self.connection.detailed_errors = detailed;
        self
    }

    /// Lets clients that ask for it resume a WebSocket connection on a new socket, with no message lost or doubled.
    #[must_use]
    pub fn with_stateful_reconnect(mut self, allowed: bool) -> Self {
        self.transport.stateful_reconnect = allowed;
        self
    }

    /// Replaces the limits and times of connections.
    #[must_use]
    pub fn with_connection(mut self, connection: ConnectionOptions) -> Self {
        self.connection = connection;
        self
    }

    /// Replaces what the HTTP side offers.
    #[must_use]
    pub fn with_transport(mut self, transport: TransportOptions) -> Self {
        self.transport = transport;
        self
    }
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            connection: ConnectionOptions::default(),
            transport: TransportOptions::default(),
            max_parallel_invocations: 1,
            max_running_calls: 256,
        }
    }
}
