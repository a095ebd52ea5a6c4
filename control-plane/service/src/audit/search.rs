//! Paginated calls, newest first.

use std::time::Duration;

use omniflow_domain::audit::AuditEntry;
use omniflow_domain::error::Error;
use omniflow_domain::page::Page;
use omniflow_policy::time::UnixMillis;
use tokio::time::Instant;

use super::RequestLog;
use super::filter::AuditQuery;
use crate::query::PageRequest;
use omniflow_store::AuditPosition;

/// The calls that a search found in its time.
pub struct SearchPage {
    /// The calls.
    pub page: Page<AuditEntry>,
    /// The cursor from which to continue the search, if the time was not enough to fill the page.
    pub resume_at: Option<String>,
}

// === impl RequestLog ===

impl RequestLog {
    /// A page of the calls that a query selects.
    pub async fn list(&self, query: AuditQuery, page: PageRequest) -> Result<Page<AuditEntry>, Error> {
        let (limit, before) = page.read(position)?;
        let filter = query.read()?;
        let entries = self.store.audit_entries(&filter, before, limit + 1).await?;
        Ok(Page::of(entries, limit, |entry| cursor(entry.time, entry.id)))
    }

    /// The same, but ends after this time.
    pub async fn search(
        &self,
        query: AuditQuery,
        page: PageRequest,
        max_duration: Duration,
    ) -> Result<SearchPage, Error> {
        let (limit, before) = page.read(position)?;
        let filter = query.read()?;
        let deadline = Instant::now() + max_duration;
        let found = self.store.search_calls(&filter, before, limit + 1, deadline).await?;
        let page = Page::of(found.found, limit, |entry| cursor(entry.time, entry.id));
        Ok(SearchPage { page, resume_at: found.ended_at.map(|place| cursor(place.time, place.id)) })
    }

    /// The number of the newest record, 0 without one.
    pub async fn newest_record(&self) -> Result<i64, Error> {
        Ok(self.store.newest_record().await?)
    }
}

/// The time of the call behind which the page of this cursor begins.
pub fn time_of_cursor(cursor: &str) -> Option<UnixMillis> {
    position(cursor).map(|position| position.time)
}

fn cursor(time: UnixMillis, id: i64) -> String {
    format!("{}-{id}", time.0)
}

fn position(cursor: &str) -> Option<AuditPosition> {
    let (time, id) = cursor.split_once('-')?;
    Some(AuditPosition { time: UnixMillis(time.parse().ok()?), id: id.parse().ok()? })
}
