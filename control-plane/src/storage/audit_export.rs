//! How far the export of the audit log has come, and what follows. The numbers of records follow one another without a
//! hole, so a hole is what was purged before it could be sent.

use omniflow_policy::time::UnixMillis;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::audit::{COLUMNS, read, read_gap};
use super::columns::{from_millis, row_limit, saturated};
use super::{Database, Result, Transaction};
use omniflow_domain::audit::{AuditEntry, AuditGap};

/// How far the export has come, and what became of all that came before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExportPlace {
    /// The number of the last record that is done with.
    pub(crate) record: i64,
    /// The number of the last gap that is done with.
    pub(crate) gap: i64,
    /// Records and gaps that were taken, since the export was first set up.
    pub(crate) exported: u64,
    /// Those that the receiver did not want.
    pub(crate) rejected: u64,
    /// Records that were too old before they could be sent.
    pub(crate) purged: u64,
}

/// What has become known of a gap.
#[derive(Clone, Debug)]
pub(crate) struct GapNotice {
    /// The gap.
    pub(crate) gap: AuditGap,
    /// The number of an earlier notice of the same gap, which turned out to be none.
    pub(crate) withdraws: Option<i64>,
}

/// What has yet to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExportBacklog {
    /// How many records.
    pub(crate) records: u64,
    /// When the call of the first of them began.
    pub(crate) oldest: Option<UnixMillis>,
}

impl Database {
    /// How far the export has come; `None` if it was never set up.
    pub(crate) async fn export_place(&self) -> Result<Option<ExportPlace>> {
        let row = sqlx::query("SELECT record, gap, exported, rejected, purged FROM audit_export")
            .fetch_optional(&mut *self.reader().await?)
            .await?;
        row.map(|row| {
            Ok(ExportPlace {
                record: row.try_get(0)?,
                gap: row.try_get(1)?,
                exported: row.try_get::<i64, _>(2)?.cast_unsigned(),
                rejected: row.try_get::<i64, _>(3)?.cast_unsigned(),
                purged: row.try_get::<i64, _>(4)?.cast_unsigned(),
            })
        })
        .transpose()
    }

    /// At most `limit` records with numbers above `after`, the one that was committed first at the beginning.
    pub(crate) async fn records_after(&self, after: i64, limit: usize) -> Result<Vec<AuditEntry>> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push("NOT INDEXED WHERE id > ").push_bind(after);
        query.push(" ORDER BY id LIMIT ").push_bind(row_limit(limit));
        let rows = query.build().fetch_all(&mut *self.reader().await?).await?;
        rows.iter().map(read).collect()
    }

    /// At most `limit` notices of gaps with numbers above `after`, the first at the beginning.
    pub(crate) async fn gap_notices_after(&self, after: i64, limit: usize) -> Result<Vec<GapNotice>> {
        let rows = sqlx::query(
            "SELECT id, gateway, incarnation, vm, from_time, to_time, missing, cause, at_least, withdraws \
             FROM audit_gaps WHERE id > ? ORDER BY id LIMIT ?",
        )
        .bind(after)
        .bind(row_limit(limit))
        .fetch_all(&mut *self.reader().await?)
        .await?;
        let notice = |row: &SqliteRow| Ok(GapNotice { gap: read_gap(row)?, withdraws: row.try_get(9)? });
        rows.iter().map(notice).collect()
    }

    /// What has yet to be sent from there on.
    pub(crate) async fn export_backlog(&self, place: &ExportPlace) -> Result<ExportBacklog> {
        let newest = self.record_total().await?;
        let row = sqlx::query("SELECT time FROM audit_records NOT INDEXED WHERE id > ? ORDER BY id LIMIT 1")
            .bind(place.record)
            .fetch_optional(&mut *self.reader().await?)
            .await?;
        let oldest = row.map(|row| Ok::<_, sqlx::Error>(from_millis(row.try_get(0)?))).transpose()?;
        Ok(ExportBacklog { records: newest.saturating_sub(place.record.cast_unsigned()), oldest })
    }
}

impl Transaction<'_> {
    /// Begins the export behind what is there by now, unless it was begun before.
    pub(crate) async fn begin_export(&mut self) -> Result<()> {
        sqlx::query(
            "INSERT OR IGNORE INTO audit_export (id, record, gap, exported, rejected, purged) SELECT 1, \
             coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'audit_records'), 0), \
             coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'audit_gaps'), 0), 0, 0, 0",
        )
        .execute(self.connection())
        .await?;
        Ok(())
    }

    /// Notes how far the export has come.
    pub(crate) async fn set_export_place(&mut self, place: &ExportPlace) -> Result<()> {
        sqlx::query("UPDATE audit_export SET record = ?, gap = ?, exported = ?, rejected = ?, purged = ?")
            .bind(place.record)
            .bind(place.gap)
            .bind(saturated(place.exported))
            .bind(saturated(place.rejected))
            .bind(saturated(place.purged))
            .execute(self.connection())
            .await?;
        Ok(())
    }
}
