//! Reading the request log, newest first.

use omniflow_policy::denial::Outcome;
use omniflow_policy::time::UnixMillis;
use sqlx::{QueryBuilder, Sqlite};

use omniflow_domain::audit::{AuditEntry, AuditGap, Decision, GapCause, RecordedCall};
use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_domain::key::KeyReference;
use omniflow_store::encoding::request_log;
use omniflow_store::encoding::{Columns, address_bytes, row_limit, to_millis};
use omniflow_store::search::is_wide;
use omniflow_store::{Result, StoreError};

use crate::database::Database;

pub(crate) const COLUMNS: &str = "SELECT id, time, gateway, key_id, key_name, key_version, environment, method, endpoint, path, \
     status, reason, latency_us, source_ip, request_id, request_bytes, response_bytes, argument_hash, \
     argument_hash_partial, aggregated_calls, first_time, grpc_status, interruption, \
     EXISTS (SELECT 1 FROM audit_payloads WHERE record_id = audit_records.id) \
     FROM audit_records ";

const RECORDED_COLUMNS: &str = "SELECT id, time, key_id, key_version, method, endpoint, path, reason, \
     coalesce(aggregated_calls, 1) FROM audit_records ";

impl Database {
    pub(crate) async fn audit_entries(
        &self,
        filter: &AuditFilter,
        before: Option<AuditPosition>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>> {
        let mut query = page_query(COLUMNS, filter, before, limit);
        let rows = query.build().fetch_all(&mut *self.scanner().await?).await.map_err(StoreError::backend)?;
        rows.iter().map(request_log::entry).collect()
    }

    pub(crate) async fn recorded_calls(
        &self,
        filter: &AuditFilter,
        before: Option<AuditPosition>,
        limit: usize,
    ) -> Result<Vec<RecordedCall>> {
        let mut query = page_query(RECORDED_COLUMNS, filter, before, limit);
        let rows = query.build().fetch_all(&mut *self.scanner().await?).await.map_err(StoreError::backend)?;
        rows.iter().map(request_log::recorded_call).collect()
    }

    pub(crate) async fn audit_entries_between(
        &self,
        filter: &AuditFilter,
        after: i64,
        last: i64,
    ) -> Result<Vec<AuditEntry>> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        // By number alone: the range is small, and no index of a filter is as narrow.
        query.push("NOT INDEXED WHERE id > ").push_bind(after).push(" AND id <= ").push_bind(last);
        apply(&mut query, filter);
        query.push(" ORDER BY id");
        let rows = query.build().fetch_all(&mut *self.scanner().await?).await.map_err(StoreError::backend)?;
        rows.iter().map(request_log::entry).collect()
    }

    pub(crate) async fn newest_record(&self) -> Result<i64> {
        let row = sqlx::query("SELECT coalesce(max(id), 0) FROM audit_records");
        row.fetch_one(&mut *self.reader().await?).await.map_err(StoreError::backend)?.column(0)
    }

    pub(crate) async fn record_total(&self) -> Result<u64> {
        let row =
            sqlx::query("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'audit_records'");
        Ok(row
            .fetch_one(&mut *self.reader().await?)
            .await
            .map_err(StoreError::backend)?
            .column::<i64>(0)?
            .cast_unsigned())
    }

    pub(crate) async fn audit_entry(&self, id: i64) -> Result<Option<AuditEntry>> {
        let mut query = QueryBuilder::<Sqlite>::new(COLUMNS);
        query.push("WHERE id = ").push_bind(id);
        let row =
            query.build().fetch_optional(&mut *self.reader().await?).await.map_err(StoreError::backend)?;
        row.map(|row| request_log::entry(&row)).transpose()
    }

    pub(crate) async fn audit_gaps_between(
        &self,
        from: UnixMillis,
        to: UnixMillis,
        limit: usize,
    ) -> Result<Vec<AuditGap>> {
        let rows = sqlx::query(
            "SELECT id, gateway, incarnation, vm, from_time, to_time, missing, cause, at_least FROM audit_gaps \
             WHERE to_time >= ? AND to_time < ? AND withdraws IS NULL ORDER BY to_time DESC, id DESC LIMIT ?",
        )
        .bind(to_millis(from))
        .bind(to_millis(to))
        .bind(row_limit(limit))
        .fetch_all(&mut *self.scanner().await?)
        .await
        .map_err(StoreError::backend)?;
        rows.iter().map(request_log::gap).collect()
    }

    pub(crate) async fn audit_gaps(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditGap>> {
        let rows = sqlx::query(
            "SELECT id, gateway, incarnation, vm, from_time, to_time, missing, cause, at_least FROM audit_gaps \
             WHERE id < ? AND withdraws IS NULL ORDER BY id DESC LIMIT ?",
        )
        .bind(before.unwrap_or(i64::MAX))
        .bind(row_limit(limit))
        .fetch_all(&mut *self.scanner().await?)
        .await
        .map_err(StoreError::backend)?;
        rows.iter().map(request_log::gap).collect()
    }

    pub(crate) async fn gap_totals(&self) -> Result<Vec<(GapCause, u64, u64)>> {
        let rows = sqlx::query("SELECT cause, gaps, calls FROM gap_totals")
            .fetch_all(&mut *self.reader().await?)
            .await
            .map_err(StoreError::backend)?;
        rows.iter().map(request_log::gap_total).collect()
    }
}

pub(crate) fn page_query(
    head: &str,
    filter: &AuditFilter,
    before: Option<AuditPosition>,
    limit: usize,
) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::<Sqlite>::new(head);
    query.push("WHERE true");
    apply(&mut query, filter);
    apply_place(&mut query, before);
    query.push(" ORDER BY time DESC, id DESC LIMIT ").push_bind(row_limit(limit));
    query
}

