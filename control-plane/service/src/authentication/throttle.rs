//! Failed authentications, counted by the address that they come from.
//!
//! A token has 238 random bits and cannot be guessed, and one that never existed is rejected from memory
//! ([`token_by_digest`](omniflow_store::TokenStore::token_by_digest)), so failures cost no database read. This module
//! bounds the rest: the log lines, and the number of responses to anyone who tries tokens found elsewhere. A valid
//! token is looked up first and accepted regardless of what others at its address do: many clients can share an address
//! behind a NAT or a proxy.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use omniflow_policy::gcra::{Gcra, Tat, Verdict};
use omniflow_policy::time::MonotonicNanos;
use tokio::time::Instant;

use super::rejection::Rejection;
use omniflow_domain::error::{Error, ErrorCode, Facts};

const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
/// Failures per minute of one address that receive a 401, and the burst. A person who mistypes causes one or two; a
/// gateway with an invalid token causes one every two seconds.
const FAILURES_A_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);
/// Log lines per minute for all addresses together, and the burst.
const LINES_A_MINUTE: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);
/// Maximum number of addresses that are counted separately, which takes about half a megabyte.
const MAX_NETWORKS: usize = 4_096;
/// An IPv6 customer gets at least a /64 (RFC 6177), so counting single addresses would not be a bound.
const IPV6_NETWORK_BITS: u32 = 64;

/// The failed authentications of this process.
#[derive(Debug)]
pub(super) struct Throttle {
    started: Instant,
    failures: Mutex<Failures>,
    answered: AtomicU64,
    throttled: AtomicU64,
}

/// The number of failed authentications since the process started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailureTotals {
    /// Failures that received a 401.
    pub answered: u64,
    /// Failures beyond the rate of their address, which received a 429.
    pub throttled: u64,
}

/// The state of each address. The caller passes the time.
#[derive(Debug)]
struct Failures {
    rate: Gcra,
    line_rate: Gcra,
    lines: Tat,
    networks: HashMap<IpAddr, Network>,
    suppressed_elsewhere: u64,
}

#[derive(Debug, Default)]
struct Network {
    failures: Tat,
    logged_at: Option<MonotonicNanos>,
    kept_back: u64,
}

/// The outcome of recording a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Assessment {
    /// Nanoseconds until the next failure receives a 401; `None` if this one does.
    wait: Option<u64>,
    /// If the failure is to be logged, the number of failures that were not logged since the last line.
    log: Option<u64>,
}

// === impl Throttle ===

impl Default for Throttle {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            failures: Mutex::default(),
            answered: AtomicU64::default(),
            throttled: AtomicU64::default(),
        }
    }
}

impl Throttle {
    /// Counts an invalid token against the address that sent it, and returns the error for the principal. The failure
    /// is logged unless `is_logged`.
    pub(super) fn reject(&self, rejection: Rejection, peer: Option<IpAddr>, is_logged: bool) -> Error {
        // Every connection has an address. A request without a connection, as in tests, is not counted against any
        // address.
        let Some(peer) = peer else {
            self.answered.fetch_add(1, Ordering::Relaxed);
            return Error::unauthenticated();
        };
        let elapsed = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Assessment { wait, log } = failures.record(network_of(peer), MonotonicNanos(elapsed), is_logged);
        drop(failures);
        if let Some(kept_back) = log {
            let throttled = wait.is_some();
            tracing::warn!(%peer, reason = %rejection, throttled, suppressed = kept_back, "authentication failed");
        }
        match wait {
            None => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                Error::unauthenticated()
            }
            Some(wait) => {
                self.throttled.fetch_add(1, Ordering::Relaxed);
                too_many_attempts(Duration::from_nanos(wait))
            }
        }
    }

    /// The totals.
    pub(super) fn totals(&self) -> FailureTotals {
        FailureTotals {
            answered: self.answered.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
        }
    }
}

/// The error for an invalid token, after many others from the same address. The next invalid token is accepted for checking
/// after `retry_in`.
fn too_many_attempts(retry_in: Duration) -> Error {
    let detail = "The token is invalid, and too many invalid tokens were sent from this address. Use a valid token; it is accepted immediately.";
    Error::new(ErrorCode::TooManyAttempts, detail).about(Facts::RetryIn(retry_in))
}

// === impl Failures ===

impl Default for Failures {
    fn default() -> Self {
        Self {
            rate: Gcra::new(FAILURES_A_MINUTE, MINUTE, FAILURES_A_MINUTE),
            line_rate: Gcra::new(LINES_A_MINUTE, MINUTE, LINES_A_MINUTE),
            lines: Tat::default(),
            networks: HashMap::new(),
            suppressed_elsewhere: 0,
        }
    }
}

