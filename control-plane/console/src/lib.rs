//! The web console. Pages are rendered on the server, from templates, and work without scripts; the only script adds
//! live updates.
//!
//! # How to build a page
//!
//! 1. **Section.** Every page belongs to a section of [`SECTIONS`](navigation::SECTIONS): path, label, group, and the
//!    roles that may see it. The navigation is generated from these. The `routes` of the section's module are listed in
//!    `routes` below and declare each path with its roles ([`PageRoutes`]): `.page()` for a page, `.form()` for the
//!    target of a form, `.live()` for parts that the script loads. There is no other way to add a path, and every
//!    request passes the session middleware ([`session_middleware`]), which checks session, role, origin and the form's
//!    CSRF token.
//! 2. **Handler.** Its arguments are extractors: `State<Arc<Console>>`,
//!    [`BrowserSession`](browser_session::BrowserSession) (the signed-in principal and the page layout),
//!    [`Principal`](omniflow_domain::principal::Principal), and [`Form`](form::Form) for a form. It calls the same
//!    **use case of the service** as the API. A page has no checks of its own and does not access the store.
//! 3. **Result.** A handler returns a [`PageResult`](page::PageResult): a [`Page`](page::Page) with a template, or a
//!    redirect (303) after a form that changed something. Return an [`Error`] with `?`; the session middleware turns it
//!    into an error page. A form handler catches it and shows it next to its field ([`FormError`](form::FormError)) in
//!    the same form, with the submitted values.
//! 4. **Context.** A struct with `#[derive(Template)]`, the field `layout`, and values formatted for display
//!    ([`format`]). The template extends `layout.html`. Everything is escaped; only Rust code marks a value as HTML
//!    ([`askama::filters::HtmlSafe`]), never a template. Each context has a test that renders a sample.
//! 5. **No inline styles or scripts**, because the pages' content security policy forbids them. Use classes of
//!    `assets/style.css`, and `data-` attributes that `assets/script.js` handles (listed at its top). Charts are SVG
//!    rendered on the server ([`chart`]), followed by their table in a `<details>`.
//! 6. **No secrets in URLs.** A secret is returned only in the response to a POST, and is shown once.
//!
//! The browser tests (`tests/browser`) open every page of the sections in both themes and two widths, with and without
//! scripts.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests prepare files and measure time"))]

mod admin_log;
mod anomalies;
mod assets;
mod audit;
mod browser_session;
mod changes;
mod chart;
mod enforcement_status;
mod error_page;
mod extract;
mod form;
mod format;
mod gateways;
mod keys;
mod layout;
mod list_query;
mod live;
mod navigation;
mod page;
mod policy;
mod preferences;
mod preferences_form;
mod route_kind;
mod routes;
mod session_cookie;
mod session_middleware;
mod settings;
mod sign_in;
mod sign_in_page;
pub mod state;
mod tokens;
mod wording;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod time_field;

pub use self::assets::Cacheable;
use self::state::AppState;
pub use self::state::Console;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request};
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};

use self::assets::Asset;
use self::browser_session::BrowserSession;
use self::navigation::SECTIONS;
use self::page::PageError;
use self::route_kind::RouteKind;
use self::routes::PageRoutes;
use self::session_middleware::with_security_headers;
use omniflow_api_types::request_error::RequestError;
use omniflow_domain::access::{Access, READ};
use omniflow_domain::error::Error;

/// The router of the console.
pub fn router(app: Arc<Console>) -> Router {
    routes(Arc::clone(&app)).router().with_state(AppState(app))
}

/// The routes of the console.
fn routes(app: Arc<Console>) -> PageRoutes {
    let routes = PageRoutes::new(app)
        .asset("/assets/{file}", async |Path(name): Path<String>| asset(&name))
        .page("/", READ, async || Redirect::to(SECTIONS.first().map_or("/", |section| section.path)))
        .form("/preferences", Access::Public, preferences_form::keep);
    let sections = [
        sign_in::routes,
        keys::routes,
        tokens::routes,
        settings::routes,
        audit::routes,
        anomalies::routes,
        admin_log::routes,
        policy::routes,
        gateways::routes,
    ];
    sections.into_iter().fold(routes, |routes, section| section(routes))
}

/// The asset with this name.
fn asset(name: &str) -> Response {
    let missing = || Error::not_found("This file does not exist. Reload the page.");
    Asset::find(name).map_or_else(|| error_page::plain(&missing().into()), IntoResponse::into_response)
}

/// The error page for a request that no route of the console serves.
pub async fn error_response(app: &Console, request: Request, error: RequestError) -> Response {
    let (parts, _) = request.into_parts();
    let response = match BrowserSession::of(app, &parts).await {
        Ok(browser) => error_page::explain(&browser, PageError::from(error).into_response(), RouteKind::Page),
        Err(error) => error_page::plain(&error.into()),
    };
    with_security_headers(response)
}

/// Whether an error of this request is shown as a page: a browser sent it, and the path is not one of an API.
pub fn wants_page(request: &Request) -> bool {
    let path = request.uri().path();
    let api_paths = ["/v1", "/gateway/v1", "/openapi.json", "/assets"];
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    !api_paths.iter().any(|prefix| path.starts_with(prefix))
        && accept.is_some_and(|accept| accept.contains("text/html"))
}
