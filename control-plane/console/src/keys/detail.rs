//! A key: settings, versions, usage and history.

use crate::page::error_status;
use omniflow_domain::principal::Principal;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use omniflow_policy::time::UnixMillis;

use super::fields::{self, KeyFields};
use super::usage::Usage;
use super::version_hint;
use crate::browser_session::BrowserSession;
use crate::extract::Authenticated;
use crate::extract::Segments;
use crate::form::{Form, FormError};
use crate::format::{Ago, At, Badge, Limit, Until};
use crate::layout::Layout;
use crate::page::{Page, PageResult};
use crate::state::Console;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::key::KeyReference;
use omniflow_domain::key::{KeyStatus, KeyVersion};
use omniflow_domain::key_details::KeyDetails;
use omniflow_service::keys::{Keys, Update};
use omniflow_service::precondition::Precondition;

#[derive(Template)]
#[template(path = "keys/detail.html")]
struct DetailPage {
    layout: Layout,
    key: KeyView,
    versions: Vec<Version>,
    usage: Usage,
    /// The form with the current or the submitted values, if the role may change the key.
    form: Option<ChangeForm>,
    saved: bool,
}

/// A key, formatted for display.
struct KeyView {
    id: String,
    name: String,
    description: Option<String>,
    environment: &'static str,
    status: Badge,
    scopes: Vec<fields::ScopeChoice>,
    limit: Limit,
    networks: Vec<String>,
    created_by: String,
    created: At,
    expires: Option<Ago>,
    last_used: Option<Ago>,
    rotation_due: Option<Ago>,
    is_due: bool,
    may_be_rotated: bool,
    may_be_revoked: bool,
    revision: u64,
}

/// A version of the key.
struct Version {
    id: u16,
    hint: String,
    created: At,
    last_used: Option<Ago>,
    status: Badge,
    /// End of its overlap.
    ends: Option<Until>,
    revoked: Option<At>,
    may_be_revoked: bool,
}

/// The form that changes a key.
struct ChangeForm {
    fields: KeyFields,
    peer: Option<String>,
    is_open: bool,
    /// Conflicting changes since the form was loaded: label, current value, submitted value.
    conflict: Option<Vec<(&'static str, String, String)>>,
}

/// A submitted form with its errors.
struct Submitted<'f> {
    form: &'f Form,
    errors: Vec<FormError>,
    /// Whether the key was changed since the form was loaded.
    is_conflict: bool,
}

/// `GET /keys/{id}`.
pub(super) async fn show(
    State(app): State<Arc<Console>>,
    State(keys): State<Arc<Keys>>,
    browser: BrowserSession,
    Segments(id): Segments<String>,
) -> PageResult {
    let key = keys.show(&id).await?;
    let saved = browser.target().ends_with("?saved");
    Ok(Page(page(&app, &browser, key, None, saved).await?).into_response())
}

/// `POST /keys/{id}`: changes the key if its revision is still the one of the form.
pub(super) async fn save(
    State(app): State<Arc<Console>>,
    State(keys): State<Arc<Keys>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    Segments(id): Segments<String>,
    form: Form,
) -> PageResult {
    if form.text("do") == "my-address" {
        let form = super::new::with_address(&form, &browser);
        let submitted = Submitted { form: &form, errors: Vec::new(), is_conflict: false };
        let key = keys.show(&id).await?;
        return Ok(Page(page(&app, &browser, key, Some(submitted), false).await?).into_response());
    }
    match apply(&keys, &principal, &id, &form, browser.now()).await {
        Ok(details) => Ok(super::see_other(&format!("/keys/{}?saved", details.key.id))),
        Err(problem) => {
            let status = error_status(problem.code());
            let key = keys.show(&id).await?;
            let is_conflict = problem.code() == ErrorCode::VersionMismatch;
            let errors = if is_conflict {
                vec![conflict()]
            } else {
                let (settings, errors) = fields::parse_settings(&form, browser.now());
                let found = keys.find_errors(None, &settings).await?;
                let problems: Vec<Error> = [problem].into_iter().chain(errors).chain(found).collect();
                fields::errors(&problems)
            };
            let submitted = Some(Submitted { form: &form, errors, is_conflict });
            let response: (StatusCode, _) =
                (status, Page(page(&app, &browser, key, submitted, false).await?));
            Ok(response.into_response())
        }
    }
}

