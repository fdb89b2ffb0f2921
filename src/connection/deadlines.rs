use super::ConnectionOptions;
use crate::transport::Terms;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// The times of one connection, as plain numbers that its task stores and the sweep reads. There is no timer a connection: the sweep
/// asks [`is_due`](Self::is_due) once a second and wakes the task, which reads what has come and then asks [`due`](Self::due).
///
/// ```text
///   Handshaking --accepted--> Open --end--> Closing
///   `since`: of opening       of the last ping  of the end
/// ```
///
/// A handshake that somebody else has to answer goes on, from when it was [passed on](Self::asked).
///
/// A client that polls is neither pinged nor expected to ping: what counts there is that it comes back.
#[derive(Debug)]
pub(super) struct Deadlines {
    stage: AtomicU8,
    since: AtomicU32,
    /// When the client's last message came; in `Closing`, how long that may take.
    seen: AtomicU32,
    /// A client that never pings is never timed out: some libraries do not (the reference does the same).
    client_pings: AtomicBool,
    /// When the socket became full, or 0.
    blocked: AtomicU32,
    /// Since when a client that polls has had no poll here, or 0.
    absent: AtomicU32,
    polled: bool,
    /// Seconds to the whole handshake, and without a poll or a socket, where they are not those of the options; else 0.
    handshake_seconds: u16,
    absence_seconds: u16,
    /// The client waits for an acknowledgement of what it sent.
    owes_acknowledgement: AtomicBool,
}

/// What has to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    HandshakeTimeout,
    Ping,
    ClientTimeout,
    /// The client has not polled, or resumed, for too long.
    DisconnectTimeout,
    /// Once a second, if something has come.
    Acknowledgement,
    SendTimeout,
    CloseTimeout,
}

impl Deadlines {
    pub(super) fn new(now: Millis, polled: bool, terms: Option<&Terms>) -> Self {
        let seconds = |of: fn(&Terms) -> Option<Duration>| {
            terms.and_then(of).map_or(0, |duration| duration.as_secs().clamp(1, u64::from(u16::MAX)) as u16)
        };
        Self {
            stage: AtomicU8::new(HANDSHAKING),
            since: AtomicU32::new(now),
            seen: AtomicU32::new(now),
            client_pings: AtomicBool::new(false),
            blocked: AtomicU32::new(0),
            absent: AtomicU32::new(if polled { now.max(1) } else { 0 }),
            polled,
            handshake_seconds: seconds(|terms| terms.handshake_timeout),
            absence_seconds: seconds(|terms| terms.disconnect_timeout),
            owes_acknowledgement: AtomicBool::new(false),
        }
    }

    /// The handshake is done. `spread` differs from connection to connection: the first ping comes up to a quarter of an interval early,
    /// or everybody who connected in a storm would be pinged in the same second for ever after.
    pub(super) fn opened(&self, now: Millis, options: &ConnectionOptions, spread: u32) {
        let early = spread % (millis(options.keep_alive_interval) / 4 + 1);
        self.since.store(now.wrapping_sub(early), Relaxed);
        self.seen.store(now, Relaxed);
        self.stage.store(OPEN, Relaxed);
    }

    /// The handshake goes on: somebody else has to answer it.
    #[cfg(feature = "service")]
    pub(super) fn asked(&self, now: Millis) {
        self.since.store(now, Relaxed);
        self.stage.store(HANDSHAKING, Relaxed);
    }

    pub(super) fn closing(&self, now: Millis, patience: Duration) {
        self.since.store(now, Relaxed);
        self.seen.store(millis(patience), Relaxed);
        self.stage.store(CLOSING, Relaxed);
    }

    pub(super) fn pinged(&self, now: Millis) {
        self.since.store(now, Relaxed);
    }

    pub(super) fn seen(&self, now: Millis) {
        self.seen.store(now, Relaxed);
    }

    /// Since the client's last message.
    #[cfg(feature = "service")]
    pub(super) fn silence(&self, now: Millis) -> Millis {
        now.wrapping_sub(self.seen.load(Relaxed))
    }

    pub(super) fn client_pinged(&self) {
        self.client_pings.store(true, Relaxed);
    }

    pub(super) fn blocked(&self, since: Option<Millis>) {
        self.blocked.store(since.map_or(0, |now| now.max(1)), Relaxed);
    }

    pub(super) fn absent(&self, since: Option<Millis>) {
        self.absent.store(since.map_or(0, |now| now.max(1)), Relaxed);
    }

    pub(super) fn owe_acknowledgement(&self) {
        self.owes_acknowledgement.store(true, Relaxed);
    }

    pub(super) fn take_acknowledgement(&self) -> bool {
        self.owes_acknowledgement.swap(false, Relaxed)
    }

    pub(super) fn is_due(&self, now: Millis, options: &ConnectionOptions) -> bool {
        self.due(now, options).is_some()
    }

