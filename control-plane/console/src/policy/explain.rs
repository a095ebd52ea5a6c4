//! `GET /policy/explain`: the decision on a request, step by step, by the code that gateways run.

use crate::page::error_status;

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use omniflow_policy::explain::{Step, StepName, Verdict};
use serde::Deserialize;

use crate::browser_session::BrowserSession;
use crate::extract::Authenticated;
use crate::extract::StrictQuery;
use crate::form::{FormError, error_at};
use crate::layout::Layout;
use crate::page::{Page, PageResult};
use crate::time_field::{to_field, to_instant};
use omniflow_domain::error::Error;
use omniflow_domain::key::KeyReference;
use omniflow_domain::policy::Explanation;
use omniflow_policy::denial;
use omniflow_service::policy::Policies;
use omniflow_service::policy::explain::{self, Explain};

/// JSON pointers of the request, with the form field of each.
const FIELDS: &[(&str, &str)] = &[
    ("/key", "key"),
    ("/version", "version"),
    ("/method", "method"),
    ("/path", "path"),
    ("/source_ip", "source_ip"),
    ("/at", "at"),
    ("/calls_before", "calls_before"),
];

/// The query string with the request.
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

/// The decision on the request.
struct Outcome {
    is_allowed: bool,
    reason: &'static str,
    status: Option<u16>,
    endpoint: Option<String>,
    scope: Option<String>,
    steps: Vec<StepView>,
}

struct StepView {
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
    let has_request = !query.path.is_empty();
    let decided = match query.to_request() {
        Ok(request) if has_request => policies.explain(&principal, request).await.map(Some),
        Ok(_) => Ok(None),
        Err(problem) => Err(problem),
    };
    let (status, error, outcome) = match decided {
        Ok(explanation) => (StatusCode::OK, None, explanation.map(Outcome::from)),
        Err(problem) if error_status(problem.code()).is_server_error() => return Err(problem.into()),
        Err(problem) => (error_status(problem.code()), Some(FormError::new(&problem, FIELDS)), None),
    };
    let at = to_field(&query.at);
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
    /// The form fields: name, label, value, placeholder and CSS class of the width.
    fn fields(&self) -> [(&'static str, &'static str, &str, &'static str, &'static str); 6] {
        let Query { key, version, method, path, source_ip, calls_before, .. } = &self.query;
        [
            ("key", "Key", key, "Name or ID", "grow"),
            ("method", "Method", method, "GET", ""),
            ("path", "Path", path, "/api/v1/contacts", "grow"),
            ("source_ip", "IP address", source_ip, "203.0.113.7", ""),
            ("calls_before", "Earlier calls", calls_before, "0", ""),
            ("version", "Key version", version, "newest", ""),
        ]
    }

    fn error_at(&self, name: &str) -> &str {
        error_at(self.error.as_slice(), name).unwrap_or_default()
    }
}

// === impl Query ===

impl Query {
    fn to_request(&self) -> Result<Explain, Error> {
        let stated = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let invalid = |field: &str, detail: &str| Error::invalid_field(field, detail);
        let version = stated(&self.version).map(|text| text.parse());
        let calls = stated(&self.calls_before).map(|text| text.parse());
        Ok(Explain {
            key: stated(&self.key).as_deref().map(KeyReference::from),
            version: version
                .transpose()
                .map_err(|_| invalid("/version", "enter a whole number, 1 or greater"))?,
            headers: None,
            method: stated(&self.method).unwrap_or_else(|| "GET".to_owned()).to_ascii_uppercase(),
            path: self.path.trim().to_owned(),
            source_ip: stated(&self.source_ip).as_deref().map(explain::source_ip).transpose()?,
            at: stated(&to_instant(&self.at)).as_deref().map(explain::instant).transpose()?,
            calls_before: calls
                .transpose()
                .map_err(|_| invalid("/calls_before", "enter a whole number, such as 60"))?,
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
            steps: explanation.steps.into_iter().map(StepView::from).collect(),
        }
    }
}

// === impl StepView ===

impl From<Step> for StepView {
    fn from(step: Step) -> Self {
        let (class, verdict) = match step.verdict {
            Verdict::Passed => ("good", "passed"),
            Verdict::Refused => ("bad", "refused"),
            Verdict::NotReached => ("", "not reached"),
        };
        let name = match step.name {
            StepName::Credential => "Exactly one credential",
            StepName::Key => "Known key",
            StepName::Validity => "Not revoked or expired",
            StepName::Address => "Allowed IP address",
            StepName::Route => "Matching route",
            StepName::Scope => "Required scope",
            StepName::Limit => "Within limits",
        };
        Self { name, class, verdict, detail: step.detail }
    }
}
