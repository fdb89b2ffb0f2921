use super::pings::{self, Asked, Shutdown};
use super::relayed::Relayed;
use super::server_driver::{SHUTTING_DOWN, broken};
use super::service::Service;
use super::{Refreshed, SendRefused, ServerFacts, ServerGone, ServerKind, ServerLink, ServiceHub};
use crate::backplane::{Audience, BackplaneError, Closing, Existence, Page, Reached, UserMembership, Whom};
use crate::protocol::service::message::{
    Ack, AckPayload, CloseConnections, GroupBroadcastData, GroupMemberQuery, HandshakeRequest, Membership, PageSize,
    Subject, TYPE_DEFAULT, TYPE_ON_DEMAND, TYPE_WEAK, status,
};
use crate::protocol::service::{Ext, Message, Payloads, Timestamp, decode, write_claims, write_members_page};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::{debug, info, warn};

/// What a server connection does with what its server says: one message after another, each to its end, as the server relies on their order.
pub(super) struct Operations {
    service: Service,
    pub(super) hub: Arc<ServiceHub>,
    pub(super) link: Arc<ServerLink>,
    has_shaken: bool,
}

impl Operations {
    pub(super) fn new(service: Service, hub: Arc<ServiceHub>, link: Arc<ServerLink>) -> Self {
        Self { service, hub, link, has_shaken: false }
    }

    pub(super) fn service(&self) -> &Service {
        &self.service
    }

    /// Takes one message. An error ends the server connection.
    pub(super) async fn handle(&mut self, body: &[u8]) -> Result<(), ServerGone> {
        let metrics = &self.hub.server_metrics;
        metrics.received_messages.add(1);
        metrics.received_bytes.add(body.len() as u64);
        let message = match decode(body) {
            Ok(message) => message,
            Err(_) if !self.has_shaken => return Err(self.refuse("A handshake request is expected first.")),
            Err(error) => return Err(broken(&self.link, error)),
        };
        if self.has_shaken {
            self.message(message).await;
            return Ok(());
        }
        match message {
            Message::HandshakeRequest(request) => self.shake_hands(&request),
            _ => Err(self.refuse("A handshake request is expected first.")),
        }
    }

    fn shake_hands(&mut self, request: &HandshakeRequest<'_>) -> Result<(), ServerGone> {
        if request.version != VERSION {
            return Err(self.refuse("Version mismatch."));
        }
        let kind = match request.connection_type {
            TYPE_DEFAULT => ServerKind::Default,
            TYPE_ON_DEMAND => ServerKind::OnDemand,
            TYPE_WEAK => ServerKind::Weak,
            _ => return Err(self.refuse("The type of the connection is not known.")),
        };
        if !self.service.0.options.app_servers && kind != ServerKind::Weak {
            return Err(self.refuse(SERVERLESS));
        }
        if self.service.is_closed() {
            self.refuse(SHUTTING_DOWN);
            return Err(ServerGone::Shutdown);
        }
        let stateful_reconnect = request.allow_stateful_reconnects.unwrap_or(false);
        let facts = ServerFacts { kind, migration_level: request.migration_level, stateful_reconnect };
        // before anything else can be sent
        let id = self.link.id().to_owned();
        self.link.send(&Message::HandshakeResponse { error: "", ext: Ext::default(), connection_id: Some(&id) });
        self.link.shake_hands(facts);
        self.hub.server_came(&self.link);
        if self.service.is_closed() {
            // meanwhile: who closes the server connections may have missed this one
            return Err(ServerGone::Shutdown);
        }
        self.has_shaken = true;
        info!(id, server = %self.link.server_id(), hub = %self.hub.name(), ?kind, "server connection is open");
        Ok(())
    }

    fn refuse(&self, text: &str) -> ServerGone {
        self.link.send(&Message::HandshakeResponse { error: text, ext: Ext::default(), connection_id: None });
        ServerGone::Refused
    }

