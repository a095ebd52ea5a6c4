//! The request log. Each module reads one view of it or writes a part of it; the trait is implemented here.

mod call_groups;
mod filter;
mod in_progress;
mod ingest;
mod last_used;
pub(crate) mod list;
mod rows;
mod search;
mod stats;
mod timeline;
mod users;

use std::collections::HashMap;

use async_trait::async_trait;
use omniflow_domain::audit::{AuditEntry, AuditGap, CallInProgress, GapCause, RecordedCall};
use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_domain::key::KeyReference;
use omniflow_domain::key_use::CallGroup;
use omniflow_domain::stats::Dimension;
use omniflow_policy::time::UnixMillis;
use omniflow_store::encoding::request_log::{entry, recorded_call};
use omniflow_store::{AuditStats, AuditedUser, RequestLogStore, Result, SearchPage, Timeline};
use tokio::time::Instant;
use uuid::Uuid;

use crate::PostgresStore;
use crate::time_limit::in_time;
use list::{COLUMNS, RECORDED_COLUMNS};
use search::Head;
use users::USERS;

const ENTRIES: Head<AuditEntry> = Head { columns: COLUMNS, read: entry };
const RECORDED: Head<RecordedCall> = Head { columns: RECORDED_COLUMNS, read: recorded_call };

#[async_trait]
impl RequestLogStore for PostgresStore {
    async fn audit_entries(
        &self,
        filter: &AuditFilter,
        before: Option<AuditPosition>,
        limit: usize,
    ) -> Result<Vec<AuditEntry>> {
        in_time(async {
            let found = self.database.search(&ENTRIES, filter, before, limit, None).await?.found;
            self.database.with_payloads(found).await
        })
        .await
    }

    async fn recorded_calls(
        &self,
        filter: &AuditFilter,
        before: Option<AuditPosition>,
        limit: usize,
    ) -> Result<Vec<RecordedCall>> {
        Ok(in_time(self.database.search(&RECORDED, filter, before, limit, None)).await?.found)
    }

    async fn audit_entries_between(
        &self,
        filter: &AuditFilter,
        after: i64,
        last: i64,
    ) -> Result<Vec<AuditEntry>> {
        in_time(self.database.audit_entries_between(filter, after, last)).await
    }

    async fn newest_record(&self) -> Result<i64> {
        self.database.newest_record().await
    }

    async fn record_total(&self) -> Result<u64> {
        self.database.record_total().await
    }

    async fn audit_entry(&self, id: i64) -> Result<Option<AuditEntry>> {
        self.database.audit_entry(id).await
    }

    async fn search_calls(
        &self,
        filter: &AuditFilter,
        before: Option<AuditPosition>,
        limit: usize,
        deadline: Instant,
    ) -> Result<SearchPage<AuditEntry>> {
        in_time(async {
            let page = self.database.search(&ENTRIES, filter, before, limit, Some(deadline)).await?;
            Ok(SearchPage { found: self.database.with_payloads(page.found).await?, ..page })
        })
        .await
    }

    async fn search_users(
        &self,
        filter: &AuditFilter,
        limit: usize,
        deadline: Instant,
    ) -> Result<SearchPage<AuditedUser>> {
        in_time(self.database.search(&USERS, filter, None, limit, Some(deadline))).await
    }

    async fn audit_timeline(
        &self,
        filter: &AuditFilter,
        span: (UnixMillis, UnixMillis),
        width: u64,
        deadline: Option<Instant>,
    ) -> Result<Timeline> {
        in_time(self.database.count_intervals(filter, span, width, deadline)).await
    }

    async fn audit_stats(
        &self,
        filter: &AuditFilter,
        span: (UnixMillis, UnixMillis),
        by: &[Dimension],
        most: usize,
    ) -> Result<AuditStats> {
        in_time(self.database.count_groups(filter, span, by, most)).await
    }

    async fn audited_key_name(&self, key: Uuid) -> Result<Option<String>> {
        let filter = AuditFilter { key: Some(KeyReference::Id(key)), ..AuditFilter::default() };
        let newest = in_time(self.database.search(&USERS, &filter, None, 1, None)).await?.found.pop();
        Ok(newest.and_then(|call| call.key).map(|(_, name)| name))
    }

    async fn call_groups(&self, key: Uuid, from: UnixMillis, limit: u64) -> Result<Vec<CallGroup>> {
        self.database.call_groups(key, from, limit).await
    }

    async fn last_used(&self, keys: &[Uuid]) -> Result<HashMap<(Uuid, u16), UnixMillis>> {
        self.database.last_used(keys).await
    }

    async fn audit_gaps(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditGap>> {
        in_time(self.database.audit_gaps(before, limit)).await
    }

    async fn audit_gaps_between(
        &self,
        from: UnixMillis,
        to: UnixMillis,
        limit: usize,
    ) -> Result<Vec<AuditGap>> {
        in_time(self.database.audit_gaps_between(from, to, limit)).await
    }

    async fn calls_in_progress(
        &self,
        key: Option<&KeyReference>,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<CallInProgress>> {
        in_time(self.database.calls_in_progress(key, before, limit)).await
    }

    async fn gap_totals(&self) -> Result<Vec<(GapCause, u64, u64)>> {
        self.database.gap_totals().await
    }
}