impl Failures {
    fn record(&mut self, network: IpAddr, now: MonotonicNanos, is_logged: bool) -> Assessment {
        if self.networks.len() >= MAX_NETWORKS && !self.networks.contains_key(&network) {
            self.make_room();
        }
        let Self { rate, line_rate, lines, networks, suppressed_elsewhere } = self;
        let known = networks.entry(network).or_default();
        let wait = match rate.charge(known.failures, now, 1) {
            Verdict::Admitted(next) => {
                known.failures = next;
                None
            }
            Verdict::Refused { wait } => Some(wait),
        };
        if is_logged {
            return Assessment { wait, log: None };
        }
        known.kept_back += 1;
        if known.logged_at.is_some_and(|logged_at| now.0.saturating_sub(logged_at.0) < MINUTE) {
            return Assessment { wait, log: None };
        }
        let Verdict::Admitted(next) = line_rate.charge(*lines, now, 1) else {
            return Assessment { wait, log: None };
        };
        *lines = next;
        known.logged_at = Some(now);
        // This one is logged.
        let kept_back = std::mem::take(&mut known.kept_back) - 1 + std::mem::take(suppressed_elsewhere);
        Assessment { wait, log: Some(kept_back) }
    }

    /// Drops the half of the addresses with the fewest or oldest failures, so that failures from other addresses do not
    /// clear the count of an address unless they are as many.
    fn make_room(&mut self) {
        let mut ends: Vec<u64> = self.networks.values().map(|network| network.failures.0).collect();
        let middle = ends.len() / 2;
        let (_, &mut median, _) = ends.select_nth_unstable(middle);
        let mut room = ends.len() - middle;
        let kept_back = &mut self.suppressed_elsewhere;
        self.networks.retain(|_, network| {
            let goes = network.failures.0 <= median && room > 0;
            if goes {
                room -= 1;
                *kept_back += network.kept_back;
            }
            !goes
        });
    }
}

/// The network that counts as one address.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX << (Ipv6Addr::BITS - IPV6_NETWORK_BITS);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn numbered(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn an_address_is_answered_at_its_rate_and_logged_once_a_minute() {
        let mut failures = Failures::default();
        let start = 7 * SECOND;
        let mut record = |at| failures.record(HERE, MonotonicNanos(start + at), false);
        assert_eq!(record(0), Assessment { wait: None, log: Some(0) });
        for _ in 1..60 {
            assert_eq!(record(0), Assessment { wait: None, log: None });
        }
        assert_eq!(record(0), Assessment { wait: Some(SECOND), log: None });
        assert_eq!(record(SECOND / 2), Assessment { wait: Some(SECOND / 2), log: None });
        assert_eq!(record(SECOND), Assessment { wait: None, log: None });
        assert_eq!(record(SECOND), Assessment { wait: Some(SECOND), log: None });
        assert_eq!(record(MINUTE), Assessment { wait: None, log: Some(63) });
    }

    #[test]
    fn addresses_are_apart_and_those_of_an_ipv6_network_are_not() {
        let address = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(address("2001:db8:0:1::7"), address("2001:db8:0:1:ffff::"));
        assert_ne!(address("2001:db8:0:1::7"), address("2001:db8:0:2::7"));
        assert_ne!(address("192.0.2.7"), address("192.0.2.8"));
        assert_eq!(address("::ffff:192.0.2.7"), address("192.0.2.7"));
        let mut failures = Failures::default();
        for _ in 0..100 {
            failures.record(HERE, MonotonicNanos(0), false);
        }
        assert_eq!(failures.record(numbered(1), MonotonicNanos(0), false).wait, None);
    }

    #[test]
    fn the_log_has_its_own_rate_and_loses_no_count() {
        let mut failures = Failures::default();
        let mut reported = 0;
        let mut lines = 0;
        let mut noted = 0;
        for minute in 0..3 {
            for number in 0..3 * MAX_NETWORKS as u32 {
                noted += 1;
                let now = MonotonicNanos(2 * minute * MINUTE);
                if let Some(kept_back) = failures.record(numbered(number), now, false).log {
                    lines += 1;
                    reported += 1 + kept_back;
                }
                assert!(failures.networks.len() <= MAX_NETWORKS);
            }
        }
        assert_eq!(lines, 3 * 60);
        let waiting: u64 = failures.networks.values().map(|network| network.kept_back).sum();
        assert_eq!(reported + waiting + failures.suppressed_elsewhere, noted);
    }

    #[test]
    fn many_addresses_do_not_wash_one_away() {
        let mut failures = Failures::default();
        for _ in 0..100 {
            failures.record(HERE, MonotonicNanos(0), false);
        }
        for number in 0..20 * MAX_NETWORKS as u32 {
            assert_eq!(failures.record(numbered(number), MonotonicNanos(0), true).wait, None);
        }
        assert!(failures.record(HERE, MonotonicNanos(0), true).wait.is_some());
    }
}
