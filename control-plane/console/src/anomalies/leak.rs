//! The report of a leaked key: finds the keys in a pasted text, revokes them, shows how they were used, and creates
//! replacement keys. The pasted text is never shown again.

use crate::page::error_status;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;

use super::list::AnomalyView;
use crate::browser_session::BrowserSession;
use crate::enforcement_status::EnforcementStatus;
use crate::extract::Authenticated;
use crate::form::{Form, FormError, attempt, new_attempt};
use crate::format::{At, Badge, Count};
use crate::layout::Layout;
use crate::page::{Page, PageResult};
use crate::state::Console;
use omniflow_api_types::anomaly::AnomalyJson;
use omniflow_api_types::gateway::EnforcementJson;
use omniflow_domain::error::Error;
use omniflow_domain::key_use::KeyUsage;
use omniflow_domain::leak::{LeakReport, LeakedKey};
use omniflow_domain::time::format_time;
use omniflow_policy::key::Secret;
use omniflow_policy::time::UnixMillis;
use omniflow_service::leaks::handle::{Measures, ReportLeak};
use omniflow_service::leaks::{Leaks, SearchTerms};

/// How long the response waits for the gateways.
const WAIT: Duration = Duration::from_secs(10);
/// JSON pointers of the report, with the form field of each.
const FIELDS: &[(&str, &str)] = &[("/text", "text"), ("/secret", "text"), ("/digest", "text")];

#[derive(Template)]
#[template(path = "anomalies/leak.html")]
struct LeakPage {
    layout: Layout,
    attempt: String,
    error: Option<FormError>,
    /// The selected action: `revoke`, `version` or `search`.
    measure: String,
    /// Whether to create a replacement key.
    replacement: bool,
}

#[derive(Template)]
#[template(path = "anomalies/leaked.html")]
struct LeakedPage {
    layout: Layout,
    keys: Vec<Leaked>,
    unknown: usize,
    malformed: usize,
    /// Whether everything that is encoded in the text was searched.
    is_complete: bool,
    /// Whether the same form was already handled.
    is_replayed: bool,
    has_revoked: bool,
    enforcement: Option<EnforcementStatus>,
}

/// A leaked key.
struct Leaked {
    id: String,
    name: String,
    status: Badge,
    versions: String,
    revoked: bool,
    usage: Option<Usage>,
    replacement: Option<Replacement>,
}

/// The key that replaces a leaked one.
struct Replacement {
    id: String,
    name: String,
    secret: Secret,
}

/// The usage of a key in the last 30 days.
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
    anomalies: Vec<AnomalyView>,
    all_calls: String,
}

/// `GET /anomalies/leak`.
pub(super) async fn show(State(app): State<Arc<Console>>, browser: BrowserSession) -> PageResult {
    let page = LeakPage {
        layout: browser.layout("Report a leaked key"),
        attempt: new_attempt(&app)?,
        error: None,
        measure: "revoke".to_owned(),
        replacement: false,
    };
    Ok(Page(page).into_response())
}

/// `POST /anomalies/leak`.
pub(super) async fn report(
    State(app): State<Arc<Console>>,
    State(leaks): State<Arc<Leaks>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    form: Form,
) -> PageResult {
    let measure = form.text("measure").to_owned();
    let replacement = form.stated("replacement").is_some() && measure != "search";
    let request = ReportLeak {
        terms: SearchTerms::read(None, None, Some(form.text("secret_text").to_owned()))?,
        measures: Measures { revoke: measure != "search", version_only: measure == "version", replacement },
        wait: Some(WAIT),
        attempt: attempt(&principal, &form),
    };
    let outcome = if form.text("secret_text").is_empty() {
        Err(Error::invalid_field("/text", "paste the secret, or a text that contains it"))
    } else {
        leaks.handle(&principal, request).await
    };
    let layout = browser.layout("Leak report");
    let page = match outcome {
        Ok(handled) if handled.replayed => LeakedPage::replayed(layout),
        Ok(handled) => LeakedPage::new(layout, handled.value, browser.now()),
        Err(problem) if error_status(problem.code()).is_server_error() => return Err(problem.into()),
        // The pasted text may be a secret, so it is not sent back.
        Err(problem) => {
            let page = LeakPage {
                layout: browser.layout("Report a leaked key"),
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
    /// The error at a field, or of the form as a whole.
    fn error_at(&self, name: Option<&str>) -> &str {
        match &self.error {
            Some(error) if error.field.as_deref() == name => &error.text,
            _ => "",
        }
    }
}

// === impl LeakedPage ===

impl LeakedPage {
    fn new(layout: Layout, report: LeakReport, now: UnixMillis) -> Self {
        let LeakReport { keys, unknown, malformed, is_complete, enforcement } = report;
        Self {
            layout,
            has_revoked: keys.iter().any(|key| key.revoked),
            keys: keys.into_iter().map(|key| Leaked::new(key, now)).collect(),
            unknown,
            malformed,
            is_complete,
            is_replayed: false,
            enforcement: enforcement.map(EnforcementJson::from).map(EnforcementStatus::from),
        }
    }

    fn replayed(layout: Layout) -> Self {
        Self {
            layout,
            keys: Vec::new(),
            unknown: 0,
            malformed: 0,
            is_complete: true,
            is_replayed: true,
            has_revoked: false,
            enforcement: None,
        }
    }
}

// === impl Leaked ===

impl Leaked {
    fn new(leaked: LeakedKey, now: UnixMillis) -> Self {
        let LeakedKey { key: details, versions, revoked, usage, replacement } = leaked;
        let id = details.key.id.to_string();
        let tense = if revoked { "was " } else { "" };
        let versions =
            versions.iter().map(|version| format!("version {} ({tense}{})", version.version, version.was));
        let replacement = replacement.map(|made| Replacement {
            id: made.key.key.id.to_string(),
            name: made.key.key.name.to_string(),
            secret: made.secret,
        });
        Self {
            usage: usage.map(|usage| Usage::new(usage, &id, now)),
            name: details.key.name.to_string(),
            status: Badge(details.status),
            versions: versions.collect::<Vec<_>>().join(", "),
            revoked,
            replacement,
            id,
        }
    }
}

// === impl Usage ===

impl Usage {
    fn new(usage: KeyUsage, key: &str, now: UnixMillis) -> Self {
        let KeyUsage { calls, anomalies } = usage;
        let endpoints = calls.endpoints.into_iter().map(|((method, endpoint), tally)| {
            let name = endpoint.unwrap_or_else(|| "no route".to_owned());
            (format!("{method} {name}"), Count(tally.calls), Count(tally.refused))
        });
        let addresses = calls.addresses.into_iter().map(|used| {
            (used.address.to_string(), used.is_new, Count(used.tally.calls), At(used.tally.last))
        });
        let anomalies = anomalies.into_iter().map(|found| AnomalyView::new(AnomalyJson::from(found), now));
        let from = format_time(calls.from);
        Self {
            from: At(calls.from),
            is_complete: calls.complete,
            calls: Count(calls.total.map_or(0, |total| total.calls)),
            refused: Count(calls.total.map_or(0, |total| total.refused)),
            last: calls.total.map(|total| At(total.last)),
            after_revocation: Count(calls.after_revocation),
            new_addresses: calls.new_addresses,
            endpoints: endpoints.collect(),
            more_endpoints: calls.more_endpoints,
            addresses: addresses.collect(),
            more_addresses: calls.more_addresses,
            anomalies: anomalies.collect(),
            all_calls: format!("/audit?key={key}&from={from}"),
        }
    }
}
