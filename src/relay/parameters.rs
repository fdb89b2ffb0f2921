use super::{Relay, Subject};
use crate::{Call, FromInvocation, HubError, HubResult, Value};

/// The kind of parameters that say in words what is wrong with them.
pub(super) enum Checked {}

/// The name of a group.
pub(super) struct Group(pub(super) String);
/// The id of a user.
pub(super) struct User(pub(super) String);
/// The id of a connection.
pub(super) struct ConnectionId(pub(super) String);

/// A client method and what it is to be called with: two arguments, of which the second is an array.
pub(super) struct Message {
    pub(super) target: String,
    pub(super) arguments: Vec<Value>,
}

impl FromInvocation<Relay, Checked> for Group {
    const ARGUMENTS: usize = 1;

    fn from_invocation(call: &mut Call<'_>, relay: &Relay) -> HubResult<Self> {
        name(call, relay, Subject::Group.noun()).map(Self)
    }
}

impl FromInvocation<Relay, Checked> for User {
    const ARGUMENTS: usize = 1;

    fn from_invocation(call: &mut Call<'_>, relay: &Relay) -> HubResult<Self> {
        name(call, relay, Subject::User.noun()).map(Self)
    }
}

impl FromInvocation<Relay, Checked> for ConnectionId {
    const ARGUMENTS: usize = 1;

    fn from_invocation(call: &mut Call<'_>, relay: &Relay) -> HubResult<Self> {
        name(call, relay, Subject::Connection.noun()).map(Self)
    }
}

impl FromInvocation<Relay, Checked> for Message {
    const ARGUMENTS: usize = 2;

    fn from_invocation(call: &mut Call<'_>, relay: &Relay) -> HubResult<Self> {
        let target = name(call, relay, "client method")?;
        let arguments = call.next_argument().map_err(|_| HubError::client(NO_ARRAY))?;
        Ok(Self { target, arguments })
    }
}

/// Whatever characters it has is the clients' affair.
pub(super) fn check_name(relay: &Relay, noun: &str, name: &str) -> HubResult {
    let most = relay.options().max_name_length;
    if name.trim().is_empty() {
        return Err(HubError::client(format!("The name of a {noun} must not be blank.")));
    }
    // most names are short enough whatever they are made of
    if name.len() > most && name.encode_utf16().count() > most {
        return Err(HubError::client(format!("The name of a {noun} has at most {most} characters.")));
    }
    Ok(())
}

fn name(call: &mut Call<'_>, relay: &Relay, noun: &str) -> HubResult<String> {
    let name: String =
        call.next_argument().map_err(|_| HubError::client(format!("The name of a {noun} must be a string.")))?;
    check_name(relay, noun, &name)?;
    Ok(name)
}

const NO_ARRAY: &str =
    "What the client method is to be called with must be an array: [\"hello\"] for one argument, [] for none.";
