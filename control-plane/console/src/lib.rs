//! The pages: what an admin sees in a browser. They are made here, of templates, and work without scripts; the one
//! script adds what is live.
//!
//! # How a page is made
//!
//! 1. **It belongs to a section** of [`SECTIONS`](navigation::SECTIONS): path, label, group, and who may see it. The
//!    navigation is made of that. The `routes` of its module are listed in `routes` below, and declare each path with the
//!    roles that it admits ([`PageRoutes`]): `.page()` for what is opened, `.form()` for the target of a form, `.live()`
//!    for parts that the script loads. There is no other way to add one, and all pass the session middleware
//!    ([`session_middleware`]), which checks session, role, origin, and the form's token.
//! 2. **A handler** takes what it needs as arguments: `State<Arc<Console>>`, [`BrowserSession`](browser_session::BrowserSession) (who reads, and
//!    the layout of the page), [`Principal`](omniflow_domain::principal::Principal), and [`Form`](form::Form) in a form. It calls a **use case of the
//!    service**, the same that the API calls. A page checks nothing by itself and touches no row.
//! 3. **It gives a [`PageResult`](page::PageResult)**: [`Page`](page::Page) around a template, or a redirect (303)
//!    after a form that changed something. An [`Error`] is returned with `?`, and the session
//!    middleware turns it into an error page. In a form it is caught, and stands at its field ([`FormError`](form::FormError)) in
//!    the same form, with all that was typed.
//! 4. **A context** is a struct with `#[derive(Template)]`, the field `layout`, and values that are ready to be shown
//!    ([`format`]). The template extends `layout.html`. Everything is escaped; what is HTML by itself says so in Rust
//!    ([`askama::filters::HtmlSafe`]) and never in a template. Each context has a test that renders a sample.
//! 5. **No inline style or script**, which the policy of the pages forbids: classes of `assets/style.css`, behaviour by
//!    `data-` attributes that `assets/script.js` knows (its head lists them). Charts are SVG from here ([`chart`]), with
//!    their table in a `<details>` behind.
//! 6. **Nothing secret in an address.** A secret is the answer to a POST and is shown this once.
//!
//! The browser tests (`tests/browser`) open every page of the sections in both themes and two widths, with and without
//! scripts.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod assets;
mod audit;
mod browser_session;
mod chart;
mod enforcement_status;
pub mod enforcement_watch;
mod error_page;
mod events;
mod extract;
mod findings;
mod form;
mod format;
mod gateways;
mod keys;
mod layout;
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
mod trail;

#[cfg(test)]
mod measured;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

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
        findings::routes,
        events::routes,
        policy::routes,
        gateways::routes,
    ];
    sections.into_iter().fold(routes, |routes, section| section(routes))
}

/// The file of the pages with this name.
fn asset(name: &str) -> Response {
    let missing = || Error::not_found("No file of the pages has this name. Load the page anew.");
    Asset::find(name).map_or_else(|| error_page::plain(&missing()), IntoResponse::into_response)
}

/// The error page for a request that no route of the console serves.
pub async fn error_response(app: &Console, request: Request, error: Error) -> Response {
    let (parts, _) = request.into_parts();
    let response = match BrowserSession::of(app, &parts).await {
        Ok(browser) => error_page::explain(&browser, PageError::from(error).into_response(), RouteKind::Page),
        Err(error) => error_page::plain(&error),
    };
    with_security_headers(response)
}

/// Whether an error is shown as a page: a browser has opened a path that is not one of programs.
pub fn wants_page(request: &Request) -> bool {
    let path = request.uri().path();
    let of_programs = ["/v1", "/gateway/v1", "/openapi.json", "/assets"];
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    !of_programs.iter().any(|prefix| path.starts_with(prefix))
        && accept.is_some_and(|accept| accept.contains("text/html"))
}
