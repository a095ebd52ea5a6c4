//! Revocation of a key or of one of its versions, confirmed by name.

use crate::page::error_status;
use omniflow_domain::principal::Principal;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use crate::browser_session::BrowserSession;
use crate::extract::Authenticated;
use crate::extract::Segments;
use crate::form::{Form, FormError, error_at};
use crate::format::Ago;
use crate::layout::Layout;
use crate::page::{Page, PageResult};
use omniflow_domain::error::{Error, Missing};
use omniflow_domain::key::KeyReference;
use omniflow_domain::key_details::KeyDetails;
use omniflow_service::fleet::enforcement_watch::EnforcementWatch;
use omniflow_service::keys::{Keys, Revoke};
use omniflow_service::precondition::Precondition;

/// How long a browser without scripts waits for enforcement before it gets the next page.
const WAIT: Duration = Duration::from_secs(5);

#[derive(Template)]
#[template(path = "keys/revoke.html")]
struct RevokePage {
    layout: Layout,
    id: String,
    name: String,
    /// The version to revoke; `None` for the whole key.
    version: Option<u16>,
    revision: u64,
    typed: String,
    error: Option<FormError>,
    last_used: Option<Ago>,
}

/// `GET /keys/{id}/revoke`.
pub(super) async fn show(
    State(keys): State<Arc<Keys>>,
    browser: BrowserSession,
    Segments(id): Segments<String>,
) -> PageResult {
    page(&keys, &browser, &id, None, "", None).await
}

/// `GET /keys/{id}/versions/{version}/revoke`.
pub(super) async fn show_version(
    State(keys): State<Arc<Keys>>,
    browser: BrowserSession,
    Segments((id, version)): Segments<(String, u16)>,
) -> PageResult {
    page(&keys, &browser, &id, Some(version), "", None).await
}

/// `POST /keys/{id}/revoke`.
pub(super) async fn revoke(
    State(keys): State<Arc<Keys>>,
    State(watch): State<Arc<EnforcementWatch>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    Segments(id): Segments<String>,
    form: Form,
) -> PageResult {
    submit(&keys, &watch, browser, principal, id, None, form).await
}

/// `POST /keys/{id}/versions/{version}/revoke`.
pub(super) async fn revoke_version(
    State(keys): State<Arc<Keys>>,
    State(watch): State<Arc<EnforcementWatch>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    Segments((id, version)): Segments<(String, u16)>,
    form: Form,
) -> PageResult {
    submit(&keys, &watch, browser, principal, id, Some(version), form).await
}

async fn submit(
    keys: &Arc<Keys>,
    watch: &EnforcementWatch,
    browser: BrowserSession,
    principal: Principal,
    id: String,
    version: Option<u16>,
    form: Form,
) -> PageResult {
    let KeyDetails { key, .. } = keys.show(&id).await?;
    let typed = form.text("name");
    if version.is_none() && typed != key.name.as_str() {
        let problem =
            Error::invalid_field("/name", format!("the name does not match: type {} to confirm", key.name));
        return page(keys, &browser, &id, version, typed, Some(problem)).await;
    }
    let precondition = Precondition::at(super::revision(&form)?);
    let request = Revoke { key: KeyReference::Id(key.id), version, precondition, wait: None };
    match keys.revoke(&principal, request).await {
        Ok(revoked) => {
            watch.watch(revoked.snapshot, revoked.committed);
            // With the script, the next page shows the progress. Without it, the redirect waits for enforcement.
            if form.text("live").is_empty() {
                watch.until_complete(revoked.snapshot, WAIT).await;
            }
            Ok(super::see_other(&format!("/keys/{}/enforcement/{}", key.id, revoked.snapshot)))
        }
        Err(problem) => page(keys, &browser, &id, version, typed, Some(problem)).await,
    }
}

async fn page(
    keys: &Keys,
    browser: &BrowserSession,
    id: &str,
    version: Option<u16>,
    typed: &str,
    problem: Option<Error>,
) -> PageResult {
    let details = keys.show(id).await?;
    let key = &details.key;
    if version.is_some_and(|version| !key.versions.iter().any(|known| known.version == version)) {
        return Err(Error::missing(Missing::KeyVersion).into());
    }
    let status = problem.as_ref().map_or(StatusCode::OK, |problem| error_status(problem.code()));
    let page = RevokePage {
        layout: browser.layout(format!("Revoke {}", key.name)),
        id: key.id.to_string(),
        name: key.name.to_string(),
        version,
        revision: key.revision,
        typed: typed.to_owned(),
        error: problem.map(|problem| FormError::new(&problem, &[("/name", "name")])),
        last_used: details.last_used_at().map(|time| Ago { time, now: browser.now() }),
    };
    Ok((status, Page(page)).into_response())
}

impl RevokePage {
    /// The error at a field.
    fn error_at(&self, field: &str) -> Option<&str> {
        error_at(self.error.as_slice(), field)
    }
}
