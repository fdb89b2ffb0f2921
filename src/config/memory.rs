//! What clients can make the server hold at most, by the limits of a configuration.

use super::{Config, Hub};
use crate::service::ServiceOptions;
use std::fmt;

/// The worst case, term by term.
#[derive(Debug)]
pub(crate) struct Memory {
    terms: Vec<Term>,
}

#[derive(Debug)]
pub(crate) struct Term {
    pub(crate) what: String,
    pub(crate) count: u64,
    /// Bytes of each; `None`: nothing limits them.
    pub(crate) each: Option<u64>,
}

impl Memory {
    pub(crate) fn of(config: &Config) -> Self {
        let sockets = (config.server.limits.max_connections as u64).saturating_mul(config.server.listen.len() as u64);
        let mut terms = vec![Term::new("TCP connections: a request's headers, and HTTP/2 windows", sockets, {
            config.server.limits.max_header_bytes as u64 + HTTP2
        })];
        terms.push(Term::new(
            "bodies of REST calls (rest.max_parallel_bodies)",
            config.rest.max_parallel_bodies as u64,
            config.rest.body_limit as u64,
        ));
        if config.server.tls.is_some() {
            terms.push(Term::new("TCP connections: TLS", sockets, TLS));
        }
        if let Some(service) = &config.service {
            terms.extend(service_terms(service));
        }
        for (name, hub) in &config.hubs {
            terms.extend(hub_terms(name, hub));
        }
        Self { terms }
    }

    pub(crate) fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// `None`: a limit was lifted.
    pub(crate) fn total(&self) -> Option<u128> {
        self.terms.iter().map(Term::total).sum()
    }
}

fn service_terms(service: &ServiceOptions) -> Vec<Term> {
    let (clients, hubs) = (&service.clients, service.max_hubs as u64);
    let most = clients.max_connections.unwrap_or(usize::MAX).min(clients.transport.max_connections) as u64;
    let count = hubs.saturating_mul(most);
    let servers = service.max_server_connections as u64;
    let term = |what: &str, count: u64, each: usize| Term::new(&format!("service: {what}"), count, each as u64);
    let mut terms = vec![
        term("server connections, reading", servers, SERVER_READ),
        term("server connections: a message (servers.max_message_size)", servers, service.max_message_size),
        term(
            "server connections: what waits (servers.outbound_limit)",
            servers,
            service.outbound_limit.saturating_mul(4),
        ),
        term("clients, idle", count, IDLE),
        term(
            "clients: messages from others that wait (connection.outbound_limit)",
            count,
            clients.connection.outbound_limit,
        ),
        term("clients: answers of their server that wait (clients.relay_limit)", count, clients.relay_limit),
        term("clients: posted and not read (clients.transport.inbox_limit)", count, clients.transport.inbox_limit),
        term("bodies of POSTs (clients.transport.post_budget)", hubs, clients.transport.post_budget),
    ];
    terms.push(Term {
        what: "service: clients: part of a message (connection.maximum_receive_message_size)".into(),
        count,
        each: clients.connection.maximum_receive_message_size.map(|bytes| bytes as u64),
    });
    terms
}

fn hub_terms(name: &str, hub: &Hub) -> Vec<Term> {
    let (connection, transport) = (&hub.options.hub.connection, &hub.options.hub.transport);
    let count = transport.max_connections as u64;
    let term = |what: &str, count: u64, each: usize| Term::new(&format!("hub {name}: {what}"), count, each as u64);
    let mut terms = vec![
        term("connections, idle", count, IDLE),
        term("messages from others that wait (outbound_limit)", count, connection.outbound_limit),
        term("answers that wait (reply_limit)", count, connection.reply_limit),
        term("messages that wait for a call (look_ahead)", count, connection.look_ahead),
        Term {
            what: format!("hub {name}: part of a message (maximum_receive_message_size)"),
            count,
            each: connection.maximum_receive_message_size.map(|bytes| bytes as u64),
        },
        term("calls that run (max_running_calls)", count, hub.options.hub.max_running_calls.saturating_mul(2 * CALL)),
        // a letter takes up to three bytes, and its group's entry some more
        term(
            "names of groups (max_groups)",
            count,
            hub.options.max_groups.saturating_mul(3 * hub.options.max_name_length + GROUP),
        ),
        term("posted and not read (inbox_limit)", count, transport.inbox_limit),
        term("bodies of POSTs (post_budget)", 1, transport.post_budget),
        term("negotiated and not come (max_negotiated)", transport.max_negotiated as u64, NEGOTIATED),
    ];
    if transport.stateful_reconnect {
        terms.push(term("kept to resume (stateful_reconnect_buffer)", count, connection.stateful_reconnect_buffer));
    }
    terms
}

impl Term {
    fn new(what: &str, count: u64, each: u64) -> Self {
        Self { what: what.into(), count, each: Some(each) }
    }

    pub(crate) fn total(&self) -> Option<u128> {
        self.each.map(|each| u128::from(self.count) * u128::from(each))
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for term in &self.terms {
            match term.each {
                Some(each) => {
                    let total = show_size(term.total().unwrap_or_default());
                    writeln!(f, "{total:>12}  {} = {} x {}", term.what, term.count, show_size(each.into()))?;
                }
                None => writeln!(f, "{:>12}  {} = {} x any amount", "unlimited", term.what, term.count)?,
            }
        }
        match self.total() {
            Some(total) => {
                write!(f, "{:>12}  in all, if every client does its worst at the same time", show_size(total))
            }
            None => write!(f, "{:>12}  in all, as a limit is lifted", "unlimited"),
        }
    }
}

/// Writes a size as briefly as it can be read at a glance.
fn show_size(bytes: u128) -> String {
    let units = [("GiB", 1_u128 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.into_iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

/// An idle connection with a user, claims and groups, as measured.
const IDLE: usize = 2 * 1024;
/// What TLS adds to a connection, as measured.
const TLS: u64 = 8_704;
/// Windows of an HTTP/2 connection: four times that of a stream.
const HTTP2: u64 = 4 * 64 * 1024;
const NEGOTIATED: usize = 150;
/// Buffer of an application server's connection.
const SERVER_READ: usize = 32 * 1024;
const GROUP: usize = 100;
/// A call's task and its entries; its arguments are counted above.
const CALL: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_one_figure() {
        assert_eq!([show_size(12), show_size(65_536), show_size(3 << 29)], ["12 B", "64.0 KiB", "1.5 GiB"]);
    }
}
