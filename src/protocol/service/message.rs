/// A message between an application server and the service, as it stands in the bytes it was read from. Spec sections 4 and 5.
///
/// What an older or shorter form leaves out is empty, zero or `None`. Numbers that stand for one of several things stay numbers: a value
/// that nobody knows has to be passed over, not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    HandshakeRequest(HandshakeRequest<'a>),
    HandshakeResponse {
        /// Empty if the server connection is accepted.
        error: &'a str,
        ext: Ext<'a>,
        connection_id: Option<&'a str>,
    },
    /// Keys and values in turn.
    Ping(Vec<&'a str>),
    OpenConnection(OpenConnection<'a>),
    CloseConnection {
        connection_id: &'a str,
        error: &'a str,
        headers: Headers<'a>,
        ext: Ext<'a>,
    },
    ConnectionData {
        connection_id: &'a str,
        payload: &'a [u8],
        ext: Ext<'a>,
    },
    MultiConnectionData {
        connection_ids: Vec<&'a str>,
        payloads: Payloads<'a>,
        ext: Ext<'a>,
    },
    UserData {
        user_id: &'a str,
        payloads: Payloads<'a>,
        ext: Ext<'a>,
    },
    MultiUserData {
        user_ids: Vec<&'a str>,
        payloads: Payloads<'a>,
        ext: Ext<'a>,
    },
    BroadcastData {
        excluded: Vec<&'a str>,
        payloads: Payloads<'a>,
        ext: Ext<'a>,
    },
    GroupBroadcastData(GroupBroadcastData<'a>),
    MultiGroupBroadcastData {
        groups: Vec<&'a str>,
        payloads: Payloads<'a>,
        ext: Ext<'a>,
    },
    ServiceError {
        error: &'a str,
    },
    ServiceEvent {
        object: i32,
        id: &'a str,
        kind: i32,
        message: &'a str,
        ext: Ext<'a>,
    },
    /// Messages 11, 12, 18 and 19; with an ack id the last two.
    Membership(Membership<'a>),
    /// Messages 16, 17, 26 and 27; with an ack id the last two.
    UserMembership(Membership<'a>),
    Ack(Ack<'a>),
    CheckUserInGroup {
        user_id: &'a str,
        group: &'a str,
        ack_id: i32,
        ext: Ext<'a>,
    },
    /// Messages 23, 24 and 25.
    CheckExistence {
        of: Subject,
        name: &'a str,
        ack_id: i32,
        ext: Ext<'a>,
    },
    AccessKeyRequest {
        token: &'a str,
        kid: Option<&'a str>,
        ext: Ext<'a>,
    },
    AccessKeyResponse {
        kid: Option<&'a str>,
        access_key: Option<&'a str>,
        error_type: Option<&'a str>,
        error: Option<&'a str>,
        ext: Ext<'a>,
    },
    /// Messages 30 to 33.
    CloseConnections(CloseConnections<'a>),
    ClientInvocation {
        result: ClientResult<'a>,
        payloads: Payloads<'a>,
        ext: Ext<'a>,
    },
    ClientCompletion {
        result: ClientResult<'a>,
        protocol: &'a str,
        payload: &'a [u8],
        ext: Ext<'a>,
    },
    ErrorCompletion {
        result: ClientResult<'a>,
        error: &'a str,
        ext: Ext<'a>,
    },
    ServiceMapping {
        invocation_id: &'a str,
        connection_id: &'a str,
        instance_id: &'a str,
        ext: Ext<'a>,
    },
    ConnectionReconnect {
        connection_id: &'a str,
        ext: Ext<'a>,
    },
    ConnectionFlowControl {
        connection_id: &'a str,
        connection_type: i32,
        operation: i32,
        ext: Ext<'a>,
    },
    GroupMemberQuery(GroupMemberQuery<'a>),
    /// Message 41: spec `auth-refresh.md`, section 12.
    RefreshAuth {
        connection_token: &'a str,
        claims: Claims<'a>,
        expires: Timestamp,
        ack_id: i32,
        ext: Ext<'a>,
    },
    GetConnectionClaims {
        connection_token: &'a str,
        ack_id: i32,
        ext: Ext<'a>,
    },
    UpdateConnectionClaims {
        connection_id: &'a str,
        claims: Claims<'a>,
        ext: Ext<'a>,
    },
    /// A type that this version does not know: to be passed over.
    Unknown(i32),
}

/// Types and values in their order; a type may come several times.
pub(crate) type Claims<'a> = Vec<(&'a str, &'a str)>;
/// Names, unique without regard to case, with their values.
pub(crate) type Headers<'a> = Vec<(&'a str, Vec<&'a str>)>;
/// Names of hub protocols with a hub message that is framed for each.
pub(crate) type Payloads<'a> = Vec<(&'a str, &'a [u8])>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HandshakeRequest<'a> {
    pub(crate) version: i32,
    /// One of the `TYPE_` numbers.
    pub(crate) connection_type: i32,
    pub(crate) target: &'a str,
    pub(crate) migration_level: i32,
    pub(crate) ext: Ext<'a>,
    /// `None` in the form without it.
    pub(crate) allow_stateful_reconnects: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OpenConnection<'a> {
    pub(crate) connection_id: &'a str,
    pub(crate) claims: Claims<'a>,
    pub(crate) headers: Headers<'a>,
    pub(crate) query: &'a str,
    pub(crate) ext: Ext<'a>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupBroadcastData<'a> {
    pub(crate) group: &'a str,
    pub(crate) excluded: Vec<&'a str>,
    pub(crate) payloads: Payloads<'a>,
    pub(crate) ext: Ext<'a>,
    pub(crate) excluded_users: Vec<&'a str>,
    pub(crate) caller_user_id: Option<&'a str>,
}

/// Somebody joins a group or leaves it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Membership<'a> {
    pub(crate) joins: bool,
    /// A connection, or a user.
    pub(crate) who: &'a str,
    /// `None`, only for who leaves: all groups.
    pub(crate) group: Option<&'a str>,
    /// `None`: no answer is wanted.
    pub(crate) ack_id: Option<i32>,
    pub(crate) ext: Ext<'a>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ack<'a> {
    pub(crate) id: i32,
    /// One of the numbers in [`status`].
    pub(crate) status: i32,
    pub(crate) message: &'a str,
    pub(crate) ext: Ext<'a>,
    pub(crate) payload: AckPayload<'a>,
}

/// What an ack carries besides its status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum AckPayload<'a> {
    /// The form without a payload, which is all that older readers know.
    #[default]
    Absent,
    Nil,
    Bytes(&'a [u8]),
}

/// What exists, or what is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    All,
    Connection,
    User,
    Group,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CloseConnections<'a> {
    pub(crate) of: Subject,
    /// Empty for [`Subject::All`].
    pub(crate) name: &'a str,
    pub(crate) reason: Option<&'a str>,
    pub(crate) ack_id: i32,
    pub(crate) excluded: Vec<&'a str>,
    pub(crate) ext: Ext<'a>,
}

/// What a question to a client, and its answer, are known by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ClientResult<'a> {
    pub(crate) invocation_id: &'a str,
    pub(crate) connection_id: &'a str,
    /// Of whoever sends the message, which need not be who asked.
    pub(crate) caller_server_id: &'a str,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupMemberQuery<'a> {
    pub(crate) ext: Ext<'a>,
    pub(crate) group: &'a str,
    pub(crate) ack_id: i32,
    pub(crate) top: Option<i32>,
    pub(crate) continuation_token: Option<&'a str>,
    pub(crate) page_size: PageSize,
}

/// The most members that one ack to a query lists.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum PageSize {
    /// The form without it.
    #[default]
    Absent,
    /// The service chooses.
    Nil,
    Most(i32),
}

/// The extension members of a message: spec section 3.3. A message is written with those that have a value; which it may have is up to
/// who makes it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ext<'a> {
    pub(crate) tracing_id: Option<u64>,
    /// Seconds.
    pub(crate) ttl: Option<i32>,
    pub(crate) protocol: Option<&'a str>,
    pub(crate) filter: Option<&'a str>,
    /// One of the `DATA_` numbers; zero if it is not said.
    pub(crate) data_type: i32,
    pub(crate) is_partial: bool,
}

impl<'a> Ext<'a> {
    pub(crate) fn of_protocol(name: &'a str) -> Self {
        Self { protocol: Some(name), ..Self::default() }
    }

    pub(crate) fn of_data(data_type: i32) -> Self {
        Self { data_type, ..Self::default() }
    }
}

/// A point in time, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp {
    /// Since 1970.
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// Carries clients; opened by the server on its own account.
pub(crate) const TYPE_DEFAULT: i32 = 0;
/// Carries clients; opened because the service asked for it.
pub(crate) const TYPE_ON_DEMAND: i32 = 1;
/// Carries no clients.
pub(crate) const TYPE_WEAK: i32 = 2;

/// A hub handshake request or response.
pub(crate) const DATA_HANDSHAKE: i32 = 1;
/// A hub close message.
pub(crate) const DATA_CLOSE: i32 = 4;

/// What an ack says.
pub(crate) mod status {
    pub(crate) const OK: i32 = 1;
    pub(crate) const NOT_FOUND: i32 = 2;
    pub(crate) const INTERNAL_SERVER_ERROR: i32 = 4;
    pub(crate) const FORBIDDEN: i32 = 5;
}

/// The codes of the types.
pub(super) mod code {
    pub(crate) const HANDSHAKE_REQUEST: i32 = 1;
    pub(crate) const HANDSHAKE_RESPONSE: i32 = 2;
    pub(crate) const PING: i32 = 3;
    pub(crate) const OPEN_CONNECTION: i32 = 4;
    pub(crate) const CLOSE_CONNECTION: i32 = 5;
    pub(crate) const CONNECTION_DATA: i32 = 6;
    pub(crate) const MULTI_CONNECTION_DATA: i32 = 7;
    pub(crate) const USER_DATA: i32 = 8;
    pub(crate) const MULTI_USER_DATA: i32 = 9;
    pub(crate) const BROADCAST_DATA: i32 = 10;
    pub(crate) const JOIN_GROUP: i32 = 11;
    pub(crate) const LEAVE_GROUP: i32 = 12;
    pub(crate) const GROUP_BROADCAST_DATA: i32 = 13;
    pub(crate) const MULTI_GROUP_BROADCAST_DATA: i32 = 14;
    pub(crate) const SERVICE_ERROR: i32 = 15;
    pub(crate) const USER_JOIN_GROUP: i32 = 16;
    pub(crate) const USER_LEAVE_GROUP: i32 = 17;
    pub(crate) const JOIN_GROUP_WITH_ACK: i32 = 18;
    pub(crate) const LEAVE_GROUP_WITH_ACK: i32 = 19;
    pub(crate) const ACK: i32 = 20;
    pub(crate) const CHECK_USER_IN_GROUP: i32 = 21;
    pub(crate) const SERVICE_EVENT: i32 = 22;
    pub(crate) const CHECK_GROUP: i32 = 23;
    pub(crate) const CHECK_CONNECTION: i32 = 24;
    pub(crate) const CHECK_USER: i32 = 25;
    pub(crate) const USER_JOIN_GROUP_WITH_ACK: i32 = 26;
    pub(crate) const USER_LEAVE_GROUP_WITH_ACK: i32 = 27;
    pub(crate) const ACCESS_KEY_REQUEST: i32 = 28;
    pub(crate) const ACCESS_KEY_RESPONSE: i32 = 29;
    pub(crate) const CLOSE_ONE: i32 = 30;
    pub(crate) const CLOSE_ALL: i32 = 31;
    pub(crate) const CLOSE_USER: i32 = 32;
    pub(crate) const CLOSE_GROUP: i32 = 33;
    pub(crate) const CLIENT_INVOCATION: i32 = 34;
    pub(crate) const CLIENT_COMPLETION: i32 = 35;
    pub(crate) const ERROR_COMPLETION: i32 = 36;
    pub(crate) const SERVICE_MAPPING: i32 = 37;
    pub(crate) const CONNECTION_RECONNECT: i32 = 38;
    pub(crate) const CONNECTION_FLOW_CONTROL: i32 = 39;
    pub(crate) const GROUP_MEMBER_QUERY: i32 = 40;
    pub(crate) const REFRESH_AUTH: i32 = 41;
    pub(crate) const GET_CONNECTION_CLAIMS: i32 = 42;
    pub(crate) const UPDATE_CONNECTION_CLAIMS: i32 = 43;
}
