//! Gaps in the log.

use omniflow_domain::audit::AuditGap;
use omniflow_domain::error::Error;
use omniflow_domain::page::{Page, PageRequest};
use omniflow_policy::time::UnixMillis;

use super::RequestLog;

// === impl RequestLog ===

impl RequestLog {
    /// A page of the gaps, most recently detected first.
    pub async fn gaps(&self, page: PageRequest<i64>) -> Result<Page<AuditGap>, Error> {
        let gaps = self.store.audit_gaps(page.after, page.limit + 1).await?;
        Ok(Page::of(gaps, page.limit, |gap| gap.id.to_string()))
    }

    /// At most `limit` gaps that end at or after `from` and before `to`, latest first.
    pub async fn gaps_between(
        &self,
        (from, to): (UnixMillis, UnixMillis),
        limit: usize,
    ) -> Result<Vec<AuditGap>, Error> {
        Ok(self.store.audit_gaps_between(from, to, limit).await?)
    }
}
