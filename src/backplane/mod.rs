//! Between nodes: what one node has to tell the others, and the memory implementation. Sees no connection.

mod memory;
mod presence;
#[cfg(test)]
pub(crate) mod suite;

pub(crate) use memory::Bus;
pub use presence::Member;
pub(crate) use presence::{News, NodeId, Told, Watching};

use crate::protocol::hub::{EncodeError, Frame, Protocol};
use std::future::Future;
use std::pin::Pin;
use std::sync::Weak;
use std::time::Duration;

/// How a node reaches connections that may live on other nodes.
///
/// Guarantees that every implementation gives, and that the suite in `backplane/suite.rs` checks:
///
/// * What a node sends is delivered on every node that has a receiver, its own included, at most once, and what one task sends one after
///   another arrives in that order.
/// * A group change of a connection that nobody has does nothing.
/// * A client result is answered by the connection that was asked; if nobody has it, or it leaves, the question ends with an error.
/// * What a node tells of a group arrives at every node that watches it in the order in which it was told, or is missing: numbers show that.
/// * All others learn that a node is gone.
/// * Nothing waits for a receiver: what is awaited is that the message is on its way to the other nodes.
pub(crate) trait Backplane: Send + Sync + 'static {
    /// Gives the node's own end. Called once, before anything else.
    fn attach(&self, node: Weak<dyn Deliver>);

    /// Delivers a message to everybody it is meant for, on all nodes.
    fn send(&self, audience: &Audience, message: &dyn Encoded) -> Result<Reached<()>, BackplaneError>;

    /// Has the node that has the connection change its membership; says whether there is such a connection.
    fn change_group(&self, connection: &str, change: Membership<'_>) -> Reached<bool>;

    /// Changes the membership of a user: of the connections that it has now, on all nodes, and of those to come.
    fn change_user(&self, user: &str, change: UserMembership<'_>) -> Reached<()>;

    /// An id for the question to a client that this node is about to ask; no other question under way has it.
    fn question_id(&self) -> String;

    /// Asks a connection of another node. [`Deliver::answered`] gets the answer.
    fn ask(&self, connection: &str, question: &str, message: &dyn Encoded) -> Result<Reached<()>, BackplaneError>;

    /// Tells the node that asked what its question came to.
    fn answer(&self, question: &str, answer: Answer);

    /// Tells the node that was asked that nobody waits for the answer any more.
    fn give_up(&self, question: &str);

    /// Ends connections, wherever they are.
    fn close(&self, closing: &Closing) -> Reached<()>;

    /// Asks every node, and gives what all of them know, in no order.
    fn query(&self, query: &Query) -> Reached<Vec<Found>>;

    /// Asks whether any node knows of something.
    fn exists(&self, what: &Existence) -> Reached<bool>;

    /// Has every node, this one included, tell this one who is in a group, and from then on who joins and leaves: see [`Deliver::hear`].
    /// `number` is this watching's own among those of the node. Asking again for the same has the nodes give their lists again. Gives the
    /// nodes that have been asked; one that comes later is asked, too.
    fn watch(&self, group: &str, number: u64) -> Reached<Vec<NodeId>>;

    /// Ends that.
    fn unwatch(&self, group: &str, number: u64);

    /// Tells all nodes that watch a group something about this node's members of it.
    fn tell(&self, group: &str, news: &News);

    /// This node has, or no longer has, a connection, a group's member or a user's connection: what it wants to hear about.
    fn interest(&self, subject: &Whom, interested: bool);
}

/// A node, as the backplane calls it. None of these waits for anything.
pub(crate) trait Deliver: Send + Sync + 'static {
    /// Queues a message on the receivers that this node has. If one encoding that is in use here cannot carry it, nobody gets it.
    fn deliver(&self, audience: &Audience, message: &dyn Encoded) -> Result<(), EncodeError>;
    /// Changes the membership of a connection; false if this node does not have it.
    fn change_group(&self, connection: &str, change: Membership<'_>) -> bool;
    /// Changes the membership of a user's connections, and what is remembered for those to come.
    fn change_user(&self, user: &str, change: UserMembership<'_>);
    /// Asks a connection; false if this node does not have it.
    fn ask(&self, connection: &str, question: &str, message: &dyn Encoded) -> Result<bool, EncodeError>;
    /// A question of this node's was answered.
    fn answered(&self, question: &str, answer: Answer);
    /// Nobody waits for the answer to a question any more, which another node may have passed on to this one.
    fn given_up(&self, question: &str);
    /// Ends connections that this node has.
    fn close(&self, closing: &Closing);
    /// What this node knows.
    fn query(&self, query: &Query) -> Vec<Found>;
    /// Whether this node knows of something.
    fn exists(&self, what: &Existence) -> bool;
    /// A node, perhaps this one, begins to watch a group, or ends that.
    fn watched(&self, group: &str, watching: Watching, begins: bool);
    /// A node, perhaps this one, tells of its members of a group that this one watches.
    fn hear(&self, node: NodeId, group: &str, news: &News);
    /// A node is gone, and its connections with it.
    fn lose(&self, node: NodeId);
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
    GroupExcept {
        group: String,
        connections: Vec<String>,
        /// Whose connections are left out, too.
        users: Vec<String>,
    },
    User(String),
    Users(Vec<String>),
}

/// Connections that something is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whom {
    All,
    Connection(String),
    Group(String),
    User(String),
}

/// Which connections end, and what they are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closing {
    pub(crate) whom: Whom,
    /// Connections that stay.
    pub(crate) except: Vec<String>,
    pub(crate) error: Option<String>,
    /// Whether their clients may connect again by themselves.
    pub(crate) allow_reconnect: bool,
}

