//! Reading the request log until a deadline.
//!
//! A filter with an index is answered by the index immediately. The remaining conditions are checked on the calls of
//! that index, newest first and a few thousand at a time, until the page is full or the deadline passes; then the
//! result contains the position to continue from. So a page costs the same in a log of any size, whatever the filter.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use omniflow_policy::denial::Outcome;
use omniflow_policy::time::UnixMillis;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite};
use tokio::time::Instant;
use uuid::Uuid;

use omniflow_domain::audit::AuditEntry;
use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_domain::key::KeyReference;
use omniflow_store::{AuditedUser, Result, SearchPage, StoreError};

use super::list::{COLUMNS, apply, apply_place, is_wide, page_query, read};
use crate::columns::{Columns, address, address_bytes, from_millis, row_limit};
use crate::database::Database;

/// Calls of the index that are checked at once: a few milliseconds.
const STEP: usize = 2_000;
/// Up to this many calls from a network are collected by its addresses; more are found faster by scanning the log.
const GATHERED: usize = 5_000;

const USER_COLUMNS: &str =
    "SELECT time, key_id, key_name, endpoint, source_ip, coalesce(aggregated_calls, 1) FROM audit_records ";

/// The index that a search uses, and the conditions that it answers.
pub(crate) struct Through {
    pub(crate) index: &'static str,
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
        self.search(COLUMNS, filter, before, limit, deadline, read).await
    }

    pub(crate) async fn search_users(
        &self,
        filter: &AuditFilter,
        limit: usize,
        deadline: Instant,
    ) -> Result<SearchPage<AuditedUser>> {
        self.search(USER_COLUMNS, filter, None, limit, deadline, read_user).await
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
        let gathered = |network: &IpNet| filter.key.is_none() && !is_wide(*network) && !is_host(*network);
        if let Some(network) = filter.network.filter(gathered) {
            let (first, last) = (address_bytes(network.network()), address_bytes(network.broadcast()));
            let row = sqlx::query(
                "SELECT count(*) FROM (SELECT 1 FROM audit_records WHERE source_ip BETWEEN ? AND ? LIMIT ?)",
            );
            let row = row.bind(first).bind(last).bind(row_limit(GATHERED + 1));
            let calls: i64 =
                row.fetch_one(&mut *self.scanner().await?).await.map_err(StoreError::backend)?.column(0)?;
            if calls <= row_limit(GATHERED) {
                let index = "audit_records_source_ip";
                return Ok(Through { index, answered: AuditFilter::default(), is_all: true });
            }
        }
        Ok(Through::of(filter))
    }
}

fn read_user(row: &SqliteRow) -> Result<AuditedUser> {
    let key: Option<Uuid> = row.column(1)?;
    let name: Option<String> = row.column(2)?;
    Ok(AuditedUser {
        time: from_millis(row.column(0)?),
        key: key.zip(name),
        endpoint: row.column(3)?,
        address: row.column::<Option<&[u8]>, _>(4)?.map(address).transpose()?,
        calls: row.column::<i64, _>(5)?.cast_unsigned(),
    })
}

/// Whether a network is one address.
fn is_host(network: IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}

// === impl Through ===

impl Through {
    /// The index of the condition that probably matches the fewest calls, among those that [`apply`] allows an index for.
    pub(crate) fn of(filter: &AuditFilter) -> Self {
        let times = AuditFilter { from: filter.from, to: filter.to, ..AuditFilter::default() };
        let is_one = |status: &RangeInclusive<u16>| status.start() == status.end();
        let status = filter.status.clone().filter(is_one);
        let network = filter.network.filter(|network| filter.key.is_none() && !is_wide(*network));
        let (index, answered) = match (&filter.key, filter.reason, &filter.endpoint, status) {
            (None, ..) if network.is_some_and(is_host) => {
                ("audit_records_source_ip", AuditFilter { network, ..times })
            }
            (None, ..) if network.is_some() => ("audit_records_time", times),
            (Some(KeyReference::Id(id)), ..) => {
                ("audit_records_key", AuditFilter { key: Some(KeyReference::Id(*id)), ..times })
            }
            (Some(KeyReference::Name(name)), ..) => {
                let key = Some(KeyReference::Name(name.clone()));
                ("audit_records_key_name", AuditFilter { key, ..times })
            }
            (None, Some(reason), ..) if reason != Outcome::Allowed => {
                ("audit_records_reason", AuditFilter { reason: Some(reason), ..times })
            }
            (None, _, Some(endpoint), _) => {
                ("audit_records_endpoint", AuditFilter { endpoint: Some(endpoint.clone()), ..times })
            }
            (None, _, None, Some(status)) => {
                ("audit_records_status", AuditFilter { status: Some(status), ..times })
            }
            (None, Some(reason), None, None) => {
                ("audit_records_reason", AuditFilter { reason: Some(reason), ..times })
            }
            (None, None, None, None) => ("audit_records_time", times),
        };
        let is_all = conditions(&answered) == conditions(filter);
        Self { index, answered, is_all }
    }
}

/// How many conditions a filter has, times aside.
fn conditions(filter: &AuditFilter) -> usize {
    [
        filter.key.is_some(),
        filter.environment.is_some(),
        filter.endpoint.is_some(),
        filter.method.is_some(),
        filter.status.is_some(),
        filter.grpc_status.is_some(),
        filter.decision.is_some(),
        filter.reason.is_some(),
        filter.network.is_some(),
    ]
    .into_iter()
    .filter(|is_stated| *is_stated)
    .count()
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
