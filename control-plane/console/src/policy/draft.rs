//! A draft of the policy: comparison with the effective policy, test against past calls, publication.

use crate::page::error_status;

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use serde::Deserialize;

use super::difference::Difference;
use super::overview::to_pretty_json;
use crate::browser_session::BrowserSession;
use crate::enforcement_status::EnforcementStatus;
use crate::extract::Authenticated;
use crate::extract::StrictQuery;
use crate::form::Form;
use crate::format::{Count, Moment};
use crate::layout::Layout;
use crate::page::{Page, PageResult};
use crate::wording;
use omniflow_api_types::gateway::EnforcementJson;
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::key::KeyReference;
use omniflow_domain::policy::ReplayReport;
use omniflow_domain::time::DAY_MS;
use omniflow_policy::denial::Outcome;
use omniflow_service::policy::Policies;
use omniflow_service::policy::document::Draft;
use omniflow_service::policy::replay::ReplayCalls;
use omniflow_service::policy::set::SetPolicy;
use omniflow_service::precondition::Precondition;

/// How long publishing waits for the gateways.
pub(super) const WAIT: Duration = Duration::from_secs(10);
/// Number of lines shown before and after an invalid one.
const CONTEXT_LINES: usize = 2;
/// Periods of past calls: value, label, and milliseconds before now; `None` for all calls.
pub(super) const SPANS: [(&str, &str, Option<u64>); 4] = [
    ("24h", "Last 24 hours", Some(DAY_MS)),
    ("7d", "Last 7 days", Some(604_800_000)),
    ("30d", "Last 30 days", Some(2_592_000_000)),
    ("all", "All recorded calls", None),
];

#[derive(Template)]
#[template(path = "policy/draft.html")]
struct DraftPage {
    layout: Layout,
    tab: &'static str,
    /// The effective version that the draft is compared with.
    base: u64,
    text: String,
    error: Option<DraftError>,
    note: Option<String>,
    difference: Option<Difference>,
    /// Digest of the text whose difference was shown.
    seen: String,
    span: String,
    key: String,
    replay: Option<ReplayView>,
}

/// An error in a draft, with its place.
struct DraftError {
    text: String,
    /// Number of the invalid line, from 1.
    line: Option<usize>,
    /// The invalid line and those around it: number, text, whether it is the invalid one.
    lines: Vec<(usize, String, bool)>,
    /// JSON pointer of the place in the document.
    pointer: Option<String>,
}

/// The result of a test against past calls.
struct ReplayView {
    calls: Count,
    refused: Count,
    keys_refused: Count,
    allowed: Count,
    keys_allowed: Count,
    unaffected: Count,
    unknown: Count,
    oldest: Option<Moment>,
    is_complete: bool,
    rows: Vec<ChangedDecision>,
    has_more: bool,
}

/// Calls with the same key, method and endpoint that would be decided differently.
struct ChangedDecision {
    key: String,
    key_path: String,
    method: String,
    endpoint: String,
    before: &'static str,
    after: &'static str,
    is_refused: bool,
    calls: Count,
    newest: String,
    path: String,
}

#[derive(Template)]
#[template(path = "policy/published.html")]
pub(super) struct PublishedPage {
    pub(super) layout: Layout,
    pub(super) tab: &'static str,
    pub(super) version: u64,
    pub(super) enforcement: Option<EnforcementStatus>,
    /// Whether the document is identical to the effective one.
    pub(super) is_same: bool,
}

/// The query string.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Query {
    /// Version to start the draft from; empty for the effective one.
    from: String,
}

/// `GET /policy/draft`.
pub(super) async fn show(
    State(policies): State<Arc<Policies>>,
    browser: BrowserSession,
    StrictQuery(query): StrictQuery<Query>,
) -> PageResult {
    let current = policies.current()?;
    let text = match query.from.as_str() {
        "" => to_pretty_json(current.policy.document())?,
        version => to_pretty_json(&policies.version(version).await?.document)?,
    };
    Ok(Page(DraftPage::new(browser.layout("Draft"), current.version, text)).into_response())
}

