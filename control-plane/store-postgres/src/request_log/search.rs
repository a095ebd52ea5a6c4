//! Pages of the request log, newest first, until a deadline.
//!
//! One condition of a filter is answered by an index, in the order of time. The other ones are checked on the calls of that
//! index, some thousands at a time, until the page is full, the log ends or the deadline passes; then the result contains
//! the position to continue from. So a page costs the same in a log of any size, whatever the filter. The planner alone
//! would not do that: if it considers matches to be frequent, it reads the whole log for them.

use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_policy::time::UnixMillis;
use omniflow_store::encoding::{Columns, row_limit};
use omniflow_store::search::{Narrowest, network_to_gather, times_of};
use omniflow_store::{Result, SearchPage};
use sqlx::postgres::PgRow;
use sqlx::{Postgres, QueryBuilder};
use tokio::time::Instant;

use super::filter::{apply, apply_place};
use crate::database::Database;
use crate::days::windows;
use crate::partitions::{end_of, start_of};

/// Calls of the index that are checked first: a few milliseconds.
const FIRST_STEP: i64 = 2_000;
/// The most calls that are checked at once. Each step without a full page doubles the next one.
const MAX_STEP: i64 = 16_000;
/// Up to this many calls from a network are collected by its addresses; more are found faster by scanning the log.
const GATHERED: usize = 5_000;

/// What a page contains: its columns, and how a row is read.
pub(super) struct Head<T> {
    pub(super) columns: &'static str,
    pub(super) read: fn(&PgRow) -> Result<T>,
}

/// How a filter is answered.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// By one index alone, in the order of time.
    Index,
    /// By the addresses of a network, and sorting the calls that are left.
    Gather,
    /// By checking the calls that an index finds for these conditions.
    Steps(AuditFilter),
}

/// The calls that one step has checked.
struct Step<T> {
    found: Vec<T>,
    /// The last call that was checked; `None` if there are no more.
    last: Option<AuditPosition>,
}

impl Database {
    /// A page of up to `limit` calls after a position. Without a deadline, the search ends when the page is full or the log
    /// ends.
    pub(super) async fn search<T>(
        &self,
        head: &Head<T>,
        filter: &AuditFilter,
        before: Option<AuditPosition>,
        limit: usize,
        deadline: Option<Instant>,
    ) -> Result<SearchPage<T>> {
        // A call at the position itself may follow.
        let end = before.map(|before| UnixMillis(before.time.0.saturating_add(1)));
        let to = filter.to.into_iter().chain(end).min();
        let windows = windows(&self.days(filter.from, to).await?);
        let mut found = Vec::new();
        for (index, (first, last)) in windows.iter().enumerate() {
            let (start, end) = (start_of(*first), end_of(*last));
            let from = filter.from.into_iter().chain([start]).max();
            let to = filter.to.into_iter().chain([end]).min();
            let within = AuditFilter { from, to, ..filter.clone() };
            let page = self.search_within(head, &within, before, limit - found.len(), deadline).await?;
            found.extend(page.found);
            if page.ended_at.is_some() || found.len() >= limit {
                return Ok(SearchPage { found, ended_at: page.ended_at });
            }
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_late && index + 1 < windows.len() {
                // All calls of the window were checked.
                return Ok(SearchPage { found, ended_at: Some(AuditPosition { time: start, id: 0 }) });
            }
        }
        Ok(SearchPage { found, ended_at: None })
    }