    /// The most pressing thing that is due.
    pub(super) fn due(&self, now: Millis, options: &ConnectionOptions) -> Option<Due> {
        let passed = |since: &AtomicU32| now.wrapping_sub(since.load(Relaxed));
        let over = |since: &AtomicU32, limit| since.load(Relaxed) != 0 && passed(since) >= millis(limit);
        let stage = self.stage.load(Relaxed);
        if stage == CLOSING {
            return (passed(&self.since) >= self.seen.load(Relaxed)).then_some(Due::CloseTimeout);
        }
        if over(&self.absent, own(self.absence_seconds, options.disconnect_timeout)) {
            return Some(Due::DisconnectTimeout);
        }
        if stage == HANDSHAKING {
            let limit = own(self.handshake_seconds, options.handshake_timeout);
            return (passed(&self.since) >= millis(limit)).then_some(Due::HandshakeTimeout);
        }
        if self.absent.load(Relaxed) != 0 && !self.polled {
            // without a socket there is nothing to say, and nothing to hear
            return None;
        }
        if over(&self.blocked, options.send_timeout) {
            Some(Due::SendTimeout)
        } else if self.polled {
            None
        } else if self.client_pings.load(Relaxed) && passed(&self.seen) >= millis(options.client_timeout) {
            Some(Due::ClientTimeout)
        } else {
            let ping = (passed(&self.since) > millis(options.keep_alive_interval)).then_some(Due::Ping);
            ping.or(self.owes_acknowledgement.load(Relaxed).then_some(Due::Acknowledgement))
        }
    }
}

/// The sweep's clock: milliseconds since some moment, wrapping. It stands still while the process does (see `Sweep`).
pub(super) type Millis = u32;

fn millis(duration: Duration) -> Millis {
    // half the range of the wrapping clock, 24 days, is "never"
    duration.as_millis().min(u128::from(u32::MAX / 2)) as Millis
}

fn own(seconds: u16, usual: Duration) -> Duration {
    if seconds == 0 { usual } else { Duration::from_secs(seconds.into()) }
}

const HANDSHAKING: u8 = 0;
const OPEN: u8 = 1;
const CLOSING: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_has_its_own_deadline() {
        let options = ConnectionOptions::default();
        let d = Deadlines::new(1_000, false, None);
        assert_eq!(d.due(15_999, &options), None);
        assert_eq!(d.due(16_000, &options), Some(Due::HandshakeTimeout));
        d.opened(2_000, &options, 0);
        assert_eq!(d.due(17_000, &options), None, "only when more than the interval has passed");
        assert_eq!(d.due(17_001, &options), Some(Due::Ping));
        d.pinged(17_001);
        assert_eq!(d.due(32_001, &options), None, "a client that never pinged is not timed out");
        d.client_pinged();
        assert_eq!(d.due(32_001, &options), Some(Due::ClientTimeout));
        d.seen(32_000);
        d.pinged(32_000);
        d.blocked(Some(32_000));
        assert_eq!(d.due(42_000, &options), Some(Due::SendTimeout));
        d.closing(42_000, options.close_timeout);
        assert_eq!(d.due(46_999, &options), None);
        assert_eq!(d.due(47_000, &options), Some(Due::CloseTimeout));
    }

    #[test]
    fn a_client_that_polls_has_to_come_back_and_nothing_else() {
        let options = ConnectionOptions::default();
        let d = Deadlines::new(1_000, true, None);
        assert_eq!(
            d.due(16_000, &options),
            Some(Due::DisconnectTimeout),
            "it negotiated, polled once, and was not seen again"
        );
        d.absent(None);
        assert_eq!(d.due(16_000, &options), Some(Due::HandshakeTimeout));
        d.opened(2_000, &options, 0);
        d.client_pinged();
        assert_eq!(d.due(1_000_000, &options), None, "a poll may wait for as long as it likes");
        d.absent(Some(1_000_000));
        assert_eq!(d.due(1_014_999, &options), None);
        assert_eq!(d.due(1_015_000, &options), Some(Due::DisconnectTimeout));
        d.closing(1_015_000, options.disconnect_timeout);
        assert_eq!(d.due(1_029_999, &options), None, "what is left may be fetched");
        assert_eq!(d.due(1_030_000, &options), Some(Due::CloseTimeout));
    }

    #[test]
    fn a_connection_may_have_times_of_its_own() {
        let options = ConnectionOptions::default();
        let terms = Terms {
            handshake_timeout: Some(Duration::from_secs(2)),
            disconnect_timeout: Some(Duration::from_secs(60)),
            ..Terms::default()
        };
        let d = Deadlines::new(1_000, true, Some(&terms));
        assert_eq!(d.due(2_999, &options), None);
        assert_eq!(d.due(3_000, &options), Some(Due::HandshakeTimeout));
        d.opened(3_000, &options, 0);
        assert_eq!(d.due(60_999, &options), None);
        assert_eq!(d.due(61_000, &options), Some(Due::DisconnectTimeout));
    }

    #[cfg(feature = "service")]
    #[test]
    fn the_answer_to_a_handshake_that_was_passed_on_has_its_time() {
        let options = ConnectionOptions::default();
        let d = Deadlines::new(1_000, false, None);
        d.opened(2_000, &options, 0);
        d.asked(3_000);
        assert_eq!(d.due(17_999, &options), None);
        assert_eq!(d.due(18_000, &options), Some(Due::HandshakeTimeout));
        d.opened(18_001, &options, 0);
        assert_eq!(d.due(18_001, &options), None);
    }

    #[test]
    fn the_clock_may_wrap() {
        let options = ConnectionOptions::default();
        let d = Deadlines::new(u32::MAX - 10, false, None);
        assert_eq!(d.due(20, &options), None);
        assert_eq!(d.due(15_000, &options), Some(Due::HandshakeTimeout));
    }
}
