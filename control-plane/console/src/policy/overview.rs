//! `GET /policy` and `GET /policy/document`: the effective policy.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::IntoResponse;
use omniflow_policy::policy::PolicyDocument;

use crate::browser_session::BrowserSession;
use crate::format::At;
use crate::layout::Layout;
use crate::list_query::path_with_query;
use crate::page::{Page, PageResult};
use omniflow_domain::error::Error;
use omniflow_service::policy::Policies;
use omniflow_service::publication::NumberedPolicy;

#[derive(Template)]
#[template(path = "policy/overview.html")]
struct OverviewPage {
    layout: Layout,
    tab: &'static str,
    version: u64,
    created: At,
    created_by: String,
    routes: Vec<Route>,
    scopes: Vec<Scope>,
    imported_keys: bool,
    payload_bytes: u32,
    redacted: Vec<String>,
}

/// A route, formatted for display.
pub(super) struct Route {
    pub(super) path: String,
    pub(super) methods: Vec<String>,
    pub(super) scope: String,
    pub(super) redacted: Vec<String>,
    pub(super) keeps_payload: bool,
    pub(super) calls: String,
}

/// A scope, formatted for display.
pub(super) struct Scope {
    name: String,
    description: String,
    routes: usize,
    keys: String,
}

#[derive(Template)]
#[template(path = "policy/document.html")]
struct DocumentPage {
    layout: Layout,
    tab: &'static str,
    version: u64,
    text: String,
}

pub(super) async fn show(State(policies): State<Arc<Policies>>, browser: BrowserSession) -> PageResult {
    let NumberedPolicy { version, policy } = policies.current()?;
    let stored = policies.version(&version.to_string()).await?;
    let document = policy.document();
    let routes: Vec<Route> = routes(document);
    let scope = |scope: &omniflow_policy::policy::ScopeDefinition| {
        let name = scope.name.to_string();
        Scope {
            routes: routes.iter().filter(|route| route.scope == name).count(),
            keys: path_with_query("/keys", [("scope", name.as_str())]),
            description: scope.description.clone(),
            name,
        }
    };
    Ok(Page(OverviewPage {
        layout: browser.layout("Policy"),
        tab: "routes",
        version,
        created: At(stored.created_at),
        created_by: stored.created_by,
        scopes: document.scopes.iter().map(scope).collect(),
        imported_keys: document.imported_keys,
        payload_bytes: document.payloads.max_bytes,
        redacted: document.payloads.redact.iter().cloned().map(String::from).collect(),
        routes,
    })
    .into_response())
}

pub(super) async fn document(State(policies): State<Arc<Policies>>, browser: BrowserSession) -> PageResult {
    let NumberedPolicy { version, policy } = policies.current()?;
    let text = to_pretty_json(policy.document())?;
    let page = DocumentPage { layout: browser.layout("Policy document"), tab: "document", version, text };
    Ok(Page(page).into_response())
}

fn routes(document: &PolicyDocument) -> Vec<Route> {
    let route = |route: &omniflow_policy::policy::RouteDefinition| Route {
        methods: route.methods.iter().cloned().map(String::from).collect(),
        scope: route.scope.to_string(),
        redacted: route.redact.clone(),
        keeps_payload: route.payload && document.payloads.max_bytes > 0,
        calls: path_with_query("/audit", [("endpoint", route.path.as_str())]),
        path: route.path.clone(),
    };
    document.routes.iter().map(route).collect()
}

/// Formats a document as indented JSON.
pub(super) fn to_pretty_json(document: &PolicyDocument) -> Result<String, Error> {
    serde_json::to_string_pretty(document).map_err(|error| {
        tracing::error!(%error, "policy serialization failed");
        Error::internal()
    })
}
