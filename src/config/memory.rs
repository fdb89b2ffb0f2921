//! What clients can make the server hold at most, by the limits of a configuration.

use super::{Config, Hub};
use crate::ServiceOptions;
use crate::units::show_size;
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
        for (name, hub) in &config.hubs {
            terms.extend(hub_terms(name, hub));
        }
        if let Some(service) = &config.service {
            terms.extend(service_terms(service, sockets));
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

fn service_terms(options: &ServiceOptions, sockets: u64) -> Vec<Term> {
    let (clients, servers) = (&options.clients, options.max_server_connections as u64);
    let connection = &clients.connection;
    // the limit is one for each hub; no more clients can come than there are sockets
    let count = sockets.min((clients.transport.max_connections as u64).saturating_mul(options.max_hubs as u64));
    let term = |what: &str, count: u64, each: usize| Term::new(&format!("service: {what}"), count, each as u64);
    vec![
        term(
            "server connections: what waits (outbound_limit, twice)",
            servers,
            2 * options.outbound_limit + READ_BUFFER,
        ),
        term("server connections: part of a message (max_message_size)", servers, options.max_message_size),
        term("clients, idle, with what is kept of their requests", count, PASSED_ON),
        term("clients: what their servers sent them (relay_limit)", count, clients.relay_limit),
        term("clients: messages from others that wait (outbound_limit)", count, connection.outbound_limit),
        Term {
            what: "service: clients: part of a message (maximum_receive_message_size)".into(),
            count,
            each: connection.maximum_receive_message_size.map(|bytes| bytes as u64),
        },
        term("clients: kept to resume (stateful_reconnect_buffer)", count, connection.stateful_reconnect_buffer),
        term("bodies of POSTs (post_budget), for each hub", options.max_hubs as u64, clients.transport.post_budget),
        term("questions to clients (max_client_results), for each hub", options.max_hubs as u64, {
            options.max_client_results.saturating_mul(QUESTION)
        }),
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

/// An idle connection with a user, claims and groups, as measured.
const IDLE: usize = 2 * 1024;
/// What TLS adds to a connection, as measured.
const TLS: u64 = 8_704;
/// Windows of an HTTP/2 connection: four times that of a stream.
const HTTP2: u64 = 4 * 64 * 1024;
/// What a server connection reads into.
const READ_BUFFER: usize = 32 * 1024;
/// An idle client of the service, with a token, headers and a query of the longest kind that the libraries make.
const PASSED_ON: usize = 3 * 1024 + 16 * 1024;
/// A question of an application server that waits for a client.
const QUESTION: usize = 300;
const NEGOTIATED: usize = 150;
const GROUP: usize = 100;
/// A call's task and its entries; its arguments are counted above.
const CALL: usize = 1024;
