//! The admin log: every change, with the principal who made it. Entries are never changed or deleted.

use async_trait::async_trait;
use omniflow_domain::admin_event::{Action, AdminEvent, NewAdminEvent};
use omniflow_policy::time::UnixMillis;

use crate::error::Result;

/// Which entries a list contains. The default is all of them.
#[derive(Clone, Debug, Default)]
pub struct AdminLogFilter {
    /// Only entries with this action.
    pub action: Option<Action>,
    /// Only entries by the token with this name or identifier.
    pub principal: Option<String>,
    /// Only entries about the key, token or policy with this identifier or name.
    pub subject: Option<String>,
    /// Only entries at this instant or later.
    pub from: Option<UnixMillis>,
    /// Only entries before this instant.
    pub to: Option<UnixMillis>,
}

/// Reads the admin log.
#[async_trait]
pub trait AdminLogStore {
    /// Returns up to `limit` entries, newest first, after the entry `before`.
    async fn admin_events(
        &self,
        filter: &AdminLogFilter,
        before: Option<i64>,
        limit: usize,
    ) -> Result<Vec<AdminEvent>>;
}

/// Writes the admin log.
#[async_trait]
pub trait AdminLogWrites {
    /// Appends the entry for a change, in the transaction of the change. Fails with
    /// [`StoreError::PrincipalInvalid`](crate::StoreError::PrincipalInvalid) if the token that made the change was
    /// revoked or has expired: it was valid when the request arrived, but reading the body may have taken a minute.
    async fn insert_admin_event(&mut self, event: &NewAdminEvent) -> Result<()>;
}
