use super::{
    Answer, Audience, Backplane, BackplaneError, Closing, Deliver, Encoded, Existence, Found, Membership, News, NodeId,
    Query, Reached, UserMembership, Watching, Whom,
};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

/// Nodes in one process. One node alone, the usual case, is a bus that it has for itself; several are for tests of what must also hold
/// between machines.
#[derive(Default)]
pub(crate) struct Bus {
    nodes: Mutex<Nodes>,
    joined: AtomicU64,
    questions: AtomicU64,
    /// Who asked, by question, where the answer has to go to another node.
    asked: Mutex<HashMap<String, Weak<dyn Deliver>>>,
    /// Who watches, by group.
    watchings: Mutex<HashMap<String, Vec<Watching>>>,
}

type Nodes = Arc<Vec<(NodeId, Weak<dyn Deliver>)>>;

impl Bus {
    /// A backplane for one node.
    pub(crate) fn single() -> Arc<dyn Backplane> {
        Arc::new(Self::default()).join()
    }

    /// A backplane for one more node on this bus.
    pub(crate) fn join(self: &Arc<Self>) -> Arc<dyn Backplane> {
        let id = NodeId(self.joined.fetch_add(1, Relaxed) + 1);
        Arc::new(Memory { bus: self.clone(), id, own: OnceLock::new() })
    }

    fn nodes(&self) -> Vec<Arc<dyn Deliver>> {
        self.named_nodes().into_iter().map(|(_, node)| node).collect()
    }

    fn named_nodes(&self) -> Vec<(NodeId, Arc<dyn Deliver>)> {
        let nodes = self.nodes.lock().clone();
        nodes.iter().filter_map(|(id, node)| Some((*id, node.upgrade()?))).collect()
    }

    /// Forgets watchings.
    fn forget(&self, ends: impl Fn(&str, &Watching) -> bool) {
        self.watchings.lock().retain(|group, watchings| {
            watchings.retain(|watching| !ends(group, watching));
            !watchings.is_empty()
        });
    }
}

/// One node's end of a [`Bus`].
struct Memory {
    bus: Arc<Bus>,
    id: NodeId,
    own: OnceLock<Weak<dyn Deliver>>,
}

impl Backplane for Memory {
    fn attach(&self, node: Weak<dyn Deliver>) {
        if self.own.set(node.clone()).is_err() {
            return;
        }
        {
            let mut nodes = self.bus.nodes.lock();
            let mut all = Vec::clone(&nodes);
            all.retain(|(_, node)| node.strong_count() > 0);
            all.push((self.id, node.clone()));
            *nodes = Arc::new(all);
        }
        let watchings = self.bus.watchings.lock().clone();
        if let Some(node) = node.upgrade() {
            watchings.iter().for_each(|(group, all)| all.iter().for_each(|one| node.watched(group, *one, true)));
        }
    }

    fn send(&self, audience: &Audience, message: &dyn Encoded) -> Result<Reached<()>, BackplaneError> {
        let nodes = self.bus.nodes.lock().clone();
        for node in nodes.iter().filter_map(|(_, node)| node.upgrade()) {
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

    fn give_up(&self, question: &str) {
        self.bus.asked.lock().remove(question);
        for node in self.bus.nodes() {
            node.given_up(question);
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

    fn watch(&self, group: &str, number: u64) -> Reached<Vec<NodeId>> {
        let watching = Watching { node: self.id, number };
        // known first: a node that comes meanwhile is asked by that, or found here
        let mut watchings = self.bus.watchings.lock();
        let of_group = watchings.entry(group.to_owned()).or_default();
        if !of_group.contains(&watching) {
            of_group.push(watching);
        }
        drop(watchings);
        let nodes = self.bus.named_nodes();
        for (_, node) in &nodes {
            node.watched(group, watching, true);
        }
        Reached::Done(nodes.into_iter().map(|(id, _)| id).collect())
    }

    fn unwatch(&self, group: &str, number: u64) {
        let watching = Watching { node: self.id, number };
        self.bus.forget(|of, known| of == group && *known == watching);
        for node in self.bus.nodes() {
            node.watched(group, watching, false);
        }
    }

    fn tell(&self, group: &str, news: &News) {
        let watchings = self.bus.watchings.lock().get(group).cloned().unwrap_or_default();
        for (id, node) in self.bus.named_nodes() {
            if watchings.iter().any(|watching| watching.node == id) {
                node.hear(self.id, group, news);
            }
        }
    }

    fn interest(&self, _: &Whom, _: bool) {}
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.bus.forget(|_, watching| watching.node == self.id);
        for node in self.bus.nodes() {
            node.lose(self.id);
        }
    }
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
