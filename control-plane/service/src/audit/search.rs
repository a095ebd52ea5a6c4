//! Paginated calls, newest first.

use std::time::Duration;

use omniflow_domain::audit::AuditEntry;
use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_domain::error::Error;
use omniflow_domain::page::{Page, PageRequest};
use tokio::time::Instant;

use super::RequestLog;

/// A page of the calls that a search found within its time limit.
pub struct FoundCalls {
    /// The calls.
    pub page: Page<AuditEntry>,
    /// Where to continue the search, if the time was not enough to fill the page.
    pub resume_at: Option<AuditPosition>,
}

// === impl RequestLog ===

impl RequestLog {
    /// A page of the calls that a filter selects.
    pub async fn list(
        &self,
        filter: AuditFilter,
        page: PageRequest<AuditPosition>,
    ) -> Result<Page<AuditEntry>, Error> {
        let entries = self.store.audit_entries(&filter, page.after, page.limit + 1).await?;
        Ok(Page::of(entries, page.limit, cursor))
    }

    /// Like [`Self::list`], with a time limit.
    pub async fn search(
        &self,
        filter: AuditFilter,
        page: PageRequest<AuditPosition>,
        max_duration: Duration,
    ) -> Result<FoundCalls, Error> {
        let deadline = Instant::now() + max_duration;
        let found = self.store.search_calls(&filter, page.after, page.limit + 1, deadline).await?;
        let page = Page::of(found.found, page.limit, cursor);
        Ok(FoundCalls { page, resume_at: found.ended_at })
    }

    /// The number of the newest record, 0 without one.
    pub async fn newest_record(&self) -> Result<i64, Error> {
        Ok(self.store.newest_record().await?)
    }
}

fn cursor(entry: &AuditEntry) -> String {
    AuditPosition { time: entry.time, id: entry.id }.to_string()
}
