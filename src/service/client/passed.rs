use super::bound::{Bound, Shared};
use super::{Clients, claims, kept};
use crate::connection::{CloseReason, Link, Receive, Sort, Sorted, Turn};
use crate::protocol::hub::{DecodeError, Kind, Message as HubMessage, Protocol};
use crate::protocol::service::message::{DATA_CLOSE, DATA_HANDSHAKE, OpenConnection};
use crate::protocol::service::{Ext, Message};
use crate::service::{SendRefused, ServerLink, Sticky};
use crate::transport::Identity;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// One client's side of the service: passes on what it says, whole message by whole message, to the server connection that carries it.
///
/// ```text
///   Waiting (no server is there) --> Asked (its handshake was passed on) --> Greeted <--> moved to another server
/// ```
///
/// Only the client's own task binds it to a server connection, between two messages: so no message is ever cut in two by a move.
pub(crate) struct Passing {
    hub: Arc<Clients>,
    shared: Arc<Shared>,
    /// The server connection that carries it.
    server: Option<Arc<ServerLink>>,
    /// A message that its server connection had no room for.
    refused: Option<Box<[u8]>>,
    /// It is woken when it may have become calm, and moves then.
    settles: bool,
    /// It is woken when a server connection comes, or has room.
    waits: bool,
    /// It may be on lists of those that wait.
    is_listed: bool,
    /// Since when it has waited for a first server, and when it is woken to look whether that was too long.
    waited_since: Option<Instant>,
    looks_at: Option<Instant>,
}

/// What came of the search for a server connection.
enum Outcome {
    Connected,
    /// There is one, which takes no more for now: the client is resumed when it does.
    Crowded,
    NoServer,
}

/// A message of a client, on its way.
pub(crate) struct Passed<'a> {
    framed: &'a [u8],
    body: &'a [u8],
    kind: Kind,
}

impl Sort for Passed<'_> {
    fn sort(&self) -> Sorted<'_> {
        match self.kind {
            Kind::Ack(number) => Sorted::Ack(number),
            Kind::Sequence(number) => Sorted::Sequence(number),
            kind if kind.is_numbered() => Sorted::Numbered,
            // who answers for the hub has to see these
            _ => Sorted::Other,
        }
    }
}

impl Passing {
    pub(super) fn new(hub: Arc<Clients>, shared: Arc<Shared>) -> Self {
        Self {
            hub,
            shared,
            server: None,
            refused: None,
            settles: false,
            waits: false,
            is_listed: false,
            waited_since: None,
            looks_at: None,
        }
    }

    /// Has a server connection carry the client.
    fn connect(&mut self, from: Option<&ServerLink>) -> Outcome {
        let identity = identity(&self.shared.link);
        loop {
            let Some(server) = self.hub.servers.choose(sticky(&identity)) else { return Outcome::NoServer };
            // what is said about a client is never refused: a storm of them would grow what waits for a server without end
            if server.is_crowded(&self.shared.link) {
                // whichever has room first is to say so
                let links = self.hub.servers.links();
                links.iter().filter(|link| link.is_routable()).for_each(|link| {
                    link.is_crowded(&self.shared.link);
                });
                return Outcome::Crowded;
            }
            let bound = self.shared.next(&server);
            // otherwise it has ended since it was chosen
            if server.bind(bound.clone()) && self.moves_to(&server, &bound) {
                match from {
                    None => self.shared.link.expect_answer(),
                    Some(from) => {
                        from.unbind(self.shared.link.id());
                        self.say_goodbye(from, Some(&server));
                    }
                }
                self.introduce(&server, &identity, from);
                self.server = Some(server);
                return Outcome::Connected;
            }
        }
    }

    /// Has a server connection carry the client that it is bound to. Not one that goes: it may have told those that it carries before the client
    /// was among them.
    fn moves_to(&self, server: &ServerLink, bound: &Bound) -> bool {
        let moves = server.is_routable() && self.shared.move_to(bound);
        if !moves {
            server.unbind(self.shared.link.id());
        }
        moves
    }

    /// Has a server connection carry the client, or has it resumed when that may be possible.
    fn connect_or_wait(&mut self, from: Option<&ServerLink>) -> Outcome {
        let mut outcome = self.connect(from);
        if !matches!(outcome, Outcome::Connected) {
            (self.waits, self.is_listed) = (true, true);
            self.hub.wait_for_server(&self.shared.link);
            // one may have come since, when there was nobody to wake
            outcome = self.connect(from);
        }
        if matches!(outcome, Outcome::Connected) {
            self.wait_no_more();
        }
        outcome
    }

