//! Paginated events, newest first.

use omniflow_domain::admin_event::{AdminEvent, AdminLogFilter};
use omniflow_domain::error::Error;
use omniflow_domain::page::{Page, PageRequest};

use super::AdminLog;

// === impl AdminLog ===

impl AdminLog {
    /// A page of the events that a filter selects.
    pub async fn list(
        &self,
        filter: AdminLogFilter,
        page: PageRequest<i64>,
    ) -> Result<Page<AdminEvent>, Error> {
        let events = self.store.admin_events(&filter, page.after, page.limit + 1).await?;
        Ok(Page::of(events, page.limit, |event| event.id.to_string()))
    }
}