/// `POST /policy/draft`: compares the draft with the effective policy and, on request, tests it against past calls.
pub(super) async fn compare(
    State(policies): State<Arc<Policies>>,
    browser: BrowserSession,
    form: Form,
) -> PageResult {
    let base = policies.current()?.version;
    let mut page = DraftPage::of_form(browser.layout("Draft"), base, &form);
    if let Err(problem) = page.compare(&policies).await {
        return page.with_error(&problem);
    }
    if form.text("do") == "replay" {
        match replay(&policies, &page, browser.now()).await {
            Ok(replay) => page.replay = Some(replay),
            Err(problem) if problem.code() == ErrorCode::Busy => page.note = Some(wording::text(&problem)),
            Err(problem) => return page.with_error(&problem),
        }
    }
    Ok(Page(page).into_response())
}

/// `POST /policy/publish`: publishes the draft if its changes were reviewed.
pub(super) async fn publish(
    State(policies): State<Arc<Policies>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    form: Form,
) -> PageResult {
    let current = policies.current()?.version;
    let mut page = DraftPage::of_form(browser.layout("Draft"), current, &form);
    let base = form.number("base", "/base")?.unwrap_or(current);
    if let Err(problem) = page.compare(&policies).await {
        return page.with_error(&problem);
    }
    if page.difference.as_ref().is_some_and(Difference::is_empty) {
        let layout = browser.layout("Policy");
        let page = PublishedPage { layout, tab: "draft", version: current, enforcement: None, is_same: true };
        return Ok(Page(page).into_response());
    }
    if form.text("seen") != page.seen {
        page.note = Some(
            "The draft was edited after the review. Review its changes below, then publish it.".to_owned(),
        );
        return Ok(Page(page).into_response());
    }
    let draft = page.draft()?;
    let request = SetPolicy { draft, precondition: Precondition::at(base), wait: Some(WAIT) };
    match policies.set(&principal, request).await {
        Ok(effective) => {
            let page = PublishedPage {
                layout: browser.layout("Policy"),
                tab: "draft",
                version: effective.current.version,
                enforcement: effective.enforcement.map(EnforcementJson::from).map(EnforcementStatus::from),
                is_same: false,
            };
            Ok(Page(page).into_response())
        }
        Err(problem) if problem.code() == ErrorCode::VersionMismatch => {
            page.note = Some(format!(
                "Version {current} was published since you started this draft from version {base}. Your draft is kept, and \
                 its changes to version {current} are shown below. Publish it only if you want to undo the other change."
            ));
            Ok((StatusCode::PRECONDITION_FAILED, Page(page)).into_response())
        }
        Err(problem) => page.with_error(&problem),
    }
}

async fn replay(policies: &Policies, page: &DraftPage, now: UnixMillis) -> Result<ReplayView, Error> {
    let span = SPANS.iter().find(|(name, ..)| *name == page.span).and_then(|(.., millis)| *millis);
    let from = span.map(|millis| UnixMillis(now.0.saturating_sub(millis)));
    let key = Some(page.key.as_str()).filter(|key| !key.is_empty()).map(KeyReference::from);
    let request = ReplayCalls { draft: page.draft()?, key, from, to: None };
    Ok(policies.replay(request).await?.into())
}

// === impl DraftPage ===

impl DraftPage {
    fn new(layout: Layout, base: u64, text: String) -> Self {
        Self {
            layout,
            tab: "draft",
            base,
            text,
            error: None,
            note: None,
            difference: None,
            seen: String::new(),
            span: "7d".to_owned(),
            key: String::new(),
            replay: None,
        }
    }

    fn of_form(layout: Layout, base: u64, form: &Form) -> Self {
        // Browsers send line ends as CRLF.
        let text = form.text("text").replace("\r\n", "\n");
        let span = form.stated("span").unwrap_or_else(|| "7d".to_owned());
        Self { span, key: form.text("key").to_owned(), ..Self::new(layout, base, text) }
    }

