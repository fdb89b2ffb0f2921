use super::message::{
    Ack, AckPayload, ClientResult, CloseConnections, GroupBroadcastData, GroupMemberQuery, HandshakeRequest,
    Membership, OpenConnection, PageSize, Subject, code,
};
use super::{Ext, Message, Timestamp};
use crate::protocol::hub::{write_array_len, write_bin, write_ext, write_map_len, write_sint, write_str, write_uint};

/// Appends a message in its full form, with its length in front.
pub(crate) fn append(out: &mut Vec<u8>, message: &Message<'_>) {
    let start = out.len();
    // the length has to be in its shortest form: room for it by a guess, and the body moves if that was wrong
    let room = prefix_length(guess(message));
    out.extend_from_slice(&[0; MAX_PREFIX][..room]);
    let body = out.len();
    encode(out, message);
    let length = out.len() - body;
    let needed = prefix_length(length);
    if needed != room {
        out.resize(body + length + needed.saturating_sub(room), 0);
        out.copy_within(body..body + length, start + needed);
        out.truncate(start + needed + length);
    }
    write_prefix(&mut out[start..start + needed], length);
}

/// Appends the body of a message.
pub(super) fn encode(out: &mut Vec<u8>, message: &Message<'_>) {
    match message {
        Message::ConnectionData { connection_id, payload, ext } => {
            begin(out, 4, code::CONNECTION_DATA);
            write_str(out, connection_id);
            write_bin(out, payload);
            write_members(out, ext);
        }
        Message::MultiConnectionData { connection_ids, payloads, ext } => {
            begin(out, 4, code::MULTI_CONNECTION_DATA);
            write_strings(out, connection_ids);
            write_payloads(out, payloads);
            write_members(out, ext);
        }
        Message::UserData { user_id, payloads, ext } => {
            begin(out, 4, code::USER_DATA);
            write_str(out, user_id);
            write_payloads(out, payloads);
            write_members(out, ext);
        }
        Message::MultiUserData { user_ids, payloads, ext } => {
            begin(out, 4, code::MULTI_USER_DATA);
            write_strings(out, user_ids);
            write_payloads(out, payloads);
            write_members(out, ext);
        }
        Message::BroadcastData { excluded, payloads, ext } => {
            begin(out, 4, code::BROADCAST_DATA);
            write_strings(out, excluded);
            write_payloads(out, payloads);
            write_members(out, ext);
        }
        Message::GroupBroadcastData(broadcast) => group_broadcast(out, broadcast),
        Message::MultiGroupBroadcastData { groups, payloads, ext } => {
            begin(out, 4, code::MULTI_GROUP_BROADCAST_DATA);
            write_strings(out, groups);
            write_payloads(out, payloads);
            write_members(out, ext);
        }
        Message::HandshakeRequest(request) => handshake_request(out, request),
        Message::HandshakeResponse { error, ext, connection_id } => {
            begin(out, 4, code::HANDSHAKE_RESPONSE);
            write_str(out, error);
            write_members(out, ext);
            write_str_or_nil(out, *connection_id);
        }
        Message::Ping(elements) => {
            begin(out, 1 + elements.len(), code::PING);
            elements.iter().for_each(|element| write_str(out, element));
        }
        Message::OpenConnection(open) => open_connection(out, open),
        Message::CloseConnection { connection_id, error, headers, ext } => {
            begin(out, 5, code::CLOSE_CONNECTION);
            write_str(out, connection_id);
            write_str(out, error);
            write_headers(out, headers);
            write_members(out, ext);
        }
        Message::ServiceError { error } => {
            begin(out, 2, code::SERVICE_ERROR);
            write_str(out, error);
        }
        Message::ServiceEvent { object, id, kind, message, ext } => {
            begin(out, 6, code::SERVICE_EVENT);
            write_int(out, *object);
            write_str(out, id);
            write_int(out, *kind);
            write_str(out, message);
            write_members(out, ext);
        }
        Message::Membership(change) => {
            membership(out, change, [code::JOIN_GROUP, code::LEAVE_GROUP], CONNECTION_WITH_ACK);
        }
        Message::UserMembership(change) => {
            membership(out, change, [code::USER_JOIN_GROUP, code::USER_LEAVE_GROUP], USER_WITH_ACK);
        }
        Message::Ack(answer) => ack(out, answer),
        Message::CheckUserInGroup { user_id, group, ack_id, ext } => {
            begin(out, 5, code::CHECK_USER_IN_GROUP);
            write_str(out, user_id);
            write_str(out, group);
            write_int(out, *ack_id);
            write_members(out, ext);
        }
        Message::CheckExistence { of, name, ack_id, ext } => {
            begin(out, 4, existence_code(*of));
            write_str(out, name);
            write_int(out, *ack_id);
            write_members(out, ext);
        }
        Message::AccessKeyRequest { token, kid, ext } => {
            begin(out, 4, code::ACCESS_KEY_REQUEST);
            write_str(out, token);
            write_str_or_nil(out, *kid);
            write_members(out, ext);
        }
        Message::AccessKeyResponse { kid, access_key, error_type, error, ext } => {
            begin(out, 6, code::ACCESS_KEY_RESPONSE);
            [kid, access_key, error_type, error].into_iter().for_each(|text| write_str_or_nil(out, *text));
            write_members(out, ext);
        }
        Message::CloseConnections(closing) => close_connections(out, closing),
        Message::ClientInvocation { result, payloads, ext } => {
            begin_result(out, 6, code::CLIENT_INVOCATION, result);
            write_payloads(out, payloads);
            write_members(out, ext);
        }
        Message::ClientCompletion { result, protocol, payload, ext } => {
            begin_result(out, 7, code::CLIENT_COMPLETION, result);
            write_str(out, protocol);
            write_bin(out, payload);
            write_members(out, ext);
        }
        Message::ErrorCompletion { result, error, ext } => {
            begin_result(out, 6, code::ERROR_COMPLETION, result);
            write_str(out, error);
            write_members(out, ext);
        }
        Message::ServiceMapping { invocation_id, connection_id, instance_id, ext } => {
            begin(out, 5, code::SERVICE_MAPPING);
            [invocation_id, connection_id, instance_id].into_iter().for_each(|text| write_str(out, text));
            write_members(out, ext);
        }
        Message::ConnectionReconnect { connection_id, ext } => {
            begin(out, 3, code::CONNECTION_RECONNECT);
            write_str(out, connection_id);
            write_members(out, ext);
        }
        Message::ConnectionFlowControl { connection_id, connection_type, operation, ext } => {
            begin(out, 5, code::CONNECTION_FLOW_CONTROL);
            write_str(out, connection_id);
            write_wide_int(out, *connection_type);
            write_wide_int(out, *operation);
            write_members(out, ext);
        }
        Message::GroupMemberQuery(query) => member_query(out, query),
        Message::RefreshAuth { connection_token, claims, expires, ack_id, ext } => {
            begin(out, 6, code::REFRESH_AUTH);
            write_str(out, connection_token);
            write_claims(out, claims);
            write_timestamp(out, *expires);
            write_int(out, *ack_id);
            write_members(out, ext);
        }
        Message::GetConnectionClaims { connection_token, ack_id, ext } => {
            begin(out, 4, code::GET_CONNECTION_CLAIMS);
            write_str(out, connection_token);
            write_int(out, *ack_id);
            write_members(out, ext);
        }
        Message::UpdateConnectionClaims { connection_id, claims, ext } => {
            begin(out, 4, code::UPDATE_CONNECTION_CLAIMS);
            write_str(out, connection_id);
            write_claims(out, claims);
            write_members(out, ext);
        }
        Message::Unknown(kind) => begin(out, 1, *kind),
    }
}