/// Only calls after a position.
pub(crate) fn apply_place(query: &mut QueryBuilder<Sqlite>, before: Option<AuditPosition>) {
    if let Some(AuditPosition { time, id }) = before {
        let time = to_millis(time);
        query.push(" AND time <= ").push_bind(time);
        query.push(" AND (time < ").push_bind(time).push(" OR id < ").push_bind(id).push(")");
    }
}

/// Adds the conditions. A plus before a column keeps SQLite from using its index: a page is read in the order of time by the
/// index of the narrowest condition, and never collected and sorted if there may be many calls.
pub(crate) fn apply(query: &mut QueryBuilder<Sqlite>, filter: &AuditFilter) {
    match &filter.key {
        Some(KeyReference::Id(id)) => {
            query.push(" AND key_id = ").push_bind(*id);
        }
        Some(KeyReference::Name(name)) => {
            query.push(" AND key_name = ").push_bind(name.clone());
        }
        None => {}
    }
    // The index of a key has its calls in the order of time; no other index is better.
    let beside_key = if filter.key.is_some() { "+" } else { "" };
    if let Some(network) = filter.network {
        let (first, last) = (address_bytes(network.network()), address_bytes(network.broadcast()));
        query.push(" AND ").push(if is_wide(network) { "+" } else { beside_key });
        if first == last {
            query.push("source_ip = ").push_bind(first);
        } else {
            query.push("source_ip BETWEEN ").push_bind(first).push(" AND ").push_bind(last);
        }
    }
    let is_narrow = filter.key.is_some() || filter.network.is_some_and(|network| !is_wide(network));
    let beside_narrow = if is_narrow { "+" } else { "" };
    if let Some(environment) = filter.environment {
        query.push(" AND environment = ").push_bind(environment.as_str());
    }
    let texts = [
        ("endpoint", filter.endpoint.as_deref()),
        ("method", filter.method.as_deref()),
        ("decision", filter.decision.map(Decision::as_str)),
        ("reason", filter.reason.map(Outcome::reason)),
    ];
    for (column, text) in texts {
        if let Some(text) = text {
            query.push(" AND ").push(beside_narrow).push(column).push(" = ").push_bind(text.to_owned());
        }
    }
    match &filter.status {
        Some(status) if status.start() == status.end() => {
            query.push(" AND ").push(beside_narrow).push("status = ").push_bind(*status.start());
        }
        Some(status) => {
            query.push(" AND +status BETWEEN ").push_bind(*status.start());
            query.push(" AND ").push_bind(*status.end());
        }
        None => {}
    }
    if let Some(status) = &filter.grpc_status {
        query.push(" AND grpc_status BETWEEN ").push_bind(*status.start());
        query.push(" AND ").push_bind(*status.end());
    }
    if let Some(from) = filter.from {
        query.push(" AND time >= ").push_bind(to_millis(from));
    }
    if let Some(to) = filter.to {
        query.push(" AND time < ").push_bind(to_millis(to));
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::denial::Denial;
    use sqlx::Row;

    use super::*;
    use crate::SqliteStore;

    #[tokio::test]
    async fn page_is_read_through_the_narrowest_index() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("data")).await.unwrap();
        let all = AuditFilter::default;
        let key = Some(KeyReference::Name("ci".to_owned()));
        let reason = Some(Outcome::Denied(Denial::KeyRevoked));
        let endpoint = Some("/api/v1/contacts".to_owned());
        let network = |text: &str| Some(text.parse().unwrap());
        for (filter, index, sorts) in [
            (all(), "time (", false),
            (AuditFilter { key: Some(KeyReference::Id(uuid::Uuid::nil())), ..all() }, "key (", false),
            (
                AuditFilter {
                    key,
                    status: Some(404..=404),
                    reason,
                    network: network("10.0.0.1/32"),
                    ..all()
                },
                "key_name (",
                false,
            ),
            (AuditFilter { endpoint, ..all() }, "endpoint (", false),
            (AuditFilter { reason, ..all() }, "reason (", false),
            (AuditFilter { status: Some(404..=404), ..all() }, "status (", false),
            (AuditFilter { status: Some(400..=499), ..all() }, "time (", false),
            (AuditFilter { network: network("10.0.0.1/32"), reason, ..all() }, "source_ip (", false),
            (AuditFilter { network: network("10.0.0.0/24"), ..all() }, "source_ip (", true),
            (AuditFilter { network: network("10.0.0.0/8"), ..all() }, "time (", false),
        ] {
            let before = Some(AuditPosition { time: UnixMillis(9), id: 9 });
            let mut query = page_query(&format!("EXPLAIN QUERY PLAN {COLUMNS}"), &filter, before, 10);
            let rows = query.build().fetch_all(&mut *store.audit.reader().await.unwrap()).await.unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.try_get(3).unwrap()).collect();
            assert!(plan[0].contains(&format!("USING INDEX audit_records_{index}")), "{filter:?}: {plan:?}");
            let sorted = plan.iter().any(|step| step.contains("TEMP B-TREE"));
            assert_eq!(sorted, sorts, "{filter:?}: {plan:?}");
        }
    }
}
