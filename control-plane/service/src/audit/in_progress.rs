//! Calls that have not ended.

use omniflow_domain::audit::CallInProgress;
use omniflow_domain::error::Error;
use omniflow_domain::key::KeyReference;
use omniflow_domain::page::{Page, PageRequest};

use super::RequestLog;

// === impl RequestLog ===

impl RequestLog {
    /// A page of the calls in progress, of a key (by its name at the time of the call) or of all, the one reported last first.
    pub async fn in_progress(
        &self,
        key: Option<&KeyReference>,
        page: PageRequest<i64>,
    ) -> Result<Page<CallInProgress>, Error> {
        let calls = self.store.calls_in_progress(key, page.after, page.limit + 1).await?;
        Ok(Page::of(calls, page.limit, |call| call.id.to_string()))
    }
}
