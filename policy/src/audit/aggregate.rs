//! Aggregates a flood of calls that no limit bounds: refusals, and calls whose credential is not a key. A client can
//! send any number of them, so they do not all get a record.
//!
//! Calls with a known key are counted by key version, the others by address; in both cases also by outcome and status.
//! The first [`FULL_RECORDS`] of each group keep individual records, so that a single mistake is visible. Later ones
//! are only counted, until the window ends.
//!
//! Memory and the rate of records are bounded, however many keys and addresses there are: above [`MAX_KEYS`] or
//! [`MAX_ADDRESSES`] groups, calls are counted by outcome and status only, and a window keeps a limited number of
//! records of each kind: the first of up to [`MAX_FIRST_RECORDS`] keys or addresses, and [`MAX_FURTHER_RECORDS`]
//! further ones, of which one key or address has at most [`MAX_SHARE`]. So one key cannot use up the records of
//! others, and clients without a key cannot use up those of calls with one.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use core::net::IpAddr;
use core::time::Duration;

use uuid::Uuid;

use super::item::CallAggregate;
use super::record::AuditKey;
use crate::denial::Outcome;
use crate::time::UnixMillis;

/// Number of calls in one group that keep individual records.
pub const FULL_RECORDS: u64 = 10;
/// Maximum number of keys, and of addresses, whose first call in one window keeps an individual record.
pub const MAX_FIRST_RECORDS: usize = 100;
/// Maximum number of further calls in one window that keep individual records, of all keys, and of all addresses.
pub const MAX_FURTHER_RECORDS: u64 = 100;
/// Maximum number of those of one key or address.
pub const MAX_SHARE: u64 = 20;
/// Maximum number of groups of calls without a known key that are counted separately.
pub const MAX_ADDRESSES: usize = 256;
/// Maximum number of groups of calls with a known key that are counted separately.
pub const MAX_KEYS: usize = 1_024;
/// Length of the window of one count.
pub const WINDOW: Duration = Duration::from_secs(1);

/// The calls of the current window.
#[derive(Debug, Default)]
pub struct CallAggregator {
    keys: Groups<(Uuid, u16), Uuid>,
    addresses: Groups<IpAddr, Option<IpAddr>>,
}

/// A call that no limit bounds.
#[derive(Clone, Copy, Debug)]
pub struct UnboundedCall<'a> {
    /// The key, if the client used one that exists.
    pub key: Option<&'a AuditKey>,
    /// The client's address, if known.
    pub source: Option<IpAddr>,
    /// The decision and its reason.
    pub outcome: Outcome,
    /// The status that the client received; 0 if it received none.
    pub status: u16,
    /// Start of the call.
    pub time: UnixMillis,
}

/// Counts by origin, outcome and status. The origin is `None` for calls whose origin is unknown, or not counted
/// separately. All origins of one holder share what it may keep.
#[derive(Debug)]
struct Groups<T, H> {
    tallies: BTreeMap<(Option<T>, Outcome, u16), Tally>,
    full: FullRecords<H>,
    /// Number of calls aggregated in this window.
    aggregated: u64,
}

/// The calls that kept records of their own in this window.
#[derive(Debug)]
struct FullRecords<H> {
    /// Those of each holder after its first.
    shares: BTreeMap<H, u64>,
    /// The sum of the shares.
    further: u64,
}

#[derive(Debug, Default)]
struct Tally {
    /// Number of calls that kept their records since this group was added.
    full: u64,
    /// The calls of the current window that were aggregated.
    aggregated: Option<Span>,
}

#[derive(Clone, Debug)]
struct Span {
    calls: u64,
    first: UnixMillis,
    last: UnixMillis,
    key: Option<AuditKey>,
    /// The address of all calls; `None` once they had several.
    source: Option<IpAddr>,
}

// === impl CallAggregator ===

impl CallAggregator {
    /// Counts a call. Returns `false` if the call keeps an individual record.
    pub fn aggregate(&mut self, call: UnboundedCall<'_>) -> bool {
        match call.key {
            Some(key) => self.keys.aggregate(Some((key.id, key.version)), key.id, MAX_KEYS, call),
            None => self.addresses.aggregate(call.source, call.source, MAX_ADDRESSES, call),
        }
    }

