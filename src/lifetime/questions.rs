use crate::backplane::Answer;
use crate::transport::ConnectionId;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Questions to clients that have not been answered, by the invocation id that they carry.
#[derive(Debug, Default)]
pub(super) struct Questions(DashMap<String, Question>);

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
#[derive(Debug)]
pub(crate) struct Asked {
    questions: Arc<Questions>,
    id: String,
    answer: oneshot::Receiver<Answer>,
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
        self.questions.0.remove(&self.id);
    }
}

impl Questions {
    /// A question of this node's to a connection of its own.
    pub(super) fn put(self: &Arc<Self>, id: String, connection: ConnectionId) -> Asked {
        self.wait(id, Some(connection))
    }

    /// A question of this node's to a connection of another.
    pub(super) fn expect(self: &Arc<Self>, id: String) -> Asked {
        self.wait(id, None)
    }

    /// Another node's question to a connection of this one.
    pub(super) fn put_foreign(&self, id: String, connection: ConnectionId) {
        self.0.insert(id, Question { connection: Some(connection), asker: None });
    }

    /// The answer to a question that another node had passed on.
    pub(super) fn answer(&self, id: &str, answer: Answer) {
        if let Some((_, Question { asker: Some(asker), .. })) = self.0.remove(id) {
            // who asked may have given up in this moment
            let _ = asker.send(answer);
        }
    }

    pub(super) fn complete(&self, from: &ConnectionId, id: &str, answer: impl FnOnce() -> Answer) -> Outcome {
        let Entry::Occupied(question) = self.0.entry(id.to_owned()) else { return Outcome::Unknown };
        match question.get().connection {
            // a question to another node's connection cannot be answered here, whatever id a client makes up
            None => Outcome::Unknown,
            Some(asked) if asked != *from => Outcome::Foreign,
            Some(_) => match question.remove().asker {
                Some(asker) => {
                    let _ = asker.send(answer());
                    Outcome::Answered
                }
                None => Outcome::Forward(answer()),
            },
        }
    }

    /// Ends the questions to a connection that has left; gives those that other nodes wait for.
    pub(super) fn disconnected(&self, connection: &ConnectionId) -> Vec<String> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let mut foreign = Vec::new();
        self.0.retain(|id, question| {
            let ends = question.connection == Some(*connection);
            if ends {
                match question.asker.take() {
                    Some(asker) => drop(asker.send(Answer::Disconnected)),
                    None => foreign.push(id.clone()),
                }
            }
            !ends
        });
        foreign
    }

    #[cfg(feature = "service")]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    fn wait(self: &Arc<Self>, id: String, connection: Option<ConnectionId>) -> Asked {
        let (asker, answer) = oneshot::channel();
        self.0.insert(id.clone(), Question { connection, asker: Some(asker) });
        Asked { questions: self.clone(), id, answer }
    }
}
