//! The relay hub of the development preset: everybody may do everything, and a counter shows what a stream is.

use super::{Relay, RelayOptions};
use crate::{HubBuilder, HubError, HubOptions, HubResult, Permissions, Policy};
use futures_core::Stream;
use futures_util::stream;
use std::time::Duration;

/// Starts a relay hub for development: closed to nobody, with errors in full, connections that can be resumed, and a method more.
///
/// `Counter(count, delay)` streams the numbers from 1 to `count`, at most 10,000, with `delay` milliseconds, at most 60,000, before each.
pub fn hub() -> HubBuilder<Relay> {
    let everything = Permissions::default().grant("*", "*", Policy::custom(|_| true));
    let options = HubOptions::default().with_detailed_errors(true).with_stateful_reconnect(true);
    super::hub(RelayOptions::default().with_permissions(everything).with_hub(options)).stream("Counter", counter)
}

async fn counter(count: u32, delay: u32) -> HubResult<impl Stream<Item = HubResult<u32>>> {
    if count > MOST || delay > LONGEST {
        return Err(HubError::client(format!(
            "The counter counts to {MOST} at most, with {LONGEST} milliseconds at most before each number."
        )));
    }
    let delay = Duration::from_millis(delay.into());
    Ok(stream::unfold(0, move |before| async move {
        if before == count {
            return None;
        }
        tokio::time::sleep(delay).await;
        Some((Ok(before + 1), before + 1))
    }))
}

const MOST: u32 = 10_000;
const LONGEST: u32 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;

    #[tokio::test(start_paused = true)]
    async fn the_counter_counts_and_has_bounds() {
        let numbers: Vec<_> = counter(3, LONGEST).await.unwrap().try_collect().await.unwrap();
        assert_eq!(numbers, [1, 2, 3]);
        assert!(counter(0, 0).await.unwrap().try_collect::<Vec<_>>().await.unwrap().is_empty());
        for (count, delay) in [(MOST + 1, 0), (1, LONGEST + 1)] {
            let refused = counter(count, delay).await.err().unwrap();
            assert!(refused.client_text().unwrap().contains("10000"));
        }
    }
}
