//! `GET /policy/explain`: what becomes of one request, step by step, by the code that gateways run.

use crate::page::error_status;

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use omniflow_policy::explain::{Step, StepName, Verdict};
use serde::Deserialize;

use crate::audit::{for_field, instant};
use crate::browser_session::BrowserSession;
use crate::extract::Authenticated;
use crate::extract::StrictQuery;
use crate::form::{FormError, at};
use crate::layout::Layout;
use crate::page::{Page, PageResult};
use omniflow_domain::error::Error;
use omniflow_domain::policy::Explanation;
use omniflow_policy::denial;
use omniflow_service::keys::KeyReference;
use omniflow_service::policy::Policies;
use omniflow_service::policy::explain::{self, Explain};

/// Where a request has what the form asks for.
const FIELDS: &[(&str, &str)] = &[
    ("/key", "key"),
    ("/version", "version"),
    ("/method", "method"),
    ("/path", "path"),
    ("/source_ip", "source_ip"),
    ("/at", "at"),
    ("/calls_before", "calls_before"),
];

/// The request, as the address has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Query {
    key: String,
    version: String,
    method: String,
    path: String,
    source_ip: String,
    at: String,
    calls_before: String,
}

#[derive(Template)]
#[template(path = "policy/explain.html")]
struct ExplainPage {
    layout: Layout,
    tab: &'static str,
    query: Query,
    at: String,
    error: Option<FormError>,
    outcome: Option<Outcome>,
}

/// What became of the request.
struct Outcome {
    is_allowed: bool,
    reason: &'static str,
    status: Option<u16>,
    endpoint: Option<String>,
    scope: Option<String>,
    steps: Vec<ShownStep>,
}

struct ShownStep {
    name: &'static str,
    class: &'static str,
    verdict: &'static str,
    detail: String,
}

pub(super) async fn show(
    State(policies): State<Arc<Policies>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    StrictQuery(query): StrictQuery<Query>,
) -> PageResult {
    let is_asked = !query.path.is_empty();
    let decided = match query.to_request() {
        Ok(request) if is_asked => policies.explain(&principal, request).await.map(Some),
        Ok(_) => Ok(None),
        Err(problem) => Err(problem),
    };
    let (status, error, outcome) = match decided {
        Ok(explanation) => (StatusCode::OK, None, explanation.map(Outcome::from)),
        Err(problem) if error_status(problem.code()).is_server_error() => return Err(problem.into()),
        Err(problem) => (error_status(problem.code()), Some(FormError::new(&problem, FIELDS)), None),
    };
    let at = for_field(&query.at);
    let page = ExplainPage {
        layout: browser.layout("Explain a request"),
        tab: "explain",
        query,
        at,
        error,
        outcome,
    };
    Ok((status, Page(page)).into_response())
}

// === impl ExplainPage ===

impl ExplainPage {
    /// The fields of the form: name, label, value, what it may look like, and whether it is wide.
    fn fields(&self) -> [(&'static str, &'static str, &str, &'static str, &'static str); 6] {
        let Query { key, version, method, path, source_ip, calls_before, .. } = &self.query;
        [
            ("key", "Key", key, "Name or identifier", "grow"),
            ("method", "Method", method, "GET", ""),
            ("path", "Path", path, "/api/v1/contacts", "grow"),
            ("source_ip", "From the address", source_ip, "203.0.113.7", ""),
            ("calls_before", "Calls just before", calls_before, "0", ""),
            ("version", "Version of the key", version, "the newest", ""),
        ]
    }

    fn error_at(&self, name: &str) -> &str {
        at(self.error.as_slice(), name).unwrap_or_default()
    }
}

// === impl Query ===

impl Query {
    fn to_request(&self) -> Result<Explain, Error> {
        let stated = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let whole = |field: &str, detail: &str| Error::invalid_field(field, detail);
        let version = stated(&self.version).map(|text| text.parse());
        let calls = stated(&self.calls_before).map(|text| text.parse());
        Ok(Explain {
            key: stated(&self.key).as_deref().map(KeyReference::from),
            version: version
                .transpose()
                .map_err(|_| whole("/version", "a version is a whole number, from 1"))?,
            headers: None,
            method: stated(&self.method).unwrap_or_else(|| "GET".to_owned()).to_ascii_uppercase(),
            path: self.path.trim().to_owned(),
            source_ip: stated(&self.source_ip).as_deref().map(explain::source_ip).transpose()?,
            at: stated(&instant(&self.at)).as_deref().map(explain::instant).transpose()?,
            calls_before: calls
                .transpose()
                .map_err(|_| whole("/calls_before", "this is a whole number, such as 60"))?,
            draft: None,
        })
    }
}

// === impl Outcome ===

impl From<Explanation> for Outcome {
    fn from(explanation: Explanation) -> Self {
        let status = match explanation.outcome {
            denial::Outcome::Denied(denial) => Some(denial.status()),
            denial::Outcome::Allowed | denial::Outcome::PassedThrough => None,
        };
        Self {
            is_allowed: status.is_none(),
            reason: explanation.outcome.reason(),
            status,
            endpoint: explanation.endpoint,
            scope: explanation.required_scope,
            steps: explanation.steps.into_iter().map(ShownStep::from).collect(),
        }
    }
}

// === impl ShownStep ===

impl From<Step> for ShownStep {
    fn from(step: Step) -> Self {
        let (class, verdict) = match step.verdict {
            Verdict::Passed => ("good", "passed"),
            Verdict::Refused => ("bad", "refused"),
            Verdict::NotReached => ("", "not reached"),
        };
        let name = match step.name {
            StepName::Credential => "One credential",
            StepName::Key => "A known key",
            StepName::Validity => "Neither revoked nor expired",
            StepName::Address => "From an allowed address",
            StepName::Route => "A route for path and method",
            StepName::Scope => "The scope of the route",
            StepName::Limit => "Within its limits",
        };
        Self { name, class, verdict, detail: step.detail }
    }
}
