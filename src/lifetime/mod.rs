//! Who is connected, who is in what, and fan-out by connection, group and user.

mod fan_out;
mod groups;
mod presence;
mod questions;
mod segments;
#[cfg(test)]
mod tests;
mod user_groups;

use crate::backplane::{
    Answer, Audience, Backplane, BackplaneError, Closing, Deliver, Encoded, Existence, Found, Membership, News, NodeId,
    Page, Query, Reached, UserMembership, Watching, Whom,
};
use crate::connection::{CloseReason, Link};
use crate::protocol::hub::{Completed, EncodeArguments, EncodeError, Frame, Protocol};
use crate::transport::ConnectionId;
use dashmap::DashMap;
use fan_out::{Except, FanOut};
use groups::{Groups, Joined};
use parking_lot::Mutex;
pub use presence::PresenceChange;
pub(crate) use presence::Watch;
use presence::{Feed, Presence};
pub(crate) use questions::Asked;
use questions::Questions;
use segments::{Segment, Segments};
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use tokio::runtime::Handle;
use user_groups::UserGroups;

/// The connections of one hub on this node, what they belong to, and the way to those on other nodes.
pub(crate) struct Lifetime {
    backplane: Arc<dyn Backplane>,
    connections: DashMap<ConnectionId, Arc<Member>>,
    all: Segments,
    groups: Groups,
    users: Groups,
    user_groups: UserGroups,
    presence: Presence,
    questions: Arc<Questions>,
    /// Where tasks that write to segments run; known since the first connection.
    runtime: OnceLock<Handle>,
}

/// A connection, and where it is listed.
#[derive(Debug)]
struct Member {
    link: Arc<Link>,
    segment: Arc<Segment>,
    user: Option<Joined>,
    /// `None` once the connection has left: nothing is joined any more.
    groups: Mutex<Option<Vec<Joined>>>,
}

/// A call of a client method, encoded once for each protocol that has a receiver.
pub(crate) struct Outgoing<'a> {
    target: &'a str,
    arguments: &'a dyn EncodeArguments,
    key: Option<&'a str>,
    id: Option<&'a str>,
    frames: [OnceCell<Frame>; Protocol::KNOWN.len()],
}

impl<'a> Outgoing<'a> {
    /// `key` is for the policy `conflate`; without one the target is the key.
    pub(crate) fn new(target: &'a str, arguments: &'a dyn EncodeArguments, key: Option<&'a str>) -> Self {
        Self { target, arguments, key, id: None, frames: Default::default() }
    }

    /// One that is answered under this id.
    pub(crate) fn question(id: &'a str, target: &'a str, arguments: &'a dyn EncodeArguments) -> Self {
        Self { id: Some(id), ..Self::new(target, arguments, None) }
    }
}

impl Encoded for Outgoing<'_> {
    fn frame(&self, protocol: Protocol) -> Result<Option<Frame>, EncodeError> {
        let frame = &self.frames[protocol as usize];
        if let Some(frame) = frame.get() {
            return Ok(Some(frame.clone()));
        }
        let encoded = Frame::invocation(protocol, self.id, self.target, self.arguments)?;
        Ok(Some(frame.get_or_init(|| encoded).clone()))
    }

    fn key(&self) -> &str {
        self.key.unwrap_or(self.target)
    }
}

impl Lifetime {
    pub(crate) fn new(backplane: Arc<dyn Backplane>) -> Arc<Self> {
        let lifetime = Arc::new_cyclic(|lifetime| Self {
            backplane,
            connections: DashMap::new(),
            all: Segments::default(),
            groups: Groups::default(),
            users: Groups::default(),
            user_groups: UserGroups::default(),
            presence: Presence::new(lifetime.clone()),
            questions: Arc::default(),
            runtime: OnceLock::new(),
        });
        let node: std::sync::Weak<dyn Deliver> = Arc::downgrade(&lifetime) as _;
        lifetime.backplane.attach(node);
        lifetime
    }

