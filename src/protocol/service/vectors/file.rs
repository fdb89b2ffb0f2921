//! The files of vectors, and how what they say becomes a message of ours.

use crate::protocol::service::message::{
    Ack, AckPayload, ClientResult, CloseConnections, GroupBroadcastData, GroupMemberQuery, HandshakeRequest,
    Membership, OpenConnection, PageSize, Subject,
};
use crate::protocol::service::{Claims, Ext, Headers, Message, Payloads, Timestamp};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The vectors of the protocol, and those of its latest messages.
pub(super) fn vectors() -> Vec<Vector> {
    let mut all: Vec<Vector> =
        serde_json::from_str(include_str!("../../../../tests/vectors/service-protocol.json")).unwrap();
    let mut later: Value = serde_json::from_str(include_str!("../../../../tests/vectors/auth-refresh.json")).unwrap();
    all.extend(Vec::<Vector>::deserialize(later["serviceProtocol"].take()).unwrap());
    all.iter_mut().for_each(|vector| vector.keep_bytes());
    all
}

#[derive(Deserialize)]
pub(super) struct Vector {
    pub(super) name: String,
    pub(super) exact_encoding: bool,
    message: Map<String, Value>,
    /// For its timestamp, which `message` has as text.
    elements: Value,
    base64: String,
    #[serde(default)]
    pub(super) trailing_bytes: usize,
    /// The binary values of the message, by where they stand in it.
    #[serde(skip)]
    bytes: Vec<(String, Vec<u8>)>,
}

impl Vector {
    pub(super) fn framed(&self) -> Vec<u8> {
        STANDARD.decode(&self.base64).unwrap()
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let mut framed = self.framed();
        let prefix = framed.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let length = framed[..prefix].iter().rev().fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
        assert_eq!(framed.len(), prefix + length, "{}", self.name);
        framed.split_off(prefix)
    }