/// Appends claims as a map: in their order, types repeated. Also what an ack to message 41 and 42 carries.
pub(crate) fn write_claims<K: AsRef<str>, V: AsRef<str>>(out: &mut Vec<u8>, claims: &[(K, V)]) {
    write_map_len(out, claims.len());
    for (kind, value) in claims {
        write_str(out, kind.as_ref());
        write_str(out, value.as_ref());
    }
}

/// Appends what an ack to message 40 carries: members as connection id and user id, and where the next page begins.
pub(crate) fn write_members_page<S: AsRef<str>>(out: &mut Vec<u8>, members: &[(S, Option<S>)], next: Option<&str>) {
    write_array_len(out, 2);
    write_array_len(out, members.len());
    for (connection, user) in members {
        write_array_len(out, 2);
        write_str(out, connection.as_ref());
        write_str_or_nil(out, user.as_ref().map(AsRef::as_ref));
    }
    write_str_or_nil(out, next);
}

fn handshake_request(out: &mut Vec<u8>, request: &HandshakeRequest<'_>) {
    begin(out, 6 + usize::from(request.allow_stateful_reconnects.is_some()), code::HANDSHAKE_REQUEST);
    write_int(out, request.version);
    write_int(out, request.connection_type);
    write_str(out, request.target);
    write_int(out, request.migration_level);
    write_members(out, &request.ext);
    if let Some(allowed) = request.allow_stateful_reconnects {
        out.push(if allowed { TRUE } else { FALSE });
    }
}