    fn wait_no_more(&mut self) {
        self.waits = false;
        if std::mem::take(&mut self.is_listed) || self.refused.is_some() {
            self.hub.waits_no_more(&self.shared.link);
        }
    }

    /// Tells a server of the client, and passes on how it has asked for the hub.
    fn introduce(&self, server: &ServerLink, identity: &Identity, from: Option<&ServerLink>) {
        let link = &self.shared.link;
        let kept = link.facts().terms.as_ref().map_or("", |terms| &terms.kept);
        let mut headers = kept::headers(kept);
        headers.extend(kept::own_headers(identity, &self.hub.instance));
        if let Some(from) = from {
            headers.push((kept::MIGRATE_FROM, vec![&**from.server_id()]));
        }
        server.send(&Message::OpenConnection(OpenConnection {
            connection_id: link.id().as_str(),
            claims: claims::for_server(identity),
            headers,
            query: kept::query(kept),
            ext: Ext::of_protocol(link.protocol().name()),
        }));
        server.send(&Message::ConnectionData {
            connection_id: link.id().as_str(),
            payload: &self.shared.handshake,
            ext: Ext::of_data(DATA_HANDSHAKE),
        });
        if server.client(link.id().as_str()).is_none() {
            // the server was told that the client has gone before it heard that it had come
            self.say_goodbye(server, None);
        }
    }

    /// Tells a server that the client has left it, for another one if there is one.
    fn say_goodbye(&self, server: &ServerLink, to: Option<&ServerLink>) {
        self.shared.end_pause(server);
        let headers = to.map(|to| (kept::MIGRATE_TO, vec![&**to.server_id()]));
        server.send(&Message::CloseConnection {
            connection_id: self.shared.link.id().as_str(),
            error: "",
            headers: headers.into_iter().collect(),
            ext: Ext::default(),
        });
    }

    /// Moves to another server, if its own is about to stop and there is one. Without one it stays, and is looked at again when one comes.
    fn migrate(&mut self) {
        let Some(from) = self.server.clone().filter(|_| !self.waits && self.shared.is_to_migrate()) else { return };
        self.connect_or_wait(Some(&from));
    }

    /// Moves as soon as it is calm. What the old server has not answered when a client moves is never answered: one that has just spoken
    /// moves with the next that it says, or after a while.
    fn migrate_when_calm(&mut self) {
        if !self.shared.is_to_migrate() || self.settles {
            return;
        }
        if self.shared.link.silence() >= CALM {
            return self.migrate();
        }
        self.settles = true;
        let link = self.shared.link.clone();
        self.hub.tasks.spawn(async move {
            let ended = link.ended();
            if tokio::time::timeout(CALM, ended.cancelled()).await.is_err() {
                link.resume();
            }
        });
    }

    /// Finds a server connection for a client that has none, or has it wait for one if it may.
    fn find_server(&mut self) -> Result<(), CloseReason> {
        let patience = match self.connect_or_wait(None) {
            Outcome::Connected => return Ok(()),
            Outcome::Crowded => self.hub.grace.max(CROWDED),
            Outcome::NoServer => self.hub.grace,
        };
        let since = *self.waited_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= patience {
            return Err(no_server());
        }
        self.look_at(since + patience);
        Ok(())
    }

    /// Has the client resumed at a time, if it is not before.
    fn look_at(&mut self, time: Instant) {
        if self.looks_at.is_some_and(|other| other >= time) {
            return;
        }
        self.looks_at = Some(time);
        let link = self.shared.link.clone();
        self.hub.tasks.spawn(async move {
            let ended = link.ended();
            if tokio::time::timeout_at(time, ended.cancelled()).await.is_err() {
                link.resume();
            }
        });
    }

    fn pass(&mut self, framed: &[u8], kind: Kind) -> Result<(), CloseReason> {
        let Some(server) = &self.server else { return Ok(()) };
        let link = &self.shared.link;
        let ext = if kind == Kind::Close { Ext::of_data(DATA_CLOSE) } else { Ext::default() };
        let data = Message::ConnectionData { connection_id: link.id().as_str(), payload: framed, ext };
        match server.try_send(&data, link) {
            Ok(()) => Ok(()),
            Err(SendRefused::Full) => {
                self.refused = Some(framed.into());
                Ok(())
            }
            Err(SendRefused::Gone) => Err(CloseReason::ServerLost),
        }
    }