/// The error of a form whose key was changed since it was loaded.
fn conflict() -> FormError {
    let text = "This key was changed since you loaded the page. The table shows your values next to the current ones. \
                Save again to overwrite the current values with yours.";
    FormError { field: None, text: text.to_owned() }
}

async fn apply(
    keys: &Arc<Keys>,
    principal: &Principal,
    id: &str,
    form: &Form,
    now: UnixMillis,
) -> Result<KeyDetails, Error> {
    let (settings, errors) = fields::parse_settings(form, now);
    if let Some(error) = errors.into_iter().next() {
        return Err(error);
    }
    let precondition = Precondition::at(super::revision(form)?);
    let request = Update { key: KeyReference::from(id), precondition, settings, wait: Some(fields::WAIT) };
    Ok(keys.update(principal, request).await?.key)
}

async fn page(
    app: &Console,
    browser: &BrowserSession,
    details: KeyDetails,
    submitted: Option<Submitted<'_>>,
    saved: bool,
) -> Result<DetailPage, Error> {
    let now = browser.now();
    let key = &details.key;
    let layout = browser.layout(key.name.to_string());
    let policy = app.policies.current()?.policy;
    let policy = policy.document();
    let usage = Usage::of(app, key.id, &layout, now).await?;
    let form = (layout.may_write() && details.status != KeyStatus::Revoked).then(|| {
        let current = KeyFields::of(key, policy);
        let (fields, conflict) = match &submitted {
            None => (current, None),
            Some(Submitted { form, errors, is_conflict }) => {
                let fields = KeyFields::typed(form, policy, errors.clone());
                let conflict = is_conflict.then(|| current.differences(&fields));
                (fields, conflict)
            }
        };
        let peer = browser.peer().map(|peer| peer.to_canonical().to_string());
        ChangeForm { fields, peer, is_open: submitted.is_some(), conflict }
    });
    let prefix = app.policies.key_prefix().as_str();
    let may_write = layout.may_write();
    let versions =
        key.versions.iter().rev().map(|version| Version::new(version, &details, prefix, may_write, now));
    Ok(DetailPage {
        versions: versions.collect(),
        key: KeyView::new(&details, policy, now),
        layout,
        usage,
        form,
        saved,
    })
}

// === impl KeyView ===

impl KeyView {
    fn new(details: &KeyDetails, policy: &omniflow_policy::policy::PolicyDocument, now: UnixMillis) -> Self {
        let KeyDetails { key, status, rotation_due_at, .. } = details;
        let mut scopes =
            fields::scope_choices(policy, |scope| key.scopes.iter().any(|given| given.as_str() == scope));
        scopes.retain(|scope| scope.is_chosen);
        Self {
            id: key.id.to_string(),
            name: key.name.to_string(),
            description: key.description.clone(),
            environment: key.environment.as_str(),
            status: Badge(*status),
            scopes,
            limit: Limit(key.rate_limit),
            networks: key.ip_allowlist.networks().iter().map(ToString::to_string).collect(),
            created_by: key.created_by.clone(),
            created: At(key.created_at),
            expires: key.expires_at.map(|time| Ago { time, now }),
            last_used: details.last_used_at().map(|time| Ago { time, now }),
            rotation_due: rotation_due_at.map(|time| Ago { time, now }),
            is_due: rotation_due_at.is_some_and(|time| time <= now),
            may_be_rotated: matches!(status, KeyStatus::Active | KeyStatus::Rotating),
            may_be_revoked: *status != KeyStatus::Revoked,
            revision: key.revision,
        }
    }
}

// === impl Version ===

impl Version {
    fn new(
        version: &KeyVersion,
        details: &KeyDetails,
        prefix: &str,
        may_write: bool,
        now: UnixMillis,
    ) -> Self {
        let KeyDetails { key, last_used, .. } = details;
        let status = key.version_status(version, now);
        let end = key.not_after(version).filter(|_| status == KeyStatus::Rotating);
        Self {
            id: version.version,
            hint: version_hint(version, prefix, key.environment.as_str()),
            created: At(version.created_at),
            last_used: last_used.get(&version.version).map(|time| Ago { time: *time, now }),
            status: Badge(status),
            ends: end.map(|time| Until { time, now }),
            revoked: version.revoked_at.map(At),
            may_be_revoked: may_write && version.revoked_at.is_none(),
        }
    }
}