impl Closing {
    /// A goodbye without a word, and without permission to connect again: how hub code ends connections.
    pub(crate) fn of(whom: Whom) -> Self {
        Self { whom, except: Vec::new(), error: None, allow_reconnect: false }
    }
}

/// What can be asked of the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Query {
    /// The connections that these are, if they exist.
    Connections(Whom, Page),
    /// The groups of a connection.
    GroupsOf(String),
    /// Groups that have members.
    Groups(Page),
}

/// Part of an answer that would be long: the first so many in the order of their ids, byte by byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    /// What comes behind this id.
    pub(crate) after: Option<String>,
    pub(crate) most: usize,
}

impl Page {
    pub(crate) const ALL: Self = Self { after: None, most: usize::MAX };

    /// It may be on this page, or on one behind it.
    pub(crate) fn is_behind(&self, id: &str) -> bool {
        self.after.as_deref().is_none_or(|after| id > after)
    }

    /// Leaves what is on this page, of all that [is behind](Self::is_behind) the last one.
    pub(crate) fn first<T>(&self, found: &mut Vec<T>, id: impl Fn(&T) -> &str) {
        if found.len() > self.most {
            if self.most > 0 {
                found.select_nth_unstable_by(self.most - 1, |a, b| id(a).cmp(id(b)));
            }
            found.truncate(self.most);
        }
    }
}

/// One answer of a node's: a connection or a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    /// The connection's id or the group's name.
    pub(crate) id: String,
    /// Of a connection, if it has a user.
    pub(crate) user: Option<String>,
    /// Of a connection: how it is connected, and in which encoding.
    pub(crate) transport: Option<String>,
    pub(crate) protocol: Option<String>,
    /// The groups of a connection, or the members of a group on that node.
    pub(crate) count: usize,
}

impl Found {
    /// A group of this name.
    pub(crate) fn group(name: impl Into<String>, members: usize) -> Self {
        Self { id: name.into(), user: None, transport: None, protocol: None, count: members }
    }
}

/// Something that there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Existence {
    /// A connection, a group with a member, a user with a connection.
    Of(Whom),
    /// A user's membership: one that is remembered, or that of one of its connections.
    UserInGroup { user: String, group: String },
}

/// A change of a connection's membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership<'a> {
    Join(&'a str),
    Leave(&'a str),
    LeaveAll,
}

/// A change of a user's membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UserMembership<'a> {
    Join {
        group: &'a str,
        /// How long connections to come join as well: not at all for a time of zero. `None`: for good, as far as there is room.
        remembered: Option<Duration>,
    },
    Leave(&'a str),
    LeaveAll,
}

/// A message that can be had in each encoding. Encoded at most once in each, when somebody needs it.
pub(crate) trait Encoded {
    /// `None`: it is not for receivers of this protocol.
    fn frame(&self, protocol: Protocol) -> Result<Option<Frame>, EncodeError>;
    /// For receivers whose policy is to conflate: messages of one key replace each other.
    fn key(&self) -> &str;
    /// What follows it: on a connection that gets all of it no other message comes in between. A question has nothing behind it.
    fn behind(&self) -> Vec<&dyn Encoded> {
        Vec::new()
    }
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
    Pending(Pin<Box<dyn Future<Output = Result<T, BackplaneError>> + Send>>),
}

impl<T> Reached<T> {
    /// The same with another value.
    pub(crate) fn map<U>(self, map: impl FnOnce(T) -> U + Send + 'static) -> Reached<U>
    where
        T: 'static,
    {
        match self {
            Self::Done(value) => Reached::Done(map(value)),
            Self::Pending(rest) => Reached::Pending(Box::pin(async { Ok(map(rest.await?)) })),
        }
    }

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
    /// The sender's fault: it did not give the message in the encoding of the connection that was asked.
    #[error("the message was not given in the protocol {}", .0.name())]
    NotGiven(Protocol),
}
