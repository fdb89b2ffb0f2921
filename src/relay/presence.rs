use super::Action;
use super::guard::Guard;
use super::parameters::Group;
use crate::{Groups, HubError, HubResult, Member, Presence, PresenceChange};
use futures_core::Stream;
use futures_util::StreamExt;
use serde::Serialize;
use std::future::ready;

/// A change as it is written.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Change {
    Here { members: Vec<Member> },
    Joined { member: Member },
    Left { member: Member },
}

pub(super) async fn list(guard: Guard, groups: Groups, Group(group): Group) -> HubResult<Vec<Member>> {
    guard.check(Action::SeePresence, &group)?;
    let most = guard.options().max_members;
    let members = groups.presence(group, most.saturating_add(1)).await?;
    if members.len() > most { Err(too_many(most)) } else { Ok(members) }
}

pub(super) async fn changes(
    guard: Guard,
    groups: Groups,
    Group(group): Group,
) -> HubResult<impl Stream<Item = HubResult<Change>>> {
    guard.check(Action::SeePresence, &group)?;
    let most = guard.options().max_members;
    // before anything is copied
    if groups.presence(&group, most.saturating_add(1)).await?.len() > most {
        return Err(too_many(most));
    }
    Ok(bounded(groups.watch(group).await?, most))
}

/// Ends with an error when the group has become too large.
fn bounded(presence: Presence, most: usize) -> impl Stream<Item = HubResult<Change>> {
    presence.scan((0, false), move |(count, is_over), change| {
        if *is_over {
            return ready(None);
        }
        match &change {
            PresenceChange::Here(members) => *count = members.len(),
            PresenceChange::Joined(_) => *count += 1,
            PresenceChange::Left(_) => *count -= 1,
        }
        *is_over = *count > most;
        ready(Some(if *is_over { Err(too_many(most)) } else { Ok(change.into()) }))
    })
}

fn too_many(most: usize) -> HubError {
    HubError::client(format!("The group has more than {most} members, too many to show who they are."))
}

impl From<PresenceChange> for Change {
    fn from(change: PresenceChange) -> Self {
        match change {
            PresenceChange::Here(members) => Self::Here { members },
            PresenceChange::Joined(member) => Self::Joined { member },
            PresenceChange::Left(member) => Self::Left { member },
        }
    }
}
