//! What the service manager is told. Without one all of this does nothing.

use sd_notify::NotifyState;
use std::convert::Infallible;
use std::time::Duration;
use tracing::warn;

pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says that the process is alive, twice in the time that the manager gives it: as long as the runtime gets round to it.
pub(super) async fn watchdog() -> Infallible {
    let mut usec = 0;
    if !sd_notify::watchdog_enabled(false, &mut usec) || usec == 0 {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(Duration::from_micros(usec) / 2);
    loop {
        ticks.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(false, states) {
        warn!(error = %e, "cannot tell the service manager");
    }
}