    /// Number of calls aggregated in the current window.
    pub fn aggregated(&self) -> u64 {
        self.keys.aggregated.saturating_add(self.addresses.aggregated)
    }

    /// Ends the window: emits its counts, with the sequence number 0, and keeps only the groups that exceeded
    /// [`FULL_RECORDS`] within it.
    pub fn end_window(&mut self, mut emit: impl FnMut(CallAggregate)) {
        self.keys.end_window(&mut emit);
        self.addresses.end_window(&mut emit);
    }
}

// === impl Groups ===

impl<T, H> Default for Groups<T, H> {
    fn default() -> Self {
        Self { tallies: BTreeMap::new(), full: FullRecords::default(), aggregated: 0 }
    }
}

impl<T: Ord, H: Ord> Groups<T, H> {
    fn aggregate(&mut self, origin: Option<T>, holder: H, max: usize, call: UnboundedCall<'_>) -> bool {
        let is_full = self.tallies.len() >= max;
        let (tally, is_separate) = match self.tallies.entry((origin, call.outcome, call.status)) {
            Entry::Occupied(group) => {
                let is_separate = group.key().0.is_some();
                (group.into_mut(), is_separate)
            }
            // All further origins share one group for each outcome and status, in addition to `max`.
            Entry::Vacant(_) if is_full => {
                let all_others = Tally { full: FULL_RECORDS, aggregated: None };
                let group = (None, call.outcome, call.status);
                (self.tallies.entry(group).or_insert(all_others), false)
            }
            Entry::Vacant(group) => {
                let is_separate = group.key().0.is_some();
                (group.insert(Tally::default()), is_separate)
            }
        };
        if tally.full < FULL_RECORDS && self.full.add(holder) {
            tally.full += 1;
            return false;
        }
        tally.add(&call, is_separate);
        self.aggregated = self.aggregated.saturating_add(1);
        true
    }

    fn end_window(&mut self, emit: &mut impl FnMut(CallAggregate)) {
        (self.full, self.aggregated) = (FullRecords::default(), 0);
        self.tallies.retain(|(_, outcome, status), tally| {
            let Some(span) = tally.aggregated.take() else { return false };
            // A client that returns only occasionally gets individual records again.
            let continues = span.calls > FULL_RECORDS;
            emit(CallAggregate {
                sequence: 0,
                key: span.key,
                source_ip: span.source,
                outcome: *outcome,
                status: *status,
                calls: span.calls,
                first_time: span.first,
                last_time: span.last,
            });
            continues
        });
    }
}

// === impl FullRecords ===

impl<H> Default for FullRecords<H> {
    fn default() -> Self {
        Self { shares: BTreeMap::new(), further: 0 }
    }
}

impl<H: Ord> FullRecords<H> {
    /// Adds a record of this holder if there is room for one.
    fn add(&mut self, holder: H) -> bool {
        let holders = self.shares.len();
        match self.shares.entry(holder) {
            Entry::Vacant(first) if holders < MAX_FIRST_RECORDS => {
                first.insert(0);
                true
            }
            Entry::Occupied(mut share) if *share.get() < MAX_SHARE && self.further < MAX_FURTHER_RECORDS => {
                *share.get_mut() += 1;
                self.further += 1;
                true
            }
            _ => false,
        }
    }
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, call: &UnboundedCall<'_>, is_separate: bool) {
        let span = self.aggregated.get_or_insert_with(|| Span {
            calls: 0,
            first: call.time,
            last: call.time,
            key: call.key.filter(|_| is_separate).cloned(),
            source: call.source.filter(|_| is_separate),
        });
        span.calls = span.calls.saturating_add(1);
        // Calls arrive here in the order in which they end, which is not the order in which they began.
        span.first = span.first.min(call.time);
        span.last = span.last.max(call.time);
        if span.source != call.source {
            span.source = None;
        }
    }
}

#[cfg(test)]
mod tests;