    /// An answer to its server's question is said again, until the server says that it has it: its library makes a note of a question
    /// after it has sent it, and takes no notice of an answer that is faster, as one over a short way is. What it has twice it ignores.
    fn repeat_until_taken(&self, message: &Passed<'_>) {
        let link = self.shared.link.clone();
        let id = match link.protocol().decode(message.body) {
            Ok(HubMessage::Completion { id, .. }) if self.hub.results.is_open(&id) => id.into_owned(),
            _ => return,
        };
        let Some(server) = self.server.clone() else { return };
        let (hub, framed) = (self.hub.clone(), Box::<[u8]>::from(message.framed));
        self.hub.tasks.spawn(async move {
            let ended = link.ended();
            for pause in REPEATS {
                if tokio::time::timeout(pause, ended.cancelled()).await.is_ok() || !hub.results.is_open(&id) {
                    return;
                }
                let connection_id = link.id().as_str();
                if server.client(connection_id).is_none() {
                    return;
                }
                server.send(&Message::ConnectionData { connection_id, payload: &framed, ext: Ext::default() });
            }
        });
    }

    /// The answer to a question of ours, and not of a server's, goes no further.
    fn is_answer(&self, link: &Link, message: &Passed<'_>) -> Result<bool, CloseReason> {
        if message.kind != Kind::Completion || !self.hub.lifetime.has_questions() {
            return Ok(false);
        }
        match link.protocol().decode(message.body) {
            Ok(HubMessage::Completion { id, outcome }) => self.hub.lifetime.complete(link, &id, &outcome),
            _ => Ok(false),
        }
    }
}

impl Receive for Passing {
    type Message<'a> = Passed<'a>;

    fn read<'a>(protocol: Protocol, framed: &'a [u8], body: Range<usize>) -> Result<Passed<'a>, DecodeError> {
        let body = &framed[body];
        Ok(Passed { framed, body, kind: Kind::of(protocol, body) })
    }

    fn opened(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), CloseReason> {
        self.hub.lifetime.add(turn.link);
        self.find_server()
    }

    fn receive(&mut self, turn: &mut Turn<'_, '_>, message: Passed<'_>) -> Result<(), CloseReason> {
        if self.is_answer(turn.link, &message)? {
            return Ok(());
        }
        self.migrate();
        self.pass(message.framed, message.kind)?;
        if message.kind == Kind::Completion && self.hub.results.count() > 0 {
            self.repeat_until_taken(&message);
        }
        Ok(())
    }

    fn resume(&mut self, turn: &mut Turn<'_, '_>) -> Result<(), CloseReason> {
        // whoever renewed it tells the server
        turn.link.credential.take_news();
        (self.waits, self.settles) = (false, false);
        if self.server.is_none() {
            self.find_server()?;
        }
        self.migrate_when_calm();
        if let Some(server) = &self.server {
            self.shared.ease(server);
        }
        if let Some(refused) = self.refused.take() {
            let protocol = turn.link.protocol();
            let kind = next_body(protocol, &refused).map_or(Kind::Unknown, |body| Kind::of(protocol, body));
            self.pass(&refused, kind)?;
        }
        Ok(())
    }

    fn held(&self) -> usize {
        0
    }

    fn is_stalled(&self) -> bool {
        self.refused.is_some() || self.server.is_none()
    }

    fn closed(&mut self, link: &Arc<Link>, _: &CloseReason) {
        self.hub.lifetime.remove(link);
        self.wait_no_more();
        let Some(server) = self.server.take() else { return };
        if server.unbind(link.id()) {
            self.say_goodbye(&server, None);
        } else {
            self.shared.end_pause(&server);
        }
    }
}

fn next_body(protocol: Protocol, framed: &[u8]) -> Option<&[u8]> {
    let piece = crate::protocol::hub::next_message(protocol, framed, None).ok()??;
    Some(&framed[piece.body])
}

/// Who the client is by the credential in force.
pub(super) fn identity(link: &Link) -> Identity {
    link.credential.renewed().unwrap_or_else(|| link.facts().identity.clone())
}

fn sticky(identity: &Identity) -> Sticky<'_> {
    match (identity.claim(claims::SERVER), identity.claim(claims::STICKY)) {
        (Some(server), Some("Required")) => Sticky::Required(server),
        (Some(server), Some("Preferred")) => Sticky::Preferred(server),
        _ => Sticky::No,
    }
}

fn no_server() -> CloseReason {
    CloseReason::HandshakeRefused(NO_SERVER.into())
}

