//! Events in pages, newest first.

use omniflow_domain::admin_event::AdminEvent;
use omniflow_domain::error::Error;
use omniflow_domain::page::Page;

use super::AdminLog;
use crate::query::{self, PageRequest};
use omniflow_store::AdminLogFilter;

/// Which events, as text. An absent or empty field selects all.
#[derive(Clone, Debug, Default)]
pub struct AdminLogQuery {
    /// The action.
    pub action: Option<String>,
    /// The token of the principal, by name or identifier.
    pub principal: Option<String>,
    /// The subject, by name or identifier.
    pub subject: Option<String>,
    /// Events of this time or later.
    pub from: Option<String>,
    /// Events before this time.
    pub to: Option<String>,
}

// === impl AdminLog ===

impl AdminLog {
    /// A page of the events that a query selects.
    pub async fn list(&self, query: AdminLogQuery, page: PageRequest) -> Result<Page<AdminEvent>, Error> {
        let (limit, before) = page.read(|text| text.parse().ok())?;
        let filter = AdminLogFilter {
            action: query::parsed("action", query.action)?,
            principal: query::present(query.principal),
            subject: query::present(query.subject),
            from: query::time("from", query.from)?,
            to: query::time("to", query.to)?,
        };
        let events = self.store.admin_events(&filter, before, limit + 1).await?;
        Ok(Page::of(events, limit, |event| event.id.to_string()))
    }
}