    async fn message(&self, message: Message<'_>) {
        match message {
            Message::ConnectionData { connection_id, payload, ext } => {
                // for a client that has gone, or moved, it comes late
                if let Some(client) = self.link.client(connection_id) {
                    client.data(payload, ext.data_type);
                }
            }
            Message::MultiConnectionData { connection_ids, payloads, ext } => {
                self.send(&Audience::Connections(owned(&connection_ids)), &payloads, &ext).await;
            }
            Message::UserData { user_id, payloads, ext } => {
                self.send(&Audience::User(user_id.to_owned()), &payloads, &ext).await;
            }
            Message::MultiUserData { user_ids, payloads, ext } => {
                self.send(&Audience::Users(owned(&user_ids)), &payloads, &ext).await;
            }
            Message::BroadcastData { excluded, payloads, ext } => {
                let audience = if excluded.is_empty() { Audience::All } else { Audience::AllExcept(owned(&excluded)) };
                self.send(&audience, &payloads, &ext).await;
            }
            Message::GroupBroadcastData(broadcast) => self.send_to_group(&broadcast).await,
            Message::MultiGroupBroadcastData { groups, payloads, ext } => {
                self.send(&Audience::Groups(owned(&groups)), &payloads, &ext).await;
            }
            Message::CloseConnection { connection_id, error, .. } => self.close_one(connection_id, error).await,
            Message::Ping(elements) => self.ping(&elements),
            Message::Membership(change) => self.change_connection(&change).await,
            Message::UserMembership(change) => self.change_user(&change).await,
            Message::CheckUserInGroup { user_id, group, ack_id, .. } => {
                let what = Existence::UserInGroup { user: user_id.to_owned(), group: group.to_owned() };
                self.answer(ack_id, self.hub.lifetime.exists(what)).await;
            }
            Message::CheckExistence { of, name, ack_id, .. } => {
                self.answer(ack_id, self.hub.lifetime.exists(Existence::Of(whom(of, name)))).await;
            }
            Message::CloseConnections(closing) => self.close_many(&closing).await,
            Message::ClientInvocation { result, payloads, .. } => self.ask_client(&result, &payloads).await,
            Message::ClientCompletion { result, protocol, payload, .. } => {
                self.pass_result(&result, protocol, payload);
            }
            Message::ErrorCompletion { result, error, .. } => self.pass_error(&result, error),
            Message::GroupMemberQuery(query) => self.list_members(&query).await,
            Message::AccessKeyRequest { .. } => self.refuse_access_key(),
            Message::RefreshAuth { connection_token, claims, expires, ack_id, .. } => {
                self.refresh(connection_token, &claims, expires, ack_id);
            }
            Message::GetConnectionClaims { connection_token, ack_id, .. } => self.tell_claims(connection_token, ack_id),
            Message::Unknown(kind) => {
                self.hub.metrics.unknown_messages.add(1);
                debug!(id = self.link.id(), kind, "a message of unknown type was skipped");
            }
            // what only the service says, and flow control, which is only ever answered when we ask for it
            Message::HandshakeRequest(_)
            | Message::HandshakeResponse { .. }
            | Message::OpenConnection(_)
            | Message::ServiceError { .. }
            | Message::ServiceEvent { .. }
            | Message::Ack(_)
            | Message::AccessKeyResponse { .. }
            | Message::ServiceMapping { .. }
            | Message::ConnectionReconnect { .. }
            | Message::ConnectionFlowControl { .. }
            | Message::UpdateConnectionClaims { .. } => {}
        }
    }

    async fn send_to_group(&self, broadcast: &GroupBroadcastData<'_>) {
        let group = broadcast.group.to_owned();
        let audience = if broadcast.excluded.is_empty() && broadcast.excluded_users.is_empty() {
            Audience::Group(group)
        } else {
            let (connections, users) = (owned(&broadcast.excluded), owned(&broadcast.excluded_users));
            Audience::GroupExcept { group, connections, users }
        };
        self.send(&audience, &broadcast.payloads, &broadcast.ext).await;
    }

    /// Nobody is told whether there is a receiver.
    pub(super) async fn send(&self, audience: &Audience, payloads: &Payloads<'_>, ext: &Ext<'_>) {
        if ext.filter.is_some() {
            // nobody knows how one is written, and no library writes any
            debug!(id = self.link.id(), "a filter was ignored");
        }
        let sent = match self.hub.lifetime.send(audience, &Relayed(payloads)) {
            Ok(reached) => reached.wait().await,
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            debug!(id = self.link.id(), %error, "a message did not reach every node");
        }
    }

    /// Its own server ends a client, or another party does: then its own is told by whoever ends it.
    async fn close_one(&self, connection_id: &str, error: &str) {
        if let Some(client) = self.link.take_client(connection_id) {
            return client.close(error);
        }
        let closing = closing(Whom::Connection(connection_id.to_owned()), Some(error), &[]);
        let _ = self.hub.lifetime.close(&closing).wait().await;
    }

