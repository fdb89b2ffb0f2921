use super::ServerLink;
use crate::protocol::service::Timestamp;
use crate::transport::ConnectionId;
use std::fmt::Debug;
use std::sync::Arc;

/// A client, as the server connection that carries it sees it. Called by the server connection's task: none of these waits, and none
/// holds a server connection up.
pub(crate) trait Client: Debug + Send + Sync {
    fn id(&self) -> &ConnectionId;
    /// Its server has something for it: one or several whole hub messages. `data_type` is one of the `DATA_` numbers, or zero.
    fn data(&self, payload: &[u8], data_type: i32);
    /// Its server ends it, after what it was sent before; the text is an error, or empty. The server connection no longer has it.
    fn close(&self, error: &str);
    /// Nobody carries it any more: it may connect again. The server connection no longer has it.
    fn lost(&self);
    /// Its server is about to stop: at a safe point it moves to another, by [`ServerLink::bind`] there and [`ServerLink::unbind`] here.
    fn migrate(&self);
}

/// What the clients of a hub know by their secret tokens.
pub(crate) trait Credentials: Debug + Send + Sync {
    /// An application server renews a client's credential: spec `auth-refresh.md`, section 12.
    fn refresh(&self, token: &str, claims: &[(&str, &str)], expires: Timestamp) -> Refreshed;
    /// The claims that a client has; `None` if there is no such client.
    fn claims(&self, token: &str) -> Option<Vec<(String, String)>>;
}

/// What became of a client's new credential.
#[derive(Debug)]
pub(crate) enum Refreshed {
    Done {
        /// All of them, as they are in force now.
        claims: Vec<(String, String)>,
        /// They have changed: the server connection that carries the client, and its id there, to be told after the answer.
        tell: Option<(Arc<ServerLink>, ConnectionId)>,
    },
    /// Nobody has this token.
    NotFound,
    /// The claims are another user's.
    Forbidden,
}
