//! Tokens of the control plane, which owners list, create and revoke.

use crate::page::error_status;
use omniflow_domain::principal::Principal;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use omniflow_policy::time::UnixMillis;
use serde::Deserialize;

use super::browser_session::BrowserSession;
use super::extract::{Authenticated, Segments, StrictQuery};
use super::form::Lifetime;
use super::form::{
    ATTEMPT, Form, FormError, Labelled, attempt, error_at, general_error, invalid_fields, lifetime,
    lifetimes, new_attempt,
};
use super::format::{Ago, At, Count};
use super::layout::Layout;
use super::list_query::page_request;
use super::page::{Page, PageResult};
use super::routes::{OWNER, PageRoutes};
use crate::state::Console;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::gateway::RequestCounts;
use omniflow_domain::gateway_pattern::GatewayPattern;
use omniflow_domain::token::{Role, Token};
use omniflow_service::tokens::{CreateToken, TokenText, Tokens};

const PAGE_SIZE: usize = 50;
/// JSON pointers of the request, with the form field of each.
const POINTERS: [(&str, &str); 4] =
    [("/name", "name"), ("/role", "role"), ("/gateways", "gateways"), ("/expires_at", "expires_at")];

/// Labels of the form fields.
const LABELS: [Labelled; 4] =
    [("name", "Name"), ("role", "Role"), ("gateways", "Gateways"), ("expires_at", "Expires")];

