//! The answer to a leak: a secret, or a text that may have some, is pasted; what it opens is named and revoked, how it was
//! used is told, and a successor is offered. What was pasted is shown nowhere again.

use crate::http::problem::status as problem_status;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::list::Shown;
use crate::http::access::Authenticated;
use crate::http::leaks::{Outcome, respond};
use crate::http::pages::enforcement_status::EnforcementStatus;
use crate::http::pages::form::{Form, FormError, attempt, new_attempt};
use crate::http::pages::frame::Frame;
use crate::http::pages::refusal::{Page, PageResult};
use crate::http::pages::show::{At, Badge, Count};
use crate::http::pages::visitor::Visitor;
use crate::service::app::App;
use omniflow_api_types::key::{CreatedKey, KeyJson};
use omniflow_api_types::leak::{KeyUseJson, LeakReport, LeakedKey, ReportLeak};
use omniflow_domain::error::Error;

/// How long the answer waits for the gateways.
const WAIT: Duration = Duration::from_secs(10);
/// Where a report has what the form asks for.
const FIELDS: &[(&str, &str)] = &[("/text", "text"), ("/secret", "text"), ("/digest", "text")];

#[derive(Template)]
#[template(path = "findings/leak.html")]
struct LeakPage {
    frame: Frame,
    attempt: String,
    error: Option<FormError>,
    /// What was chosen: `revoke`, `version` or `look`, and whether a successor is wanted.
    measure: String,
    replacement: bool,
}

#[derive(Template)]
#[template(path = "findings/leaked.html")]
struct LeakedPage {
    frame: Frame,
    keys: Vec<Leaked>,
    unknown: usize,
    malformed: usize,
    /// Whether the report was acted upon before, and is told no more.
    is_repeated: bool,
    has_revoked: bool,
    in_force: Option<EnforcementStatus>,
}

/// A key that leaked.
struct Leaked {
    id: String,
    name: String,
    status: Badge,
    versions: String,
    revoked: bool,
    usage: Option<Usage>,
    /// Its successor, with the secret where there is one to show.
    replacement: Option<CreatedKey>,
}

/// How a key was used in the last 30 days.
struct Usage {
    from: At,
    is_complete: bool,
    calls: Count,
    refused: Count,
    last: Option<At>,
    after_revocation: Count,
    new_addresses: usize,
    endpoints: Vec<(String, Count, Count)>,
    more_endpoints: usize,
    addresses: Vec<(String, bool, Count, At)>,
    more_addresses: usize,
    findings: Vec<Shown>,
    all_calls: String,
}

/// `GET /findings/leak`.
pub(super) async fn show(State(app): State<Arc<App>>, visitor: Visitor) -> PageResult {
    let page = LeakPage {
        frame: visitor.frame("A secret has leaked"),
        attempt: new_attempt(&app)?,
        error: None,
        measure: "revoke".to_owned(),
        replacement: false,
    };
    Ok(Page(page).into_response())
}

/// `POST /findings/leak`.
pub(super) async fn report(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Authenticated(principal): Authenticated,
    form: Form,
) -> PageResult {
    let measure = form.text("measure").to_owned();
    let replacement = form.stated("replacement").is_some() && measure != "look";
    let request = ReportLeak {
        secret: None,
        digest: None,
        text: Some(form.text("secret_text").to_owned()),
        revoke: measure != "look",
        version_only: measure == "version",
        replacement,
    };
    let outcome = if form.text("secret_text").is_empty() {
        Err(Error::invalid_field("/text", "paste the secret, or the text in which it stands"))
    } else {
        let named = attempt(&principal, &form);
        respond(&app, principal, Some(WAIT), request, named).await
    };
    let frame = visitor.frame("What leaked");
    let page = match outcome {
        Ok(Outcome::Done(done)) => LeakedPage::new(frame, done.report, visitor.now()),
        Ok(Outcome::Again(_)) => LeakedPage::repeated(frame),
        Err(problem) if problem_status(problem.code()).is_server_error() => return Err(problem.into()),
        // What was pasted is a secret, so this is the one form that comes back without it.
        Err(problem) => {
            let page = LeakPage {
                frame: visitor.frame("A secret has leaked"),
                attempt: new_attempt(&app)?,
                error: Some(FormError::new(&problem, FIELDS)),
                measure,
                replacement,
            };
            return Ok((StatusCode::UNPROCESSABLE_ENTITY, Page(page)).into_response());
        }
    };
    Ok(Page(page).into_response())
}

