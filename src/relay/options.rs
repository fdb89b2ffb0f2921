use crate::{HubOptions, Permissions};

/// What a relay hub allows.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RelayOptions {
    /// Who may do what: the actions are [`Action::name`](super::Action::name)s. Default: nobody anything.
    pub permissions: Permissions,
    /// The options of the hub itself. Default: those of any hub, but clients are told of errors in full, as these are about their calls and
    /// no code of anybody else's: else who sends the wrong number of arguments would not learn it.
    pub hub: HubOptions,
    /// Length of the name of a group, a user, a connection or a client method, in UTF-16 code units as .NET and JavaScript count it.
    /// Default 1024, as in the REST API; a name that a client joins by costs the server up to three bytes for each.
    pub max_name_length: usize,
    /// Groups that a connection may be in when it joins one more. Default 256: with names of the longest kind, up to 800 KB that one client
    /// can make the server hold. Calls of one connection that run at a time can exceed it by their number, which is 1 by default.
    pub max_groups: usize,
    /// Members of a group that are listed, and whose comings and goings are told. Default 10,000, which is an answer of about a megabyte;
    /// nobody is shown who is in a larger group. A group that is watched costs the server about 200 bytes for each member, once for all
    /// that watch it, and each stream up to 16 KiB; a client has as many streams as [`HubOptions::max_running_calls`] allows.
    pub max_members: usize,
}

impl RelayOptions {
    /// Replaces the permission table.
    #[must_use]
    pub fn with_permissions(mut self, permissions: Permissions) -> Self {
        self.permissions = permissions;
        self
    }

    /// Replaces the options of the hub.
    #[must_use]
    pub fn with_hub(mut self, hub: HubOptions) -> Self {
        self.hub = hub;
        self
    }

    /// Sets how long names may be.
    #[must_use]
    pub fn with_max_name_length(mut self, length: usize) -> Self {
        self.max_name_length = length;
        self
    }

    /// Sets how many groups a connection may be in.
    #[must_use]
    pub fn with_max_groups(mut self, groups: usize) -> Self {
        self.max_groups = groups;
        self
    }

    /// Sets up to what size a group shows who is in it.
    #[must_use]
    pub fn with_max_members(mut self, members: usize) -> Self {
        self.max_members = members;
        self
    }
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            permissions: Permissions::default(),
            hub: HubOptions::default().with_detailed_errors(true),
            max_name_length: 1024,
            max_groups: 256,
            max_members: 10_000,
        }
    }
}
