//! Prepares a batch, and determines which items are new and which calls are missing. Backends store the result.

use std::collections::BTreeMap;

use omniflow_domain::audit::GapCause;
use omniflow_domain::time::DAY_MS;
use omniflow_policy::audit::{
    AuditBatch, AuditItem, AuditRecord, CallAggregate, CallEnd, CallInProgress, ReportedGapCause,
};
use omniflow_policy::denial::Outcome;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use crate::error::StoreError;
use crate::rollup::KeyCalls;

/// Maximum number of calls that may be missing between two items, or that one item may represent. A VM with a million
/// calls per second takes more than an hour to reach it.
pub const MAX_MISSING: u64 = 1 << 32;

/// Maximum number of gaps in one batch. A filter reports at most one after each acknowledged batch, so few arrive
/// together; each gap is a separate row, for which all other batches wait.
pub const MAX_GAPS: usize = 64;

/// Maximum age of a call when its record arrives, in milliseconds: 90 days. Older start times come from a wrong clock, or from a
/// call that lasted longer, and are replaced. This limits how many days one batch can add to the log.
pub const MAX_AGE_MS: u64 = 90 * DAY_MS;

/// Why a batch of the request log is not stored.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The log cannot be read or written.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// More calls would be missing than a VM can handle. See [`MAX_MISSING`].
    #[error("sequence number {found} is too far beyond the next expected number, {expected}")]
    Leap {
        /// The next sequence number of this stream.
        expected: u64,
        /// The sequence number in the batch.
        found: u64,
    },
    /// More gaps than a filter reports in one batch. See [`MAX_GAPS`].
    #[error("the batch reports more than {MAX_GAPS} losses; a filter reports at most one after each batch")]
    TooManyGaps,
}

/// The position of a stream. Each VM of each run of a gateway's process has one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamPlace {
    /// The next sequence number.
    pub next_sequence: u64,
    /// The time of the last item; `None` before the first.
    pub last_time: Option<UnixMillis>,
}

/// Calls whose records will not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Number of calls.
    pub calls: u64,
    /// The cause.
    pub cause: GapCause,
    /// The earliest start of any of them, if known.
    pub from: Option<UnixMillis>,
    /// The latest start of any of them.
    pub to: UnixMillis,
    /// Whether the number is a lower bound.
    pub is_least: bool,
}

/// The new items of a batch.
#[derive(Debug, Default)]
pub struct Arrival<'a> {
    /// Calls.
    pub records: Vec<&'a AuditRecord>,
    /// Aggregated calls.
    pub aggregated: Vec<&'a CallAggregate>,
    /// Calls that are missing.
    pub gaps: Vec<Missing>,
    /// When the first of the calls began.
    pub since: Option<UnixMillis>,
    /// Calls that have not ended.
    pub in_progress: Vec<&'a CallInProgress>,
    /// Calls that were in progress and have ended.
    pub ended: Vec<&'a CallEnd>,
}

// === impl Arrival ===

impl<'a> Arrival<'a> {
    /// Selects the new items and advances `place` past them. `items` must be sorted by sequence number.
    pub fn of(items: &'a [AuditItem], place: &mut StreamPlace) -> Result<Self, IngestError> {
        let mut arrival = Self::default();
        for item in items {
            match item {
                // One below belongs to a batch that arrives a second time; the call may have ended since.
                AuditItem::InProgress(call) if call.record.sequence >= place.next_sequence => {
                    arrival.in_progress.push(call);
                    continue;
                }
                AuditItem::Ended(end) => {
                    arrival.ended.push(end);
                    continue;
                }
                _ => {}
            }
            let (expected, start, end) = (place.next_sequence, item.sequence(), item.next_sequence());
            // Some calls that a VM reports as lost may have arrived: the VM ended before the acknowledgement reached it.
            let is_new = match item {
                AuditItem::Call(_) | AuditItem::CallWithPayload(..) | AuditItem::Aggregated(_) => {
                    start >= expected
                }
                AuditItem::Gap(_) => end > expected,
                AuditItem::InProgress(_) | AuditItem::Ended(_) => false,
            };
            if !is_new {
                continue;
            }
            let skipped = start.saturating_sub(expected);
            if skipped > MAX_MISSING || item.calls() > MAX_MISSING {
                return Err(IngestError::Leap { expected, found: start.max(end.saturating_sub(1)) });
            }
            arrival.since = arrival.since.into_iter().chain(item.first_time()).min();
            if skipped > 0 {
                arrival.miss(place, skipped, GapCause::Unknown, None, item.time());
            }
            match item {
                AuditItem::Call(record) | AuditItem::CallWithPayload(record, _) => {
                    arrival.records.push(record)
                }
                AuditItem::Aggregated(aggregated) => arrival.aggregated.push(aggregated),
                AuditItem::Gap(lost) => {
                    arrival.miss(place, end - start.max(expected), lost.cause.into(), lost.from, lost.to);
                }
                AuditItem::InProgress(_) | AuditItem::Ended(_) => {}
            }
            if arrival.gaps.len() > MAX_GAPS {
                return Err(IngestError::TooManyGaps);
            }
            *place = StreamPlace { next_sequence: end, last_time: Some(item.time()) };
        }
        Ok(arrival)
    }

