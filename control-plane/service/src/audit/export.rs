//! All calls that a filter selects, in batches.
//!
//! A batch is read when it is requested, so a slow client does not occupy a reader.

use std::sync::Arc;

use futures_util::{Stream, TryStreamExt, stream};
use omniflow_domain::audit::AuditEntry;
use omniflow_domain::error::Error;
use omniflow_domain::principal::Principal;

use super::{QueryPermit, RequestLog};
use crate::authentication::TokenGuard;
use crate::notifications::Notifications;
use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_store::Store;

/// Records of a batch.
pub const BATCH_RECORDS: usize = 500;

/// An export in progress.
pub struct Export {
    store: Arc<dyn Store>,
    notifications: Notifications,
    guard: TokenGuard,
    filter: AuditFilter,
    before: Option<AuditPosition>,
    /// Kept until the export ends.
    _permit: QueryPermit,
}

/// Some of the records, newest first.
struct ExportBatch {
    /// The records; empty if none are left.
    records: Vec<AuditEntry>,
    /// Whether this is the last batch.
    is_last: bool,
}

/// Why an export cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The token was revoked or has expired.
    #[error("its token is no longer valid")]
    TokenInvalid,
    /// The process ends.
    #[error("the control plane is stopping")]
    Stopping,
    /// The log cannot be read.
    #[error(transparent)]
    Failed(#[from] Error),
}

// === impl RequestLog ===

impl RequestLog {
    /// Begins an export of the calls that a filter selects, after [`RequestLog::query_permit`]. Nothing is read yet.
    pub async fn export(&self, principal: &Principal, filter: AuditFilter) -> Result<Export, Error> {
        Ok(Export {
            _permit: self.query_permit(principal).await?,
            filter,
            store: Arc::clone(&self.store),
            notifications: self.notifications.clone(),
            guard: self.guard(principal),
            before: None,
        })
    }
}

// === impl Export ===

impl Export {
    /// The records in batches, newest first. Each batch is read when it is asked for.
    pub fn batches(self) -> impl Stream<Item = Result<Vec<AuditEntry>, ExportError>> + Send {
        let batches = stream::try_unfold(Some(self), |export| async move {
            let Some(mut export) = export else { return Ok(None) };
            let stopped = export.stopped();
            let ExportBatch { records, is_last } = tokio::select! {
                batch = export.next_batch() => batch?,
                () = stopped => return Err(ExportError::Stopping),
            };
            Ok(Some((records, (!is_last).then_some(export))))
        });
        batches.inspect_err(|error| tracing::warn!(%error, "audit log export aborted"))
    }

    async fn next_batch(&mut self) -> Result<ExportBatch, ExportError> {
        if !self.guard.is_valid().await? {
            return Err(ExportError::TokenInvalid);
        }
        let store = &*self.store;
        let records =
            store.audit_entries(&self.filter, self.before, BATCH_RECORDS).await.map_err(Error::from)?;
        let is_last = records.len() < BATCH_RECORDS;
        self.before = records.last().map(|entry| AuditPosition { time: entry.time, id: entry.id });
        Ok(ExportBatch { records, is_last })
    }

    /// Waits until the process is asked to end.
    fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let notifications = self.notifications.clone();
        async move { notifications.stopped().await }
    }
}
