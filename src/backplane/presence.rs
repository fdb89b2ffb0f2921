use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::sync::Arc;

/// A member of a group: a connection, and whose it is. Cheap to clone; serializes with the names `connectionId` and `userId`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    connection: Arc<str>,
    user: Option<Arc<str>>,
}

impl Member {
    pub(crate) fn new(connection: impl Into<Arc<str>>, user: Option<impl Into<Arc<str>>>) -> Self {
        Self { connection: connection.into(), user: user.map(Into::into) }
    }

    pub(crate) fn shared_id(&self) -> &Arc<str> {
        &self.connection
    }

    /// Returns the public id of the connection.
    pub fn connection_id(&self) -> &str {
        &self.connection
    }

    /// Returns the user id, if the connection belongs to a user.
    pub fn user_id(&self) -> Option<&str> {
        self.user.as_deref()
    }
}

impl Serialize for Member {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut member = serializer.serialize_struct("Member", 2)?;
        member.serialize_field("connectionId", self.connection_id())?;
        member.serialize_field("userId", &self.user_id())?;
        member.end()
    }
}

/// A node, as long as it lives. No other that the backplane knows has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub(crate) u64);

/// One watching of a group by a node. A node that stops and starts again gives another number, so that it does not matter in which order
/// others hear of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Watching {
    pub(crate) node: NodeId,
    pub(crate) number: u64,
}

/// What a node tells those that watch a group about its own members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    /// Of a change: one more than that of the change before. Of a list: that of the last change which it contains.
    pub(crate) number: u64,
    pub(crate) told: Told,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// Everybody who is there.
    List(Vec<Member>),
    Joined(Member),
    Left(Member),
}
