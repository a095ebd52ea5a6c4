//! The end of a key, or of one version of it: confirmed by its name, and followed until gateways enforce it.

use crate::http::pages::refusal::error_status;
use omniflow_domain::principal::Principal;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::enforcement::until_complete;
use crate::http::keys::find;
use crate::http::keys::revoke::commit;
use crate::http::pages::extract::Authenticated;
use crate::http::pages::extract::Segments;
use crate::http::pages::followed::follow;
use crate::http::pages::form::{Form, FormError, at};
use crate::http::pages::frame::Frame;
use crate::http::pages::refusal::{Page, PageResult};
use crate::http::pages::visitor::Visitor;
use crate::http::precondition::Precondition;
use crate::service::app::App;
use omniflow_domain::error::Error;

/// How long a browser without scripts waits for the page that tells how far it is.
const WAIT: Duration = Duration::from_secs(5);

#[derive(Template)]
#[template(path = "keys/revoke.html")]
struct RevokePage {
    frame: Frame,
    id: String,
    name: String,
    /// The one version that is to end; `None` for the whole key.
    version: Option<u16>,
    revision: u64,
    typed: String,
    error: Option<FormError>,
    last_used: Option<crate::http::pages::show::Ago>,
}

/// `GET /keys/{id}/revoke`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Segments(id): Segments<String>,
) -> PageResult {
    page(&app, &visitor, &id, None, "", None).await
}

/// `GET /keys/{id}/versions/{version}/revoke`.
pub(super) async fn show_version(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Segments((id, version)): Segments<(String, u16)>,
) -> PageResult {
    page(&app, &visitor, &id, Some(version), "", None).await
}

/// `POST /keys/{id}/revoke`.
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Authenticated(principal): Authenticated,
    Segments(id): Segments<String>,
    form: Form,
) -> PageResult {
    end(app, visitor, principal, id, None, form).await
}

/// `POST /keys/{id}/versions/{version}/revoke`.
pub(super) async fn revoke_version(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Authenticated(principal): Authenticated,
    Segments((id, version)): Segments<(String, u16)>,
    form: Form,
) -> PageResult {
    end(app, visitor, principal, id, Some(version), form).await
}

async fn end(
    app: Arc<App>,
    visitor: Visitor,
    principal: Principal,
    id: String,
    version: Option<u16>,
    form: Form,
) -> PageResult {
    let key = find(&app, &id).await?;
    let typed = form.text("name");
    if version.is_none() && typed != key.name.as_str() {
        let problem =
            Error::invalid_field("/name", format!("type {} to confirm that this key is meant", key.name));
        return page(&app, &visitor, &id, version, typed, Some(problem.into())).await;
    }
    let precondition = Precondition::at(super::revision(&form)?);
    match commit(Arc::clone(&app), principal, key.id.to_string(), version, precondition).await {
        Ok(revocation) => {
            follow(&app, revocation.version, revocation.committed);
            // The script shows how it arrives; without it the next page comes when it has, or after a while.
            if form.text("live").is_empty() {
                until_complete(&app, revocation.version, WAIT).await;
            }
            Ok(super::see_other(&format!("/keys/{}/enforcement/{}", revocation.key.id, revocation.version)))
        }
        Err(problem) => page(&app, &visitor, &id, version, typed, Some(problem.into())).await,
    }
}

async fn page(
    app: &App,
    visitor: &Visitor,
    id: &str,
    version: Option<u16>,
    typed: &str,
    problem: Option<Error>,
) -> PageResult {
    let key = find(app, id).await?;
    if version.is_some_and(|version| !key.versions.iter().any(|known| known.id == version)) {
        return Err(Error::not_found("The key has no such version.").into());
    }
    let status = problem.as_ref().map_or(StatusCode::OK, |problem| error_status(problem.code()));
    let page = RevokePage {
        frame: visitor.frame(format!("Revoke {}", key.name)),
        id: key.id.to_string(),
        name: key.name.to_string(),
        version,
        revision: key.revision(),
        typed: typed.to_owned(),
        error: problem.map(|problem| FormError::new(&problem, &[("/name", "name")])),
        last_used: key
            .last_used_at
            .map(|time| crate::http::pages::show::Ago { time: time.0, now: visitor.now() }),
    };
    Ok((status, Page(page)).into_response())
}

impl RevokePage {
    /// The error at a field.
    fn error_at(&self, field: &str) -> Option<&str> {
        at(self.error.as_slice(), field)
    }
}