    /// The same within the times of a filter.
    async fn search_within<T>(
        &self,
        head: &Head<T>,
        filter: &AuditFilter,
        mut before: Option<AuditPosition>,
        limit: usize,
        deadline: Option<Instant>,
    ) -> Result<SearchPage<T>> {
        let answered = match self.plan(filter).await? {
            Plan::Index => {
                let mut query = page_query("SELECT", head.columns, filter, before, limit);
                return page(self.scanner().await?.rows(query.build()).await?.iter().map(head.read));
            }
            Plan::Gather => {
                let mut query = gather_query(head.columns, filter, before, limit);
                return page(self.scanner().await?.rows(query.build()).await?.iter().map(head.read));
            }
            Plan::Steps(answered) => answered,
        };
        let (mut found, mut step) = (Vec::new(), FIRST_STEP);
        loop {
            let mut query = step_query(head.columns, filter, &answered, before, limit - found.len(), step);
            let rows = self.scanner().await?.rows(query.build()).await?;
            let checked = read_step(head.read, &rows, step)?;
            found.extend(checked.found);
            let Some(last) = checked.last.filter(|_| found.len() < limit) else {
                return Ok(SearchPage { found, ended_at: None });
            };
            before = Some(last);
            step = MAX_STEP.min(step * 2);
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(SearchPage { found, ended_at: before });
            }
        }
    }

    /// How a filter is answered.
    async fn plan(&self, filter: &AuditFilter) -> Result<Plan> {
        if let Some(network) = network_to_gather(filter) {
            let mut query =
                QueryBuilder::<Postgres>::new("SELECT count(*) FROM (SELECT FROM audit_records WHERE true");
            apply(&mut query, &AuditFilter { network: Some(network), ..times_of(filter) });
            query.push(" LIMIT ").push_bind(row_limit(GATHERED + 1)).push(") AS near");
            let calls: i64 = self.scanner().await?.row(query.build()).await?.column(0)?;
            if calls <= row_limit(GATHERED) {
                return Ok(Plan::Gather);
            }
        }
        let Narrowest { answered, is_all, .. } = Narrowest::of(filter);
        Ok(if is_all { Plan::Index } else { Plan::Steps(answered) })
    }
}

fn page<T>(found: impl Iterator<Item = Result<T>>) -> Result<SearchPage<T>> {
    Ok(SearchPage { found: found.collect::<Result<_>>()?, ended_at: None })
}

fn page_query(
    verb: &str,
    columns: &str,
    filter: &AuditFilter,
    before: Option<AuditPosition>,
    limit: usize,
) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::<Postgres>::new(verb);
    query.push(" ").push(columns).push(" FROM audit_records WHERE true");
    apply(&mut query, filter);
    apply_place(&mut query, before);
    query.push(" ORDER BY time DESC, id DESC LIMIT ").push_bind(row_limit(limit));
    query
}

fn gather_query(
    columns: &str,
    filter: &AuditFilter,
    before: Option<AuditPosition>,
    limit: usize,
) -> QueryBuilder<Postgres> {
    let network = AuditFilter { network: filter.network, ..times_of(filter) };
    let mut query = QueryBuilder::<Postgres>::new("SELECT ");
    query.push(columns).push(" FROM (SELECT * FROM audit_records WHERE true");
    apply(&mut query, &network);
    // OFFSET keeps the planner from using another index.
    query.push(" OFFSET 0) AS audit_records WHERE true");
    apply(&mut query, &AuditFilter { network: None, ..filter.clone() });
    apply_place(&mut query, before);
    query.push(" ORDER BY time DESC, id DESC LIMIT ").push_bind(row_limit(limit));
    query
}

/// A row for each match among the next `step` calls that the index finds, or one without a match if there are calls. Behind
/// the columns: the number of calls that were checked, the time and number of the last one, and whether the row is a match.
fn step_query(
    columns: &str,
    filter: &AuditFilter,
    answered: &AuditFilter,
    before: Option<AuditPosition>,
    limit: usize,
    step: i64,
) -> QueryBuilder<Postgres> {
    let mut query =
        QueryBuilder::<Postgres>::new("WITH near AS MATERIALIZED (SELECT * FROM audit_records WHERE true");
    apply(&mut query, answered);
    apply_place(&mut query, before);
    query.push(" ORDER BY time DESC, id DESC LIMIT ").push_bind(step);
    query.push("), matched AS (SELECT * FROM near WHERE true");
    apply(&mut query, filter);
    query.push(" ORDER BY time DESC, id DESC LIMIT ").push_bind(row_limit(limit));
    query.push(
        "), last AS (SELECT count(*) OVER () AS checked, time AS last_time, id AS last_id FROM near \
         ORDER BY time, id LIMIT 1) SELECT ",
    );
    query.push(columns);
    query.push(
        ", checked, last_time, last_id, audit_records.id IS NOT NULL AS is_match \
         FROM last LEFT JOIN matched AS audit_records ON true ORDER BY time DESC, id DESC",
    );
    query
}

