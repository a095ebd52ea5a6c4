//! Aggregates a flood of calls that no limit bounds: refusals, and calls whose credential is not a key. A client can
//! send any number of them, so they do not all get a record.
//!
//! Calls with a known key are counted by key version, the others by address; in both cases also by outcome and status.
//! The first [`FULL_RECORDS`] of each group keep individual records, so that a single mistake is visible. Later ones
//! are only counted, until the window ends.
//!
//! Memory and the rate of records are bounded, however many keys and addresses there are: above [`MAX_KEYS`] or
//! [`MAX_ADDRESSES`] groups, calls are counted by outcome and status only, and at most [`MAX_FULL_RECORDS`] records of
//! each kind are kept in one window. Clients without a key cannot use up the room reserved for calls with one.

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
/// Maximum number of calls in one window that keep individual records, over all groups with a key and, separately, over
/// all groups without one.
pub const MAX_FULL_RECORDS: u64 = 200;
/// Maximum number of groups of calls without a known key that are counted separately.
pub const MAX_ADDRESSES: usize = 256;
/// Maximum number of groups of calls with a known key that are counted separately.
pub const MAX_KEYS: usize = 1_024;
/// Length of the window of one count.
pub const WINDOW: Duration = Duration::from_secs(1);

/// The calls of the current window.
#[derive(Debug, Default)]
pub struct CallAggregator {
    keys: Groups<(Uuid, u16)>,
    addresses: Groups<IpAddr>,
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
/// separately.
#[derive(Debug)]
struct Groups<T> {
    tallies: BTreeMap<(Option<T>, Outcome, u16), Tally>,
    /// Number of calls that kept their records in this window.
    full: u64,
    /// Number of calls aggregated in this window.
    aggregated: u64,
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
            Some(key) => self.keys.aggregate(Some((key.id, key.version)), MAX_KEYS, call),
            None => self.addresses.aggregate(call.source, MAX_ADDRESSES, call),
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

impl<T> Default for Groups<T> {
    fn default() -> Self {
        Self { tallies: BTreeMap::new(), full: 0, aggregated: 0 }
    }
}

impl<T: Ord> Groups<T> {
    fn aggregate(&mut self, origin: Option<T>, max: usize, call: UnboundedCall<'_>) -> bool {
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
        if tally.full < FULL_RECORDS && self.full < MAX_FULL_RECORDS {
            tally.full += 1;
            self.full += 1;
            return false;
        }
        tally.add(&call, is_separate);
        self.aggregated = self.aggregated.saturating_add(1);
        true
    }

    fn end_window(&mut self, emit: &mut impl FnMut(CallAggregate)) {
        (self.full, self.aggregated) = (0, 0);
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
