//! Folding a flood of refusals: who has no key can be anybody and any number, and needs no record each.
//!
//! Refusals are counted by address and reason. The first of each stay records of their own, so that a single mistake
//! can be seen; what follows is a count, which ends with its window. Memory is bounded, however many addresses there
//! are: beyond [`MAX_PAIRS`] it is counted by reason alone.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use core::net::IpAddr;
use core::time::Duration;

use super::FoldedRefusals;
use crate::outcome::Denial;
use crate::time::UnixMillis;

/// Refusals of one address with one reason that stay records of their own.
pub const FULL_RECORDS: u64 = 10;
/// The most pairs of address and reason that are told apart at once.
pub const MAX_PAIRS: usize = 256;
/// How long is counted into one folded record.
pub const WINDOW: Duration = Duration::from_secs(1);

/// The refusals of the present window.
#[derive(Debug, Default)]
pub struct RefusalFold {
    pairs: BTreeMap<(Option<IpAddr>, Denial), Tally>,
    folded: u64,
}

#[derive(Debug, Default)]
struct Tally {
    /// Those that stayed records since this pair is known.
    full: u64,
    /// Those of the present window that were folded.
    folded: Option<Span>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    calls: u64,
    first: UnixMillis,
    last: UnixMillis,
}

// === impl RefusalFold ===

impl RefusalFold {
    /// Takes a refusal of a caller without a known key. `false` if it is to stay a record of its own.
    pub fn fold(&mut self, source: Option<IpAddr>, reason: Denial, time: UnixMillis) -> bool {
        let is_full = self.pairs.len() >= MAX_PAIRS;
        let tally = match self.pairs.entry((source, reason)) {
            Entry::Occupied(pair) => pair.into_mut(),
            // Those of all further addresses go to one pair a reason, which is there beside the others.
            Entry::Vacant(_) if is_full => {
                let all_others = Tally { full: FULL_RECORDS, folded: None };
                self.pairs.entry((None, reason)).or_insert(all_others)
            }
            Entry::Vacant(pair) => pair.insert(Tally::default()),
        };
        if tally.full < FULL_RECORDS {
            tally.full += 1;
            return false;
        }
        tally.add(time);
        self.folded = self.folded.saturating_add(1);
        true
    }

    /// Calls that were folded and not yet told.
    pub fn folded(&self) -> u64 {
        self.folded
    }

    /// Ends the window: gives what was folded, with the number 0, and goes on with those pairs that were a flood in it.
    pub fn end_window(&mut self, mut told: impl FnMut(FoldedRefusals)) {
        self.folded = 0;
        self.pairs.retain(|(source_ip, reason), tally| {
            let Some(span) = tally.folded.take() else { return false };
            told(FoldedRefusals {
                sequence: 0,
                source_ip: *source_ip,
                reason: *reason,
                calls: span.calls,
                first_time: span.first,
                last_time: span.last,
            });
            // Who comes back now and then gets records of its own again.
            span.calls > FULL_RECORDS
        });
    }
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, time: UnixMillis) {
        let span = self.folded.get_or_insert(Span { calls: 0, first: time, last: time });
        span.calls = span.calls.saturating_add(1);
        // Calls are told at their ends, which come in another order than their beginnings.
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

    fn end(fold: &mut RefusalFold) -> Vec<FoldedRefusals> {
        let mut told = Vec::new();
        fold.end_window(|folded| told.push(folded));
        told
    }

    /// So many refusals of an address; gives how many of them were folded.
    fn refuse(fold: &mut RefusalFold, source: Option<IpAddr>, calls: u64) -> u64 {
        (0..calls).filter(|n| fold.fold(source, REASON, UnixMillis(1_000 + n))).count() as u64
    }

    #[test]
    fn the_first_stay_records_and_the_others_are_one() {
        let mut fold = RefusalFold::default();
        assert_eq!(refuse(&mut fold, address(1), FULL_RECORDS), 0);
        assert!(!fold.fold(address(2), REASON, UnixMillis(1)), "another address");
        assert!(!fold.fold(address(1), Denial::UnknownKey, UnixMillis(1)), "another reason");
        assert_eq!(refuse(&mut fold, address(1), 40), 40);
        assert_eq!(fold.folded(), 40);
        let expected = FoldedRefusals {
            sequence: 0,
            source_ip: address(1),
            reason: REASON,
            calls: 40,
            first_time: UnixMillis(1_000),
            last_time: UnixMillis(1_039),
        };
        assert_eq!((end(&mut fold), fold.folded()), (alloc::vec![expected], 0));
    }

    #[test]
    fn a_flood_that_goes_on_makes_one_record_a_window() {
        let mut fold = RefusalFold::default();
        assert_eq!(refuse(&mut fold, address(1), 100), 100 - FULL_RECORDS);
        for _ in 0..3 {
            end(&mut fold);
            assert_eq!(refuse(&mut fold, address(1), 100), 100);
        }
        end(&mut fold);
        assert_eq!(refuse(&mut fold, address(1), 1), 1, "the last of it");
        end(&mut fold);
        assert_eq!(refuse(&mut fold, address(1), 1), 0, "it is over");
    }

    #[test]
    fn memory_is_bounded_and_no_call_is_forgotten() {
        let mut fold = RefusalFold::default();
        let addresses = 10_000u32;
        let folded: u64 = (0..addresses).map(|n| refuse(&mut fold, address(n), 2)).sum();
        assert_eq!(fold.folded(), folded);
        assert_eq!(folded, 2 * (u64::from(addresses) - MAX_PAIRS as u64), "the first addresses stay records");
        assert!(fold.pairs.len() <= MAX_PAIRS + Denial::ALL.len());
        let told = end(&mut fold);
        assert_eq!((told.len(), told[0].source_ip, told[0].calls), (1, None, folded));
    }
}