fn read_step<T>(read: fn(&PgRow) -> Result<T>, rows: &[PgRow], step: i64) -> Result<Step<T>> {
    let mut found = Vec::with_capacity(rows.len());
    let mut last = None;
    for row in rows {
        // The columns behind those of a page.
        let first = sqlx::Row::len(row).saturating_sub(4);
        if row.column(first + 3)? {
            found.push(read(row)?);
        }
        if row.column::<i64>(first)? == step {
            last = Some(AuditPosition { time: row.column(first + 1)?, id: row.column(first + 2)? });
        }
    }
    Ok(Step { found, last })
}

#[cfg(test)]
mod tests {
    use omniflow_domain::key::KeyReference;
    use omniflow_policy::denial::{Denial, Outcome};
    use omniflow_store::contract::fixtures::{DAY, START, ingest, record};
    use uuid::Uuid;

    use super::*;
    use crate::test_store::{execute, new_store};

    /// The lines of the plan of a query.
    async fn explain(database: &Database, query: QueryBuilder<Postgres>) -> Vec<String> {
        let mut explain = query;
        let rows = database.reader().await.unwrap().rows(explain.build()).await.unwrap();
        rows.iter().map(|row| row.column(0).unwrap()).collect()
    }

    #[tokio::test]
    async fn page_is_read_in_the_order_of_an_index() {
        let (store, _database) = new_store().await;
        for day in 0..3 {
            let records = (day * 1_000..(day + 1) * 1_000).map(|n| {
                let mut record =
                    record(n, START + day * DAY + n, Some((Uuid::from_u128(u128::from(n % 9)), "ci")));
                record.status = 200 + n as u16 % 3;
                record
            });
            ingest(&store, records.collect()).await;
        }
        execute(&store, "ANALYZE audit_records").await;
        let all = AuditFilter::default;
        let reason = Some(Outcome::Denied(Denial::KeyRevoked));
        for (filter, index) in [
            (all(), "_time_id_status_"),
            (AuditFilter { key: Some(KeyReference::Id(Uuid::nil())), ..all() }, "_key_id_time_id_"),
            (AuditFilter { key: Some(KeyReference::from("cd")), ..all() }, "_key_name_time_id_"),
            (AuditFilter { endpoint: Some("/other".to_owned()), ..all() }, "_endpoint_time_id_"),
            (AuditFilter { reason, ..all() }, "_reason_time_id_"),
            (AuditFilter { status: Some(404..=404), ..all() }, "_status_time_id_"),
            (AuditFilter { network: Some("10.0.0.1/32".parse().unwrap()), ..all() }, "_source_ip_time_id_"),
        ] {
            assert_eq!(store.database.plan(&filter).await.unwrap(), Plan::Index);
            let before = Some(AuditPosition { time: UnixMillis(START + DAY + 1_500), id: 9 });
            let query = page_query("EXPLAIN SELECT", "id, time", &filter, before, 10);
            let plan = explain(&store.database, query).await;
            assert!(plan.iter().any(|step| step.contains(index)), "{filter:?}: {plan:#?}");
            assert!(!plan.iter().any(|step| step.contains("Sort")), "{filter:?}: {plan:#?}");
            assert!(!plan.iter().any(|step| step.contains("20270117")), "a later day: {plan:#?}");
        }
    }
}