fn open_connection(out: &mut Vec<u8>, open: &OpenConnection<'_>) {
    begin(out, 6, code::OPEN_CONNECTION);
    write_str(out, open.connection_id);
    write_claims(out, &open.claims);
    write_headers(out, &open.headers);
    write_str(out, open.query);
    write_members(out, &open.ext);
}

fn group_broadcast(out: &mut Vec<u8>, broadcast: &GroupBroadcastData<'_>) {
    begin(out, 7, code::GROUP_BROADCAST_DATA);
    write_str(out, broadcast.group);
    write_strings(out, &broadcast.excluded);
    write_payloads(out, &broadcast.payloads);
    write_members(out, &broadcast.ext);
    write_strings(out, &broadcast.excluded_users);
    write_str_or_nil(out, broadcast.caller_user_id);
}

/// The codes are those of joining and leaving, without an ack and with one.
fn membership(out: &mut Vec<u8>, change: &Membership<'_>, silent: [i32; 2], with_ack: [i32; 2]) {
    let leaves = usize::from(!change.joins);
    match change.ack_id {
        None => begin(out, 4, silent[leaves]),
        Some(_) => begin(out, 5, with_ack[leaves]),
    }
    write_str(out, change.who);
    write_str_or_nil(out, change.group);
    if let Some(id) = change.ack_id {
        write_int(out, id);
    }
    write_members(out, &change.ext);
}

fn ack(out: &mut Vec<u8>, ack: &Ack<'_>) {
    begin(out, if ack.payload == AckPayload::Absent { 5 } else { 6 }, code::ACK);
    write_int(out, ack.id);
    write_int(out, ack.status);
    write_str(out, ack.message);
    write_members(out, &ack.ext);
    match ack.payload {
        AckPayload::Absent => {}
        AckPayload::Nil => out.push(NIL),
        AckPayload::Bytes(bytes) => write_bin(out, bytes),
    }
}

fn existence_code(of: Subject) -> i32 {
    match of {
        Subject::Group => code::CHECK_GROUP,
        Subject::User => code::CHECK_USER,
        // nobody asks whether there is anybody
        Subject::Connection | Subject::All => code::CHECK_CONNECTION,
    }
}

fn close_connections(out: &mut Vec<u8>, closing: &CloseConnections<'_>) {
    let (count, code) = match closing.of {
        Subject::Connection => (5, code::CLOSE_ONE),
        Subject::All => (5, code::CLOSE_ALL),
        Subject::User => (6, code::CLOSE_USER),
        Subject::Group => (6, code::CLOSE_GROUP),
    };
    begin(out, count, code);
    if closing.of != Subject::All {
        write_str(out, closing.name);
    }
    write_str_or_nil(out, closing.reason);
    write_int(out, closing.ack_id);
    if closing.of != Subject::Connection {
        write_strings(out, &closing.excluded);
    }
    write_members(out, &closing.ext);
}

fn begin_result(out: &mut Vec<u8>, count: usize, code: i32, result: &ClientResult<'_>) {
    begin(out, count, code);
    write_str(out, result.invocation_id);
    write_str(out, result.connection_id);
    write_str(out, result.caller_server_id);
}

fn member_query(out: &mut Vec<u8>, query: &GroupMemberQuery<'_>) {
    begin(out, if query.page_size == PageSize::Absent { 6 } else { 7 }, code::GROUP_MEMBER_QUERY);
    write_members(out, &query.ext);
    write_str(out, query.group);
    write_int(out, query.ack_id);
    match query.top {
        Some(top) => write_int(out, top),
        None => out.push(NIL),
    }
    write_str_or_nil(out, query.continuation_token);
    match query.page_size {
        PageSize::Absent => {}
        PageSize::Nil => out.push(NIL),
        PageSize::Most(most) => write_int(out, most),
    }
}

