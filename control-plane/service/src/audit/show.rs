//! One call.

use omniflow_domain::audit::AuditEntry;
use omniflow_domain::error::Error;

use super::RequestLog;

// === impl RequestLog ===

impl RequestLog {
    /// The record with this number.
    pub async fn show(&self, id: &str) -> Result<AuditEntry, Error> {
        let no_such_record = || Error::not_found("The audit log has no such record.");
        let id = id.parse().map_err(|_| no_such_record())?;
        self.store.audit_entry(id).await?.ok_or_else(no_such_record)
    }
}
