use super::{ServerLink, Servers};
use crate::protocol::service::message::ClientResult;
use crate::protocol::service::{Ext, Message};
use crate::transport::ConnectionId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Questions of application servers to clients that have not been answered: spec section 13.
///
/// The service only passes on what is said. It has to know who asked, since the answer comes from the server that carries the client, which
/// does not know; and to end the question when nobody can answer it any more.
#[derive(Debug, Default)]
pub(crate) struct ClientResults {
    /// Where another connection of a server is found, if the one has ended on which it asked.
    servers: Arc<Servers>,
    records: Mutex<HashMap<Box<str>, Record>>,
    /// How many there are: most clients go while nobody waits for an answer of any.
    count: AtomicUsize,
}

#[derive(Debug)]
struct Record {
    connection: ConnectionId,
    /// The server connection on which it was asked.
    caller: Arc<ServerLink>,
    /// The one that carries the client.
    carrier: Arc<ServerLink>,
    since: Instant,
}

/// Why a question is not put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotPut {
    #[error("Another invocation has this id.")]
    Duplicate,
    #[error("Too many invocations of clients wait for their results.")]
    TooMany,
}

impl ClientResults {
    pub(super) fn new(servers: Arc<Servers>) -> Self {
        Self { servers, ..Self::default() }
    }

    pub(super) fn put(
        &self,
        invocation: &str,
        connection: ConnectionId,
        caller: &Arc<ServerLink>,
        carrier: &Arc<ServerLink>,
        most: usize,
    ) -> Result<(), NotPut> {
        let mut records = self.records.lock();
        if records.contains_key(invocation) {
            return Err(NotPut::Duplicate);
        }
        if records.len() >= most {
            return Err(NotPut::TooMany);
        }
        let (caller, carrier) = (caller.clone(), carrier.clone());
        records.insert(invocation.into(), Record { connection, caller, carrier, since: Instant::now() });
        self.count.store(records.len(), Ordering::Relaxed);
        Ok(())
    }

    /// The server that asks, and carries the client too, has not said yet that it is done with a question.
    pub(super) fn is_open(&self, invocation: &str) -> bool {
        self.count() > 0 && {
            let records = self.records.lock();
            records.get(invocation).is_some_and(|record| record.caller.server_id() == record.carrier.server_id())
        }
    }

    /// A server has an answer, or is done with its own question. Gives who waits for it, and the connection that was asked. What comes from
    /// neither the caller nor the server that carries the client is ignored.
    pub(super) fn answered(&self, invocation: &str, by: &ServerLink) -> Option<(Arc<ServerLink>, ConnectionId)> {
        let mut records = self.records.lock();
        let record = records.get(invocation)?;
        let is_callers = record.caller.server_id() == by.server_id();
        if !is_callers && record.carrier.server_id() != by.server_id() {
            return None;
        }
        let record = records.remove(invocation)?;
        self.count.store(records.len(), Ordering::Relaxed);
        (!is_callers).then_some((record.caller, record.connection))
    }

    /// A question could not be passed on: nobody is told of it here.
    pub(super) fn withdraw(&self, invocation: &str) {
        self.take(|id, _| id == invocation);
    }

    /// A client is no longer carried by this server connection.
    pub(super) fn left(&self, client: &ConnectionId, carrier: &ServerLink) {
        self.fail(
            |record| record.connection == *client && is(&record.carrier, carrier),
            |record| disconnected(&record.connection),
        );
    }

    /// Nor is any of its clients.
    pub(super) fn all_left(&self, carrier: &ServerLink) {
        self.fail(|record| is(&record.carrier, carrier), |record| disconnected(&record.connection));
    }

    /// The last connection of a server has ended: nobody waits for its questions.
    pub(super) fn caller_gone(&self, server_id: &str) {
        self.take(|_, record| **record.caller.server_id() == *server_id);
    }

    /// Ends what has waited for too long.
    pub(super) fn expire(&self, after: Duration) {
        let now = Instant::now();
        self.fail(|record| now - record.since > after, |_| "The client did not answer in time.".to_owned());
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn fail(&self, which: impl Fn(&Record) -> bool, why: impl Fn(&Record) -> String) {
        for (invocation, record) in self.take(|_, record| which(record)) {
            // who carries the client itself sees that it goes
            if record.caller.server_id() == record.carrier.server_id() {
                continue;
            }
            let Some(caller) = self.servers.of_server(&record.caller) else { continue };
            caller.send(&Message::ErrorCompletion {
                result: ClientResult {
                    invocation_id: &invocation,
                    connection_id: record.connection.as_str(),
                    caller_server_id: record.caller.server_id(),
                },
                error: &why(&record),
                ext: Ext::default(),
            });
        }
    }

    fn take(&self, which: impl Fn(&str, &Record) -> bool) -> Vec<(Box<str>, Record)> {
        if self.count() == 0 {
            return Vec::new();
        }
        let mut records = self.records.lock();
        let taken = records.extract_if(|id, record| which(id, record)).collect();
        self.count.store(records.len(), Ordering::Relaxed);
        taken
    }
}

fn is(link: &Arc<ServerLink>, other: &ServerLink) -> bool {
    std::ptr::eq(&raw const **link, other)
}

fn disconnected(connection: &ConnectionId) -> String {
    format!("Connection '{connection}' is disconnected.")
}
