use super::bound::Shared;
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
    /// It is woken when a server connection comes.
    waits: bool,
    /// Its time to wait for a first server is running.
    is_timed: bool,
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
        Self { hub, shared, server: None, refused: None, settles: false, waits: false, is_timed: false }
    }

    /// Has a server connection carry the client.
    fn connect(&mut self, from: Option<&ServerLink>) -> Outcome {
        let identity = identity(&self.shared.link);
        loop {
            let Some(server) = self.hub.servers.choose(sticky(&identity)) else { return Outcome::NoServer };
            // what is said about a client is never refused: a storm of them would grow what waits for a server without end
            if server.is_crowded(&self.shared.link) {
                return Outcome::Crowded;
            }
            // otherwise it has ended since it was chosen
            if server.bind(Arc::new(self.shared.next())) {
                self.shared.is_bound();
                if let Some(from) = from {
                    from.unbind(self.shared.link.id());
                    self.say_goodbye(from, Some(&server));
                }
                self.introduce(&server, &identity, from);
                self.server = Some(server);
                return Outcome::Connected;
            }
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
    }

    /// Tells a server that the client has left it, for another one if there is one.
    fn say_goodbye(&self, server: &ServerLink, to: Option<&ServerLink>) {
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
        match self.connect(Some(&from)) {
            Outcome::Connected => {}
            Outcome::Crowded => self.waits = true,
            Outcome::NoServer => self.wait_for_server(),
        }
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
        match self.connect(None) {
            Outcome::Connected => return Ok(()),
            Outcome::Crowded => {
                self.waits = true;
                return Ok(());
            }
            Outcome::NoServer if self.hub.grace.is_zero() => return Err(no_server()),
            Outcome::NoServer => self.wait_for_server(),
        }
        if !std::mem::replace(&mut self.is_timed, true) {
            let (link, shared, grace) = (self.shared.link.clone(), self.shared.clone(), self.hub.grace);
            self.hub.tasks.spawn(async move {
                let ended = link.ended();
                if tokio::time::timeout(grace, ended.cancelled()).await.is_err() && shared.is_waiting() {
                    link.close(no_server());
                }
            });
        }
        Ok(())
    }

    fn wait_for_server(&mut self) {
        self.waits = true;
        self.hub.wait_for_server(&self.shared.link);
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

    fn has_greeted(&self) -> bool {
        self.shared.has_greeted()
    }

    fn closed(&mut self, link: &Arc<Link>, _: &CloseReason) {
        self.hub.lifetime.remove(link);
        if let Some(server) = self.server.take()
            && server.unbind(link.id())
        {
            self.say_goodbye(&server, None);
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
/// What clients of the real service are told.
const NO_SERVER: &str = "SignalR Service is now in 'Default' service mode. Current mode works as a proxy that routes client traffic to the connected app servers. However app servers are not connected.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backplane::{Answer, Bus};
    use crate::lifetime::{Lifetime, Outgoing};
    use tokio_util::task::TaskTracker;

    fn passing(lifetime: &Arc<Lifetime>, link: &Arc<Link>) -> Passing {
        let hub = Arc::new(Clients {
            lifetime: lifetime.clone(),
            servers: Arc::default(),
            results: Arc::default(),
            instance: "i".into(),
            grace: Duration::ZERO,
            relay_limit: 1024,
            tasks: TaskTracker::new(),
            waiting: Default::default(),
        });
        Passing::new(hub, Arc::new(Shared::new(link.clone(), b"", 1024)))
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
}
