//! What clients and callers of the API can make the server hold at most, by the limits of a configuration. What an application server
//! does on its own, such as the claims that it gives its clients or the groups that it puts them in, has no limit but its own.

use super::{Config, Hub};
use crate::auth::{LARGEST_IDENTITY, MAX_TOKEN_SIZE};
use crate::lifetime::{LAPSING, LASTING, USERS};
use crate::relay::Action;
use crate::service::{self, ServiceOptions};
use crate::{Transport, TransportOptions};
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
            "requests over HTTP/2, and answers that are not read (limits.max_http2_streams)",
            sockets.saturating_mul(config.server.limits.max_http2_streams.into()),
            config.server.limits.max_header_bytes as u64 + HTTP2_REQUEST,
        ));
        // collected in a buffer that doubles
        terms.push(Term::new(
            "bodies of REST calls (rest.max_parallel_bodies)",
            config.rest.max_parallel_bodies as u64,
            2 * config.rest.body_limit as u64,
        ));
        terms.push(invokes(config));
        if config.server.tls.is_some() {
            terms.push(Term::new("TCP connections: TLS", sockets, TLS));
        }
        if let Some(service) = &config.service {
            terms.extend(service_terms(service, config.server.limits.max_header_bytes));
        }
        for (name, hub) in &config.hubs {
            terms.extend(hub_terms(name, hub, config.server.limits.max_header_bytes));
            terms.extend(presence_terms(name, hub));
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

/// Answers of clients that are asked over REST: as they came, and as they are passed on.
fn invokes(config: &Config) -> Term {
    let of_hubs = config.hubs.values().map(|hub| hub.options.hub.connection.maximum_receive_message_size);
    let of_service = config.service.iter().map(|service| service.clients.connection.maximum_receive_message_size);
    let largest = of_hubs.chain(of_service).try_fold(0, |most, size| size.map(|size| most.max(size)));
    Term {
        what: "answers to REST calls of clients (rest.max_parallel_invokes)".into(),
        count: config.rest.max_parallel_invokes as u64,
        each: largest.map(|bytes| 2 * bytes as u64),
    }
}

fn service_terms(service: &ServiceOptions, max_header_bytes: usize) -> Vec<Term> {
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
        // twice: when it was negotiated and now
        term("clients: claims of their tokens", count, 2 * service::LARGEST_IDENTITY),
        // what is no UTF-8 grows
        term("clients: requests that servers are told of (limits.max_header_bytes)", count, 3 * max_header_bytes),
        term(
            "clients: answers to polls that are being written",
            count,
            taken(&clients.transport, clients.connection.outbound_limit.saturating_add(clients.relay_limit)),
        ),
        term(
            "negotiated and not come (clients.transport.max_negotiated)",
            hubs.saturating_mul(clients.transport.max_negotiated as u64),
            NEGOTIATED + service::LARGEST_IDENTITY,
        ),
        term(
            "questions to clients, with ids as libraries make them (servers.max_client_results)",
            hubs.saturating_mul(service.max_client_results as u64),
            QUESTION,
        ),
        term("memberships of users (65536, by callers with a key)", hubs.saturating_mul(USERS as u64), MEMBERSHIPS),
    ];
    terms.push(Term {
        what: "service: clients: part of a message (connection.maximum_receive_message_size)".into(),
        count,
        each: clients.connection.maximum_receive_message_size.map(|bytes| bytes as u64),
    });
    terms
}

/// What is taken of a queue for a poll is written while the queue fills again.
fn taken(transport: &TransportOptions, queue: usize) -> usize {
    if transport.transports.contains(&Transport::LongPolling) { queue } else { 0 }
}

fn hub_terms(name: &str, hub: &Hub, max_header_bytes: usize) -> Vec<Term> {
    let identity = if hub.bearer.is_some() { LARGEST_IDENTITY * MAX_TOKEN_SIZE } else { 0 };
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
        term("negotiated and not come (max_negotiated)", transport.max_negotiated as u64, NEGOTIATED + identity),
        // twice: when it was negotiated and now
        term("claims of tokens", count, 2 * identity),
        term("queries (limits.max_header_bytes)", count, max_header_bytes),
        term(
            "answers to polls that are being written",
            count,
            taken(transport, connection.outbound_limit.saturating_add(connection.reply_limit)),
        ),
        term("memberships of users (65536, by callers with a key)", USERS as u64, MEMBERSHIPS),
    ];
    if transport.stateful_reconnect {
        terms.push(term("kept to resume (stateful_reconnect_buffer)", count, connection.stateful_reconnect_buffer));
    }
    terms
}

/// Presence, where anybody may see it.
fn presence_terms(name: &str, hub: &Hub) -> Vec<Term> {
    let options = &hub.options;
    if !options.permissions.grants(Action::SeePresence.name()) {
        return Vec::new();
    }
    let count = options.hub.transport.max_connections as u64;
    let user = if hub.bearer.is_some() { MAX_TOKEN_SIZE } else { 0 };
    let term = |what: &str, each: usize| Term::new(&format!("hub {name}: presence: {what}"), count, each as u64);
    // each call finds room for its answer before it is made; streams take turns
    let answers = options.hub.max_parallel_invocations.saturating_add(1).saturating_mul(options.max_members);
    vec![
        term(
            "changes that wait for streams (max_running_calls)",
            options.hub.max_running_calls.saturating_mul(CHANGES),
        ),
        term("members of watched groups (max_groups)", options.max_groups.saturating_mul(MEMBER + user)),
        term("lists beyond reply_limit (max_members)", answers.saturating_mul(LISTED + ESCAPED * user)),
    ]
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
/// Of a request: entries of 100 headers, tasks, and what is unsent of its answer. Reckoned, not measured.
const HTTP2_REQUEST: u64 = 64 * 1024;
/// A question's entries, and its id as the libraries make it.
const QUESTION: usize = 256;
/// Groups of a user, whose names have up to 1,024 letters of four bytes in the API, and the user.
const MEMBERSHIPS: usize = (LASTING + LAPSING) * (4 * 1024 + GROUP) + 4 * 1024;
/// Changes that wait for one stream of presence.
const CHANGES: usize = 16 * 1024;
/// A member of a watched group, and one in a list, but for the user's id.
const MEMBER: usize = 200;
const LISTED: usize = 100;
/// A letter that JSON has to escape.
const ESCAPED: usize = 6;
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