/// When an answer is said again that its server may have missed.
const REPEATS: [Duration; 3] = [Duration::from_millis(100), Duration::from_millis(400), Duration::from_secs(2)];
/// Silence of a client after which it waits for no answer, as far as one can tell.
const CALM: Duration = Duration::from_millis(500);
/// How long a client waits at least while all servers have too much to read.
const CROWDED: Duration = Duration::from_secs(15);
/// What clients of the real service are told.
const NO_SERVER: &str = "SignalR Service is now in 'Default' service mode. Current mode works as a proxy that routes client traffic to the connected app servers. However app servers are not connected.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backplane::{Answer, Bus};
    use crate::lifetime::{Lifetime, Outgoing};
    use crate::protocol::service::{Assembler, decode};
    use crate::protocol::websocket::header_length;
    use crate::service::client::bound::Limits;
    use crate::service::{Client, ClientOptions, ClientResults, ServerFacts, ServiceHub};
    use tokio_util::task::TaskTracker;

    const LIMITS: Limits = Limits { relay: 1024, pause: 512 };

    fn passing(lifetime: &Arc<Lifetime>, link: &Arc<Link>) -> Passing {
        let hub = Arc::new(Clients {
            lifetime: lifetime.clone(),
            servers: Arc::default(),
            results: Arc::new(ClientResults::new(Arc::default())),
            instance: "i".into(),
            grace: Duration::ZERO,
            limits: LIMITS,
            tasks: TaskTracker::new(),
            waiting: Default::default(),
        });
        Passing::new(hub, Arc::new(Shared::new(link.clone(), b"", LIMITS)))
    }

    #[tokio::test]
    async fn the_answer_to_our_own_question_goes_no_further() {
        let lifetime = Lifetime::new(Bus::single());
        let link = Link::detached(Identity::anonymous());
        lifetime.add(&link);
        let passing = passing(&lifetime, &link);
        let is_answer = |text: &str| {
            let framed = format!("{text}\u{1e}");
            let message = Passing::read(Protocol::Json, framed.as_bytes(), 0..text.len()).unwrap();
            passing.is_answer(&link, &message)
        };
        let of_a_server = r#"{"type":3,"invocationId":"of a server","result":1}"#;
        assert_eq!(is_answer(of_a_server), Ok(false), "nobody asks");
        let id = lifetime.question_id();
        let (_, asked) = lifetime.ask(link.id().as_str(), &id, &Outgoing::question(&id, "t", &())).unwrap();
        let answer = format!(r#"{{"type":3,"invocationId":"{id}","result":[7]}}"#);
        assert_eq!(is_answer(of_a_server), Ok(false));
        assert_eq!(is_answer(r#"{"type":1,"target":"t","arguments":[]}"#), Ok(false));
        assert_eq!(is_answer(&answer), Ok(true));
        assert_eq!(asked.answer().await, Answer::Result(Protocol::Json, b"[7]".to_vec()));
        assert_eq!(is_answer(&answer), Ok(false), "it was answered");
    }

    /// The types of the messages that wait for a server.
    fn sent(server: &ServerLink) -> Vec<&'static str> {
        let Some((bytes, start)) = server.take_queued() else { return Vec::new() };
        let mut rest = &bytes[start + header_length(&bytes[start..])..];
        let (mut messages, mut types) = (Assembler::new(1 << 20), Vec::new());
        while let Some(body) = messages.next(&mut rest).unwrap() {
            types.push(match decode(body).unwrap() {
                Message::OpenConnection(_) => "open",
                Message::CloseConnection { .. } => "close",
                Message::ConnectionFlowControl { operation: 1, .. } => "pause",
                Message::ConnectionFlowControl { operation: 3, .. } => "resume",
                _ => "data",
            });
        }
        types
    }

    fn a_server(passing: &Passing, id: &str) -> Arc<ServerLink> {
        let hub = ServiceHub::new("hub", &"i".into(), &ClientOptions::default());
        let server = ServerLink::new("", id.into(), &hub, 1024);
        server.shake_hands(ServerFacts::default());
        passing.hub.servers.add(&server);
        server
    }

    fn a_client() -> (Arc<Link>, Passing) {
        let link = Link::detached(Identity::anonymous());
        let passing = passing(&Lifetime::new(Bus::single()), &link);
        (link, passing)
    }

    fn carries(server: &ServerLink, link: &Link) -> bool {
        server.client(link.id().as_str()).is_some()
    }

    #[test]
    fn a_client_whose_new_server_connection_goes_before_it_has_moved_there_chooses_again() {
        let goes: [fn(&ServerLink); 4] = [
            |server| server.finish().iter().for_each(|client| client.lost()),
            |server| server.take_clients().iter().for_each(|client| client.lost()),
            |server| server.clients().iter().for_each(|client| client.migrate()),
            ServerLink::leave,
        ];
        for go in goes {
            let (link, mut passing) = a_client();
            let (one, two) = (a_server(&passing, "a"), a_server(&passing, "b"));
            let bound = passing.shared.next(&one);
            assert!(one.bind(bound.clone()));
            go(&one);
            assert!(!passing.moves_to(&one, &bound));
            assert!(!carries(&one, &link) && !link.is_closed());
            one.leave();
            assert!(matches!(passing.connect(None), Outcome::Connected));
            assert!(carries(&two, &link));
            // what is still under way there is nothing to the client
            bound.lost();
            bound.migrate();
            assert!(!link.is_closed() && !passing.shared.is_to_migrate());
            assert_eq!((sent(&one), sent(&two)), (vec![], vec!["open", "data"]));
        }
    }

    #[test]
    fn a_server_that_drops_a_client_before_it_has_heard_of_it_hears_last_that_it_has_gone() {
        let (link, passing) = a_client();
        let server = a_server(&passing, "a");
        let bound = passing.shared.next(&server);
        assert!(server.bind(bound.clone()) && passing.moves_to(&server, &bound));
        passing.say_goodbye(&server, None);
        server.take_clients().iter().for_each(|client| client.lost());
        assert_eq!(link.close_reason(), Some(&CloseReason::ServerLost));
        passing.introduce(&server, &Identity::anonymous(), None);
        assert_eq!(sent(&server), ["close", "open", "data", "close"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_of_crowded_servers_waits_once_and_not_for_ever() {
        let (link, mut passing) = a_client();
        let (one, two) = (a_server(&passing, "a"), a_server(&passing, "b"));
        let payload = &[0; 2000];
        for server in [&one, &two] {
            server.send(&Message::ConnectionData { connection_id: "c", payload, ext: Ext::default() });
        }
        for _ in 0..3 {
            assert_eq!(passing.find_server(), Ok(()));
            assert_eq!((one.waiting_count(), two.waiting_count(), passing.hub.waiting.lock().len()), (1, 1, 1));
        }
        tokio::time::advance(CROWDED).await;
        assert_eq!(passing.find_server(), Err(no_server()));
        passing.closed(&link, &no_server());
        assert_eq!((one.waiting_count(), two.waiting_count(), passing.hub.waiting.lock().len()), (0, 0, 0));
    }

    #[tokio::test]
    async fn a_client_is_carried_by_the_server_connection_that_has_room() {
        let (link, mut passing) = a_client();
        let full = a_server(&passing, "a");
        full.send(&Message::ConnectionData { connection_id: "c", payload: &[0; 2000], ext: Ext::default() });
        assert_eq!(passing.find_server(), Ok(()));
        let other = a_server(&passing, "b");
        assert_eq!(passing.find_server(), Ok(()));
        assert!(carries(&other, &link));
        assert_eq!((full.waiting_count(), passing.hub.waiting.lock().len()), (0, 0));
    }

    #[tokio::test]
    async fn a_pause_ends_once_half_is_taken_or_the_client_leaves() {
        let (link, mut passing) = a_client();
        let (one, two) = (a_server(&passing, "a"), a_server(&passing, "b"));
        one.leave();
        assert_eq!(passing.find_server(), Ok(()));
        assert_eq!(sent(&two), ["open", "data"]);
        let client = two.client(link.id().as_str()).unwrap();
        client.data(b"{}\x1e", 0);
        let data = [vec![b'x'; 300], vec![0x1e]].concat();
        for _ in 0..3 {
            client.data(&data, 0);
        }
        assert_eq!(sent(&two), ["pause"]);
        passing.shared.ease(&two);
        assert!(sent(&two).is_empty());
        link.take_queued();
        passing.shared.ease(&two);
        passing.shared.ease(&two);
        assert_eq!(sent(&two), ["resume"]);
        for _ in 0..2 {
            client.data(&data, 0);
        }
        assert_eq!(sent(&two), ["pause"]);
        let three = a_server(&passing, "c");
        two.leave();
        client.migrate();
        passing.migrate();
        link.take_queued();
        passing.shared.ease(&three);
        assert_eq!((sent(&two), sent(&three)), (vec!["resume", "close"], vec!["open", "data"]));
    }
}
