use super::message::{
    Ack, AckPayload, ClientResult, CloseConnections, GroupBroadcastData, GroupMemberQuery, HandshakeRequest,
    Membership, OpenConnection, PageSize, Subject, code,
};
use super::reader::Reader;
use super::{DecodeError, Ext, Message};

/// Decodes the body of one message, without its length prefix. Elements and bytes behind what is known are passed over.
///
/// # Errors
///
/// If it is broken. A type that is not known is no error.
pub(crate) fn decode(body: &[u8]) -> Result<Message<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let count = reader.array().filter(|count| *count > 0).ok_or(DecodeError::NoType)?;
    let kind = reader.int().ok_or(DecodeError::NoType)?;
    let fields = Fields { reader, count };
    message(kind, fields).ok_or(DecodeError::Broken(kind))
}

/// The elements behind the type. How many there are tells which of the later additions a message has.
struct Fields<'a> {
    reader: Reader<'a>,
    count: usize,
}

impl<'a> Fields<'a> {
    /// The array, the type included, has at least so many elements.
    fn has(&self, count: usize) -> bool {
        self.count >= count
    }

    fn at_least(&self, count: usize) -> Option<()> {
        self.has(count).then_some(())
    }

    /// The extension members, in arrays of that length and more.
    fn ext_from(&mut self, count: usize) -> Option<Ext<'a>> {
        if self.has(count) { self.ext() } else { Some(Ext::default()) }
    }
}

impl<'a> std::ops::Deref for Fields<'a> {
    type Target = Reader<'a>;

    fn deref(&self) -> &Reader<'a> {
        &self.reader
    }
}

impl std::ops::DerefMut for Fields<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.reader
    }
}

