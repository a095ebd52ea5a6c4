//! The progress of the export of the request log. Numbers of calls are consecutive, so a hole means that calls were
//! purged before they could be sent.

use async_trait::async_trait;
use omniflow_domain::audit::{AuditEntry, AuditGap};
use omniflow_policy::time::UnixMillis;

use crate::error::Result;

/// The position of the export, and counts of everything before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExportPlace {
    /// The number of the last processed call.
    pub record: i64,
    /// The number of the last processed gap.
    pub gap: i64,
    /// Calls and gaps that the receiver accepted, since the export was first set up.
    pub exported: u64,
    /// Calls and gaps that the receiver rejected.
    pub rejected: u64,
    /// Calls that were purged before they could be sent.
    pub purged: u64,
}

/// A notice that a gap was found or withdrawn.
#[derive(Clone, Debug)]
pub struct GapNotice {
    /// The gap.
    pub gap: AuditGap,
    /// The number of an earlier notice that this one withdraws.
    pub withdraws: Option<i64>,
}

/// The calls that have not been sent yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportBacklog {
    /// Number of calls.
    pub records: u64,
    /// When the first call began.
    pub oldest: Option<UnixMillis>,
}

/// Reads the export cursor and the records after it.
#[async_trait]
pub trait ExportStore {
    /// The position of the export; `None` if it was never set up.
    async fn export_place(&self) -> Result<Option<ExportPlace>>;

    /// Returns up to `limit` calls with numbers above `after`, in the order of their numbers.
    async fn records_after(&self, after: i64, limit: usize) -> Result<Vec<AuditEntry>>;

    /// Returns up to `limit` notices of gaps with numbers above `after`, in the order of their numbers. Gaps of purged records
    /// are left out: the receiver has the records, or they are in [`ExportPlace::purged`].
    async fn gap_notices_after(&self, after: i64, limit: usize) -> Result<Vec<GapNotice>>;

    /// The calls after `place`.
    async fn export_backlog(&self, place: &ExportPlace) -> Result<ExportBacklog>;
}

/// Writes the export cursor.
#[async_trait]
pub trait ExportWrites {
    /// Sets up the export behind the last call and gap, unless it was set up before.
    async fn begin_export(&mut self) -> Result<()>;

    /// Sets the position of the export.
    async fn set_export_place(&mut self, place: &ExportPlace) -> Result<()>;
}