    /// How many calls are missing.
    pub fn missing(&self) -> u64 {
        self.gaps.iter().fold(0, |sum: u64, gap| sum.saturating_add(gap.calls))
    }

    fn miss(
        &mut self,
        before: &StreamPlace,
        calls: u64,
        cause: GapCause,
        from: Option<UnixMillis>,
        to: UnixMillis,
    ) {
        let from = from.or(before.last_time).map(|from| from.min(to));
        self.gaps.push(Missing { calls, cause, from, to, is_least: false });
    }
}

/// Prepares a batch that arrived at `heard_at` for storage: times after `latest` become `latest`, times more than [`MAX_AGE_MS`]
/// before the arrival become that of the arrival, and items are in the order of their numbers.
pub fn prepare(batch: &mut AuditBatch, heard_at: UnixMillis, latest: UnixMillis) {
    let earliest = UnixMillis(heard_at.0.saturating_sub(MAX_AGE_MS)).min(latest);
    for item in &mut batch.items {
        replace_old_times(item, earliest, heard_at);
        item.clamp_times(latest);
    }
    if let Some(progress) = &mut batch.delivery {
        progress.clamp_times(latest);
    }
    batch.items.sort_by_key(AuditItem::sequence);
}

/// Replaces times before `earliest` with the time of the arrival: a gateway keeps records in memory for minutes, so a call that
/// seems older was made by a gateway whose clock is wrong, and its true time is closest to the arrival.
fn replace_old_times(item: &mut AuditItem, earliest: UnixMillis, heard_at: UnixMillis) {
    let replace = |time: &mut UnixMillis| {
        if *time < earliest {
            *time = heard_at;
        }
    };
    match item {
        AuditItem::Call(record)
        | AuditItem::CallWithPayload(record, _)
        | AuditItem::InProgress(CallInProgress { record, .. }) => replace(&mut record.time),
        AuditItem::Aggregated(aggregate) => {
            replace(&mut aggregate.last_time);
            replace(&mut aggregate.first_time);
        }
        AuditItem::Gap(gap) => {
            replace(&mut gap.to);
            gap.from.as_mut().map(replace);
        }
        AuditItem::Ended(end) => replace(&mut end.time),
    }
}

/// Whether the items report that a VM has crashed.
pub fn reports_crash(items: &[AuditItem]) -> bool {
    items.iter().any(|item| matches!(item, AuditItem::Gap(gap) if gap.cause == ReportedGapCause::VmLost))
}

/// When the last allowed call with each key version began, calls in progress included.
pub fn last_uses(arrival: &Arrival<'_>) -> BTreeMap<(Uuid, u16), UnixMillis> {
    let mut uses = BTreeMap::new();
    let in_progress = arrival.in_progress.iter().map(|call| &call.record);
    let records = arrival.records.iter().copied().chain(in_progress).filter_map(KeyCalls::of_record);
    let aggregated = arrival.aggregated.iter().filter_map(|aggregate| KeyCalls::of_aggregate(aggregate));
    for calls in records.chain(aggregated).filter(|calls| calls.outcome == Outcome::Allowed) {
        let last = uses.entry((calls.key.id, calls.key.version)).or_insert(calls.last);
        *last = (*last).max(calls.last);
    }
    uses
}
