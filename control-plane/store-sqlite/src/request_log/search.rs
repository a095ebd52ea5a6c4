//! Reading the request log until a deadline.
//!
//! A filter with an index is answered by the index immediately. The remaining conditions are checked on the calls of
//! that index, newest first and a few thousand at a time, until the page is full or the deadline passes; then the
//! result contains the position to continue from. So a page costs the same in a log of any size, whatever the filter.

use omniflow_policy::time::UnixMillis;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};
use tokio::time::Instant;

use omniflow_domain::audit::AuditEntry;
use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_store::encoding::request_log;
use omniflow_store::encoding::{Columns, address_bytes, from_millis, row_limit};
use omniflow_store::search::{Indexed, Narrowest, network_to_gather};
use omniflow_store::{AuditedUser, Result, SearchPage, StoreError};

use super::list::{COLUMNS, apply, apply_place, page_query};
use crate::database::Database;

/// Calls of the index that are checked at once: a few milliseconds.
const STEP: usize = 2_000;
/// Up to this many calls from a network are collected by its addresses; more are found faster by scanning the log.
const GATHERED: usize = 5_000;

const USER_COLUMNS: &str =
    "SELECT time, key_id, key_name, endpoint, source_ip, coalesce(aggregated_calls, 1) FROM audit_records ";

/// How a filter is answered.
struct Through {
    index: &'static str,
    answered: AuditFilter,
    is_all: bool,
}

impl Database {
    pub(crate) async fn search_calls(
        &self,
        filter: &AuditFilter,
        before: Option<AuditPosition>,
        limit: usize,
        deadline: Instant,
    ) -> Result<SearchPage<AuditEntry>> {
        self.search(COLUMNS, filter, before, limit, deadline, request_log::entry).await
    }

    pub(crate) async fn search_users(
        &self,
        filter: &AuditFilter,
        limit: usize,
        deadline: Instant,
    ) -> Result<SearchPage<AuditedUser>> {
        self.search(USER_COLUMNS, filter, None, limit, deadline, request_log::user).await
    }

    async fn search<T>(
        &self,
        head: &str,
        filter: &AuditFilter,
        mut before: Option<AuditPosition>,
        limit: usize,
        deadline: Instant,
        read: fn(&SqliteRow) -> Result<T>,
    ) -> Result<SearchPage<T>> {
        let through = self.through(filter).await?;
        let head = format!("{head}INDEXED BY {} ", through.index);
        if through.is_all {
            let mut query = page_query(&head, filter, before, limit);
            let rows =
                query.build().fetch_all(&mut *self.scanner().await?).await.map_err(StoreError::backend)?;
            let found = rows.iter().map(read).collect::<Result<_>>()?;
            return Ok(SearchPage { found, ended_at: None });
        }
        let mut found = Vec::new();
        loop {
            let start = self.step_back(&through, before).await?;
            let within = AuditFilter { from: start.or(filter.from), ..filter.clone() };
            let mut query = page_query(&head, &within, before, limit - found.len());
            let rows =
                query.build().fetch_all(&mut *self.scanner().await?).await.map_err(StoreError::backend)?;
            for row in &rows {
                found.push(read(row)?);
            }
            let Some(start) = start.filter(|_| found.len() < limit) else {
                return Ok(SearchPage { found, ended_at: None });
            };
            // All calls of that instant were checked.
            before = Some(AuditPosition { time: start, id: 0 });
            if Instant::now() >= deadline {
                return Ok(SearchPage { found, ended_at: before });
            }
        }
    }

    /// The time of the call that is [`STEP`] calls after a position in an index; `None` if there is none.
    async fn step_back(
        &self,
        through: &Through,
        before: Option<AuditPosition>,
    ) -> Result<Option<UnixMillis>> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT time FROM audit_records INDEXED BY ");
        query.push(through.index).push(" WHERE true");
        apply(&mut query, &through.answered);
        apply_place(&mut query, before);
        query.push(" ORDER BY time DESC, id DESC LIMIT 1 OFFSET ").push_bind(row_limit(STEP));
        let row =
            query.build().fetch_optional(&mut *self.scanner().await?).await.map_err(StoreError::backend)?;
        Ok(row.map(|row| row.column(0)).transpose()?.map(from_millis))
    }

    async fn through(&self, filter: &AuditFilter) -> Result<Through> {
        if let Some(network) = network_to_gather(filter) {
            let (first, last) = (address_bytes(network.network()), address_bytes(network.broadcast()));
            let row = sqlx::query(
                "SELECT count(*) FROM (SELECT 1 FROM audit_records WHERE source_ip BETWEEN ? AND ? LIMIT ?)",
            );
            let row = row.bind(first).bind(last).bind(row_limit(GATHERED + 1));
            let calls: i64 =
                row.fetch_one(&mut *self.scanner().await?).await.map_err(StoreError::backend)?.column(0)?;
            if calls <= row_limit(GATHERED) {
                let index = index_name(Indexed::Address);
                return Ok(Through { index, answered: AuditFilter::default(), is_all: true });
            }
        }
        let Narrowest { index, answered, is_all } = Narrowest::of(filter);
        Ok(Through { index: index_name(index), answered, is_all })
    }
}

/// The name of an index. [`apply`] leaves no condition to another one.
pub(crate) fn index_name(index: Indexed) -> &'static str {
    match index {
        Indexed::Time => "audit_records_time",
        Indexed::Key => "audit_records_key",
        Indexed::KeyName => "audit_records_key_name",
        Indexed::Reason => "audit_records_reason",
        Indexed::Endpoint => "audit_records_endpoint",
        Indexed::Status => "audit_records_status",
        Indexed::Address => "audit_records_source_ip",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SqliteStore;
    use omniflow_store::RequestLogStore;
    use omniflow_store::contract::fixtures::{START, ingest, record};

    #[tokio::test]
    async fn search_without_time_returns_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path()).await.unwrap();
        // Three a millisecond.
        ingest(&store, (0..6_000).map(|n| record(n, START + n / 3, None)).collect()).await;
        let filter = AuditFilter { method: Some("DELETE".to_owned()), ..AuditFilter::default() };
        let page = store.search_calls(&filter, None, 50, Instant::now()).await.unwrap();
        // Call number 4,000 follows the first 2,000.
        let place = AuditPosition { time: UnixMillis(START + 3_999 / 3), id: 0 };
        assert_eq!((page.found.len(), page.ended_at), (0, Some(place)));
    }
}
