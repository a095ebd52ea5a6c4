//! The enforcement of a revocation, as a page and as a live part of it.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::IntoResponse;

use crate::browser_session::BrowserSession;
use crate::enforcement_status::EnforcementStatus;
use crate::extract::Segments;
use crate::format::Badge;
use crate::layout::Layout;
use crate::live::parts;
use crate::page::{Page, PageResult};
use omniflow_api_types::gateway::EnforcementJson;
use omniflow_domain::gateway::Enforcement;
use omniflow_domain::key_details::KeyDetails;
use omniflow_service::fleet::enforcement_watch::EnforcementWatch;
use omniflow_service::keys::Keys;

#[derive(Template)]
#[template(path = "keys/enforcement.html")]
struct EnforcementPage {
    layout: Layout,
    id: String,
    name: String,
    status: Badge,
    version: u64,
    enforcement: EnforcementStatus,
}

/// `GET /keys/{id}/enforcement/{version}`.
pub(super) async fn show(
    State(keys): State<Arc<Keys>>,
    State(watch): State<Arc<EnforcementWatch>>,
    browser: BrowserSession,
    Segments((id, version)): Segments<(String, u64)>,
) -> PageResult {
    let KeyDetails { key, status, .. } = keys.show(&id).await?;
    let page = EnforcementPage {
        layout: browser.layout(format!("{}: enforcement", key.name)),
        id: key.id.to_string(),
        name: key.name.to_string(),
        status: Badge(status),
        version,
        enforcement: shown(watch.enforcement_status(version).await),
    };
    Ok(Page(page).into_response())
}

/// `GET /keys/{id}/enforcement/{version}/live`: the live part, updated by each report of a gateway until all enforce it.
pub(super) async fn live(
    State(watch): State<Arc<EnforcementWatch>>,
    Segments((_, version)): Segments<(String, u64)>,
) -> PageResult {
    Ok(parts(move |mut parts| async move {
        let mut progress = watch.progress(version);
        loop {
            let seen = progress.as_mut().and_then(|progress| progress.borrow_and_update().clone());
            let enforcement = match seen {
                Some(enforcement) => enforcement,
                None => watch.enforcement_status(version).await,
            };
            let is_complete = enforcement.complete;
            let Ok(html) = shown(enforcement).render() else { return };
            if !parts.send(&html).await {
                return;
            }
            let has_more = match &mut progress {
                Some(progress) if !is_complete => progress.changed().await.is_ok(),
                _ => false,
            };
            if !has_more {
                return parts.end().await;
            }
        }
    }))
}

fn shown(enforcement: Enforcement) -> EnforcementStatus {
    EnforcementJson::from(enforcement).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use omniflow_domain::key::KeyStatus;

    #[test]
    fn page_is_live_until_enforcement_is_complete() {
        for complete in [false, true] {
            let enforcement = Enforcement { complete, version: 9, gateways: Vec::new() };
            let page = EnforcementPage {
                layout: Layout::sample("ci: enforcement"),
                id: "7".to_owned(),
                name: "ci".to_owned(),
                status: Badge(KeyStatus::Revoked),
                version: 9,
                enforcement: shown(enforcement),
            };
            assert_eq!(
                page.render().unwrap().contains("data-live=\"/keys/7/enforcement/9/live\""),
                !complete
            );
        }
    }
}
