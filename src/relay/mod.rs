//! The hub of the standalone server, which needs no code: written with the public API. Feature `server`.
//!
//! Clients reach each other by its methods. `target` names a method of the receiving clients, and `arguments` is an array of what that is
//! called with: any values, which arrive as they were sent, in the receiver's encoding.
//!
//! ```js
//! connection.on("message", (from, text) => show(from, text));
//! await connection.invoke("JoinGroup", "room-1");
//! await connection.invoke("SendToOthersInGroup", "room-1", "message", ["ann", "hello"]);
//! ```
//!
//! ```csharp
//! connection.On<string, string>("message", Show);
//! await connection.InvokeAsync("JoinGroup", "room-1");
//! await connection.InvokeAsync("SendToOthersInGroup", "room-1", "message", new object[] { "ann", "hello" });
//! ```
//!
//! | method | what it does |
//! | --- | --- |
//! | `SendToAll(target, arguments)` | calls every client |
//! | `SendToOthers(target, arguments)` | calls every client but the caller |
//! | `SendToGroup(group, target, arguments)` | calls the members of a group, whether the caller is one or not |
//! | `SendToOthersInGroup(group, target, arguments)` | the same, without the caller |
//! | `SendToUser(user, target, arguments)` | calls all clients of a user |
//! | `SendToConnection(id, target, arguments)` | calls one client |
//! | `JoinGroup(group)` | makes the caller a member |
//! | `LeaveGroup(group)` | ends that |
//! | `Presence(group)` | returns who is in a group: a list of `{ connectionId, userId }` |
//! | `PresenceChanges(group)` | streams who is in a group, as it changes |
//!
//! A method that sends is answered when the message is queued for its receivers; that there are none is no error. Names of groups and users
//! are compared byte by byte, have 1 to 1024 characters, and are not blank.
//!
//! The stream begins with `{ type: "here", members }`, to which `{ type: "joined", member }` and `{ type: "left", member }` follow, in their
//! order and without a gap, and by which the caller keeps its list. A client that does not take 256 changes in time gets another `here` in
//! their place, which is the whole list again. `userId` is null for clients that have not signed in.
//!
//! ```js
//! const here = new Map();
//! connection.stream("PresenceChanges", "room-1").subscribe({ next: (change) => {
//!   if (change.type === "here") here.clear();
//!   for (const member of change.members ?? [change.member])
//!     change.type === "left" ? here.delete(member.connectionId) : here.set(member.connectionId, member);
//!   draw(here);
//! }, complete() {}, error: console.error });
//! ```
//!
//! In a program of one's own it is mounted as any other hub:
//!
//! ```
//! use axum::Router;
//! use hubwire::relay::{self, Action, RelayOptions};
//! use hubwire::{Permissions, Policy};
//!
//! let rights = Permissions::default()
//!     .grant(Action::Join.name(), "room-*", Policy::authenticated())
//!     .grant(Action::SendToGroup.name(), "room-*", Policy::authenticated());
//! let hub = relay::hub(RelayOptions::default().with_permissions(rights)).build();
//! let router: Router = Router::new().merge(hub.routes("/hubs/chat"));
//! ```
//!
//! # Permissions
//!
//! Each call needs a right, which the permission table gives by action and name. Without a table nobody may do anything.
//!
//! | action | its pattern names | methods |
//! | --- | --- | --- |
//! | `send-to-all` | nothing | `SendToAll`, `SendToOthers` |
//! | `send-to-group` | group | `SendToGroup`, `SendToOthersInGroup` |
//! | `send-to-user` | user | `SendToUser` |
//! | `send-to-connection` | connection | `SendToConnection` |
//! | `join` | group | `JoinGroup`, `LeaveGroup` |
//! | `see-presence` | group | `Presence`, `PresenceChanges` |
//!
//! A right is asked for when a method is called; a membership or a stream that has begun lasts until it is ended or the connection is.
//!
//! # Groups and lost connections
//!
//! A connection that is resumed (stateful reconnect) is the same connection, in the groups that it was in. A new one, which clients also
//! make when they reconnect by themselves, is in none, unless its URL names them: `/hubs/chat?group=room-1&group=room-2` joins both before
//! the first call is run, each time. If one of them may not be joined the connection ends with the reason.

mod actions;
pub mod demo;
mod guard;
mod methods;
mod options;
mod parameters;
mod presence;

pub use actions::{Action, Subject};
pub use options::RelayOptions;

use crate::{Hub, HubBuilder};
use std::sync::Arc;

/// The state of a relay hub: its options, and what its clients share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Relay(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: RelayOptions,
    warnings: guard::Warnings,
}

impl Relay {
    fn new(options: &RelayOptions) -> Self {
        Self(Arc::new(Shared { options: options.clone(), warnings: guard::Warnings::default() }))
    }

    fn options(&self) -> &RelayOptions {
        &self.0.options
    }

    fn warnings(&self) -> &guard::Warnings {
        &self.0.warnings
    }
}

/// Starts a relay hub; methods can be added to it.
pub fn hub(options: RelayOptions) -> HubBuilder<Relay> {
    Hub::with_state(Relay::new(&options))
        .options(options.hub)
        .on_connected(methods::connected)
        .method("SendToAll", methods::send_to_all)
        .method("SendToOthers", methods::send_to_others)
        .method("SendToGroup", methods::send_to_group)
        .method("SendToOthersInGroup", methods::send_to_others_in_group)
        .method("SendToUser", methods::send_to_user)
        .method("SendToConnection", methods::send_to_connection)
        .method("JoinGroup", methods::join_group)
        .method("LeaveGroup", methods::leave_group)
        .method("Presence", presence::list)
        .stream("PresenceChanges", presence::changes)
}
