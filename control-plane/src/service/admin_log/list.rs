//! Events in pages, newest first.

use omniflow_domain::error::Error;
use omniflow_domain::event::Event;
use omniflow_domain::page::Page;

use super::AdminLog;
use crate::service::query::{self, PageRequest};
use omniflow_store::AdminLogFilter;

/// Which events, as text. An absent or empty field selects all.
#[derive(Clone, Debug, Default)]
pub(crate) struct AdminLogQuery {
    /// The action.
    pub(crate) action: Option<String>,
    /// The token of the actor, by name or identifier.
    pub(crate) actor: Option<String>,
    /// The subject, by name or identifier.
    pub(crate) subject: Option<String>,
    /// Events of this time or later.
    pub(crate) from: Option<String>,
    /// Events before this time.
    pub(crate) to: Option<String>,
}

// === impl AdminLog ===

impl AdminLog {
    /// A page of the events that a query selects.
    pub(crate) async fn list(&self, query: AdminLogQuery, page: PageRequest) -> Result<Page<Event>, Error> {
        let (limit, before) = page.read(|text| text.parse().ok())?;
        let filter = AdminLogFilter {
            action: query::parsed("action", query.action)?,
            actor: query::present(query.actor),
            subject: query::present(query.subject),
            from: query::time("from", query.from)?,
            to: query::time("to", query.to)?,
        };
        let events = self.store.admin_events(&filter, before, limit + 1).await?;
        Ok(Page::of(events, limit, |event| event.id.to_string()))
    }
}
