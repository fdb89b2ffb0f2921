use crate::backplane::{Answer, Backplane};
use crate::transport::ConnectionId;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Questions to clients that have not been answered.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// By the invocation id that they carry.
    all: DashMap<Arc<str>, Question>,
    /// The ids of those to connections of this node, which need not search for them when they leave.
    to: DashMap<ConnectionId, HashSet<Arc<str>>>,
}

#[derive(Debug)]
struct Question {
    /// The connection that was asked; `None` if it is another node's, which checks.
    connection: Option<ConnectionId>,
    /// Who waits here; `None` if another node asked.
    asker: Option<oneshot::Sender<Answer>>,
}

/// What a client's completion came to.
pub(super) enum Outcome {
    Answered,
    /// Another node asked.
    Forward(Answer),
    Unknown,
    /// Somebody else was asked.
    Foreign,
}

/// A question under way: await the answer. Dropping it forgets the question.
pub(crate) struct Asked {
    questions: Arc<Questions>,
    id: Arc<str>,
    answer: oneshot::Receiver<Answer>,
    /// The way to the node that has the connection, if that is another one.
    elsewhere: Option<Arc<dyn Backplane>>,
}

impl Asked {
    /// Waits for the answer.
    ///
    /// Cancel safe: the question is forgotten when this is dropped.
    pub(crate) async fn answer(mut self) -> Answer {
        (&mut self.answer).await.unwrap_or(Answer::Disconnected)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.questions.take(&self.id).is_some()
            && let Some(backplane) = &self.elsewhere
        {
            backplane.give_up(&self.id);
        }
    }
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Questions {
    /// A question of this node's to a connection of its own.
    pub(super) fn put(self: &Arc<Self>, id: &str, connection: ConnectionId) -> Asked {
        self.wait(id, Some(connection), None)
    }

    /// A question of this node's to a connection of another.
    pub(super) fn expect(self: &Arc<Self>, id: &str, backplane: &Arc<dyn Backplane>) -> Asked {
        self.wait(id, None, Some(backplane.clone()))
    }

    /// Another node's question to a connection of this one.
    pub(super) fn put_foreign(&self, id: &str, connection: ConnectionId) {
        self.insert(id.into(), Question { connection: Some(connection), asker: None });
    }

    /// The node that had passed a question on waits for no answer any more; true if there was one.
    pub(super) fn give_up_foreign(&self, id: &str) -> bool {
        let question = self.all.remove_if(id, |_, question| question.asker.is_none());
        question.inspect(|(id, question)| self.unlist(id, question)).is_some()
    }

    /// The answer to a question that another node had passed on.
    pub(super) fn answer(&self, id: &str, answer: Answer) {
        if let Some(Question { asker: Some(asker), .. }) = self.take(id) {
            // who asked may have given up in this moment
            let _ = asker.send(answer);
        }
    }

    pub(super) fn complete(&self, from: &ConnectionId, id: &str, answer: impl FnOnce() -> Answer) -> Outcome {
        let question = match self.all.entry(id.into()) {
            Entry::Vacant(_) => return Outcome::Unknown,
            Entry::Occupied(question) => match question.get().connection {
                // a question to another node's connection cannot be answered here, whatever id a client makes up
                None => return Outcome::Unknown,
                Some(asked) if asked != *from => return Outcome::Foreign,
                Some(_) => question.remove(),
            },
        };
        self.unlist(id, &question);
        match question.asker {
            Some(asker) => {
                let _ = asker.send(answer());
                Outcome::Answered
            }
            None => Outcome::Forward(answer()),
        }
    }

    /// Ends the questions to a connection that has left; gives those that other nodes wait for.
    pub(super) fn disconnected(&self, connection: &ConnectionId) -> Vec<Arc<str>> {
        let Some((_, ids)) = self.to.remove(connection) else { return Vec::new() };
        let ended = ids.into_iter().filter_map(|id| self.all.remove(&id));
        ended
            .filter_map(|(id, question)| match question.asker {
                Some(asker) => {
                    let _ = asker.send(Answer::Disconnected);
                    None
                }
                None => Some(id),
            })
            .collect()
    }

    #[cfg(feature = "service")]
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        assert!(self.to.len() <= self.all.len(), "nothing is listed that is not there");
        self.all.len()
    }

    fn wait(
        self: &Arc<Self>,
        id: &str,
        connection: Option<ConnectionId>,
        elsewhere: Option<Arc<dyn Backplane>>,
    ) -> Asked {
        let (asker, answer) = oneshot::channel();
        let id: Arc<str> = id.into();
        self.insert(id.clone(), Question { connection, asker: Some(asker) });
        Asked { questions: self.clone(), id, answer, elsewhere }
    }

    fn insert(&self, id: Arc<str>, question: Question) {
        let connection = question.connection;
        self.all.insert(id.clone(), question);
        if let Some(connection) = connection {
            self.to.entry(connection).or_default().insert(id);
        }
    }

    fn take(&self, id: &str) -> Option<Question> {
        let (id, question) = self.all.remove(id)?;
        self.unlist(&id, &question);
        Some(question)
    }

    fn unlist(&self, id: &str, question: &Question) {
        let Some(connection) = &question.connection else { return };
        self.to.remove_if_mut(connection, |_, ids| {
            ids.remove(id);
            ids.is_empty()
        });
    }
}