    async fn close_many(&self, request: &CloseConnections<'_>) {
        let whom = whom(request.of, request.name);
        // a single one may be asked for that is not there, the others are any number
        let found = match &whom {
            Whom::Connection(_) => self.hub.lifetime.exists(Existence::Of(whom.clone())),
            _ => Reached::Done(true),
        };
        let closing = closing(whom, request.reason, &request.excluded);
        let closed = self.hub.lifetime.close(&closing).wait().await;
        match (found.wait().await, closed) {
            (Ok(found), Ok(())) => self.ack(request.ack_id, if found { status::OK } else { status::NOT_FOUND }),
            _ => self.ack(request.ack_id, status::INTERNAL_SERVER_ERROR),
        }
    }

    fn ping(&self, elements: &[&str]) {
        let hub = &self.hub;
        match pings::read(elements) {
            Asked::Status => {
                let status = pings::status(hub.lifetime.connection_count() > 0, self.service.totals());
                self.link.send(&Message::Ping(status.iter().map(String::as_str).collect()));
            }
            Asked::Servers => {
                let servers = pings::servers(SystemTime::now(), &hub.servers.server_ids());
                self.link.send(&pings::ping("servers", &servers));
            }
            Asked::Shutdown(shutdown) => self.shut_down(shutdown),
            Asked::Echo(_) | Asked::Nothing => {}
        }
    }

    /// The server connection goes away. It is acknowledged at once, and each time.
    fn shut_down(&self, shutdown: Shutdown) {
        self.link.send(&pings::ping("shutdown", "finack"));
        self.link.leave();
        debug!(id = self.link.id(), ?shutdown, "server connection is going away");
        match shutdown {
            Shutdown::Wait => {}
            Shutdown::Migrate => self.link.clients().iter().for_each(|client| client.migrate()),
            Shutdown::Drop => {
                for client in self.link.take_clients() {
                    self.link.send(&Message::CloseConnection {
                        connection_id: client.id().as_str(),
                        error: "",
                        headers: Vec::new(),
                        ext: Ext::default(),
                    });
                    client.lost();
                }
            }
        }
    }

    /// Nobody joins a group of a name that none can have. Who wants to know is told, in no other words than others are.
    fn refuses(&self, change: &Membership<'_>) -> bool {
        let is_refused = change.joins && !is_group_name(change.group.unwrap_or_default());
        if is_refused {
            let (id, server, hub) = (self.link.id(), self.link.server_id(), self.hub.name());
            // the name may be a client's choice: nobody must be able to fill the log
            debug!(id, %server, %hub, "a group is refused whose name is blank or too long");
            if let Some(ack_id) = change.ack_id {
                self.ack(ack_id, status::INTERNAL_SERVER_ERROR);
            }
        }
        is_refused
    }

    async fn change_connection(&self, change: &Membership<'_>) {
        if self.refuses(change) {
            return;
        }
        let lifetime = &self.hub.lifetime;
        let reached = match (change.joins, change.group) {
            (true, group) => lifetime.add_to_group(change.who, group.unwrap_or_default()),
            (false, Some(group)) => lifetime.remove_from_group(change.who, group),
            (false, None) => lifetime.remove_from_all_groups(change.who),
        };
        let exists = reached.wait().await;
        if let Some(ack_id) = change.ack_id {
            self.answer_known(ack_id, exists);
        }
    }

    async fn change_user(&self, change: &Membership<'_>) {
        if self.refuses(change) {
            return;
        }
        let seconds = |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        let wanted = match (change.joins, change.group) {
            (true, group) => {
                UserMembership::Join { group: group.unwrap_or_default(), remembered: change.ext.ttl.map(seconds) }
            }
            (false, Some(group)) => UserMembership::Leave(group),
            (false, None) => UserMembership::LeaveAll,
        };
        let changed = self.hub.lifetime.change_user(change.who, wanted).wait().await;
        if let Some(ack_id) = change.ack_id {
            // the user need not be there
            self.answer_known(ack_id, changed.map(|()| true));
        }
    }

