use super::{
    Answer, Audience, Backplane, BackplaneError, Closing, Deliver, Encoded, Existence, Found, Membership, Query,
    Reached, UserMembership, Whom,
};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

/// Nodes in one process. One node alone, the usual case, is a bus that it has for itself; several are for tests of what must also hold
/// between machines.
#[derive(Default)]
pub(crate) struct Bus {
    nodes: Mutex<Arc<Vec<Weak<dyn Deliver>>>>,
    questions: AtomicU64,
    /// Who asked, by question, where the answer has to go to another node.
    asked: Mutex<HashMap<String, Weak<dyn Deliver>>>,
}

impl Bus {
    /// A backplane for one node.
    pub(crate) fn single() -> Arc<dyn Backplane> {
        Arc::new(Self::default()).join()
    }

    /// A backplane for one more node on this bus.
    pub(crate) fn join(self: &Arc<Self>) -> Arc<dyn Backplane> {
        Arc::new(Memory { bus: self.clone(), own: OnceLock::new() })
    }

    fn nodes(&self) -> Vec<Arc<dyn Deliver>> {
        let nodes = self.nodes.lock().clone();
        nodes.iter().filter_map(Weak::upgrade).collect()
    }
}

/// One node's end of a [`Bus`].
struct Memory {
    bus: Arc<Bus>,
    own: OnceLock<Weak<dyn Deliver>>,
}

impl Backplane for Memory {
    fn attach(&self, node: Weak<dyn Deliver>) {
        if self.own.set(node.clone()).is_ok() {
            let mut nodes = self.bus.nodes.lock();
            let mut all = Vec::clone(&nodes);
            all.retain(|node| node.strong_count() > 0);
            all.push(node);
            *nodes = Arc::new(all);
        }
    }

    fn send(&self, audience: &Audience, message: &dyn Encoded) -> Result<Reached<()>, BackplaneError> {
        let nodes = self.bus.nodes.lock().clone();
        for node in nodes.iter().filter_map(Weak::upgrade) {
            node.deliver(audience, message)?;
        }
        Ok(Reached::Done(()))
    }

    fn change_group(&self, connection: &str, change: Membership<'_>) -> Reached<bool> {
        Reached::Done(self.bus.nodes().iter().any(|node| node.change_group(connection, change)))
    }

    fn change_user(&self, user: &str, change: UserMembership<'_>) -> Reached<()> {
        for node in self.bus.nodes() {
            node.change_user(user, change);
        }
        Reached::Done(())
    }

    fn question_id(&self) -> String {
        format!("s{}", self.bus.questions.fetch_add(1, Relaxed) + 1)
    }

    fn ask(&self, connection: &str, question: &str, message: &dyn Encoded) -> Result<Reached<()>, BackplaneError> {
        if let Some(own) = self.own.get() {
            self.bus.asked.lock().insert(question.to_owned(), own.clone());
        }
        let mut outcome = Err(BackplaneError::NoConnection(connection.to_owned()));
        for node in self.bus.nodes() {
            match node.ask(connection, question, message) {
                Ok(true) => return Ok(Reached::Done(())),
                Ok(false) => {}
                Err(e) => outcome = Err(e.into()),
            }
        }
        self.bus.asked.lock().remove(question);
        outcome
    }

    fn answer(&self, question: &str, answer: Answer) {
        let asker = self.bus.asked.lock().remove(question);
        if let Some(asker) = asker.as_ref().and_then(Weak::upgrade) {
            asker.answered(question, answer);
        }
    }

    fn close(&self, closing: &Closing) -> Reached<()> {
        for node in self.bus.nodes() {
            node.close(closing);
        }
        Reached::Done(())
    }

    fn query(&self, query: &Query) -> Reached<Vec<Found>> {
        Reached::Done(self.bus.nodes().iter().flat_map(|node| node.query(query)).collect())
    }

    fn exists(&self, what: &Existence) -> Reached<bool> {
        Reached::Done(self.bus.nodes().iter().any(|node| node.exists(what)))
    }

    fn interest(&self, _: &Whom, _: bool) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_bus_keeps_the_guarantees() {
        let bus = Arc::new(Bus::default());
        crate::backplane::suite::check(|| bus.join()).await;
    }
}
