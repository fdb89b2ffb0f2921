//! Who is connected, who is in what, and fan-out by connection, group and user.

mod fan_out;
mod groups;
mod questions;
mod segments;
#[cfg(test)]
mod tests;

use crate::backplane::{
    Answer, Audience, Backplane, BackplaneError, Deliver, Encoded, Membership, Query, Reached, Whom,
};
use crate::connection::{CloseReason, Link};
use crate::protocol::hub::{Completed, EncodeArguments, EncodeError, Frame, Protocol};
use crate::transport::ConnectionId;
use dashmap::DashMap;
use fan_out::{Except, FanOut};
use groups::{Groups, Joined};
use parking_lot::Mutex;
pub(crate) use questions::Asked;
use questions::Questions;
use segments::{Segment, Segments};
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use tokio::runtime::Handle;

/// The connections of one hub on this node, what they belong to, and the way to those on other nodes.
pub(crate) struct Lifetime {
    backplane: Arc<dyn Backplane>,
    connections: DashMap<ConnectionId, Arc<Member>>,
    all: Segments,
    groups: Groups,
    users: Groups,
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
}

impl Encoded for Outgoing<'_> {
    fn frame(&self, protocol: Protocol) -> Result<Frame, EncodeError> {
        let frame = &self.frames[protocol as usize];
        if let Some(frame) = frame.get() {
            return Ok(frame.clone());
        }
        let encoded = Frame::invocation(protocol, self.id, self.target, self.arguments)?;
        Ok(frame.get_or_init(|| encoded).clone())
    }

    fn key(&self) -> &str {
        self.key.unwrap_or(self.target)
    }
}

impl Lifetime {
    pub(crate) fn new(backplane: Arc<dyn Backplane>) -> Arc<Self> {
        let lifetime = Arc::new(Self {
            backplane,
            connections: DashMap::new(),
            all: Segments::default(),
            groups: Groups::default(),
            users: Groups::default(),
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
            let (joined, first) = self.users.join(user, link);
            if first {
                self.backplane.interest(&Whom::User(user.to_owned()), true);
            }
            joined
        });
        let member =
            Member { link: link.clone(), segment: self.all.add(link), user, groups: Mutex::new(Some(Vec::new())) };
        self.connections.insert(*link.id(), Arc::new(member));
        self.backplane.interest(&Whom::Connection(link.id().to_string()), true);
    }

    /// It is gone: groups, its user and questions to it forget it.
    pub(crate) fn remove(&self, link: &Arc<Link>) {
        let Some((id, member)) = self.connections.remove(link.id()) else { return };
        self.backplane.interest(&Whom::Connection(id.to_string()), false);
        self.all.remove(link, &member.segment);
        if let Some(user) = &member.user
            && self.users.leave(user, link)
        {
            self.backplane.interest(&Whom::User(user.group.name.to_string()), false);
        }
        for joined in member.groups.lock().take().unwrap_or_default() {
            self.leave(&joined, link);
        }
        for question in self.questions.disconnected(link.id()) {
            self.backplane.answer(&question, Answer::Disconnected);
        }
    }

    /// Encodes and queues the message for everybody it is meant for before it returns. Nobody gets it if one encoding in use cannot
    /// carry it. An audience of one connection that nobody has is an empty audience.
    pub(crate) fn send(&self, audience: &Audience, message: &Outgoing<'_>) -> Result<Reached<()>, BackplaneError> {
        self.backplane.send(audience, message)
    }

    /// Adds a connection, of any node, to a group; it is in it when this has been waited for.
    pub(crate) fn add_to_group(&self, connection: &str, group: &str) -> Reached<()> {
        self.change(connection, group, Membership::Join)
    }

    pub(crate) fn remove_from_group(&self, connection: &str, group: &str) -> Reached<()> {
        self.change(connection, group, Membership::Leave)
    }

