//! The cursor of the log exporter, and the records after it.

use async_trait::async_trait;
use omniflow_domain::audit::AuditEntry;
use omniflow_store::encoding::gateways::export_place;
use omniflow_store::encoding::request_log;
use omniflow_store::encoding::{Columns, row_limit, saturated};
use omniflow_store::{
    ExportBacklog, ExportPlace, ExportStore, ExportWrites, GapNotice, RequestLogStore, Result,
};
use sqlx::postgres::PgRow;

use crate::PostgresStore;
use crate::gaps::GAP_COLUMNS;
use crate::transaction::PostgresTransaction;

#[async_trait]
impl ExportStore for PostgresStore {
    async fn export_place(&self) -> Result<Option<ExportPlace>> {
        let query = sqlx::query("SELECT record, gap, exported, rejected, purged FROM audit_export");
        let row = self.database.reader().await?.optional_row(query).await?;
        row.as_ref().map(export_place).transpose()
    }

    async fn records_after(&self, after: i64, limit: usize) -> Result<Vec<AuditEntry>> {
        self.database.records_after(after, limit).await
    }

    async fn gap_notices_after(&self, after: i64, limit: usize) -> Result<Vec<GapNotice>> {
        let query = sqlx::AssertSqlSafe(format!(
            "SELECT {GAP_COLUMNS}, withdraws FROM audit_gaps WHERE id > $1 AND purged_hour IS NULL ORDER BY id LIMIT $2"
        ));
        let query = sqlx::query(query).bind(after).bind(row_limit(limit));
        let rows = self.database.reader().await?.rows(query).await?;
        let notice = |row: &PgRow| Ok(GapNotice { gap: request_log::gap(row)?, withdraws: row.column(9)? });
        rows.iter().map(notice).collect()
    }

    async fn export_backlog(&self, place: &ExportPlace) -> Result<ExportBacklog> {
        let newest = self.record_total().await?;
        let oldest = self.database.records_after(place.record, 1).await?.first().map(|entry| entry.time);
        Ok(ExportBacklog { records: newest.saturating_sub(place.record.cast_unsigned()), oldest })
    }
}

#[async_trait]
impl ExportWrites for PostgresTransaction {
    async fn begin_export(&mut self) -> Result<()> {
        let statement = sqlx::query(
            "INSERT INTO audit_export (id, record, gap, exported, rejected, purged) \
             SELECT 1, records, gaps, 0, 0, 0 FROM audit_numbers ON CONFLICT DO NOTHING",
        );
        self.connection().execute(statement).await?;
        Ok(())
    }

    async fn set_export_place(&mut self, place: &ExportPlace) -> Result<()> {
        let statement = sqlx::query(
            "UPDATE audit_export SET record = $1, gap = $2, exported = $3, rejected = $4, purged = $5",
        )
        .bind(place.record)
        .bind(place.gap)
        .bind(saturated(place.exported))
        .bind(saturated(place.rejected))
        .bind(saturated(place.purged));
        self.connection().execute(statement).await?;
        Ok(())
    }
}
