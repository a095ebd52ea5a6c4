//! Keys by status, settings, use and text, page by page.

use std::time::Duration;

use omniflow_domain::error::Error;
use omniflow_domain::key::KeyStatus;
use omniflow_domain::key_details::KeyDetails;
use omniflow_domain::page::Page;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use super::Keys;
use crate::query::{self, PageRequest};
use omniflow_store::{KeyFilter, RotationFilter};

/// Which keys to list. An empty filter counts as absent.
#[derive(Clone, Debug, Default)]
pub struct List {
    /// The status that keys have now.
    pub status: Option<String>,
    /// The environment.
    pub environment: Option<String>,
    /// A scope that keys have.
    pub scope: Option<String>,
    /// `true` for keys that are due for rotation, `false` for all others.
    pub rotation_due: Option<String>,
    /// Keys that were not used at or after this time.
    pub unused_since: Option<String>,
    /// Keys that are accepted now and end before this time.
    pub expires_before: Option<String>,
    /// Text in name or description, or a hint.
    pub text: Option<String>,
    /// The order; newest first if not stated.
    pub sort: Option<String>,
    /// Which page.
    pub page: PageRequest,
}

impl Keys {
    /// Lists keys.
    pub async fn list(&self, request: List) -> Result<Page<KeyDetails>, Error> {
        let now = self.parts.clock.now();
        let filter = KeyFilter {
            order: query::parsed("sort", request.sort)?.unwrap_or_default(),
            status: query::parsed::<KeyStatus>("status", request.status)?.map(|status| (status, now)),
            environment: query::parsed("environment", request.environment)?,
            scope: query::parsed("scope", request.scope)?,
            rotation: query::parsed::<bool>("rotation_due", request.rotation_due)?.map(|due| {
                let created_until = self.parts.rotation_after.and_then(|after| before(now, after));
                RotationFilter { due, now, created_until }
            }),
            unused_since: query::time("unused_since", request.unused_since)?,
            expiring: query::time("expires_before", request.expires_before)?.map(|end| (now, end)),
            text: query::present(request.text),
        };
        let (limit, last) = request.page.read(|text| Uuid::parse_str(text).ok())?;
        let keys = self.parts.store.keys(&filter, last, limit + 1).await?;
        let page = Page::of(keys, limit, |key| key.id.to_string());
        let ids: Vec<Uuid> = page.items.iter().map(|key| key.id).collect();
        let last_used = self.parts.store.last_used(&ids).await?;
        Ok(page.map(|key| KeyDetails::new(key, &last_used, self.parts.rotation_after, now)))
    }
}

/// `time` before `now`; `None` before the Unix epoch.
fn before(now: UnixMillis, time: Duration) -> Option<UnixMillis> {
    now.0.checked_sub(u64::try_from(time.as_millis()).ok()?).map(UnixMillis)
}
