//! What is missing in the log.

use omniflow_domain::audit::AuditGap;
use omniflow_domain::error::Error;
use omniflow_domain::page::Page;
use omniflow_policy::time::UnixMillis;

use super::RequestLog;
use crate::query::PageRequest;

// === impl RequestLog ===

impl RequestLog {
    /// A page of the gaps, the one found last first.
    pub async fn gaps(&self, page: PageRequest) -> Result<Page<AuditGap>, Error> {
        let (limit, before) = page.read(|text| text.parse().ok())?;
        let gaps = self.store.audit_gaps(before, limit + 1).await?;
        Ok(Page::of(gaps, limit, |gap| gap.id.to_string()))
    }

    /// At most `limit` gaps that end at `from` or later and before `to`, the last first.
    pub async fn gaps_between(
        &self,
        (from, to): (UnixMillis, UnixMillis),
        limit: usize,
    ) -> Result<Vec<AuditGap>, Error> {
        Ok(self.store.audit_gaps_between(from, to, limit).await?)
    }
}
