//! Exponential backoff with jitter.
//!
//! A retry crate such as `backon` does not fit, because it repeats a future in memory. Webhook deliveries are retried across
//! restarts, based on the number of attempts in their row, and every OTLP attempt reads the log again. Retry crates also
//! use their own random number generator; here, randomness is passed in.

use std::time::Duration;

use omniflow_domain::clock::Entropy;
use omniflow_policy::time::UnixMillis;

/// The pauses between attempts of a delivery.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The longest pause after the first failure. It doubles with each further failure.
    pub first: Duration,
    /// The longest pause after any number of failures.
    pub max: Duration,
}

impl Backoff {
    /// The pause after `failures` failures in a row: at random, between half and all of the longest for that number, so that
    /// installations that failed together do not retry together. Never shorter than the receiver's `retry_after`.
    pub fn pause(self, failures: u32, retry_after: Option<Duration>, entropy: &Entropy) -> Duration {
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
        let half = self.first.saturating_mul(factor).min(self.max) / 2;
        // Without random bytes the pause is the longest.
        let random = entropy.compose(|byte| u16::from_le_bytes([byte(), byte()])).unwrap_or(u16::MAX);
        let jitter = half.mul_f64(f64::from(random) / f64::from(u16::MAX));
        (half + jitter).max(retry_after.unwrap_or_default())
    }

    /// The instant of the next attempt, after a [pause](Self::pause) that begins at `now`.
    pub fn next_attempt(
        self,
        now: UnixMillis,
        failures: u32,
        retry_after: Option<Duration>,
        entropy: &Entropy,
    ) -> UnixMillis {
        let pause = self.pause(failures, retry_after, entropy).as_millis();
        UnixMillis(now.0.saturating_add(u64::try_from(pause).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use omniflow_domain::clock::EntropyUnavailable;

    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(5), max: Duration::from_secs(3_600) };

    fn constant(byte: u8) -> Entropy {
        Entropy::from_fn(move |buffer| {
            buffer.fill(byte);
            Ok(())
        })
    }

    #[test]
    fn pauses_double_up_to_the_maximum_and_vary_by_half() {
        let pauses = |entropy: &Entropy| {
            [1, 2, 3, 30].map(|failures| BACKOFF.pause(failures, None, entropy).as_millis())
        };
        assert_eq!(pauses(&constant(0xff)), [5_000, 10_000, 20_000, 3_600_000]);
        assert_eq!(pauses(&constant(0)), [2_500, 5_000, 10_000, 1_800_000]);
        assert_eq!(pauses(&constant(0x80)), [3_754, 7_509, 15_019, 2_703_529]);
        let unavailable = Entropy::from_fn(|_| Err(EntropyUnavailable));
        assert_eq!(pauses(&unavailable), pauses(&constant(0xff)));
    }

    #[test]
    fn a_retry_after_that_is_longer_than_the_pause_replaces_it() {
        let (none, all) = (constant(0), constant(0xff));
        let asked = Some(Duration::from_secs(7));
        assert_eq!(BACKOFF.pause(1, asked, &all).as_secs(), 7);
        assert_eq!(BACKOFF.pause(2, asked, &none).as_secs(), 7);
        assert_eq!(BACKOFF.pause(3, asked, &none).as_secs(), 10);
    }

    #[test]
    fn the_next_attempt_is_counted_from_now() {
        assert_eq!(BACKOFF.next_attempt(UnixMillis(1), 2, None, &constant(0xff)), UnixMillis(10_001));
        let end = UnixMillis(u64::MAX);
        assert_eq!(BACKOFF.next_attempt(end, 2, None, &constant(0xff)), end);
    }
}