    /// A connection is there: it receives from now on. Called once for each, by its own task.
    pub(crate) fn add(&self, link: &Arc<Link>) {
        self.runtime.get_or_init(Handle::current);
        let user = link.facts().identity.user_id().map(|user| {
            let (joined, first, ()) = self.users.join(user, link, |_| ());
            if first {
                self.backplane.interest(&Whom::User(user.to_owned()), true);
            }
            joined
        });
        let member =
            Member { link: link.clone(), segment: self.all.add(link), user, groups: Mutex::new(Some(Vec::new())) };
        self.connections.insert(*link.id(), Arc::new(member));
        self.backplane.interest(&Whom::Connection(link.id().to_string()), true);
        if let Some(user) = link.facts().identity.user_id() {
            let id = link.id().to_string();
            self.user_groups.each(user, |group| {
                Deliver::change_group(self, &id, Membership::Join(group));
            });
        }
    }

    /// It is gone: groups, its user and questions to it forget it.
    pub(crate) fn remove(&self, link: &Arc<Link>) {
        let Some((id, member)) = self.connections.remove(link.id()) else { return };
        self.backplane.interest(&Whom::Connection(id.to_string()), false);
        self.all.remove(link, &member.segment);
        if let Some(user) = &member.user
            && self.users.leave(user, link, |_| ()).0
        {
            self.backplane.interest(&Whom::User(user.group.name.to_string()), false);
        }
        let left = member.groups.lock().take().unwrap_or_default();
        let feeds: Vec<_> = left.iter().filter_map(|joined| self.leave(joined, link)).collect();
        self.tell(&feeds);
        for question in self.questions.disconnected(link.id()) {
            self.backplane.answer(&question, Answer::Disconnected);
        }
    }

    /// Encodes and queues the message for everybody it is meant for before it returns. Nobody gets it if one encoding in use cannot
    /// carry it. An audience of one connection that nobody has is an empty audience.
    pub(crate) fn send(&self, audience: &Audience, message: &dyn Encoded) -> Result<Reached<()>, BackplaneError> {
        self.backplane.send(audience, message)
    }

    /// Adds a connection, of any node, to a group; it is in it when this has been waited for. Says whether there is such a connection.
    pub(crate) fn add_to_group(&self, connection: &str, group: &str) -> Reached<bool> {
        self.change(connection, Membership::Join(group))
    }

    /// Says whether there is such a connection.
    pub(crate) fn remove_from_group(&self, connection: &str, group: &str) -> Reached<bool> {
        self.change(connection, Membership::Leave(group))
    }

    /// Says whether there is such a connection.
    pub(crate) fn remove_from_all_groups(&self, connection: &str) -> Reached<bool> {
        self.change(connection, Membership::LeaveAll)
    }

    /// Changes the membership of all connections that a user has, and of those that will come.
    pub(crate) fn change_user(&self, user: &str, change: UserMembership<'_>) -> Reached<()> {
        self.backplane.change_user(user, change)
    }

    /// An id for a question that is about to be asked.
    pub(crate) fn question_id(&self) -> String {
        self.backplane.question_id()
    }

    /// Asks a connection, of any node, with a message that carries this [id](Self::question_id). The answer comes through what is
    /// returned; dropping that gives up, and a late answer is ignored.
    pub(crate) fn ask(
        &self,
        connection: &str,
        id: &str,
        message: &dyn Encoded,
    ) -> Result<(Reached<()>, Asked), BackplaneError> {
        if let Some(member) = self.member(connection) {
            let frame = given(message, member.link.protocol())?;
            let asked = self.questions.put(id, *member.link.id());
            member.link.push(&frame, None);
            member.link.flush();
            if member.link.is_closed() {
                // it may have left before the question was there to be forgotten
                self.questions.answer(id, Answer::Disconnected);
            }
            return Ok((Reached::Done(()), asked));
        }
        let asked = self.questions.expect(id, &self.backplane);
        let reached = self.backplane.ask(connection, id, message)?;
        Ok((reached, asked))
    }

    /// A completion came from `link`: true if it answers a question. An answer by another connection than the one asked is an error that
    /// ends that connection.
    pub(crate) fn complete(&self, link: &Link, id: &str, outcome: &Completed<'_>) -> Result<bool, CloseReason> {
        use questions::Outcome;
        let answer = || match outcome {
            Completed::Error(text) => Answer::Error(text.clone().into_owned()),
            Completed::Result(raw) => Answer::Result(raw.protocol, raw.bytes.to_vec()),
            Completed::Void => Answer::Void,
        };
        match self.questions.complete(link.id(), id, answer) {
            Outcome::Answered => Ok(true),
            Outcome::Forward(answer) => {
                self.backplane.answer(id, answer);
                Ok(true)
            }
            Outcome::Unknown => Ok(false),
            Outcome::Foreign => Err(CloseReason::MisplacedMessage(
                format!("Connection ID '{}' is not valid for invocation ID '{id}'.", link.id()).into(),
            )),
        }
    }