    /// Asks a connection, of any node. The answer comes through what is returned; dropping that gives up, and a late answer is ignored.
    pub(crate) fn ask(
        &self,
        connection: &str,
        target: &str,
        arguments: &dyn EncodeArguments,
    ) -> Result<(Reached<()>, Asked), BackplaneError> {
        let id = self.backplane.question_id();
        let message = Outgoing { id: Some(&id), ..Outgoing::new(target, arguments, None) };
        if let Some(member) = self.member(connection) {
            let frame = message.frame(member.link.protocol())?;
            let asked = self.questions.put(id.clone(), *member.link.id());
            member.link.push(&frame, None);
            member.link.flush();
            if member.link.is_closed() {
                // it may have left before the question was there to be forgotten
                self.questions.answer(&id, Answer::Disconnected);
            }
            return Ok((Reached::Done(()), asked));
        }
        let asked = self.questions.expect(id.clone());
        let reached = self.backplane.ask(connection, &id, &message)?;
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

    /// Ends a connection, of any node, or all of a group's or a user's.
    pub(crate) fn close(&self, whom: &Whom) -> Reached<()> {
        self.backplane.close(whom)
    }

    /// Asks all nodes.
    pub(crate) fn query(&self, query: &Query) -> Reached<Vec<String>> {
        self.backplane.query(query)
    }

    /// Connections of this node.
    pub(crate) fn connection_count(&self) -> usize {
        self.all.count()
    }

    /// Groups that have a member on this node.
    pub(crate) fn group_count(&self) -> usize {
        self.groups.count()
    }

    fn change(&self, connection: &str, group: &str, change: Membership) -> Reached<()> {
        if self.member(connection).is_some() {
            Deliver::change_group(self, connection, group, change);
            return Reached::Done(());
        }
        self.backplane.change_group(connection, group, change)
    }

    fn leave(&self, joined: &Joined, link: &Arc<Link>) {
        if self.groups.leave(joined, link) {
            self.backplane.interest(&Whom::Group(joined.group.name.to_string()), false);
        }
    }

    fn member(&self, connection: &str) -> Option<Arc<Member>> {
        self.connections.get(&ConnectionId::parse(connection)?).map(|member| member.clone())
    }

    fn links(&self, whom: &Whom) -> Vec<Arc<Link>> {
        match whom {
            Whom::Connection(id) => self.member(id).map(|member| member.link.clone()).into_iter().collect(),
            Whom::Group(name) => {
                self.groups.find(name).map(|group| group.members.links().collect()).unwrap_or_default()
            }
            Whom::User(name) => self.users.find(name).map(|user| user.members.links().collect()).unwrap_or_default(),
        }
    }

    fn deliver_to_some(
        &self,
        runtime: &Handle,
        sets: &[&Segments],
        except: &Except,
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
        except: &Except,
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
        let nobody = Except::Nobody;
        match audience {
            Audience::All => self.deliver_to_some(runtime, &[&self.all], &nobody, message),
            Audience::AllExcept(ids) => self.deliver_to_some(runtime, &[&self.all], &Except::ids(ids), message),
            Audience::Connection(id) => self.deliver_to_connections(&BTreeSet::from([id]), message),
            Audience::Connections(ids) => self.deliver_to_connections(&ids.iter().collect(), message),
            // once for each group, so a member of two gets two copies; users and connections get one
            Audience::Group(name) => {
                self.deliver_to_named(runtime, &self.groups, std::slice::from_ref(name), &nobody, message)
            }
            Audience::Groups(names) => self.deliver_to_named(runtime, &self.groups, names, &nobody, message),
            Audience::GroupExcept(name, ids) => {
                self.deliver_to_named(runtime, &self.groups, std::slice::from_ref(name), &Except::ids(ids), message)
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

    fn change_group(&self, connection: &str, group: &str, change: Membership) {
        let Some(member) = self.member(connection) else { return };
        let mut groups = member.groups.lock();
        let Some(joined) = groups.as_mut() else { return };
        let at = joined.iter().position(|joined| &*joined.group.name == group);
        match (change, at) {
            (Membership::Join, None) => {
                let (membership, first) = self.groups.join(group, &member.link);
                joined.push(membership);
                if first {
                    self.backplane.interest(&Whom::Group(group.to_owned()), true);
                }
            }
            (Membership::Leave, Some(at)) => {
                let membership = joined.swap_remove(at);
                self.leave(&membership, &member.link);
            }
            _ => {}
        }
    }

    fn ask(&self, connection: &str, question: &str, message: &dyn Encoded) -> Result<bool, EncodeError> {
        let Some(member) = self.member(connection) else { return Ok(false) };
        let frame = message.frame(member.link.protocol())?;
        self.questions.put_foreign(question.to_owned(), *member.link.id());
        member.link.push(&frame, None);
        member.link.flush();
        Ok(true)
    }

    fn answered(&self, question: &str, answer: Answer) {
        self.questions.answer(question, answer);
    }

    fn close(&self, whom: &Whom) {
        for link in self.links(whom) {
            link.close(CloseReason::Aborted);
        }
    }

    fn query(&self, query: &Query) -> Vec<String> {
        match query {
            Query::Connections(whom) => self.links(whom).iter().map(|link| link.id().to_string()).collect(),
            Query::GroupsOf(connection) => {
                let Some(member) = self.member(connection) else { return Vec::new() };
                let groups = member.groups.lock();
                groups.iter().flatten().map(|joined| joined.group.name.to_string()).collect()
            }
        }
    }
}

impl std::fmt::Debug for Lifetime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lifetime")
            .field("connections", &self.connection_count())
            .field("groups", &self.group_count())
            .finish_non_exhaustive()
    }
}
