//! What tests that talk to a server over sockets share: a server process, a raw WebSocket peer, raw HTTP, hub messages.
//!
//! Nothing here uses the crate under test, so that an error in it cannot hide itself. Timeouts are safety nets: a test
//! waits for what it expects to see, and fails when that does not come.

// Every test binary that includes this module uses a part of it.
#![allow(dead_code, unreachable_pub)]

pub mod http;
pub mod hub;
pub mod mask;
pub mod msgpack;
pub mod rng;
pub mod server;
pub mod service_peer;
pub mod ws;

use std::future::Future;
use std::time::Duration;

/// The longest that anything a test waits for may take, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Runs a whole test, and fails it when it takes longer than any test should.
pub async fn guard<F: Future>(test: F) -> F::Output {
    guard_for(Duration::from_secs(60), test).await
}

/// [`guard`] with a limit of its own.
pub async fn guard_for<F: Future>(limit: Duration, test: F) -> F::Output {
    match tokio::time::timeout(limit, test).await {
        Ok(output) => output,
        Err(_) => panic!("the test took longer than {limit:?}"),
    }
}

/// Waits for a future, and fails with `what` when it does not end within [`PATIENCE`].
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} in vain: {what}"),
    }
}

/// Says that something was not tested, and why. With `HUBWIRE_NO_SKIP=1`, as in CI, that is a failure.
pub fn skipped(what: &str, why: &str) {
    if std::env::var("HUBWIRE_NO_SKIP").is_ok_and(|value| value == "1") {
        panic!("SKIPPED although HUBWIRE_NO_SKIP is set: {what}: {why}");
    }
    // Not println!, which the test harness captures when the test passes.
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}: {why}");
}

/// Evaluates an expression until it is true, looking again every 10 ms; fails after [`PATIENCE`].
///
/// For state that nothing announces. What a socket announces is to be awaited instead.
#[macro_export]
macro_rules! eventually {
    ($condition:expr) => {{
        let until = std::time::Instant::now() + $crate::support::PATIENCE;
        while !$condition {
            assert!(std::time::Instant::now() < until, "never became true: {}", stringify!($condition));
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }};
}