    /// Somebody on some node waits for a client's answer, perhaps.
    #[cfg(feature = "service")]
    pub(crate) fn has_questions(&self) -> bool {
        !self.questions.is_empty()
    }

    /// Ends connections, of any node.
    pub(crate) fn close(&self, closing: &Closing) -> Reached<()> {
        self.backplane.close(closing)
    }

    /// Asks all nodes whether there is something.
    pub(crate) fn exists(&self, what: Existence) -> Reached<bool> {
        if let Existence::Of(Whom::Connection(_)) = &what
            && Deliver::exists(self, &what)
        {
            return Reached::Done(true);
        }
        self.backplane.exists(&what)
    }

    /// Asks all nodes for connections; in the order of their ids.
    pub(crate) fn connections(&self, whom: Whom, page: Page) -> Reached<Vec<Found>> {
        let most = page.most;
        self.backplane.query(&Query::Connections(whom, page)).map(move |mut found| {
            found.sort_unstable();
            found.truncate(most);
            found
        })
    }

    /// The ids of connections, in no order.
    pub(crate) fn connection_ids(&self, whom: Whom) -> Reached<Vec<String>> {
        self.backplane.query(&Query::Connections(whom, Page::ALL)).map(ids)
    }

    /// The groups of a connection, in no order.
    pub(crate) fn groups_of(&self, connection: String) -> Reached<Vec<String>> {
        self.backplane.query(&Query::GroupsOf(connection)).map(ids)
    }

    /// Asks all nodes for groups; in the order of their names, each with the number of its members.
    pub(crate) fn groups(&self, page: Page) -> Reached<Vec<Found>> {
        let most = page.most;
        self.backplane.query(&Query::Groups(page)).map(move |mut found| {
            found.sort_unstable();
            found.dedup_by(|next, group| {
                let same = next.id == group.id;
                if same {
                    group.count += next.count;
                }
                same
            });
            found.truncate(most);
            found
        })
    }

    /// Connections of this node.
    pub(crate) fn connection_count(&self) -> usize {
        self.all.count()
    }

    /// No connection is here, and no user remembered.
    #[cfg(feature = "service")]
    pub(crate) fn is_idle(&self) -> bool {
        self.connection_count() == 0 && self.user_groups.is_empty()
    }

    /// Groups that have a member on this node.
    pub(crate) fn group_count(&self) -> usize {
        self.groups.count()
    }

    fn change(&self, connection: &str, change: Membership<'_>) -> Reached<bool> {
        if Deliver::change_group(self, connection, change) {
            return Reached::Done(true);
        }
        self.backplane.change_group(connection, change)
    }

    fn join(&self, group: &str, link: &Arc<Link>) -> (Joined, Option<Arc<Feed>>) {
        let (joined, first, feed) = self.groups.join(group, link, |group| self.presence.joined(group, link));
        if first {
            self.backplane.interest(&Whom::Group(group.to_owned()), true);
        }
        (joined, feed)
    }

    fn leave(&self, joined: &Joined, link: &Arc<Link>) -> Option<Arc<Feed>> {
        let (last, feed) = self.groups.leave(joined, link, |group| self.presence.left(group, link));
        if last {
            self.backplane.interest(&Whom::Group(joined.group.name.to_string()), false);
        }
        feed
    }

    fn member(&self, connection: &str) -> Option<Arc<Member>> {
        self.connections.get(&ConnectionId::parse(connection)?).map(|member| member.clone())
    }

    /// Those that are not about to go.
    fn links(&self, whom: &Whom) -> Vec<Arc<Link>> {
        let named = |names: &Groups, name| names.find(name).map(|group| group.members.links().collect());
        let mut links: Vec<Arc<Link>> = match whom {
            Whom::All => self.all.links().collect(),
            Whom::Connection(id) => self.member(id).map(|member| member.link.clone()).into_iter().collect(),
            Whom::Group(name) => named(&self.groups, name).unwrap_or_default(),
            Whom::User(name) => named(&self.users, name).unwrap_or_default(),
        };
        links.retain(|link| !link.is_closed());
        links
    }