// === impl LeakPage ===

impl LeakPage {
    /// What is wrong at a field, or with the form as a whole.
    fn error_at(&self, name: Option<&str>) -> &str {
        match &self.error {
            Some(error) if error.field.as_deref() == name => &error.text,
            _ => "",
        }
    }
}

// === impl LeakedPage ===

impl LeakedPage {
    fn new(frame: Frame, report: LeakReport, now: omniflow_policy::time::UnixMillis) -> Self {
        let LeakReport { keys, unknown, malformed, enforcement } = report;
        Self {
            frame,
            has_revoked: keys.iter().any(|key| key.revoked),
            keys: keys.into_iter().map(|key| Leaked::new(key, now)).collect(),
            unknown,
            malformed,
            is_repeated: false,
            in_force: enforcement.map(EnforcementStatus::from),
        }
    }

    fn repeated(frame: Frame) -> Self {
        Self {
            frame,
            keys: Vec::new(),
            unknown: 0,
            malformed: 0,
            is_repeated: true,
            has_revoked: false,
            in_force: None,
        }
    }
}

// === impl Leaked ===

impl Leaked {
    fn new(leaked: LeakedKey, now: omniflow_policy::time::UnixMillis) -> Self {
        let id = leaked.key.id.to_string();
        let until_now = if leaked.revoked { "was " } else { "" };
        let versions = leaked
            .versions
            .iter()
            .map(|version| format!("version {} ({until_now}{})", version.id, version.was));
        Self {
            usage: leaked.usage.map(|usage| Usage::new(usage, &id, now)),
            name: leaked.key.name.to_string(),
            status: Badge(leaked.key.status),
            versions: versions.collect::<Vec<_>>().join(", "),
            revoked: leaked.revoked,
            replacement: leaked.replacement,
            id,
        }
    }

    /// The successor and its secret.
    fn successor(&self) -> Option<(&KeyJson, &str)> {
        let made = self.replacement.as_ref()?;
        Some((&made.key, made.secret.as_deref()?))
    }
}

// === impl Usage ===

impl Usage {
    fn new(usage: KeyUseJson, key: &str, now: omniflow_policy::time::UnixMillis) -> Self {
        let endpoints = usage.endpoints.into_iter().map(|used| {
            let name = used.endpoint.unwrap_or_else(|| "no route".to_owned());
            (format!("{} {name}", used.method), Count(used.calls), Count(used.refused))
        });
        let addresses = usage
            .addresses
            .into_iter()
            .map(|used| (used.address.to_string(), used.new, Count(used.calls), At(used.last_call_at.0)));
        let from = omniflow_domain::time::format_time(usage.from.0);
        Self {
            from: At(usage.from.0),
            is_complete: usage.complete,
            calls: Count(usage.calls),
            refused: Count(usage.refused),
            last: usage.last_call_at.map(|time| At(time.0)),
            after_revocation: Count(usage.calls_after_revocation),
            new_addresses: usage.new_addresses,
            endpoints: endpoints.collect(),
            more_endpoints: usage.more_endpoints,
            addresses: addresses.collect(),
            more_addresses: usage.more_addresses,
            findings: usage.findings.into_iter().map(|found| Shown::new(found, now)).collect(),
            all_calls: format!("/audit?key={key}&from={from}"),
        }
    }
}
