use crate::Hub;

/// How a hub's WebSockets got their streams, since it was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgrades {
    /// On the TCP stream itself, taken back from the HTTP stack: the fast way.
    pub raw: u64,
    /// On whatever else the server gave, as TLS: the slower way.
    pub boxed: u64,
}

/// Counts a hub's WebSockets by how they got their streams, for a test that a server in front of the hub leaves it the TCP streams.
pub fn upgrades(hub: &Hub) -> Upgrades {
    let metrics = hub.metrics();
    Upgrades { raw: metrics.raw_sockets.value(), boxed: metrics.boxed_streams.value() }
}