    fn found(&self, link: &Link) -> Found {
        let member = self.connections.get(link.id()).map(|member| member.clone());
        let groups = member.and_then(|member| member.groups.lock().as_ref().map(Vec::len));
        Found {
            id: link.id().to_string(),
            user: link.facts().identity.user_id().map(str::to_owned),
            transport: Some(link.facts().transport.name().to_owned()),
            protocol: Some(link.protocol().name().to_owned()),
            count: groups.unwrap_or_default(),
        }
    }

    fn is_member(&self, link: &Link, group: &str) -> bool {
        let Some(member) = self.connections.get(link.id()).map(|member| member.clone()) else { return false };
        let groups = member.groups.lock();
        groups.iter().flatten().any(|joined| &*joined.group.name == group)
    }

    fn deliver_to_some(
        &self,
        runtime: &Handle,
        sets: &[&Segments],
        except: &Except<'_>,
        message: &dyn Encoded,
    ) -> Result<(), EncodeError> {
        let fan_out = FanOut::encode(message, |protocol| sets.iter().any(|set| set.uses(protocol)))?;
        for set in sets {
            fan_out.to_all(set, except, runtime);
        }
        Ok(())
    }

    fn deliver_to_named(
        &self,
        runtime: &Handle,
        names: &Groups,
        wanted: &[String],
        except: &Except<'_>,
        message: &dyn Encoded,
    ) -> Result<(), EncodeError> {
        let found: Vec<_> = wanted.iter().filter_map(|name| names.find(name)).collect();
        let sets: Vec<_> = found.iter().map(|group| &group.members).collect();
        self.deliver_to_some(runtime, &sets, except, message)
    }

    fn deliver_to_connections(&self, ids: &BTreeSet<&String>, message: &dyn Encoded) -> Result<(), EncodeError> {
        let links: Vec<_> = ids.iter().filter_map(|id| Some(self.member(id)?.link.clone())).collect();
        let fan_out = FanOut::encode(message, |protocol| links.iter().any(|link| link.protocol() == protocol))?;
        links.iter().for_each(|link| fan_out.to_one(link));
        Ok(())
    }
}

impl Deliver for Lifetime {
    fn deliver(&self, audience: &Audience, message: &dyn Encoded) -> Result<(), EncodeError> {
        // without a connection there is no receiver
        let Some(runtime) = self.runtime.get() else { return Ok(()) };
        let nobody = Except::NOBODY;
        match audience {
            Audience::All => self.deliver_to_some(runtime, &[&self.all], &nobody, message),
            Audience::AllExcept(ids) => self.deliver_to_some(runtime, &[&self.all], &Except::new(ids, &[]), message),
            Audience::Connection(id) => self.deliver_to_connections(&BTreeSet::from([id]), message),
            Audience::Connections(ids) => self.deliver_to_connections(&ids.iter().collect(), message),
            // once for each group, so a member of two gets two copies; users and connections get one
            Audience::Group(name) => {
                self.deliver_to_named(runtime, &self.groups, std::slice::from_ref(name), &nobody, message)
            }
            Audience::Groups(names) => self.deliver_to_named(runtime, &self.groups, names, &nobody, message),
            Audience::GroupExcept { group, connections, users } => {
                let except = Except::new(connections, users);
                self.deliver_to_named(runtime, &self.groups, std::slice::from_ref(group), &except, message)
            }
            Audience::User(name) => {
                self.deliver_to_named(runtime, &self.users, std::slice::from_ref(name), &nobody, message)
            }
            Audience::Users(names) => {
                let names: BTreeSet<_> = names.iter().cloned().collect();
                self.deliver_to_named(runtime, &self.users, &Vec::from_iter(names), &nobody, message)
            }
        }
    }

    fn change_group(&self, connection: &str, change: Membership<'_>) -> bool {
        let Some(member) = self.member(connection) else { return false };
        let mut feeds = Vec::new();
        {
            let mut groups = member.groups.lock();
            let Some(joined) = groups.as_mut() else { return false };
            let at = |joined: &[Joined], group| joined.iter().position(|joined| &*joined.group.name == group);
            match change {
                Membership::Join(group) if at(joined, group).is_none() => {
                    let (membership, feed) = self.join(group, &member.link);
                    joined.push(membership);
                    feeds.extend(feed);
                }
                Membership::Join(_) => {}
                Membership::Leave(group) => {
                    let membership = at(joined, group).map(|at| joined.swap_remove(at));
                    feeds.extend(membership.and_then(|membership| self.leave(&membership, &member.link)));
                }
                Membership::LeaveAll => {
                    feeds.extend(joined.drain(..).filter_map(|membership| self.leave(&membership, &member.link)));
                }
            }
        }
        self.tell(&feeds);
        true
    }

