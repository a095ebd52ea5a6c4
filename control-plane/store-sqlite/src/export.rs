//! The cursor of the log exporter, and the records after it.

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};

use omniflow_domain::audit::AuditEntry;

use async_trait::async_trait;
use omniflow_store::encoding::gateways::export_place;
use omniflow_store::encoding::request_log;
use omniflow_store::encoding::{Columns, from_millis, row_limit, saturated};
use omniflow_store::{
    ExportBacklog, ExportPlace, ExportStore, ExportWrites, GapNotice, RequestLogStore, Result, StoreError,
};

use crate::SqliteStore;
use crate::database::SqliteTransaction;
use crate::request_log::list::COLUMNS;

#[async_trait]
impl ExportStore for SqliteStore {
    async fn export_place(&self) -> Result<Option<ExportPlace>> {
        let row = sqlx::query("SELECT record, gap, exported, rejected, purged FROM audit_export")
            .fetch_optional(&mut *self.audit.reader().await?)
            .await
            .map_err(StoreError::backend)?;
        row.as_ref().map(export_place).transpose()
    }

    async fn records_after(&self, after: i64, limit: usize) -> Result<Vec<AuditEntry>> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push("NOT INDEXED WHERE id > ").push_bind(after);
        query.push(" ORDER BY id LIMIT ").push_bind(row_limit(limit));
        let rows =
            query.build().fetch_all(&mut *self.audit.reader().await?).await.map_err(StoreError::backend)?;
        rows.iter().map(request_log::entry).collect()
    }

    async fn gap_notices_after(&self, after: i64, limit: usize) -> Result<Vec<GapNotice>> {
        let rows = sqlx::query(
            "SELECT id, gateway, incarnation, vm, from_time, to_time, missing, cause, at_least, withdraws \
             FROM audit_gaps WHERE id > ? AND purged_hour IS NULL ORDER BY id LIMIT ?",
        )
        .bind(after)
        .bind(row_limit(limit))
        .fetch_all(&mut *self.audit.reader().await?)
        .await
        .map_err(StoreError::backend)?;
        let notice =
            |row: &SqliteRow| Ok(GapNotice { gap: request_log::gap(row)?, withdraws: row.column(9)? });
        rows.iter().map(notice).collect()
    }

    async fn export_backlog(&self, place: &ExportPlace) -> Result<ExportBacklog> {
        let newest = self.record_total().await?;
        let row = sqlx::query("SELECT time FROM audit_records NOT INDEXED WHERE id > ? ORDER BY id LIMIT 1")
            .bind(place.record)
            .fetch_optional(&mut *self.audit.reader().await?)
            .await
            .map_err(StoreError::backend)?;
        let oldest = row.map(|row| row.column(0)).transpose()?.map(from_millis);
        Ok(ExportBacklog { records: newest.saturating_sub(place.record.cast_unsigned()), oldest })
    }
}

#[async_trait]
impl ExportWrites for SqliteTransaction {
    async fn begin_export(&mut self) -> Result<()> {
        sqlx::query(
            "INSERT OR IGNORE INTO audit_export (id, record, gap, exported, rejected, purged) SELECT 1, \
             coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'audit_records'), 0), \
             coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'audit_gaps'), 0), 0, 0, 0",
        )
        .execute(self.connection())
        .await
        .map_err(StoreError::backend)?;
        Ok(())
    }

    async fn set_export_place(&mut self, place: &ExportPlace) -> Result<()> {
        sqlx::query("UPDATE audit_export SET record = ?, gap = ?, exported = ?, rejected = ?, purged = ?")
            .bind(place.record)
            .bind(place.gap)
            .bind(saturated(place.exported))
            .bind(saturated(place.rejected))
            .bind(saturated(place.purged))
            .execute(self.connection())
            .await
            .map_err(StoreError::backend)?;
        Ok(())
    }
}