    pub(super) fn message(&self) -> Message<'_> {
        let ext = self.ext();
        let (ack_id, group) = (self.int("ack_id"), self.text("group_name"));
        match self.int("type") {
            1 => Message::HandshakeRequest(HandshakeRequest {
                version: self.int("version"),
                connection_type: self.int("connection_type"),
                target: self.text("target"),
                migration_level: self.int("migration_level"),
                ext,
                allow_stateful_reconnects: self.message.get("allow_stateful_reconnects").and_then(Value::as_bool),
            }),
            2 => Message::HandshakeResponse {
                error: self.text("error_message"),
                ext,
                connection_id: self.text_or_nil("connection_id"),
            },
            3 => Message::Ping(self.texts("messages")),
            4 => Message::OpenConnection(OpenConnection {
                connection_id: self.text("connection_id"),
                claims: self.claims(),
                headers: self.headers(),
                query: self.text("query_string"),
                ext,
            }),
            5 => Message::CloseConnection {
                connection_id: self.text("connection_id"),
                error: self.text("error_message"),
                headers: self.headers(),
                ext,
            },
            6 => Message::ConnectionData {
                connection_id: self.text("connection_id"),
                payload: self.binary("payload"),
                ext,
            },
            7 => Message::MultiConnectionData {
                connection_ids: self.texts("connection_list"),
                payloads: self.payloads(),
                ext,
            },
            8 => Message::UserData { user_id: self.text("user_id"), payloads: self.payloads(), ext },
            9 => Message::MultiUserData { user_ids: self.texts("user_list"), payloads: self.payloads(), ext },
            10 => Message::BroadcastData { excluded: self.texts("excluded_list"), payloads: self.payloads(), ext },
            13 => Message::GroupBroadcastData(GroupBroadcastData {
                group,
                excluded: self.texts("excluded_list"),
                payloads: self.payloads(),
                ext,
                excluded_users: self.texts("excluded_user_list"),
                caller_user_id: self.text_or_nil("caller_user_id"),
            }),
            14 => Message::MultiGroupBroadcastData { groups: self.texts("group_list"), payloads: self.payloads(), ext },
            15 => Message::ServiceError { error: self.text("error_message") },
            20 => Message::Ack(Ack {
                id: ack_id,
                status: self.int("status"),
                message: self.text("message"),
                ext,
                payload: match self.message.get("payload") {
                    None => AckPayload::Absent,
                    Some(Value::Null) => AckPayload::Nil,
                    Some(_) => AckPayload::Bytes(self.binary("payload")),
                },
            }),
            21 => Message::CheckUserInGroup { user_id: self.text("user_id"), group, ack_id, ext },
            22 => Message::ServiceEvent {
                object: self.int("object_type"),
                id: self.text("id"),
                kind: self.int("kind"),
                message: self.text("message"),
                ext,
            },
            23 => Message::CheckExistence { of: Subject::Group, name: group, ack_id, ext },
            24 => {
                let name = self.text("connection_id");
                Message::CheckExistence { of: Subject::Connection, name, ack_id, ext }
            }
            25 => Message::CheckExistence { of: Subject::User, name: self.text("user_id"), ack_id, ext },
            28 => Message::AccessKeyRequest { token: self.text("token"), kid: self.text_or_nil("kid"), ext },
            29 => Message::AccessKeyResponse {
                kid: self.text_or_nil("kid"),
                access_key: self.text_or_nil("access_key"),
                error_type: self.text_or_nil("error_type"),
                error: self.text_or_nil("error_message"),
                ext,
            },
            kind @ (11 | 12 | 18 | 19) => {
                Message::Membership(self.membership(self.text("connection_id"), matches!(kind, 11 | 18)))
            }
            kind @ (16 | 17 | 26 | 27) => {
                Message::UserMembership(self.membership(self.text("user_id"), matches!(kind, 16 | 26)))
            }
            kind @ 30..=33 => self.closing(kind),
            34 => Message::ClientInvocation { result: self.result(), payloads: self.payloads(), ext },
            35 => Message::ClientCompletion {
                result: self.result(),
                protocol: self.text("protocol"),
                payload: self.binary("payload"),
                ext,
            },
            36 => Message::ErrorCompletion { result: self.result(), error: self.text("error"), ext },
            37 => Message::ServiceMapping {
                invocation_id: self.text("invocation_id"),
                connection_id: self.text("connection_id"),
                instance_id: self.text("instance_id"),
                ext,
            },
            38 => Message::ConnectionReconnect { connection_id: self.text("connection_id"), ext },
            39 => Message::ConnectionFlowControl {
                connection_id: self.text("connection_id"),
                connection_type: self.int("connection_type"),
                operation: self.int("operation"),
                ext,
            },
            40 => Message::GroupMemberQuery(GroupMemberQuery {
                ext,
                group,
                ack_id,
                top: self.int_or_nil("top"),
                continuation_token: self.text_or_nil("continuation_token"),
                page_size: match self.message.get("max_page_size") {
                    None => PageSize::Absent,
                    Some(Value::Null) => PageSize::Nil,
                    Some(_) => PageSize::Most(self.int("max_page_size")),
                },
            }),
            41 => Message::RefreshAuth {
                connection_token: self.text("connection_token"),
                claims: self.claims(),
                expires: self.expires(),
                ack_id,
                ext,
            },
            42 => Message::GetConnectionClaims { connection_token: self.text("connection_token"), ack_id, ext },
            43 => Message::UpdateConnectionClaims {
                connection_id: self.text("connection_id"),
                claims: self.claims(),
                ext,
            },
            unknown => Message::Unknown(unknown),
        }
    }

    fn membership<'a>(&'a self, who: &'a str, joins: bool) -> Membership<'a> {
        let (group, ack_id) = (self.text_or_nil("group_name"), self.int_or_nil("ack_id"));
        Membership { joins, who, group, ack_id, ext: self.ext() }
    }

    fn closing(&self, kind: i32) -> Message<'_> {
        let (of, name) = match kind {
            30 => (Subject::Connection, "connection_id"),
            31 => (Subject::All, ""),
            32 => (Subject::User, "user_id"),
            _ => (Subject::Group, "group_name"),
        };
        Message::CloseConnections(CloseConnections {
            of,
            name: self.text(name),
            reason: self.text_or_nil("reason"),
            ack_id: self.int("ack_id"),
            excluded: self.texts("excluded_list"),
            ext: self.ext(),
        })
    }

    fn result(&self) -> ClientResult<'_> {
        ClientResult {
            invocation_id: self.text("invocation_id"),
            connection_id: self.text("connection_id"),
            caller_server_id: self.text("caller_server_id"),
        }
    }

    fn ext(&self) -> Ext<'_> {
        let Some(ext) = self.message.get("ext") else { return Ext::default() };
        let known = ["tracing_id", "ttl", "protocol", "filter", "data_message_type", "is_partial"];
        assert!(ext.as_object().unwrap().keys().all(|key| known.contains(&&**key)), "{}", self.name);
        Ext {
            tracing_id: ext["tracing_id"].as_u64(),
            ttl: ext["ttl"].as_i64().map(|ttl| ttl as i32),
            protocol: ext["protocol"].as_str(),
            filter: ext["filter"].as_str(),
            data_type: ext["data_message_type"].as_i64().unwrap_or_default() as i32,
            is_partial: ext["is_partial"].as_bool().unwrap_or_default(),
        }
    }

    fn expires(&self) -> Timestamp {
        let time = &self.elements[3]["timestamp"];
        Timestamp { seconds: time[0].as_i64().unwrap(), nanoseconds: time[1].as_u64().unwrap() as u32 }
    }

    fn claims(&self) -> Claims<'_> {
        let claims = self.list("claims").iter();
        claims.map(|claim| (claim[0].as_str().unwrap(), claim[1].as_str().unwrap())).collect()
    }

    fn headers(&self) -> Headers<'_> {
        let headers = self.list("headers").iter();
        headers.map(|header| (header[0].as_str().unwrap(), texts(&header[1]))).collect()
    }

    fn payloads(&self) -> Payloads<'_> {
        let payloads = self.list("payloads").iter();
        payloads
            .map(|payload| {
                let name = payload[0].as_str().unwrap();
                (name, self.binary(&format!("payloads/{name}")))
            })
            .collect()
    }

    fn int(&self, name: &str) -> i32 {
        self.int_or_nil(name).unwrap_or_default()
    }

    fn int_or_nil(&self, name: &str) -> Option<i32> {
        Some(self.message.get(name)?.as_i64()?.try_into().unwrap())
    }

    fn text(&self, name: &str) -> &str {
        self.text_or_nil(name).unwrap_or_default()
    }

    fn text_or_nil(&self, name: &str) -> Option<&str> {
        self.message.get(name)?.as_str()
    }

    fn texts(&self, name: &str) -> Vec<&str> {
        self.message.get(name).map(texts).unwrap_or_default()
    }

    fn list(&self, name: &str) -> &[Value] {
        self.message.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    fn binary(&self, name: &str) -> &[u8] {
        &self.bytes.iter().find(|(found, _)| found == name).unwrap_or_else(|| panic!("{}: {name}", self.name)).1
    }

    fn keep_bytes(&mut self) {
        let payload = self.message.get("payload").filter(|payload| !payload.is_null());
        self.bytes = payload.map(|payload| ("payload".to_owned(), unhex(payload))).into_iter().collect();
        let payloads = self.list("payloads").iter();
        let payloads: Vec<_> = payloads
            .map(|payload| (format!("payloads/{}", payload[0].as_str().unwrap()), unhex(&payload[1])))
            .collect();
        self.bytes.extend(payloads);
    }
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|text| text.as_str().unwrap()).collect()
}

fn unhex(value: &Value) -> Vec<u8> {
    let digits = value["hex"].as_str().unwrap().as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
    bytes.repeat(value["repeat"].as_u64().unwrap_or(1) as usize)
}