pub(super) fn routes(routes: PageRoutes) -> PageRoutes {
    routes
        .page("/tokens", OWNER, list)
        .page("/tokens/new", OWNER, show_form)
        .form("/tokens", OWNER, create)
        .page("/tokens/{id}/revoke", OWNER, show_revoke)
        .form("/tokens/{id}/revoke", OWNER, revoke)
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Query {
    cursor: String,
}

#[derive(Template)]
#[template(path = "tokens/list.html")]
struct ListPage {
    layout: Layout,
    rows: Vec<Row>,
    is_first: bool,
    next: Option<String>,
}

struct Row {
    id: String,
    name: String,
    role: Role,
    /// The gateways that it is valid for; empty for any.
    gateways: String,
    /// The requests of gateways with it, for the role gateway.
    requests: Option<Requests>,
    created_by: String,
    created: At,
    expires: Option<Ago>,
    is_over: bool,
    /// Whether this session was started with it.
    is_own: bool,
}

/// Requests of gateways since the control plane started.
struct Requests {
    polls: Count,
    refused: Count,
    is_refused: bool,
}

#[derive(Template)]
#[template(path = "tokens/new.html")]
struct NewPage {
    layout: Layout,
    attempt: String,
    name: String,
    roles: Vec<RoleChoice>,
    gateways: String,
    lifetimes: Vec<Lifetime>,
    expires_at: String,
    errors: Vec<FormError>,
}

struct RoleChoice {
    role: Role,
    description: &'static str,
    is_chosen: bool,
}

#[derive(Template)]
#[template(path = "tokens/secret.html")]
struct SecretPage {
    layout: Layout,
    name: String,
    role: String,
    /// `None` if it was already shown.
    secret: Option<String>,
}

#[derive(Template)]
#[template(path = "tokens/revoke.html")]
struct RevokePage {
    layout: Layout,
    id: String,
    name: String,
    role: Role,
    is_own: bool,
    typed: String,
    error: Option<FormError>,
}

async fn list(
    State(tokens): State<Arc<Tokens>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    StrictQuery(query): StrictQuery<Query>,
) -> PageResult {
    let now = browser.now();
    let is_first = query.cursor.is_empty();
    let request = page_request(PAGE_SIZE, &query.cursor)?;
    let page = tokens.list(request).await?;
    let row = |token: Token| Row {
        id: token.id.to_string(),
        name: token.name.to_string(),
        role: token.role,
        requests: tokens.gateway_requests(&token).map(|RequestCounts { polls, refused }| Requests {
            polls: Count(polls),
            refused: Count(refused),
            is_refused: refused > 0,
        }),
        gateways: token.gateways.iter().map(GatewayPattern::as_str).collect::<Vec<_>>().join(", "),
        created_by: token.created_by,
        created: At(token.created_at),
        expires: token.expires_at.map(|time| Ago { time, now }),
        is_over: token.expires_at.is_some_and(|time| time <= now),
        is_own: token.id == principal.id,
    };
    Ok(Page(ListPage {
        layout: browser.layout("Tokens"),
        rows: page.items.into_iter().map(row).collect(),
        is_first,
        next: page.next_cursor.map(|cursor| format!("/tokens?cursor={cursor}")),
    })
    .into_response())
}

async fn show_form(State(app): State<Arc<Console>>, browser: BrowserSession) -> PageResult {
    let form = Form::default().with(ATTEMPT, &new_attempt(&app)?);
    Ok(form_page(&browser, &form, StatusCode::OK, Vec::new()))
}

async fn create(
    State(app): State<Arc<Console>>,
    State(tokens): State<Arc<Tokens>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    form: Form,
) -> PageResult {
    let created = match request(&tokens, &form, browser.now()) {
        Ok(request) => {
            tokens.create(&principal, request, attempt(&principal, &form)).await.map_err(|error| vec![error])
        }
        Err(errors) => Err(errors),
    };
    let problem = created.as_ref().err().and_then(|errors| errors.first()).map(Error::code);
    match created {
        Ok(created) => {
            let secret = created.value.secret.expose().to_owned();
            let token = created.value.token;
            secret_page(
                &browser,
                token.name.to_string(),
                token.role.to_string(),
                Some(secret).filter(|_| !created.replayed),
            )
        }
        Err(_) if problem == Some(ErrorCode::AlreadyCreated) => {
            secret_page(&browser, form.text("name").to_owned(), form.text("role").to_owned(), None)
        }
        Err(errors) => {
            let form = match problem {
                Some(ErrorCode::IdempotencyKeyReused) => form.with(ATTEMPT, &new_attempt(&app)?),
                _ => form,
            };
            let status = problem.map(error_status).unwrap_or_default();
            Ok(form_page(&browser, &form, status, errors.iter().map(error).collect()))
        }
    }
}

/// The request of the form, or all its errors.
fn request(tokens: &Tokens, form: &Form, now: UnixMillis) -> Result<CreateToken, Vec<Error>> {
    let (name, role) = (form.text("name").to_owned(), form.text("role").to_owned());
    let (expires_at, choice) = match lifetime(form, now) {
        Ok(expires_at) => (expires_at, None),
        Err(error) => (None, Some(error)),
    };
    let gateways = form.text("gateways").split([',', ' ', '\n', '\r']).filter(|text| !text.is_empty());
    let gateways = gateways.map(str::to_owned).collect();
    let read = tokens.parse(&TokenText { name, role, gateways, expires_at });
    match (read, choice) {
        (read, None) => read,
        (Ok(_), Some(choice)) => Err(vec![choice]),
        (Err(errors), Some(choice)) => Err(errors.into_iter().chain([choice]).collect()),
    }
}

/// Assigns a problem to its form field.
fn error(problem: &Error) -> FormError {
    FormError::new(problem, &POINTERS)
}

fn secret_page(browser: &BrowserSession, name: String, role: String, secret: Option<String>) -> PageResult {
    Ok(Page(SecretPage { layout: browser.layout("Token created"), name, role, secret }).into_response())
}

fn form_page(browser: &BrowserSession, form: &Form, status: StatusCode, errors: Vec<FormError>) -> Response {
    let role = |role: Role, description| RoleChoice {
        role,
        description,
        is_chosen: form.text("role") == role.as_str(),
    };
    let page = NewPage {
        layout: browser.layout("New token"),
        attempt: form.text(ATTEMPT).to_owned(),
        name: form.text("name").to_owned(),
        roles: vec![
            role(Role::Admin, "Creates, changes, rotates and revokes keys, and publishes the policy"),
            role(Role::Auditor, "Reads keys, policy, gateways and the audit log, and views payloads"),
            role(Role::Gateway, "For gateways: fetches snapshots and delivers audit records; cannot sign in"),
            role(Role::Owner, "Everything an admin can do, plus tokens"),
        ],
        gateways: form.text("gateways").to_owned(),
        lifetimes: lifetimes(form.text("lifetime")),
        expires_at: form.text("expires_at").to_owned(),
        errors,
    };
    (status, Page(page)).into_response()
}

async fn show_revoke(
    State(tokens): State<Arc<Tokens>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    Segments(id): Segments<String>,
) -> PageResult {
    revoke_page(&tokens, &browser, &principal, &id, "", None).await
}

async fn revoke(
    State(tokens): State<Arc<Tokens>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    Segments(id): Segments<String>,
    form: Form,
) -> PageResult {
    let typed = form.text("name");
    let token = tokens.find(&id).await?;
    if typed != token.name.as_str() {
        let problem =
            Error::invalid_field("/name", format!("the name does not match: type {} to confirm", token.name));
        return revoke_page(&tokens, &browser, &principal, &id, typed, Some(problem)).await;
    }
    match tokens.revoke(&principal, &id).await {
        Ok(()) => Ok(Redirect::to("/tokens").into_response()),
        Err(problem) => revoke_page(&tokens, &browser, &principal, &id, typed, Some(problem)).await,
    }
}

async fn revoke_page(
    tokens: &Tokens,
    browser: &BrowserSession,
    principal: &Principal,
    id: &str,
    typed: &str,
    problem: Option<Error>,
) -> PageResult {
    let token = tokens.find(id).await?;
    let status = problem.as_ref().map_or(StatusCode::OK, |problem| error_status(problem.code()));
    let page = RevokePage {
        layout: browser.layout(format!("Revoke {}", token.name)),
        id: token.id.to_string(),
        is_own: token.id == principal.id,
        name: token.name.to_string(),
        role: token.role,
        typed: typed.to_owned(),
        error: problem.map(|problem| FormError::new(&problem, &POINTERS)),
    };
    Ok((status, Page(page)).into_response())
}

impl NewPage {
    /// The error at a field.
    fn error_at(&self, field: &str) -> Option<&str> {
        error_at(&self.errors, field)
    }

    /// The fields with errors.
    fn wrong(&self) -> Vec<Labelled> {
        invalid_fields(&self.errors, &LABELS)
    }

    /// The error of the form as a whole.
    fn other_error(&self) -> Option<&str> {
        general_error(&self.errors)
    }
}

impl RevokePage {
    /// The error at a field.
    fn error_at(&self, field: &str) -> Option<&str> {
        error_at(self.error.as_slice(), field)
    }
}