fn message(kind: i32, mut fields: Fields<'_>) -> Option<Message<'_>> {
    let f = &mut fields;
    Some(match kind {
        code::CONNECTION_DATA => {
            f.at_least(3)?;
            Message::ConnectionData { connection_id: f.str()?, payload: f.bytes()?, ext: f.ext_from(4)? }
        }
        code::MULTI_CONNECTION_DATA => {
            f.at_least(3)?;
            let (connection_ids, payloads) = (f.strings()?, f.payloads()?);
            Message::MultiConnectionData { connection_ids, payloads, ext: f.ext_from(4)? }
        }
        code::USER_DATA => {
            f.at_least(3)?;
            Message::UserData { user_id: f.str()?, payloads: f.payloads()?, ext: f.ext_from(4)? }
        }
        code::MULTI_USER_DATA => {
            f.at_least(3)?;
            Message::MultiUserData { user_ids: f.strings()?, payloads: f.payloads()?, ext: f.ext_from(4)? }
        }
        code::BROADCAST_DATA => {
            f.at_least(3)?;
            Message::BroadcastData { excluded: f.strings()?, payloads: f.payloads()?, ext: f.ext_from(4)? }
        }
        code::GROUP_BROADCAST_DATA => group_broadcast(f)?,
        code::MULTI_GROUP_BROADCAST_DATA => {
            f.at_least(3)?;
            Message::MultiGroupBroadcastData { groups: f.strings()?, payloads: f.payloads()?, ext: f.ext_from(4)? }
        }
        code::HANDSHAKE_REQUEST => handshake_request(f)?,
        code::HANDSHAKE_RESPONSE => {
            f.at_least(2)?;
            let (error, ext) = (f.str()?, f.ext_from(3)?);
            let connection_id = if f.has(4) { f.str_or_nil()? } else { None };
            Message::HandshakeResponse { error, ext, connection_id }
        }
        code::PING => {
            let count = f.count - 1;
            Message::Ping(f.strings_of(count)?)
        }
        code::OPEN_CONNECTION => open_connection(f)?,
        code::CLOSE_CONNECTION => {
            f.at_least(3)?;
            let (connection_id, error) = (f.str()?, f.str()?);
            let headers = if f.has(4) { f.headers()? } else { Vec::new() };
            Message::CloseConnection { connection_id, error, headers, ext: f.ext_from(5)? }
        }
        code::SERVICE_ERROR => {
            f.at_least(2)?;
            Message::ServiceError { error: f.str()? }
        }
        code::SERVICE_EVENT => {
            f.at_least(6)?;
            let (object, id, kind, message) = (f.int()?, f.str()?, f.int()?, f.str()?);
            Message::ServiceEvent { object, id, kind, message, ext: f.ext()? }
        }
        code::JOIN_GROUP..=code::LEAVE_GROUP | code::JOIN_GROUP_WITH_ACK..=code::LEAVE_GROUP_WITH_ACK => {
            Message::Membership(membership(f, kind)?)
        }
        code::USER_JOIN_GROUP..=code::USER_LEAVE_GROUP
        | code::USER_JOIN_GROUP_WITH_ACK..=code::USER_LEAVE_GROUP_WITH_ACK => {
            Message::UserMembership(membership(f, kind)?)
        }
        code::ACK => ack(f)?,
        code::CHECK_USER_IN_GROUP => {
            f.at_least(4)?;
            let (user_id, group, ack_id) = (f.str()?, f.str()?, f.int()?);
            Message::CheckUserInGroup { user_id, group, ack_id, ext: f.ext_from(5)? }
        }
        code::CHECK_GROUP => existence(f, Subject::Group)?,
        code::CHECK_CONNECTION => existence(f, Subject::Connection)?,
        code::CHECK_USER => existence(f, Subject::User)?,
        code::ACCESS_KEY_REQUEST => {
            f.at_least(4)?;
            Message::AccessKeyRequest { token: f.str()?, kid: f.str_or_nil()?, ext: f.ext()? }
        }
        code::ACCESS_KEY_RESPONSE => {
            f.at_least(6)?;
            let (kid, access_key, error_type, error) =
                (f.str_or_nil()?, f.str_or_nil()?, f.str_or_nil()?, f.str_or_nil()?);
            Message::AccessKeyResponse { kid, access_key, error_type, error, ext: f.ext()? }
        }
        code::CLOSE_ONE => close_one(f)?,
        code::CLOSE_ALL => close_many(f, Subject::All)?,
        code::CLOSE_USER => close_many(f, Subject::User)?,
        code::CLOSE_GROUP => close_many(f, Subject::Group)?,
        code::CLIENT_INVOCATION => {
            f.at_least(6)?;
            Message::ClientInvocation { result: client_result(f)?, payloads: f.payloads()?, ext: f.ext()? }
        }
        code::CLIENT_COMPLETION => {
            f.at_least(7)?;
            let (result, protocol, payload) = (client_result(f)?, f.str()?, f.bytes()?);
            Message::ClientCompletion { result, protocol, payload, ext: f.ext()? }
        }
        code::ERROR_COMPLETION => {
            f.at_least(6)?;
            Message::ErrorCompletion { result: client_result(f)?, error: f.str()?, ext: f.ext()? }
        }
        code::SERVICE_MAPPING => {
            f.at_least(5)?;
            let (invocation_id, connection_id, instance_id) = (f.str()?, f.str()?, f.str()?);
            Message::ServiceMapping { invocation_id, connection_id, instance_id, ext: f.ext()? }
        }
        code::CONNECTION_RECONNECT => {
            f.at_least(3)?;
            Message::ConnectionReconnect { connection_id: f.str()?, ext: f.ext()? }
        }
        code::CONNECTION_FLOW_CONTROL => {
            f.at_least(4)?;
            let (connection_id, connection_type, operation) = (f.str()?, f.int()?, f.int()?);
            Message::ConnectionFlowControl { connection_id, connection_type, operation, ext: f.ext_from(5)? }
        }
        code::GROUP_MEMBER_QUERY => member_query(f)?,
        code::REFRESH_AUTH => {
            f.at_least(6)?;
            let (connection_token, claims, expires, ack_id) = (f.str()?, f.claims()?, f.timestamp()?, f.int()?);
            Message::RefreshAuth { connection_token, claims, expires, ack_id, ext: f.ext()? }
        }
        code::GET_CONNECTION_CLAIMS => {
            f.at_least(4)?;
            Message::GetConnectionClaims { connection_token: f.str()?, ack_id: f.int()?, ext: f.ext()? }
        }
        code::UPDATE_CONNECTION_CLAIMS => {
            f.at_least(4)?;
            Message::UpdateConnectionClaims { connection_id: f.str()?, claims: f.claims()?, ext: f.ext()? }
        }
        unknown => Message::Unknown(unknown),
    })
}

/// Type and target come as a pair: three elements are read as if the version stood alone.
fn handshake_request<'a>(f: &mut Fields<'a>) -> Option<Message<'a>> {
    f.at_least(2)?;
    let version = f.int()?;
    let (connection_type, target) = if f.has(4) { (f.int()?, f.str()?) } else { (0, "") };
    let migration_level = if f.has(5) { f.int()? } else { 0 };
    let ext = f.ext_from(6)?;
    let allow_stateful_reconnects = if f.has(7) { Some(f.bool()?) } else { None };
    Some(Message::HandshakeRequest(HandshakeRequest {
        version,
        connection_type,
        target,
        migration_level,
        ext,
        allow_stateful_reconnects,
    }))
}

