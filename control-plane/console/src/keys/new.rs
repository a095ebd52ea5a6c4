//! Creation of a key: form, review and secret.

use crate::page::error_status;
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
use omniflow_service::keys::{Create, Keys, effective_rate_limit};

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
    form: Form,
) -> PageResult {
    match form.text("do") {
        "edit" => show_again(&app, &browser, &form, StatusCode::OK, Vec::new()),
        "my-address" => {
            show_again(&app, &browser, &with_address(&form, &browser), StatusCode::OK, Vec::new())
        }
        _ => match checked_request(&keys, &browser, &form).await? {
            Ok(request) => review_page(&app, &browser, &form, request),
            Err(problems) => again(&app, &browser, &form, &problems),
        },
    }
}

fn review_page(app: &Console, browser: &BrowserSession, form: &Form, request: Create) -> PageResult {
    let Create { name, environment, settings, .. } = request;
    let policy = app.policies.current()?.policy;
    let stated = settings.scopes.unwrap_or_default();
    let chosen = |scope: &str| stated.iter().any(|given| given.as_str() == scope);
    let mut scopes = fields::scope_choices(policy.document(), chosen);
    scopes.retain(|scope| scope.is_chosen);
    let networks = settings.ip_allowlist.unwrap_or_default();
    let page = ReviewPage {
        layout: browser.layout("Review the new key"),
        submitted: form.pairs().filter(|(name, _)| ![CSRF, "do"].contains(name)).map(owned).collect(),
        scopes,
        limit: Limit(effective_rate_limit(settings.rate_limit.unwrap_or_default())),
        networks: networks.networks().iter().map(ToString::to_string).collect(),
        expires: settings.expires_at.flatten().map(At),
        name: name.to_string(),
        environment: environment.as_str().to_owned(),
        description: settings.description.filter(|text| !text.is_empty()),
    };
    Ok(Page(page).into_response())
}

/// `POST /keys`: creates the key and shows its secret once.
pub(super) async fn create(
    State(app): State<Arc<Console>>,
    State(keys): State<Arc<Keys>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    form: Form,
) -> PageResult {
    let attempt = attempt(&principal, &form);
    let created = match fields::parse(&form, browser.now()).into_request() {
        Ok(request) => {
            let request = Create { wait: Some(fields::WAIT), ..request };
            keys.create(&principal, request, attempt).await
        }
        Err(problem) => Err(problem),
    };
    match created {
        Ok(issued) => secret::page(&app, &browser, issued, Origin::Created),
        Err(problem) if problem.code() == ErrorCode::AlreadyCreated => {
            secret::page_without(&browser, form.text("name"), Origin::Created)
        }
        Err(problem) if problem.code() == ErrorCode::IdempotencyKeyReused => {
            let form = form.with(ATTEMPT, &new_attempt(&app)?);
            let text = "This form already created a key. Submit it again to create another.".to_owned();
            show_again(&app, &browser, &form, StatusCode::CONFLICT, vec![FormError { field: None, text }])
        }
        Err(problem) => {
            let mut problems = vec![problem];
            problems.extend(checked_request(&keys, &browser, &form).await?.err().unwrap_or_default());
            again(&app, &browser, &form, &problems)
        }
    }
}

/// `POST /keys/check`: the errors of a form while it is being filled in, for the script.
pub(super) async fn check(State(keys): State<Arc<Keys>>, browser: BrowserSession, form: Form) -> PageResult {
    let problems = checked_request(&keys, &browser, &form).await?.err().unwrap_or_default();
    let errors = fields::errors(&problems).into_iter();
    let texts: BTreeMap<_, _> = errors.filter_map(|error| Some((error.field?, error.text))).collect();
    Ok(Json(texts).into_response())
}

/// The request of the form if it can create a key now; otherwise its errors, of which there is at least one.
async fn checked_request(
    keys: &Keys,
    browser: &BrowserSession,
    form: &Form,
) -> Result<Result<Create, Vec<Error>>, Error> {
    let mut parsed = fields::parse(form, browser.now());
    let found = keys.find_errors(parsed.name.as_ref(), &parsed.settings).await?;
    parsed.errors.extend(found);
    let problems = parsed.errors.clone();
    Ok(parsed.into_request().map_err(|problem| if problems.is_empty() { vec![problem] } else { problems }))
}

/// Shows the form again, with its errors and the status of the first.
fn again(app: &Console, browser: &BrowserSession, form: &Form, problems: &[Error]) -> PageResult {
    let status = problems.first().map(|problem| error_status(problem.code())).unwrap_or_default();
    show_again(app, browser, form, status, fields::errors(problems))
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
