//! Creation of a key: form, review and secret.

use crate::page::error_status;
use omniflow_domain::principal::Principal;
use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::fields::{self, KeyFields};
use super::secret::{self, Origin};
use crate::browser_session::BrowserSession;
use crate::extract::Authenticated;
use crate::form::{ATTEMPT, CSRF, Form, FormError, attempt, new_attempt};
use crate::format::{At, Limit};
use crate::layout::Layout;
use crate::page::{Page, PageResult};
use crate::state::Console;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::time::parse_time;
use omniflow_service::keys::{Create, Keys};

#[derive(Template)]
#[template(path = "keys/new.html")]
struct NewPage {
    layout: Layout,
    fields: KeyFields,
    attempt: String,
    /// IP address of the browser.
    peer: Option<String>,
}

#[derive(Template)]
#[template(path = "keys/review.html")]
struct ReviewPage {
    layout: Layout,
    /// The submitted fields, for the next step.
    submitted: Vec<(String, String)>,
    name: String,
    environment: String,
    description: Option<String>,
    scopes: Vec<fields::ScopeChoice>,
    limit: Limit,
    networks: Vec<String>,
    expires: Option<At>,
}

/// `GET /keys/new`.
pub(super) async fn show(State(app): State<Arc<Console>>, browser: BrowserSession) -> PageResult {
    let policy = app.policies.current()?.policy;
    let page = NewPage {
        layout: browser.layout("New key"),
        fields: KeyFields::blank(policy.document()),
        attempt: new_attempt(&app)?,
        peer: browser.peer().map(|peer| peer.to_canonical().to_string()),
    };
    Ok(Page(page).into_response())
}

/// `POST /keys/new`: the review, or the form with its input and errors.
pub(super) async fn review(
    State(app): State<Arc<Console>>,
    State(keys): State<Arc<Keys>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    form: Form,
) -> PageResult {
    match form.text("do") {
        "edit" => show_again(&app, &browser, &form, StatusCode::OK, Vec::new()),
        "my-address" => {
            show_again(&app, &browser, &with_address(&form, &browser), StatusCode::OK, Vec::new())
        }
        _ => match checked_request(&keys, &browser, &principal, &form).await {
            Ok(request) => {
                let policy = app.policies.current()?.policy;
                let chosen = |scope: &str| request.scopes.iter().any(|given| given == scope);
                let mut scopes = fields::scope_choices(policy.document(), chosen);
                scopes.retain(|scope| scope.is_chosen);
                let page = ReviewPage {
                    layout: browser.layout("Review the new key"),
                    submitted: form
                        .pairs()
                        .filter(|(name, _)| ![CSRF, "do"].contains(name))
                        .map(owned)
                        .collect(),
                    scopes,
                    limit: Limit(omniflow_service::fields::rate_limit(request.rate_limit)?),
                    networks: request.ip_allowlist.unwrap_or_default(),
                    expires: request.expires_at.as_deref().and_then(parse_time).map(At),
                    name: request.name,
                    environment: request.environment,
                    description: request.description,
                };
                Ok(Page(page).into_response())
            }
            Err(problem) => again(&app, &keys, &browser, &principal, &form, &problem).await,
        },
    }
}

/// `POST /keys`: creates the key and shows its secret once.
pub(super) async fn create(
    State(app): State<Arc<Console>>,
    State(keys): State<Arc<Keys>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    form: Form,
) -> PageResult {
    let request = match fields::to_create(&form, browser.now()) {
        Ok(request) => request,
        Err(problem) => return again(&app, &keys, &browser, &principal, &form, &problem).await,
    };
    let attempt = attempt(&principal, &form);
    match keys.create(&principal, request, attempt).await {
        Ok(issued) => secret::page(&app, &browser, issued, Origin::Created),
        Err(problem) if problem.code() == ErrorCode::AlreadyCreated => {
            secret::page_without(&browser, form.text("name"), Origin::Created)
        }
        Err(problem) if problem.code() == ErrorCode::IdempotencyKeyReused => {
            let form = form.with(ATTEMPT, &new_attempt(&app)?);
            let text = "This form already created a key. Submit it again to create another.".to_owned();
            show_again(&app, &browser, &form, StatusCode::CONFLICT, vec![FormError { field: None, text }])
        }
        Err(problem) => again(&app, &keys, &browser, &principal, &form, &problem).await,
    }
}

/// `POST /keys/check`: the errors of a form while it is being filled in, for the script.
pub(super) async fn check(
    State(keys): State<Arc<Keys>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    form: Form,
) -> PageResult {
    let errors = match checked_request(&keys, &browser, &principal, &form).await {
        Ok(_) => Vec::new(),
        Err(problem) => fields::every_error_of(&keys, &principal, &form, &problem, browser.now()).await?,
    };
    let texts: BTreeMap<_, _> =
        errors.into_iter().filter_map(|error| Some((error.field?, error.text))).collect();
    Ok(Json(texts).into_response())
}

/// The request of the form, if a dry run of it succeeds.
async fn checked_request(
    keys: &Keys,
    browser: &BrowserSession,
    principal: &Principal,
    form: &Form,
) -> Result<Create, Error> {
    let request = fields::to_create(form, browser.now())?;
    keys.dry_run(principal, request.clone()).await?;
    Ok(request)
}

async fn again(
    app: &Console,
    keys: &Keys,
    browser: &BrowserSession,
    principal: &Principal,
    form: &Form,
    problem: &Error,
) -> PageResult {
    let errors = fields::every_error_of(keys, principal, form, problem, browser.now()).await?;
    show_again(app, browser, form, error_status(problem.code()), errors)
}

fn show_again(
    app: &Console,
    browser: &BrowserSession,
    form: &Form,
    status: StatusCode,
    errors: Vec<FormError>,
) -> PageResult {
    let policy = app.policies.current()?.policy;
    let page = NewPage {
        layout: browser.layout("New key"),
        fields: KeyFields::typed(form, policy.document(), errors),
        attempt: form.text(ATTEMPT).to_owned(),
        peer: browser.peer().map(|peer| peer.to_canonical().to_string()),
    };
    let response: Response = (status, Page(page)).into_response();
    Ok(response)
}

/// The form with the browser's IP address added to the allowlist.
pub(super) fn with_address(form: &Form, browser: &BrowserSession) -> Form {
    let Some(peer) = browser.peer() else { return form.clone() };
    let mut entries = form.entries("ip_allowlist");
    let peer = peer.to_canonical().to_string();
    if !entries.contains(&peer) {
        entries.push(peer);
    }
    form.with("ip_allowlist", &entries.join("\n"))
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}