    fn draft(&self) -> Result<Draft, Error> {
        Draft::from_json(self.text.clone().into_bytes())
    }

    /// Finds what the draft changes.
    async fn compare(&mut self, policies: &Policies) -> Result<(), Error> {
        self.difference = Some(policies.compare_draft(self.draft()?).await?.into());
        self.seen = Digest::of(self.text.as_bytes()).to_hex();
        Ok(())
    }

    /// The page with the error of the draft. A server error has its own page.
    fn with_error(mut self, problem: &Error) -> PageResult {
        let status = error_status(problem.code());
        if status.is_server_error() {
            return Err(problem.clone().into());
        }
        self.error = Some(DraftError::new(problem, &self.text));
        let response: Response = (status, Page(self)).into_response();
        Ok(response)
    }

    fn spans(&self) -> [(&'static str, &'static str, bool); 4] {
        SPANS.map(|(name, label, _)| (name, label, name == self.span))
    }

    fn error_line(&self) -> usize {
        self.error.as_ref().and_then(|error| error.line).unwrap_or_default()
    }
}

// === impl DraftError ===

impl DraftError {
    fn new(problem: &Error, text: &str) -> Self {
        let line = problem.line().or_else(|| line_in(problem.detail()));
        let is_near = |number: usize| line.is_some_and(|line| number.abs_diff(line) <= CONTEXT_LINES);
        let lines = text.lines().enumerate().map(|(place, content)| (place + 1, content));
        let near = lines.filter(|(number, _)| is_near(*number));
        Self {
            text: wording::text(problem),
            lines: near.map(|(number, content)| (number, content.to_owned(), Some(number) == line)).collect(),
            line,
            pointer: problem.field().map(str::to_owned),
        }
    }
}

/// The line number in the detail of a JSON error: `… at line 3 column 5`.
fn line_in(detail: &str) -> Option<usize> {
    let (_, rest) = detail.rsplit_once(" at line ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok().filter(|line| *line > 0)
}

// === impl ReplayView ===

impl From<ReplayReport> for ReplayView {
    fn from(replay: ReplayReport) -> Self {
        let counts = replay.counts;
        let rows = replay.changes.into_iter().map(|change| {
            let key = change.key_id.to_string();
            ChangedDecision {
                key_path: format!("/keys/{key}"),
                key: change.key_name.unwrap_or(key),
                method: change.method,
                endpoint: change.endpoint.unwrap_or_else(|| "no route".to_owned()),
                before: change.before.reason(),
                after: change.after.reason(),
                is_refused: change.after != Outcome::Allowed,
                calls: Count(change.calls),
                newest: format!("/audit/{}", change.newest_record),
                path: change.newest_path,
            }
        });
        Self {
            calls: Count(counts.calls),
            refused: Count(counts.newly_refused),
            keys_refused: Count(counts.keys_newly_refused as u64),
            allowed: Count(counts.newly_allowed),
            keys_allowed: Count(counts.keys_newly_allowed as u64),
            unaffected: Count(counts.unaffected),
            unknown: Count(counts.not_replayable),
            oldest: replay.oldest.map(Moment),
            is_complete: replay.complete,
            rows: rows.collect(),
            has_more: replay.more_changes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_line_is_shown_with_its_context() {
        let problem = Error::invalid_json(None, "expected `,` or `}` at line 3 column 5");
        let error = DraftError::new(&problem, "1\n2\n3\n4\n5\n6");
        let reported: Vec<_> =
            error.lines.iter().map(|(number, text, is_it)| (*number, &**text, *is_it)).collect();
        let expected = [(1, "1", false), (2, "2", false), (3, "3", true), (4, "4", false), (5, "5", false)];
        assert_eq!((error.line, reported), (Some(3), expected.to_vec()));
        let problem = Error::invalid_field("/routes/0", "no").at_line(Some(6));
        assert_eq!(DraftError::new(&problem, "1\n2\n3\n4\n5\n6").lines.len(), 3);
        assert!(DraftError::new(&Error::invalid_field("/routes", "no"), "x").lines.is_empty());
    }
}
