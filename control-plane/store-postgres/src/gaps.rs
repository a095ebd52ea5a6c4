//! Gaps: calls whose records will not arrive.

use std::collections::BTreeMap;

use omniflow_domain::audit::{AuditGap, GapCause};
use omniflow_domain::gateway::GatewayId;
use omniflow_policy::gateway::Incarnation;
use omniflow_policy::time::UnixMillis;
use omniflow_store::Result;
use omniflow_store::encoding::request_log;
use omniflow_store::encoding::{row_limit, saturated, to_millis};
use omniflow_store::ingest::Missing;

use crate::database::Database;
use crate::transaction::PostgresTransaction;

/// The columns of a gap.
pub(crate) const GAP_COLUMNS: &str =
    "id, gateway, incarnation, vm, from_time, to_time, missing, cause, at_least";

impl Database {
    pub(crate) async fn audit_gaps_between(
        &self,
        from: UnixMillis,
        to: UnixMillis,
        limit: usize,
    ) -> Result<Vec<AuditGap>> {
        let query = sqlx::AssertSqlSafe(format!(
            "SELECT {GAP_COLUMNS} FROM audit_gaps WHERE to_time >= $1 AND to_time < $2 AND withdraws IS NULL \
             ORDER BY to_time DESC, id DESC LIMIT $3"
        ));
        let query = sqlx::query(query).bind(to_millis(from)).bind(to_millis(to)).bind(row_limit(limit));
        let rows = self.scanner().await?.rows(query).await?;
        rows.iter().map(request_log::gap).collect()
    }

    pub(crate) async fn audit_gaps(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditGap>> {
        let query = sqlx::AssertSqlSafe(format!(
            "SELECT {GAP_COLUMNS} FROM audit_gaps WHERE id < $1 AND withdraws IS NULL ORDER BY id DESC LIMIT $2"
        ));
        let query = sqlx::query(query).bind(before.unwrap_or(i64::MAX)).bind(row_limit(limit));
        let rows = self.scanner().await?.rows(query).await?;
        rows.iter().map(request_log::gap).collect()
    }

    pub(crate) async fn gap_totals(&self) -> Result<Vec<(GapCause, u64, u64)>> {
        let query = sqlx::query("SELECT cause, gaps, calls FROM gap_totals");
        let rows = self.reader().await?.rows(query).await?;
        rows.iter().map(request_log::gap_total).collect()
    }
}

impl PostgresTransaction {
    /// Inserts gaps of a VM, or of a whole gateway, with the numbers after `before`.
    pub(crate) async fn insert_gaps(
        &mut self,
        id: &GatewayId,
        vm: Option<Incarnation>,
        before: i64,
        gaps: &[Missing],
    ) -> Result<()> {
        if gaps.is_empty() {
            return Ok(());
        }
        let statement = sqlx::query(
            "INSERT INTO audit_gaps (id, gateway, incarnation, vm, from_time, to_time, missing, cause, at_least) \
             SELECT $1 + n, $2, $3, $4, from_time, to_time, missing, cause, at_least \
             FROM unnest($5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::boolean[]) WITH ORDINALITY \
             AS gap (from_time, to_time, missing, cause, at_least, n)",
        )
        .bind(before)
        .bind(&id.gateway)
        .bind(String::from(id.incarnation))
        .bind(vm.map(String::from).unwrap_or_default())
        .bind(gaps.iter().map(|gap| gap.from.map(to_millis)).collect::<Vec<_>>())
        .bind(gaps.iter().map(|gap| to_millis(gap.to)).collect::<Vec<_>>())
        .bind(gaps.iter().map(|gap| saturated(gap.calls)).collect::<Vec<_>>())
        .bind(gaps.iter().map(|gap| gap.cause.as_str()).collect::<Vec<_>>())
        .bind(gaps.iter().map(|gap| gap.is_least).collect::<Vec<_>>());
        self.connection().execute(statement).await?;
        let mut totals: BTreeMap<&str, (GapCause, u64, u64)> = BTreeMap::new();
        for gap in gaps {
            let (_, gaps, calls) = totals.entry(gap.cause.as_str()).or_insert((gap.cause, 0, 0));
            *gaps += 1;
            *calls = calls.saturating_add(gap.calls);
        }
        for (cause, gaps, calls) in totals.into_values() {
            self.add_to_gap_totals(cause, gaps, calls).await?;
        }
        Ok(())
    }

    pub(crate) async fn add_to_gap_totals(&mut self, cause: GapCause, gaps: u64, calls: u64) -> Result<()> {
        let statement = sqlx::query(
            "INSERT INTO gap_totals AS total (cause, gaps, calls) VALUES ($1, $2, $3) \
             ON CONFLICT (cause) DO UPDATE SET gaps = total.gaps + excluded.gaps, \
             calls = least(total.calls, $4) + excluded.calls",
        )
        .bind(cause.as_str())
        .bind(saturated(gaps))
        .bind(saturated(calls))
        // Saturates at the end of the column's range.
        .bind(i64::MAX - saturated(calls));
        self.connection().execute(statement).await?;
        Ok(())
    }

    /// Withdraws a gap. The row that replaces it allows an exporter to correct what it has sent.
    pub(crate) async fn withdraw_gap(&mut self, gap: i64) -> Result<()> {
        let before = self.take_numbers(0, 1, Vec::new()).await?.before_gaps;
        let statement = sqlx::query(
            "WITH withdrawn AS (DELETE FROM audit_gaps WHERE id = $1 RETURNING *) \
             INSERT INTO audit_gaps (id, gateway, incarnation, vm, from_time, to_time, missing, cause, at_least, withdraws) \
             SELECT $2 + 1, gateway, incarnation, vm, from_time, to_time, missing, cause, at_least, id FROM withdrawn",
        )
        .bind(gap)
        .bind(before);
        self.connection().execute(statement).await?;
        Ok(())
    }
}
