//! Between nodes: what one node has to tell the others, and the memory implementation. Sees no connection.

mod memory;
#[cfg(test)]
pub(crate) mod suite;

pub(crate) use memory::Bus;

use crate::protocol::hub::{EncodeError, Frame, Protocol};
use std::future::Future;
use std::pin::Pin;
use std::sync::Weak;

/// How a node reaches connections that may live on other nodes.
///
/// Guarantees that every implementation gives, and that the suite in `backplane/suite.rs` checks:
///
/// * What a node sends is delivered on every node that has a receiver, its own included, at most once, and what one task sends one after
///   another arrives in that order.
/// * A group change of a connection that nobody has does nothing.
/// * A client result is answered by the connection that was asked; if nobody has it, or it leaves, the question ends with an error.
/// * Nothing waits for a receiver: what is awaited is that the message is on its way to the other nodes.
pub(crate) trait Backplane: Send + Sync + 'static {
    /// Gives the node's own end. Called once, before anything else.
    fn attach(&self, node: Weak<dyn Deliver>);

    /// Delivers a message to everybody it is meant for, on all nodes.
    fn send(&self, audience: &Audience, message: &dyn Encoded) -> Result<Reached<()>, BackplaneError>;

    /// Has the node that has the connection change its membership.
    fn change_group(&self, connection: &str, group: &str, change: Membership) -> Reached<()>;

    /// An id for the question to a client that this node is about to ask; no other question under way has it.
    fn question_id(&self) -> String;

    /// Asks a connection of another node. [`Deliver::answered`] gets the answer.
    fn ask(&self, connection: &str, question: &str, message: &dyn Encoded) -> Result<Reached<()>, BackplaneError>;

    /// Tells the node that asked what its question came to.
    fn answer(&self, question: &str, answer: Answer);

    /// Ends connections, wherever they are.
    fn close(&self, whom: &Whom) -> Reached<()>;

    /// Asks every node, and gives what all of them know, in no order.
    fn query(&self, query: &Query) -> Reached<Vec<String>>;

    /// This node has, or no longer has, a connection, a group's member or a user's connection: what it wants to hear about.
    fn interest(&self, subject: &Whom, interested: bool);
}

/// A node, as the backplane calls it. None of these waits for anything.
pub(crate) trait Deliver: Send + Sync + 'static {
    /// Queues a message on the receivers that this node has. If one encoding that is in use here cannot carry it, nobody gets it.
    fn deliver(&self, audience: &Audience, message: &dyn Encoded) -> Result<(), EncodeError>;
    /// Changes the membership of a connection, if this node has it.
    fn change_group(&self, connection: &str, group: &str, change: Membership);
    /// Asks a connection; false if this node does not have it.
    fn ask(&self, connection: &str, question: &str, message: &dyn Encoded) -> Result<bool, EncodeError>;
    /// A question of this node's was answered.
    fn answered(&self, question: &str, answer: Answer);
    /// Ends connections that this node has, as hub code does it.
    fn close(&self, whom: &Whom);
    /// What this node knows.
    fn query(&self, query: &Query) -> Vec<String>;
}

/// Receivers of a message. Ids are texts, since a connection may live on another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Audience {
    All,
    AllExcept(Vec<String>),
    Connection(String),
    Connections(Vec<String>),
    Group(String),
    Groups(Vec<String>),
    GroupExcept(String, Vec<String>),
    User(String),
    Users(Vec<String>),
}

/// Connections that something is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whom {
    Connection(String),
    Group(String),
    User(String),
}

/// What can be asked of the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Query {
    /// The connections that these are, if they exist.
    Connections(Whom),
    /// The groups of a connection.
    GroupsOf(String),
}

/// A change of membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    Join,
    Leave,
}

/// A message that can be had in each encoding. Encoded at most once in each, when somebody needs it.
pub(crate) trait Encoded {
    fn frame(&self, protocol: Protocol) -> Result<Frame, EncodeError>;
    /// For receivers whose policy is to conflate: messages of one key replace each other.
    fn key(&self) -> &str;
}

/// A client's answer to a question, still encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Result(Protocol, Vec<u8>),
    Error(String),
    /// Neither a result nor an error.
    Void,
    /// The connection left before it answered.
    Disconnected,
}

/// Done when it is returned, or to be awaited because other nodes are involved.
pub(crate) enum Reached<T> {
    Done(T),
    #[expect(dead_code, reason = "memory is always done; a backplane between machines is not")]
    Pending(Pin<Box<dyn Future<Output = Result<T, BackplaneError>> + Send>>),
}

impl<T> Reached<T> {
    /// Waits for the rest, if there is one.
    pub(crate) async fn wait(self) -> Result<T, BackplaneError> {
        match self {
            Self::Done(value) => Ok(value),
            Self::Pending(rest) => rest.await,
        }
    }
}

impl<T> std::fmt::Debug for Reached<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Done(_) => "Reached::Done",
            Self::Pending(_) => "Reached::Pending",
        })
    }
}

/// Why something did not reach the nodes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum BackplaneError {
    /// The sender's fault: its message cannot be written in an encoding that a receiver uses.
    #[error("the message cannot be sent")]
    Encode(#[from] EncodeError),
    /// Nobody has the connection that was asked.
    #[error("Connection '{0}' does not exist.")]
    NoConnection(String),
}
