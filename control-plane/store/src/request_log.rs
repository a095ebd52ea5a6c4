//! The request log: every call through a gateway, newest first, with statistics.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use async_trait::async_trait;
use omniflow_domain::audit::{AuditEntry, AuditGap, CallInProgress, GapCause, RecordedCall};
use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_domain::key::KeyReference;
use omniflow_domain::key_use::CallGroup;
use omniflow_domain::payload::SealedPayload;
use omniflow_domain::stats::{CallCounts, Dimension, GroupValue};
use omniflow_policy::audit::AuditBatch;
use omniflow_policy::time::UnixMillis;
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::Result;
use crate::ingest::IngestError;

/// Maximum number of calls in progress that a store keeps. Those that were reported first give way.
pub const MAX_CALLS_IN_PROGRESS: usize = 20_000;

/// The results of a search up to its deadline, newest first.
#[derive(Clone, Debug)]
pub struct SearchPage<T> {
    /// The calls.
    pub found: Vec<T>,
    /// Where to continue, if the deadline passed before the page was full.
    pub ended_at: Option<AuditPosition>,
}

/// The origin and destination of a call.
#[derive(Clone, Debug)]
pub struct AuditedUser {
    /// When it began.
    pub time: UnixMillis,
    /// The key and its name, if the client sent a key that exists.
    pub key: Option<(Uuid, String)>,
    /// The route template.
    pub endpoint: Option<String>,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// Number of calls that this represents.
    pub calls: u64,
}

/// Calls by the time at which they began.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// The calls of each interval, by its start in milliseconds since 1970. Intervals without calls are left out.
    pub stretches: BTreeMap<u64, CallCounts>,
    /// All calls.
    pub total: CallCounts,
    /// Where counting stopped, if the deadline passed before all calls were counted.
    pub counted_from: Option<UnixMillis>,
}

/// Calls in groups.
#[derive(Clone, Debug, Default)]
pub struct AuditStats {
    /// The groups with the most calls.
    pub groups: HashMap<Vec<GroupValue>, CallCounts>,
    /// The calls of all other groups.
    pub other: CallCounts,
    /// All calls.
    pub total: CallCounts,
}

/// The outcome of storing a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingested {
    /// Number of calls that the batch shows to be missing.
    pub missing: u64,
    /// The gap that was withdrawn because a gateway that counted as lost is live.
    pub withdrawn: Option<i64>,
}

/// Reads the request log.
///
/// Numbers of calls and of gaps increase in the order of commits and start at 1. A reader that has seen number *n*
/// never sees a new number below *n* afterwards.
#[async_trait]
pub trait RequestLogStore {
    /// Returns up to `limit` calls, newest first, after the position `before`. Every page costs the same.
    async fn audit_entries(
        &self,
        filter: &AuditFilter,
        before: Option<AuditPosition>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>>;

    /// Returns up to `limit` calls as a policy replay needs them, newest first, after the position `before`.
    async fn recorded_calls(
        &self,
        filter: &AuditFilter,
        before: Option<AuditPosition>,
        limit: usize,
    ) -> Result<Vec<RecordedCall>>;

    /// Calls with numbers above `after` and up to `last`, in the order of their numbers.
    async fn audit_entries_between(
        &self,
        filter: &AuditFilter,
        after: i64,
        last: i64,
    ) -> Result<Vec<AuditEntry>>;

    /// The number of the last call; 0 if the log is empty.
    async fn newest_record(&self) -> Result<i64>;

    /// Total number of stored calls, including purged ones.
    async fn record_total(&self) -> Result<u64>;

    /// One call.
    async fn audit_entry(&self, id: i64) -> Result<Option<AuditEntry>>;

    /// Searches for up to `limit` calls, newest first, after the position `before`, until `deadline`.
    async fn search_calls(
        &self,
        filter: &AuditFilter,
        before: Option<AuditPosition>,
        limit: usize,
        deadline: Instant,
    ) -> Result<SearchPage<AuditEntry>>;

    /// Searches for the origin and destination of up to `limit` newest calls, until `deadline`.
    async fn search_users(
        &self,
        filter: &AuditFilter,
        limit: usize,
        deadline: Instant,
    ) -> Result<SearchPage<AuditedUser>>;

    /// Counts the calls that began in `from..to` in intervals of `width` milliseconds, newest first, until `deadline`,
    /// or all of them if there is none. The newest calls are always counted. The filter's own times are ignored.
    async fn audit_timeline(
        &self,
        filter: &AuditFilter,
        span: (UnixMillis, UnixMillis),
        width: u64,
        deadline: Option<Instant>,
    ) -> Result<Timeline>;

    /// Counts calls that began in `from..to` in up to `most` groups. The filter's own times are ignored. Latencies are
    /// counted with three significant digits, rounded down.
    async fn audit_stats(
        &self,
        filter: &AuditFilter,
        span: (UnixMillis, UnixMillis),
        by: &[Dimension],
        most: usize,
    ) -> Result<AuditStats>;

    /// The name that a key had in its newest call.
    async fn audited_key_name(&self, key: Uuid) -> Result<Option<String>>;

    /// The newest `limit` calls of a key that began at or after `from`, in groups.
    async fn call_groups(&self, key: Uuid, from: UnixMillis, limit: u64) -> Result<Vec<CallGroup>>;

    /// When a call with each version of these keys was last allowed. Versions without such a call are left out.
    async fn last_used(&self, keys: &[Uuid]) -> Result<HashMap<(Uuid, u16), UnixMillis>>;

    /// Returns up to `limit` gaps, most recently stored first, after the gap `before`.
    async fn audit_gaps(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditGap>>;

    /// Returns up to `limit` gaps that end in `from..to`, latest first.
    async fn audit_gaps_between(
        &self,
        from: UnixMillis,
        to: UnixMillis,
        limit: usize,
    ) -> Result<Vec<AuditGap>>;

    /// Returns up to `limit` calls that have not ended, of one key or of all, the last reported first, after the number
    /// `before`.
    async fn calls_in_progress(
        &self,
        key: Option<&KeyReference>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<CallInProgress>>;

    /// Total number of stored gaps, and of calls missing in them, by cause.
    async fn gap_totals(&self) -> Result<Vec<(GapCause, u64, u64)>>;
}

/// Writes the request log.
#[async_trait]
pub trait RequestLogWrites {
    /// Stores the new items of a batch, which may end calls that are in progress, payloads by the sequence number of their call, a gap wherever sequence numbers
    /// jump, and the gateway's progress report, which arrived at `heard_at`. Items that were stored before are ignored.
    /// Times after `latest` are stored as `latest`, and times more than [`MAX_AGE_MS`](crate::ingest::MAX_AGE_MS) before
    /// `heard_at` as `heard_at`: a gateway's clock may be wrong.
    async fn ingest(
        &mut self,
        batch: AuditBatch,
        payloads: &HashMap<u64, SealedPayload>,
        heard_at: UnixMillis,
        latest: UnixMillis,
    ) -> std::result::Result<Ingested, IngestError>;
}
