//! Rotation of a key, with an overlap in which the old secret stays valid.

use crate::page::error_status;
use omniflow_domain::principal::Principal;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::IntoResponse;

use super::secret::{self, Origin};
use crate::browser_session::BrowserSession;
use crate::extract::Authenticated;
use crate::extract::Segments;
use crate::form::{ATTEMPT, Form, FormError, attempt, new_attempt};
use crate::layout::Layout;
use crate::page::{Page, PageResult};
use crate::state::Console;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::key::KeyReference;
use omniflow_domain::key_details::KeyDetails;
use omniflow_service::idempotency::Idempotent;
use omniflow_service::keys::{Issued, Keys, Rotate};

use super::fields::WAIT;
use omniflow_service::precondition::Precondition;

/// The overlaps to choose from: value and label.
const OVERLAPS: [(&str, &str); 5] = [
    ("0s", "Not at all: it expires immediately"),
    ("1h", "1 hour"),
    ("24h", "24 hours"),
    ("7d", "7 days"),
    ("30d", "30 days"),
];
const DEFAULT: &str = "24h";

#[derive(Template)]
#[template(path = "keys/rotate.html")]
struct RotatePage {
    layout: Layout,
    id: String,
    name: String,
    revision: u64,
    attempt: String,
    overlaps: [(&'static str, &'static str); 5],
    chosen: String,
    error: Option<String>,
}

/// `GET /keys/{id}/rotate`.
pub(super) async fn show(
    State(app): State<Arc<Console>>,
    State(keys): State<Arc<Keys>>,
    browser: BrowserSession,
    Segments(id): Segments<String>,
) -> PageResult {
    let attempt = new_attempt(&app)?;
    page(&keys, &browser, &id, attempt, DEFAULT, None).await
}

/// `POST /keys/{id}/rotate`.
pub(super) async fn rotate(
    State(app): State<Arc<Console>>,
    State(keys): State<Arc<Keys>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    Segments(id): Segments<String>,
    form: Form,
) -> PageResult {
    match apply(&keys, &principal, &id, &form).await {
        Ok(issued) => secret::page(&app, &browser, issued, Origin::Rotated),
        Err(problem) if problem.code() == ErrorCode::AlreadyCreated => {
            secret::page_without(&browser, &id, Origin::Rotated)
        }
        Err(problem) => {
            let attempt = match problem.code() {
                // The page shows the changed state, and the next submission is a new attempt.
                ErrorCode::VersionMismatch | ErrorCode::IdempotencyKeyReused => new_attempt(&app)?,
                _ => form.text(ATTEMPT).to_owned(),
            };
            page(&keys, &browser, &id, attempt, form.text("overlap"), Some(problem)).await
        }
    }
}

async fn apply(
    keys: &Arc<Keys>,
    principal: &Principal,
    id: &str,
    form: &Form,
) -> Result<Idempotent<Issued>, Error> {
    let precondition = Precondition::at(super::revision(form)?);
    let overlap = omniflow_service::fields::overlap(form.stated("overlap").as_deref())?;
    let request = Rotate { key: KeyReference::from(id), overlap, precondition, wait: Some(WAIT) };
    keys.rotate(principal, request, attempt(principal, form)).await
}

async fn page(
    keys: &Keys,
    browser: &BrowserSession,
    id: &str,
    attempt: String,
    chosen: &str,
    problem: Option<Error>,
) -> PageResult {
    let KeyDetails { key, .. } = keys.show(id).await?;
    let status = problem.as_ref().map(|problem| error_status(problem.code())).unwrap_or_default();
    let page = RotatePage {
        layout: browser.layout(format!("Rotate {}", key.name)),
        id: key.id.to_string(),
        name: key.name.to_string(),
        revision: key.revision,
        attempt,
        overlaps: OVERLAPS,
        chosen: chosen.to_owned(),
        error: problem.map(|problem| FormError::new(&problem, &[]).text),
    };
    Ok((status, Page(page)).into_response())
}
