//! The admin log: every change, with the principal who made it. Entries are never changed or deleted.

use async_trait::async_trait;
use omniflow_domain::admin_event::{AdminEvent, AdminLogFilter, NewAdminEvent};

use crate::error::Result;

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