    async fn list_members(&self, query: &GroupMemberQuery<'_>) {
        let limit = |n: Option<i32>| n.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(0));
        let size = match query.page_size {
            PageSize::Most(most) => usize::try_from(most).unwrap_or(0).clamp(1, LARGEST_PAGE),
            PageSize::Absent | PageSize::Nil => LARGEST_PAGE,
        };
        let top = limit(query.top);
        let most = top.min(size);
        let after = query.continuation_token.filter(|token| !token.is_empty()).map(str::to_owned);
        // one more than fits, to know whether there is another page
        let page = Page { after, most: most + 1 };
        match self.hub.lifetime.connections(Whom::Group(query.group.to_owned()), page).wait().await {
            Err(_) => self.ack(query.ack_id, status::INTERNAL_SERVER_ERROR),
            Ok(mut found) => {
                let has_more = found.len() > most && top > most;
                found.truncate(most);
                let members: Vec<_> = found.iter().map(|one| (one.id.as_str(), one.user.as_deref())).collect();
                let next = members.last().map(|(id, _)| *id).filter(|_| has_more);
                let mut payload = Vec::new();
                write_members_page(&mut payload, &members, next);
                self.ack_with(query.ack_id, status::OK, AckPayload::Bytes(&payload));
            }
        }
    }

    /// Servers whose connection string names a directory's identity ask for a key to sign their clients' tokens with. There are only access
    /// keys here.
    fn refuse_access_key(&self) {
        self.link.send(&Message::AccessKeyResponse {
            kid: None,
            access_key: None,
            error_type: Some("NotSupported"),
            error: Some("This service knows access keys only: put one into the connection string."),
            ext: Ext::default(),
        });
    }

    fn refresh(&self, token: &str, claims: &[(&str, &str)], expires: Timestamp, ack_id: i32) {
        match self.hub.credentials().refresh(token, claims, expires) {
            Refreshed::Done { claims, tell } => {
                self.ack_with_claims(ack_id, &claims);
                if let Some((server, connection)) = tell {
                    let told = server.offer(&Message::UpdateConnectionClaims {
                        connection_id: connection.as_str(),
                        claims: claims.iter().map(|(kind, value)| (&**kind, &**value)).collect(),
                        ext: Ext::default(),
                    });
                    if told == Err(SendRefused::Full) {
                        let (id, server) = (server.id(), server.server_id());
                        warn!(id, %server, "an application server does not read, and was not told of a client's new claims");
                    }
                }
            }
            Refreshed::Forbidden => self.ack_with(ack_id, status::FORBIDDEN, AckPayload::Nil),
            Refreshed::NotFound => self.ack_with(ack_id, status::NOT_FOUND, AckPayload::Nil),
        }
    }

    fn tell_claims(&self, token: &str, ack_id: i32) {
        match self.hub.credentials().claims(token) {
            Some(claims) => self.ack_with_claims(ack_id, &claims),
            None => self.ack_with(ack_id, status::NOT_FOUND, AckPayload::Nil),
        }
    }

    async fn answer(&self, ack_id: i32, asked: Reached<bool>) {
        self.answer_known(ack_id, asked.wait().await);
    }

    fn answer_known(&self, ack_id: i32, answer: Result<bool, BackplaneError>) {
        let status = match answer {
            Ok(true) => status::OK,
            Ok(false) => status::NOT_FOUND,
            Err(_) => status::INTERNAL_SERVER_ERROR,
        };
        self.ack(ack_id, status);
    }

    fn ack(&self, id: i32, status: i32) {
        self.ack_with(id, status, AckPayload::Absent);
    }

    fn ack_with_claims(&self, id: i32, claims: &[(String, String)]) {
        let mut payload = Vec::new();
        write_claims(&mut payload, claims);
        self.ack_with(id, status::OK, AckPayload::Bytes(&payload));
    }

    fn ack_with(&self, id: i32, status: i32, payload: AckPayload<'_>) {
        if !matches!(status, status::OK | status::NOT_FOUND) {
            self.hub.server_metrics.acks_failed.add(1);
        }
        self.link.send(&Message::Ack(Ack { id, status, message: "", ext: Ext::default(), payload }));
    }
}

fn whom(of: Subject, name: &str) -> Whom {
    match of {
        Subject::All => Whom::All,
        Subject::Connection => Whom::Connection(name.to_owned()),
        Subject::User => Whom::User(name.to_owned()),
        Subject::Group => Whom::Group(name.to_owned()),
    }
}

/// Somebody who is not the client's server ends it. It may connect again, and learns why if its token says that it may.
fn closing(whom: Whom, reason: Option<&str>, except: &[&str]) -> Closing {
    let error = reason.filter(|reason| !reason.is_empty()).map(str::to_owned);
    Closing { whom, except: owned(except), error, allow_reconnect: true }
}

/// As the REST API has it.
fn is_group_name(name: &str) -> bool {
    // no character has more than four bytes, so a long one is not counted
    let is_short = name.len() <= 4 * LONGEST_GROUP && name.chars().count() <= LONGEST_GROUP;
    is_short && !name.chars().all(char::is_whitespace)
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The only version of the protocol that there is.
const VERSION: i32 = 1;
/// What the cloud says where only management libraries may connect.
const SERVERLESS: &str = "SignalR Service is now in 'Serverless' service mode. Server connection is not allowed.";
/// Characters of a group's name.
const LONGEST_GROUP: usize = 1024;
/// Members in one ack: some 50 KiB.
const LARGEST_PAGE: usize = 1000;
