use crate::lifetime::{PresenceChange, Watch};
use futures_core::Stream;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Who is in a group, as it changes: a stream that begins with a list, to which the changes follow in their order, without a gap and with
/// none that the list has already. See [`Groups::watch`](super::Groups::watch).
///
/// Up to 256 changes wait for whoever reads it. When there are more they are forgotten, and the next item is a list again. It ends when
/// the hub is drained; dropping it ends the watching.
///
/// ```
/// use futures_util::StreamExt;
/// use hubwire::{Groups, HubResult, PresenceChange};
///
/// async fn wait_for_two(groups: Groups, room: String) -> HubResult {
///     let (mut room, mut count) = (groups.watch(room).await?, 0);
///     while let Some(change) = room.next().await {
///         match change {
///             PresenceChange::Here(list) => count = list.len(),
///             PresenceChange::Joined(_) => count += 1,
///             PresenceChange::Left(_) => count -= 1,
///         }
///         if count >= 2 {
///             break;
///         }
///     }
///     Ok(())
/// }
/// # hubwire::Hub::with_state(()).method("WaitForTwo", wait_for_two).build();
/// ```
#[must_use = "nothing is heard unless it is read"]
pub struct Presence(Watch);

impl Presence {
    pub(super) fn new(watch: Watch) -> Self {
        Self(watch)
    }

    /// Returns the name of the group.
    pub fn group(&self) -> &str {
        self.0.group()
    }
}

impl Stream for Presence {
    type Item = PresenceChange;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PresenceChange>> {
        self.0.poll_next(cx)
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("group", &self.group()).finish_non_exhaustive()
    }
}
