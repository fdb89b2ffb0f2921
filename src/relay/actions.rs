use std::fmt;

/// Something that clients ask of a relay hub and need a right for: the first word of a line in the permission table.
///
/// What a right is about (a group, a user, a connection) its pattern names: see [`Subject`] and [`Permissions`](crate::Permissions).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// To send to every connection of the hub.
    SendToAll,
    /// To send to the members of a group, be one in it or not.
    SendToGroup,
    /// To send to the connections of a user.
    SendToUser,
    /// To send to a connection whose id one knows.
    SendToConnection,
    /// To enter a group, which is to receive what is sent to it, and to leave it.
    Join,
    /// To see who is in a group, with connection ids and user ids.
    SeePresence,
}

/// What the pattern of a right is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// There is nothing to name: the right has the pattern `*`.
    Nothing,
    /// The name of a group.
    Group,
    /// A user id.
    User,
    /// A connection id.
    Connection,
}

impl Action {
    /// All of them, in the order in which people are told.
    pub const ALL: [Self; 6] =
        [Self::SendToAll, Self::SendToGroup, Self::SendToUser, Self::SendToConnection, Self::Join, Self::SeePresence];

    /// Returns the name in the permission table and in what a refused client is told.
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// Returns what a right to it names.
    pub const fn subject(self) -> Subject {
        self.row().1
    }

    /// Returns the methods of the hub that need it.
    pub const fn methods(self) -> &'static [&'static str] {
        self.row().2
    }

    /// Finds an action by its name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.name() == name)
    }

    /// The one table of names.
    const fn row(self) -> (&'static str, Subject, &'static [&'static str]) {
        match self {
            Self::SendToAll => ("send-to-all", Subject::Nothing, &["SendToAll", "SendToOthers"]),
            Self::SendToGroup => ("send-to-group", Subject::Group, &["SendToGroup", "SendToOthersInGroup"]),
            Self::SendToUser => ("send-to-user", Subject::User, &["SendToUser"]),
            Self::SendToConnection => ("send-to-connection", Subject::Connection, &["SendToConnection"]),
            Self::Join => ("join", Subject::Group, &["JoinGroup", "LeaveGroup"]),
            Self::SeePresence => ("see-presence", Subject::Group, &["Presence", "PresenceChanges"]),
        }
    }
}

impl Subject {
    /// Returns the word for it.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Group => "group",
            Self::User => "user",
            Self::Connection => "connection",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_the_table() {
        let page = include_str!("mod.rs");
        for action in Action::ALL {
            let methods: Vec<_> = action.methods().iter().map(|method| format!("`{method}`")).collect();
            let row = format!("//! | `{action}` | {} | {} |", action.subject().noun(), methods.join(", "));
            assert!(page.contains(&row), "{row}");
            assert_eq!(Action::named(action.name()), Some(action));
        }
        assert_eq!(Action::named("Join"), None);
    }
}
