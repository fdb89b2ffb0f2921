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
    let (id, most) = (guard.caller().id(), guard.options().max_groups);
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

#[cfg(test)]
mod tests {
    use super::super::{RelayOptions, hub};
    use super::*;
    use crate::relay::Relay;
    use crate::{Connection, FromConnection, Identity, Permissions, Policy, Value};

    #[tokio::test]
    async fn a_message_goes_to_others_in_a_group_one_is_in() {
        let everything = Permissions::default().grant("*", "*", Policy::authenticated());
        let options = RelayOptions::default().with_permissions(everything).with_max_groups(1);
        let relay = Relay::new(&options);
        let hub = hub(options).build();
        let (ann, to_ann) = Connection::for_test_in(&hub, Identity::user("ann"));
        let (bob, to_bob) = Connection::for_test_in(&hub, Identity::user("bob"));
        let guard = |connection| Guard::from_connection(connection, &relay).unwrap();
        for connection in [&ann, &bob] {
            join_group(guard(connection), Groups::for_test(connection), Group("room".into())).await.unwrap();
        }
        let refused = join_group(guard(&ann), Groups::for_test(&ann), Group("other".into())).await.unwrap_err();
        assert!(refused.client_text().unwrap().contains("1 is the most"));
        let message = Message { target: "say".into(), arguments: vec![Value::from("hello")] };
        let clients = Clients::for_test(&ann);
        send_to_others_in_group(guard(&ann), clients, Group("room".into()), message).await.unwrap();
        assert_eq!(to_bob.take(), [("say".to_owned(), vec![Value::from("hello")])]);
        assert!(to_ann.take().is_empty());
    }
}