    fn change_user(&self, user: &str, change: UserMembership<'_>) {
        let each = |change: Membership<'_>| {
            for link in self.links(&Whom::User(user.to_owned())) {
                Deliver::change_group(self, &link.id().to_string(), change);
            }
        };
        match change {
            UserMembership::Join { group, remembered } => {
                // remembered first: a connection that comes meanwhile joins by that, or is found here
                self.user_groups.remember(user, group, remembered);
                each(Membership::Join(group));
            }
            UserMembership::Leave(group) => {
                self.user_groups.forget(user, Some(group), || each(Membership::Leave(group)))
            }
            UserMembership::LeaveAll => self.user_groups.forget(user, None, || each(Membership::LeaveAll)),
        }
    }

    fn ask(&self, connection: &str, question: &str, message: &dyn Encoded) -> Result<bool, EncodeError> {
        let Some(member) = self.member(connection) else { return Ok(false) };
        let Some(frame) = message.frame(member.link.protocol())? else { return Ok(false) };
        self.questions.put_foreign(question, *member.link.id());
        member.link.push(&frame, None);
        member.link.flush();
        if member.link.is_closed() && self.questions.give_up_foreign(question) {
            // as for a question of this node's own
            self.backplane.answer(question, Answer::Disconnected);
        }
        Ok(true)
    }

    fn answered(&self, question: &str, answer: Answer) {
        self.questions.answer(question, answer);
    }

    fn given_up(&self, question: &str) {
        self.questions.give_up_foreign(question);
    }

    fn close(&self, closing: &Closing) {
        let except = Except::new(&closing.except, &[]);
        for link in self.links(&closing.whom).iter().filter(|link| !except.contains(link)) {
            link.close(match (&closing.error, closing.allow_reconnect) {
                (None, false) => CloseReason::Aborted,
                (error, allow_reconnect) => {
                    CloseReason::Requested { error: error.as_deref().map(Into::into), allow_reconnect }
                }
            });
        }
    }

    fn query(&self, query: &Query) -> Vec<Found> {
        match query {
            Query::Connections(whom, page) => {
                let links = self.links(whom);
                let mut found: Vec<_> = links.iter().filter(|link| page.is_behind(link.id().as_str())).collect();
                page.first(&mut found, |link| link.id().as_str());
                found.into_iter().map(|link| self.found(link)).collect()
            }
            Query::GroupsOf(connection) => {
                let Some(member) = self.member(connection) else { return Vec::new() };
                let groups = member.groups.lock();
                let count = |joined: &Joined| joined.group.members.count();
                groups.iter().flatten().map(|joined| Found::group(&*joined.group.name, count(joined))).collect()
            }
            Query::Groups(page) => {
                let mut found = self.groups.list(|name| page.is_behind(name));
                page.first(&mut found, |group| &group.name);
                found.iter().map(|group| Found::group(&*group.name, group.members.count())).collect()
            }
        }
    }

    fn exists(&self, what: &Existence) -> bool {
        match what {
            Existence::Of(whom) => !self.links(whom).is_empty(),
            Existence::UserInGroup { user, group } => {
                self.user_groups.contains(user, group)
                    || self.links(&Whom::User(user.clone())).iter().any(|link| self.is_member(link, group))
            }
        }
    }

    fn watched(&self, group: &str, watching: Watching, begins: bool) {
        self.watched_by(group, watching, begins);
    }

    fn hear(&self, node: NodeId, group: &str, news: &News) {
        self.hear_of(node, group, news);
    }

    fn lose(&self, node: NodeId) {
        self.lose_node(node);
    }
}

fn ids(found: Vec<Found>) -> Vec<String> {
    found.into_iter().map(|found| found.id).collect()
}

/// The message in a protocol in which it must have been given.
fn given(message: &dyn Encoded, protocol: Protocol) -> Result<Frame, BackplaneError> {
    message.frame(protocol)?.ok_or(BackplaneError::NotGiven(protocol))
}

impl std::fmt::Debug for Lifetime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lifetime")
            .field("connections", &self.connection_count())
            .field("groups", &self.group_count())
            .finish_non_exhaustive()
    }
}
