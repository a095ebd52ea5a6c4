//! The request log: every call through a gateway, newest first, and what the calls amount to.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use async_trait::async_trait;
use omniflow_domain::audit::{AuditEntry, AuditGap, GapCause, RecordedCall};
use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_domain::key_use::CallGroup;
use omniflow_domain::payload::SealedPayload;
use omniflow_domain::stats::{CallCounts, Dimension, GroupValue};
use omniflow_policy::audit::AuditBatch;
use omniflow_policy::time::UnixMillis;
use tokio::time::Instant;
use uuid::Uuid;

use crate::error::{IngestError, Result};

/// What a search found before its deadline, newest first.
#[derive(Clone, Debug)]
pub struct SearchPage<T> {
    /// The calls.
    pub found: Vec<T>,
    /// Where to continue, if the deadline passed before the page was full.
    pub ended_at: Option<AuditPosition>,
}

/// Who made a call, and where it went.
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
    /// How many calls this stands for.
    pub calls: u64,
}

/// Calls by the time at which they began.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// The calls of each interval, by its start in milliseconds since 1970. Intervals without calls are left out.
    pub stretches: BTreeMap<u64, CallCounts>,
    /// All of them.
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

/// What storing a batch did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ingested {
    /// How many calls the batch shows to be missing.
    pub missing: u64,
    /// The gap that was withdrawn, because the gateway counted as lost and is not.
    pub withdrawn: Option<i64>,
}

/// Reads the request log.
///
/// Numbers of calls and of gaps increase in the order of commits and start at 1. A reader that has seen number *n* never
/// later sees a new number below *n*.
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

    /// How many calls were ever stored, purged ones included.
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

    /// Searches for who made the newest calls and where they went, up to `limit`, until `deadline`.
    async fn search_users(
        &self,
        filter: &AuditFilter,
        limit: usize,
        deadline: Instant,
    ) -> Result<SearchPage<AuditedUser>>;

    /// Counts calls that began in `from..to` in intervals of `width` milliseconds, newest first, until `deadline`;
    /// without one, all of them. The newest calls are always counted. The filter's own times are ignored.
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

    /// The newest `limit` calls of a key that began at `from` or later, in groups.
    async fn call_groups(&self, key: Uuid, from: UnixMillis, limit: u64) -> Result<Vec<CallGroup>>;

    /// When each version of these keys was last allowed. Versions that never were are left out.
    async fn last_used(&self, keys: &[Uuid]) -> Result<HashMap<(Uuid, u16), UnixMillis>>;

    /// Returns up to `limit` gaps, the last stored first, after the gap `before`.
    async fn audit_gaps(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditGap>>;

    /// Returns up to `limit` gaps that end in `from..to`, the last first.
    async fn audit_gaps_between(
        &self,
        from: UnixMillis,
        to: UnixMillis,
        limit: usize,
    ) -> Result<Vec<AuditGap>>;

    /// How many gaps were ever stored for each cause, and how many calls were missing in them.
    async fn gap_totals(&self) -> Result<Vec<(GapCause, u64, u64)>>;
}

/// Writes the request log.
#[async_trait]
pub trait RequestLogWrites {
    /// Stores the new items of a batch, payloads by the sequence number of their call, a gap wherever sequence numbers
    /// jump, and the gateway's progress report, which arrived at `heard_at`. Items that were stored before are ignored.
    /// Times after `latest` are stored as `latest`: a gateway's clock may be wrong.
    async fn ingest(
        &mut self,
        batch: AuditBatch,
        payloads: &HashMap<u64, SealedPayload>,
        heard_at: UnixMillis,
        latest: UnixMillis,
    ) -> std::result::Result<Ingested, IngestError>;
}