fn begin(out: &mut Vec<u8>, count: usize, code: i32) {
    write_array_len(out, count);
    write_int(out, code);
}

/// Appends the extension members that have a value, in the order of their keys.
fn write_members(out: &mut Vec<u8>, ext: &Ext<'_>) {
    let Ext { tracing_id, ttl, protocol, filter, data_type, is_partial } = ext;
    let count =
        [tracing_id.is_some(), ttl.is_some(), protocol.is_some(), filter.is_some(), *data_type != 0, *is_partial];
    write_map_len(out, count.into_iter().map(usize::from).sum());
    if let Some(id) = tracing_id {
        out.push(1);
        write_uint(out, *id);
    }
    if let Some(seconds) = ttl {
        out.push(2);
        write_int(out, *seconds);
    }
    if let Some(name) = protocol {
        out.push(3);
        write_str(out, name);
    }
    if let Some(expression) = filter {
        out.push(4);
        write_str(out, expression);
    }
    if *data_type != 0 {
        out.push(5);
        write_int(out, *data_type);
    }
    if *is_partial {
        out.extend_from_slice(&[6, TRUE]);
    }
}

fn write_headers(out: &mut Vec<u8>, headers: &[(&str, Vec<&str>)]) {
    write_map_len(out, headers.len());
    for (name, values) in headers {
        write_str(out, name);
        write_strings(out, values);
    }
}

fn write_payloads(out: &mut Vec<u8>, payloads: &[(&str, &[u8])]) {
    write_map_len(out, payloads.len());
    for (protocol, payload) in payloads {
        write_str(out, protocol);
        write_bin(out, payload);
    }
}

fn write_strings(out: &mut Vec<u8>, texts: &[&str]) {
    write_array_len(out, texts.len());
    texts.iter().for_each(|text| write_str(out, text));
}

fn write_str_or_nil(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => write_str(out, text),
        None => out.push(NIL),
    }
}

fn write_int(out: &mut Vec<u8>, n: i32) {
    write_sint(out, n.into());
}

/// Message 39 has its integers in five bytes.
fn write_wide_int(out: &mut Vec<u8>, n: i32) {
    out.push(INT32);
    out.extend_from_slice(&n.to_be_bytes());
}

/// The shortest of the three forms.
fn write_timestamp(out: &mut Vec<u8>, time: Timestamp) {
    let Timestamp { seconds, nanoseconds } = time;
    match (u32::try_from(seconds), nanoseconds) {
        (Ok(seconds), 0) => write_ext(out, TIMESTAMP, &seconds.to_be_bytes()),
        _ if (0..1 << 34).contains(&seconds) => {
            let both = u64::from(nanoseconds) << 34 | seconds.cast_unsigned();
            write_ext(out, TIMESTAMP, &both.to_be_bytes());
        }
        _ => {
            let mut data = [0; 12];
            data[..4].copy_from_slice(&nanoseconds.to_be_bytes());
            data[4..].copy_from_slice(&seconds.to_be_bytes());
            write_ext(out, TIMESTAMP, &data);
        }
    }
}

/// About how long the body becomes: exact enough for the messages that are frequent.
fn guess(message: &Message<'_>) -> usize {
    match message {
        Message::ConnectionData { connection_id, payload, .. } => connection_id.len() + payload.len() + 8,
        Message::OpenConnection(_) => 1024,
        _ => 0,
    }
}

fn prefix_length(length: usize) -> usize {
    match length {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        0x20_0000..=0xfff_ffff => 4,
        _ => MAX_PREFIX,
    }
}

/// Seven bits a byte, the lowest first.
fn write_prefix(out: &mut [u8], mut length: usize) {
    let last = out.len() - 1;
    for byte in &mut out[..last] {
        *byte = (length & 0x7f) as u8 | 0x80;
        length >>= 7;
    }
    out[last] = length as u8;
}

const CONNECTION_WITH_ACK: [i32; 2] = [code::JOIN_GROUP_WITH_ACK, code::LEAVE_GROUP_WITH_ACK];
const USER_WITH_ACK: [i32; 2] = [code::USER_JOIN_GROUP_WITH_ACK, code::USER_LEAVE_GROUP_WITH_ACK];
const MAX_PREFIX: usize = 5;
const NIL: u8 = 0xc0;
const FALSE: u8 = 0xc2;
const TRUE: u8 = 0xc3;
const INT32: u8 = 0xd2;
const TIMESTAMP: i8 = -1;
