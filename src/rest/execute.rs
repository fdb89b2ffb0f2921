use super::errors::{Refusal, empty};
use super::filter::{Filter, Subject};
use super::names;
use super::operations::{Answer, Context};
use super::payload::{Call, not_json, required};
use crate::backplane::{Audience, Closing, Encoded, Page, Whom};
use crate::lifetime::{Lifetime, Outgoing};
use crate::protocol::hub::{EncodeError, Frame, Protocol};
use axum::body::Body;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// Something that is done to each connection that a filter matches.
#[derive(Debug)]
enum Command {
    Send(Call),
    Join(String),
    Leave(String),
    Close(Option<String>),
}

/// Runs a list of commands on every connection that the filter matches: on each of them in the order of the list.
pub(super) async fn execute(context: &Context<'_>, body: Body) -> Answer {
    let commands = context.rest.read(context.asked, body, |body| read(context, body)).await?;
    let filter = context.asked.parameter("filter").map(Filter::parse).transpose();
    let filter = filter.map_err(|error| Refusal::invalid(error.to_string()))?;
    if let Some(hub) = &context.hub {
        let matching = matching(hub, filter.as_ref()).await?;
        run(hub, &commands, &matching).await?;
    }
    Ok(empty(StatusCode::ACCEPTED))
}

/// The ids of the connections that the filter is true for.
async fn matching(hub: &Lifetime, filter: Option<&Filter>) -> Result<Vec<String>, Refusal> {
    let mut ids: Vec<String> = Vec::new();
    let mut after = None;
    loop {
        let found = hub.connections(Whom::All, Page { after, most: AT_ONCE }).wait().await?;
        let last = found.last().map(|found| found.id.clone()).filter(|_| found.len() == AT_ONCE);
        for found in found {
            let groups = match filter {
                Some(filter) if filter.needs_groups() => hub.groups_of(found.id.clone()).wait().await?,
                _ => Vec::new(),
            };
            let subject = Subject { connection_id: &found.id, user_id: found.user.as_deref(), groups: &groups };
            if filter.is_none_or(|filter| filter.matches(&subject)) {
                ids.push(found.id);
            }
        }
        match last {
            None => return Ok(ids),
            next => after = next,
        }
    }
}

/// Runs them so that it looks to each connection as if nothing had come in between: what is sent is queued in one go, behind it leaves the
/// groups that are left in the end, and before it joins those that are joined. Of several commands for a group the last one counts.
async fn run(hub: &Lifetime, commands: &[Command], ids: &[String]) -> Result<(), Refusal> {
    let (mut calls, mut memberships, mut closing) = (Vec::new(), BTreeMap::new(), None);
    for command in commands {
        match command {
            Command::Send(call) => calls.push(call),
            Command::Join(group) => drop(memberships.insert(group, true)),
            Command::Leave(group) => drop(memberships.insert(group, false)),
            Command::Close(error) => {
                closing = Some(error);
                // nobody is left for what follows
                break;
            }
        }
    }
    for (group, _) in memberships.iter().filter(|(_, joins)| !**joins) {
        for id in ids {
            hub.remove_from_group(id, group).wait().await?;
        }
    }
    if !calls.is_empty() {
        let sent = {
            let calls: Vec<_> = calls.iter().map(|call| Outgoing::new(&call.target, &call.arguments, None)).collect();
            hub.send(&Audience::Connections(ids.to_vec()), &Together(&calls))?
        };
        sent.wait().await?;
    }
    for (group, _) in memberships.iter().filter(|(_, joins)| **joins) {
        // one that has left meanwhile is in no group
        for id in ids {
            hub.add_to_group(id, group).wait().await?;
        }
    }
    let Some(error) = closing else { return Ok(()) };
    for id in ids {
        let whom = Whom::Connection(id.clone());
        let closing = Closing { whom, except: Vec::new(), error: error.clone(), allow_reconnect: true };
        hub.close(&closing).wait().await?;
    }
    Ok(())
}

/// Calls with nothing in between; there is one at least.
struct Together<'a>(&'a [Outgoing<'a>]);

impl Encoded for Together<'_> {
    fn frame(&self, protocol: Protocol) -> Result<Option<Frame>, EncodeError> {
        self.0[0].frame(protocol)
    }

    fn key(&self) -> &str {
        self.0[0].key()
    }

    fn behind(&self) -> Vec<&dyn Encoded> {
        self.0[1..].iter().map(|call| call as &dyn Encoded).collect()
    }
}

fn read(context: &Context<'_>, body: &[u8]) -> Result<Vec<Command>, Refusal> {
    required(body)?;
    if super::payload::Kind::of(context.asked)? != super::payload::Kind::Json {
        return Err(Refusal::of(StatusCode::UNSUPPORTED_MEDIA_TYPE, super::errors::INVALID, "Commands are JSON."));
    }
    let list: Vec<&RawValue> = serde_json::from_slice(body).map_err(|e| not_json(&e))?;
    list.into_iter().map(Command::read).collect()
}

impl Command {
    fn read(raw: &RawValue) -> Result<Self, Refusal> {
        let members: Members<'_> = serde_json::from_str(raw.get()).map_err(|_| Refusal::invalid(NO_COMMAND))?;
        let kind = members.text("type")?.unwrap_or_default();
        let group = || {
            let group = members.text("group")?.unwrap_or_default();
            names::group(&group)?;
            Ok(group)
        };
        match &*kind.to_ascii_lowercase() {
            "sendmessage" => {
                let message = members.find("message").ok_or_else(|| Refusal::invalid(NO_MESSAGE))?;
                Call::of_json(message.get().as_bytes()).map(Self::Send)
            }
            "joingroup" => group().map(Self::Join),
            "leavegroup" => group().map(Self::Leave),
            "closeconnection" => Ok(Self::Close(members.text("reason")?.filter(|reason| !reason.is_empty()))),
            _ => Err(Refusal::invalid(NO_COMMAND)),
        }
    }
}

/// The members of a command; their names are compared without regard to case, and the last of several counts.
#[derive(Deserialize)]
#[serde(transparent)]
struct Members<'a> {
    #[serde(borrow)]
    members: std::collections::HashMap<String, &'a RawValue>,
}

impl<'a> Members<'a> {
    fn find(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.members.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| *value).filter(|value| value.get() != "null")
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, Refusal> {
        let read = |value: &RawValue| serde_json::from_str(value.get()).ok();
        let text = self.find(name).map(|value| read(value).ok_or_else(|| not_text(name)));
        text.transpose()
    }
}

fn not_text(name: &str) -> Refusal {
    Refusal::invalid(format!("The member '{name}' of a command is not a text."))
}

/// Connections that are looked at in one go.
const AT_ONCE: usize = 1000;
const NO_COMMAND: &str = "A command is an object with a type: SendMessage, JoinGroup, LeaveGroup or CloseConnection.";
const NO_MESSAGE: &str = "The command SendMessage has no message.";
