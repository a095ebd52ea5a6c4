//! Lists keys by status, settings, usage and text, in pages.

use std::time::Duration;

use omniflow_domain::error::Error;
use omniflow_domain::key::KeyQuery;
use omniflow_domain::key_details::KeyDetails;
use omniflow_domain::page::{Page, PageRequest};
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use super::Keys;
use omniflow_store::{KeyFilter, RotationFilter};

impl Keys {
    /// A page of the keys that a query selects.
    pub async fn list(&self, query: KeyQuery, page: PageRequest<Uuid>) -> Result<Page<KeyDetails>, Error> {
        let now = self.parts.clock.now();
        let filter = KeyFilter {
            order: query.order,
            status: query.status.map(|status| (status, now)),
            environment: query.environment,
            scope: query.scope,
            rotation: query.rotation_due.map(|due| {
                let created_until = self.parts.rotation_after.and_then(|after| before(now, after));
                RotationFilter { due, now, created_until }
            }),
            unused_since: query.unused_since,
            expiring: query.expires_before.map(|end| (now, end)),
            text: query.text,
        };
        let keys = self.parts.store.keys(&filter, page.after, page.limit + 1).await?;
        let page = Page::of(keys, page.limit, |key| key.id.to_string());
        let ids: Vec<Uuid> = page.items.iter().map(|key| key.id).collect();
        let last_used = self.parts.store.last_used(&ids).await?;
        Ok(page.map(|key| KeyDetails::new(key, &last_used, self.parts.rotation_after, now)))
    }
}

/// `time` before `now`; `None` before the Unix epoch.
fn before(now: UnixMillis, time: Duration) -> Option<UnixMillis> {
    now.0.checked_sub(u64::try_from(time.as_millis()).ok()?).map(UnixMillis)
}
