//! Aggregates a flood of refusals. A client without a key can be anybody and send any number of requests, so
//! not each of them gets a record.
//!
//! Refusals are counted by address and reason. The first [`FULL_RECORDS`] of each pair keep records of their
//! own, so that a single mistake can be seen; the ones after that become a count, which ends with its window.
//! Memory is bounded, however many addresses there are: above [`MAX_PAIRS`] pairs, refusals are counted by
//! reason only.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use core::net::IpAddr;
use core::time::Duration;

use super::item::AggregatedRefusals;
use crate::denial::Denial;
use crate::time::UnixMillis;

/// Number of refusals of one address with one reason that keep records of their own.
pub const FULL_RECORDS: u64 = 10;
/// Maximum number of pairs of address and reason that are counted separately.
pub const MAX_PAIRS: usize = 256;
/// Length of the window of one count.
pub const WINDOW: Duration = Duration::from_secs(1);

/// The refusals of the current window.
#[derive(Debug, Default)]
pub struct RefusalAggregator {
    pairs: BTreeMap<(Option<IpAddr>, Denial), Tally>,
    aggregated: u64,
}

#[derive(Debug, Default)]
struct Tally {
    /// Number of refusals that kept their records since this pair was added.
    full: u64,
    /// The refusals of the current window that were aggregated.
    aggregated: Option<Span>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    calls: u64,
    first: UnixMillis,
    last: UnixMillis,
}

// === impl RefusalAggregator ===

impl RefusalAggregator {
    /// Counts a refusal of a client without a known key. Returns `false` if the refusal keeps a record of its
    /// own.
    pub fn aggregate(&mut self, source: Option<IpAddr>, reason: Denial, time: UnixMillis) -> bool {
        let is_full = self.pairs.len() >= MAX_PAIRS;
        let tally = match self.pairs.entry((source, reason)) {
            Entry::Occupied(pair) => pair.into_mut(),
            // All further addresses share one pair for each reason, in addition to MAX_PAIRS.
            Entry::Vacant(_) if is_full => {
                let all_others = Tally { full: FULL_RECORDS, aggregated: None };
                self.pairs.entry((None, reason)).or_insert(all_others)
            }
            Entry::Vacant(pair) => pair.insert(Tally::default()),
        };
        if tally.full < FULL_RECORDS {
            tally.full += 1;
            return false;
        }
        tally.add(time);
        self.aggregated = self.aggregated.saturating_add(1);
        true
    }

    /// Number of calls aggregated in the current window.
    pub fn aggregated(&self) -> u64 {
        self.aggregated
    }

    /// Ends the window: emits its counts, with the sequence number 0, and keeps only the pairs that exceeded
    /// [`FULL_RECORDS`] within it.
    pub fn end_window(&mut self, mut emit: impl FnMut(AggregatedRefusals)) {
        self.aggregated = 0;
        self.pairs.retain(|(source_ip, reason), tally| {
            let Some(span) = tally.aggregated.take() else { return false };
            emit(AggregatedRefusals {
                sequence: 0,
                source_ip: *source_ip,
                reason: *reason,
                calls: span.calls,
                first_time: span.first,
                last_time: span.last,
            });
            // A client that only comes back now and then gets records of its own again.
            span.calls > FULL_RECORDS
        });
    }
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, time: UnixMillis) {
        let span = self.aggregated.get_or_insert(Span { calls: 0, first: time, last: time });
        span.calls = span.calls.saturating_add(1);
        // Calls arrive here in the order in which they end, which is not the order in which they began.
        span.first = span.first.min(time);
        span.last = span.last.max(time);
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_family = "wasm")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use alloc::vec::Vec;
    use core::net::Ipv4Addr;

    use super::*;

    const REASON: Denial = Denial::MissingCredentials;

    fn address(n: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(Ipv4Addr::from_bits(n)))
    }

    fn end(aggregator: &mut RefusalAggregator) -> Vec<AggregatedRefusals> {
        let mut emitted = Vec::new();
        aggregator.end_window(|refusals| emitted.push(refusals));
        emitted
    }

    /// Refuses `calls` calls of an address; returns how many of them were aggregated.
    fn refuse(aggregator: &mut RefusalAggregator, source: Option<IpAddr>, calls: u64) -> u64 {
        (0..calls).filter(|n| aggregator.aggregate(source, REASON, UnixMillis(1_000 + n))).count() as u64
    }

    #[test]
    fn first_refusals_keep_records_and_the_others_are_aggregated() {
        let mut aggregator = RefusalAggregator::default();
        assert_eq!(refuse(&mut aggregator, address(1), FULL_RECORDS), 0);
        assert!(!aggregator.aggregate(address(2), REASON, UnixMillis(1)), "another address");
        assert!(!aggregator.aggregate(address(1), Denial::UnknownKey, UnixMillis(1)), "another reason");
        assert_eq!(refuse(&mut aggregator, address(1), 40), 40);
        assert_eq!(aggregator.aggregated(), 40);
        let expected = AggregatedRefusals {
            sequence: 0,
            source_ip: address(1),
            reason: REASON,
            calls: 40,
            first_time: UnixMillis(1_000),
            last_time: UnixMillis(1_039),
        };
        assert_eq!((end(&mut aggregator), aggregator.aggregated()), (alloc::vec![expected], 0));
    }

    #[test]
    fn a_continuing_flood_yields_one_count_per_window() {
        let mut aggregator = RefusalAggregator::default();
        assert_eq!(refuse(&mut aggregator, address(1), 100), 100 - FULL_RECORDS);
        for _ in 0..3 {
            end(&mut aggregator);
            assert_eq!(refuse(&mut aggregator, address(1), 100), 100);
        }
        end(&mut aggregator);
        assert_eq!(refuse(&mut aggregator, address(1), 1), 1, "the last call of the flood");
        end(&mut aggregator);
        assert_eq!(refuse(&mut aggregator, address(1), 1), 0, "the flood is over");
    }

    #[test]
    fn memory_is_bounded_and_every_call_is_counted() {
        let mut aggregator = RefusalAggregator::default();
        let addresses = 10_000u32;
        let aggregated: u64 = (0..addresses).map(|n| refuse(&mut aggregator, address(n), 2)).sum();
        assert_eq!(aggregator.aggregated(), aggregated);
        let expected = 2 * (u64::from(addresses) - MAX_PAIRS as u64);
        assert_eq!(aggregated, expected, "the first addresses keep their records");
        assert!(aggregator.pairs.len() <= MAX_PAIRS + Denial::ALL.len());
        let emitted = end(&mut aggregator);
        assert_eq!((emitted.len(), emitted[0].source_ip, emitted[0].calls), (1, None, aggregated));
    }
}
