use crate::protocol::service::Message;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What a ping of an application server asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// Whether the hub has clients.
    Status,
    /// Which servers are connected for the hub.
    Servers,
    Shutdown(Shutdown),
    /// Our own question, given back.
    Echo(&'a str),
    /// Nothing.
    Nothing,
}

/// What becomes of a server connection that goes away, and of the clients that it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shutdown {
    /// They may connect again.
    Drop,
    /// They move to another server.
    Migrate,
    /// They stay as long as it stays.
    Wait,
}

/// Reads the keys, which are at even places; the first that is known counts.
pub(super) fn read<'a>(elements: &[&'a str]) -> Asked<'a> {
    let pairs = elements.chunks_exact(2);
    let mut known = pairs.map(|pair| match pair {
        ["echo", value] => Asked::Echo(value),
        ["status", _] => Asked::Status,
        ["servers", _] => Asked::Servers,
        ["shutdown", "fin:0"] => Asked::Shutdown(Shutdown::Drop),
        ["shutdown", "fin:1"] => Asked::Shutdown(Shutdown::Migrate),
        ["shutdown", fin] if fin.starts_with("fin:") => Asked::Shutdown(Shutdown::Wait),
        _ => Asked::Nothing,
    });
    known.find(|asked| *asked != Asked::Nothing).unwrap_or(Asked::Nothing)
}

/// How many there are: of one hub, whether there are any, and over all hubs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) clients: usize,
    pub(super) servers: usize,
}

/// The answer to [`Asked::Status`], as its elements.
pub(super) fn status(has_clients: bool, totals: Totals) -> [String; 6] {
    let status = if has_clients { "1" } else { "0" };
    let (clients, servers) = (totals.clients.to_string(), totals.servers.to_string());
    ["status".into(), status.into(), "clientcount".into(), clients, "servercount".into(), servers]
}

/// The answer to [`Asked::Servers`], as its value: a time that has to grow from answer to answer, and the ids in their order.
pub(super) fn servers(now: SystemTime, ids: &BTreeSet<Arc<str>>) -> String {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let ticks = TICKS_TO_1970 + since.as_nanos() / 100;
    let ids: Vec<&str> = ids.iter().map(|id| &**id).collect();
    format!("{ticks}:{}", ids.join(";"))
}

/// A ping of one key.
pub(super) fn ping<'a>(key: &'a str, value: &'a str) -> Message<'a> {
    Message::Ping(vec![key, value])
}

/// Of 100 ns each, since the year 1.
const TICKS_TO_1970: u128 = 621_355_968_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_key_that_is_known_counts() {
        for (elements, asked) in [
            (&[][..], Asked::Nothing),
            (&["status"], Asked::Nothing),
            (&["status", "1"], Asked::Status),
            (&["x", "status", "servers", ""], Asked::Servers),
            (&["#clientInHub", "2", "#client", "1"], Asked::Nothing),
            (&["shutdown", "fin:1", "status"], Asked::Shutdown(Shutdown::Migrate)),
            (&["shutdown", "fin:0"], Asked::Shutdown(Shutdown::Drop)),
            (&["shutdown", "fin:7"], Asked::Shutdown(Shutdown::Wait)),
            (&["shutdown", "finack"], Asked::Nothing),
            (&["echo", "42", "status", "1"], Asked::Echo("42")),
        ] {
            assert_eq!(read(elements), asked, "{elements:?}");
        }
    }

    #[test]
    fn servers_are_listed_in_order_behind_ticks() {
        let ids = ["b", "a_1", "a"].map(Arc::from).into();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_711_065_600);
        assert_eq!(servers(at, &ids), "638466624000000000:a;a_1;b");
        assert_eq!(servers(SystemTime::UNIX_EPOCH, &BTreeSet::new()), "621355968000000000:");
    }
}
