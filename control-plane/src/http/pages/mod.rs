//! The pages: what an admin sees in a browser. They are made here, of templates, and work without scripts; the one
//! script adds what is live.
//!
//! # How a page is made
//!
//! 1. **It registers itself** in [`SECTIONS`]: path, label, group, and who may see it. The navigation is made of that.
//!    Its `endpoints` declare each address with the roles that it takes, as those of the API do
//!    ([`Endpoints`]): `.page()` for what is opened, `.form()` for what a form sends, `.live()` for what the script
//!    asks for by itself. There is no other way to add one, and the gate ([`gate`]) stands before all of them: session, role, origin,
//!    and the form's token.
//! 2. **A handler** takes what it needs as arguments: `State<Arc<App>>`, [`Visitor`](visitor::Visitor) (who reads, and
//!    the frame of the page), [`Principal`](omniflow_domain::principal::Principal), and [`Form`](form::Form) in a form. It calls **the
//!    very operation that the API calls**, with the same request and the same `Principal`: where the API's handler has it
//!    in one piece, that is cut in two, and the part without HTTP is `pub(in crate::http)`. A page checks nothing
//!    by itself and touches no row.
//! 3. **It gives a [`PageResult`](refusal::PageResult)**: [`Page`](refusal::Page) around a template, or a redirect (303)
//!    after a form that changed something. A [`Problem`](super::problem::Problem) goes out with `?`, and
//!    the gate makes a page of it. In a form it is caught, and stands at its field ([`FormError`](form::FormError)) in
//!    the same form, with all that was typed.
//! 4. **A context** is a struct with `#[derive(Template)]`, the field `frame`, and values that are ready to be shown
//!    ([`show`]). The template extends `layout.html`. Everything is escaped; what is HTML by itself says so in Rust
//!    ([`askama::filters::HtmlSafe`]) and never in a template. Each context has a test that renders a sample.
//! 5. **No inline style or script**, which the policy of the pages forbids: classes of `pages/style.css`, behaviour by
//!    `data-` attributes that `pages/script.js` knows (its head lists them). Charts are SVG from here ([`chart`]), with
//!    their table in a `<details>` behind.
//! 6. **Nothing secret in an address.** A secret is the answer to a POST and is shown this once.
//!
//! The browser tests (`tests/browser`) open every page of [`SECTIONS`] in both themes and two widths, with and without
//! scripts.

pub(super) mod assets;
mod audit;
mod chart;
mod enforcement_status;
pub(super) mod enforcement_watch;
mod events;
mod findings;
mod form;
mod frame;
pub(super) mod gate;
mod gateways;
mod keys;
mod live;
mod policy;
mod preferences;
mod refusal;
mod session;
mod settings;
mod show;
mod sign_in;
mod tokens;
mod trail;
mod visitor;

#[cfg(test)]
mod measured;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};

use self::gate::Manner;
use self::visitor::Visitor;
use super::access::{Access, Endpoints};
use super::problem::Problem;
use crate::service::app::App;
use omniflow_domain::error::{Error, ErrorCode};

/// A part of the pages, with a line in the navigation.
struct Section {
    /// The path of its first page. All others are below.
    path: &'static str,
    /// What it is called.
    label: &'static str,
    /// Under which heading it stands.
    group: &'static str,
    /// Who sees it.
    access: Access,
    /// Its pages and forms.
    endpoints: fn(Endpoints) -> Endpoints,
}

/// All sections, in the order of the navigation. The first that a reader may see is the front page.
const SECTIONS: &[Section] = &[
    keys::SECTION,
    tokens::SECTION,
    settings::SECTION,
    audit::SECTION,
    findings::SECTION,
    events::SECTION,
    policy::SECTION,
    gateways::SECTION,
];

/// Pages and what they need.
pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    let mut endpoints = assets::endpoints(endpoints)
        .page("/", super::access::READ, async || {
            Redirect::to(SECTIONS.first().map_or("/", |section| section.path))
        })
        .form("/preferences", Access::Public, preferences::keep);
    endpoints = sign_in::endpoints(endpoints);
    for section in SECTIONS {
        endpoints = (section.endpoints)(endpoints);
    }
    endpoints
}

/// What is answered where nothing is.
pub(super) async fn not_found(State(app): State<Arc<App>>, request: Request) -> Response {
    refuse(&app, request, Error::not_found("Nothing has this path.").into()).await
}

/// What is answered where something is, but not for this method: a reader has opened the address of a form, for one.
pub(super) async fn method_not_allowed(State(app): State<Arc<App>>, request: Request) -> Response {
    refuse(
        &app,
        request,
        Error::new(ErrorCode::MethodNotAllowed, "This path does not take this method.").into(),
    )
    .await
}

/// The problem: as a page to browsers, as it is to programs.
async fn refuse(app: &App, request: Request, problem: Problem) -> Response {
    if !is_for_a_browser(&request) {
        return problem.into_response();
    }
    let (parts, _) = request.into_parts();
    match Visitor::of(app, &parts).await {
        Ok(visitor) => {
            let refused = refusal::Refused::from(problem).into_response();
            gate::dressed(visitor.explain(refused, Manner::Page))
        }
        Err(problem) => Problem::from(problem).into_response(),
    }
}

fn is_for_a_browser(request: &Request) -> bool {
    let path = request.uri().path();
    let of_programs = ["/v1", "/gateway/v1", "/openapi.json", "/assets"];
    let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    !of_programs.iter().any(|prefix| path.starts_with(prefix))
        && accept.is_some_and(|accept| accept.contains("text/html"))
}
