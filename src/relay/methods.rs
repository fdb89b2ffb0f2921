use super::guard::Guard;
use super::parameters::{ConnectionId, Group, Message, User, check_name};
use super::{Action, Subject};
use crate::{Clients, Groups, HubError, HubResult, Receivers};

pub(super) async fn send_to_all(guard: Guard, clients: Clients, message: Message) -> HubResult {
    guard.check(Action::SendToAll, NOTHING)?;
    send(clients.all(), message).await
}

pub(super) async fn send_to_others(guard: Guard, clients: Clients, message: Message) -> HubResult {
    guard.check(Action::SendToAll, NOTHING)?;
    send(clients.others(), message).await
}

pub(super) async fn send_to_group(guard: Guard, clients: Clients, Group(group): Group, message: Message) -> HubResult {
    guard.check(Action::SendToGroup, &group)?;
    send(clients.group(group), message).await
}

pub(super) async fn send_to_others_in_group(
    guard: Guard,
    clients: Clients,
    Group(group): Group,
    message: Message,
) -> HubResult {
    guard.check(Action::SendToGroup, &group)?;
    send(clients.others_in_group(group), message).await
}

pub(super) async fn send_to_user(guard: Guard, clients: Clients, User(user): User, message: Message) -> HubResult {
    guard.check(Action::SendToUser, &user)?;
    send(clients.user(user), message).await
}

pub(super) async fn send_to_connection(
    guard: Guard,
    clients: Clients,
    ConnectionId(id): ConnectionId,
    message: Message,
) -> HubResult {
    guard.check(Action::SendToConnection, &id)?;
    send(clients.client(id).receivers(), message).await
}

pub(super) async fn join_group(guard: Guard, groups: Groups, Group(group): Group) -> HubResult {
    join(&guard, &groups, group).await
}

pub(super) async fn leave_group(guard: Guard, groups: Groups, Group(group): Group) -> HubResult {
    guard.check(Action::Join, &group)?;
    groups.remove(guard.caller().id(), group).await
}

/// Joins the groups that the query of the connection names, so that a client whose connection was lost for good is in them again.
pub(super) async fn connected(guard: Guard, groups: Groups) -> HubResult {
    let named: Vec<_> = guard.caller().query().filter(|(name, _)| name == GROUP).map(|(_, group)| group).collect();
    for group in named {
        check_name(guard.relay(), Subject::Group.noun(), &group)?;
        join(&guard, &groups, group.into_owned()).await?;
    }
    Ok(())
}

async fn join(guard: &Guard, groups: &Groups, group: String) -> HubResult {
    guard.check(Action::Join, &group)?;
    let (id, most) = (guard.caller().id(), guard.relay().max_groups());
    let joined = groups.of_connection(id).await?;
    if joined.len() >= most && !joined.contains(&group) {
        return Err(HubError::client(format!(
            "This connection is in {} groups, and {most} is the most. Leave one first.",
            joined.len()
        )));
    }
    groups.add(id, group).await
}

async fn send(receivers: Receivers, Message { target, arguments }: Message) -> HubResult {
    // the only fault that is the caller's, and which it cannot know: what the others' encodings can carry
    receivers.send(&target, arguments).await.map_err(|_| HubError::client(NOT_SENT))
}

/// What a right to send to everybody is about.
const NOTHING: &str = "";
/// Name in the query of a group to join.
const GROUP: &str = "group";
const NOT_SENT: &str = "The message was sent to nobody: a value in it cannot be written in the encoding that one of the receivers uses. \
                        JSON has no NaN, no infinity and no extension types; MessagePack no integers of more than 64 bits.";