/// Headers and query come as a pair: four elements are read as if id and claims stood alone.
fn open_connection<'a>(f: &mut Fields<'a>) -> Option<Message<'a>> {
    f.at_least(3)?;
    let (connection_id, claims) = (f.str()?, f.claims()?);
    let (headers, query) = if f.has(5) { (f.headers()?, f.str()?) } else { (Vec::new(), "") };
    Some(Message::OpenConnection(OpenConnection { connection_id, claims, headers, query, ext: f.ext_from(6)? }))
}

/// Two fields follow the extension members.
fn group_broadcast<'a>(f: &mut Fields<'a>) -> Option<Message<'a>> {
    f.at_least(4)?;
    let (group, excluded, payloads, ext) = (f.str()?, f.strings()?, f.payloads()?, f.ext_from(5)?);
    let (excluded_users, caller_user_id) = if f.has(7) { (f.strings()?, f.str_or_nil()?) } else { (Vec::new(), None) };
    Some(Message::GroupBroadcastData(GroupBroadcastData {
        group,
        excluded,
        payloads,
        ext,
        excluded_users,
        caller_user_id,
    }))
}

/// Joining and leaving, with and without an ack: for connections and for users alike, but that the newest of them have no short form.
fn membership<'a>(f: &mut Fields<'a>, kind: i32) -> Option<Membership<'a>> {
    let joins = matches!(
        kind,
        code::JOIN_GROUP | code::JOIN_GROUP_WITH_ACK | code::USER_JOIN_GROUP | code::USER_JOIN_GROUP_WITH_ACK
    );
    let (least, has_ack) = match kind {
        code::JOIN_GROUP | code::LEAVE_GROUP | code::USER_JOIN_GROUP | code::USER_LEAVE_GROUP => (3, false),
        code::JOIN_GROUP_WITH_ACK | code::LEAVE_GROUP_WITH_ACK => (4, true),
        _ => (5, true),
    };
    f.at_least(least)?;
    let who = f.str()?;
    // only who leaves, and wants to know, can mean all groups
    let group = if joins || !has_ack { Some(f.str()?) } else { f.str_or_nil()? };
    let ack_id = if has_ack { Some(f.int()?) } else { None };
    Some(Membership { joins, who, group, ack_id, ext: f.ext_from(4 + usize::from(has_ack))? })
}

fn ack<'a>(f: &mut Fields<'a>) -> Option<Message<'a>> {
    f.at_least(4)?;
    let (id, status, message, ext) = (f.int()?, f.int()?, f.str()?, f.ext_from(5)?);
    let payload = match f.has(6) {
        false => AckPayload::Absent,
        true => f.bytes_or_nil()?.map_or(AckPayload::Nil, AckPayload::Bytes),
    };
    Some(Message::Ack(Ack { id, status, message, ext, payload }))
}

fn existence<'a>(f: &mut Fields<'a>, of: Subject) -> Option<Message<'a>> {
    f.at_least(4)?;
    Some(Message::CheckExistence { of, name: f.str()?, ack_id: f.int()?, ext: f.ext()? })
}

fn close_one<'a>(f: &mut Fields<'a>) -> Option<Message<'a>> {
    f.at_least(4)?;
    let (name, reason, ack_id) = (f.str()?, f.str_or_nil()?, f.int()?);
    let (of, excluded, ext) = (Subject::Connection, Vec::new(), f.ext_from(5)?);
    Some(Message::CloseConnections(CloseConnections { of, name, reason, ack_id, excluded, ext }))
}

/// The reason comes before the ack id.
fn close_many<'a>(f: &mut Fields<'a>, of: Subject) -> Option<Message<'a>> {
    let named = usize::from(of != Subject::All);
    f.at_least(4 + named)?;
    let name = if named == 1 { f.str()? } else { "" };
    let (reason, ack_id, excluded) = (f.str_or_nil()?, f.int()?, f.strings()?);
    let ext = f.ext_from(5 + named)?;
    Some(Message::CloseConnections(CloseConnections { of, name, reason, ack_id, excluded, ext }))
}

fn client_result<'a>(f: &mut Fields<'a>) -> Option<ClientResult<'a>> {
    Some(ClientResult { invocation_id: f.str()?, connection_id: f.str()?, caller_server_id: f.str()? })
}

/// The extension members come first here.
fn member_query<'a>(f: &mut Fields<'a>) -> Option<Message<'a>> {
    f.at_least(6)?;
    let (ext, group, ack_id) = (f.ext()?, f.str()?, f.int()?);
    let (top, continuation_token) = (f.int_or_nil()?, f.str_or_nil()?);
    let page_size = match f.has(7) {
        false => PageSize::Absent,
        true => f.int_or_nil()?.map_or(PageSize::Nil, PageSize::Most),
    };
    Some(Message::GroupMemberQuery(GroupMemberQuery { ext, group, ack_id, top, continuation_token, page_size }))
}
