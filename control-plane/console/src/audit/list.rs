//! `GET /audit`: calls, newest first, with a search and a summary.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use omniflow_policy::denial::Outcome;
use omniflow_policy::time::UnixMillis;

use super::query::{Chip, Query};
use super::row::Row;
use super::summary::CallSummary;
use crate::browser_session::BrowserSession;
use crate::extract::StrictQuery;
use crate::form::{FormError, error_at, general_error};
use crate::format::{Count, Moment};
use crate::layout::Layout;
use crate::page::{Page, PageResult};
use crate::time_field::to_field;
use crate::wording;
use omniflow_api_types::audit::{AuditEntryJson, AuditGapJson};
use omniflow_domain::audit::CallInProgress;
use omniflow_domain::audit_query::{AuditFilter, AuditPosition};
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::page::PageRequest;
use omniflow_domain::time::{DAY_MS, format_time};
use omniflow_service::audit::RequestLog;
use omniflow_service::audit::search::FoundCalls;

/// Time limit of the search and of the count, which run concurrently.
const MAX_SEARCH: Duration = Duration::from_millis(60);
/// Fields of the search form.
const FIELDS: [&str; 9] =
    ["key", "environment", "endpoint", "method", "status", "grpc_status", "ip", "from", "to"];
/// Maximum number of gaps on a page.
const MAX_GAPS: usize = 50;
/// Maximum number of calls in progress on a page.
const MAX_IN_PROGRESS: usize = 20;
/// Time ranges to choose from: label, and milliseconds before now.
const RANGES: [(&str, u64); 5] = [
    ("15 min", 900_000),
    ("1 hour", 3_600_000),
    ("24 hours", DAY_MS),
    ("7 days", 604_800_000),
    ("30 days", 2_592_000_000),
];

#[derive(Template)]
#[template(path = "audit/list.html")]
struct AuditPage {
    layout: Layout,
    query: Query,
    from: String,
    to: String,
    chips: Vec<Chip>,
    /// Errors of the search.
    errors: Vec<FormError>,
    reasons: Vec<&'static str>,
    ranges: Vec<(&'static str, String)>,
    exports: [(&'static str, String); 2],
    refresh: String,
    /// Path of the live stream, on the first page of a search without an end.
    live: Option<String>,
    /// The summary on the first page, or why there is none.
    summary: Option<Result<CallSummary, String>>,
    in_progress: Vec<ListedCall>,
    items: Vec<Item>,
    next: Option<String>,
    /// Path that resumes the search and the time it reached, if it hit the time limit.
    resume: Option<(String, Moment)>,
}

/// An item of the list.
enum Item {
    Call(Box<Row>),
    Gap(Gap),
}

/// A gap: calls whose records are missing.
struct Gap {
    from: Option<Moment>,
    to: Moment,
    missing: Count,
    /// Whether the number is a lower bound.
    is_minimum: bool,
    gateway: String,
    cause: &'static str,
}

/// A call in progress.
struct ListedCall {
    since: Moment,
    /// Name and path of the page of the key.
    key: Option<(String, String)>,
    method: String,
    path: String,
    address: Option<String>,
    gateway: String,
    is_lost: bool,
}

/// Results for a page.
struct Found {
    summary: Option<Result<CallSummary, String>>,
    in_progress: Vec<ListedCall>,
    items: Vec<Item>,
    next: Option<String>,
    resume: Option<AuditPosition>,
}

pub(super) async fn show(
    State(log): State<Arc<RequestLog>>,
    browser: BrowserSession,
    StrictQuery(query): StrictQuery<Query>,
) -> PageResult {
    let newest = log.newest_record().await?;
    match query.to_request() {
        Ok((filter, request)) => {
            let found = find(&log, &query, filter, request).await?;
            let page = AuditPage::new(browser.layout("Audit log"), query, browser.now(), newest);
            Ok(Page(page.with(found)).into_response())
        }
        // The form shows each error at its field and keeps the input.
        Err(invalid) => {
            let page = AuditPage::new(browser.layout("Audit log"), query, browser.now(), newest);
            let page = AuditPage { errors: FormError::of_search(&invalid, &FIELDS), live: None, ..page };
            Ok((StatusCode::BAD_REQUEST, Page(page)).into_response())
        }
    }
}

async fn find(
    log: &RequestLog,
    query: &Query,
    filter: AuditFilter,
    request: PageRequest<AuditPosition>,
) -> Result<Found, Error> {
    let summary = async {
        if request.after.is_some() {
            return Ok(None);
        }
        let longest = (query.count != "all").then_some(MAX_SEARCH);
        match log.overview(filter.clone(), longest).await {
            Ok(overview) => Ok(Some(Ok(CallSummary::new(&overview, query)))),
            // The list does not depend on it.
            Err(error) if error.code() == ErrorCode::Busy => Ok(Some(Err(wording::text(&error)))),
            Err(error) => Err(error),
        }
    };
    let in_progress = in_progress(log, query, &filter);
    let search = log.search(filter.clone(), request, MAX_SEARCH);
    let (FoundCalls { page, resume_at }, summary, in_progress) =
        tokio::try_join!(search, summary, in_progress)?;
    let next: Option<AuditPosition> = page.next_cursor.as_deref().and_then(|cursor| cursor.parse().ok());
    let gaps = gaps_among(log, &filter, request, next.or(resume_at)).await?;
    let page_at =
        |cursor: String| Query { cursor, count: String::new(), ..query.clone() }.path("/audit", &[]);
    let calls = page.items.into_iter().map(AuditEntryJson::from).collect();
    Ok(Found {
        summary,
        in_progress,
        items: merged(calls, gaps, query),
        next: page.next_cursor.map(page_at),
        resume: resume_at,
    })
}

/// The calls in progress, on the first page of a search for nothing else than a key.
async fn in_progress(
    log: &RequestLog,
    query: &Query,
    filter: &AuditFilter,
) -> Result<Vec<ListedCall>, Error> {
    let only_key = Query { key: query.key.clone(), count: query.count.clone(), ..Query::default() };
    if only_key != *query {
        return Ok(Vec::new());
    }
    let calls = log.in_progress(filter.key.as_ref(), PageRequest::first(MAX_IN_PROGRESS)).await?;
    Ok(calls.items.into_iter().map(ListedCall::from).collect())
}

/// The gaps that end in the period of a page: from `end`, the position of the next page, to the start of the page, so that each
/// gap is on exactly one page. Gaps have no key and no route, so every search shows them.
async fn gaps_among(
    log: &RequestLog,
    filter: &AuditFilter,
    request: PageRequest<AuditPosition>,
    end: Option<AuditPosition>,
) -> Result<Vec<AuditGapJson>, Error> {
    let time = |position: AuditPosition| position.time;
    let to = request.after.map(time).or(filter.to).unwrap_or(UnixMillis(i64::MAX as u64));
    let from = end.map(time).or(filter.from).unwrap_or(UnixMillis(0));
    let gaps = log.gaps_between((from, to), MAX_GAPS).await?;
    Ok(gaps.into_iter().map(AuditGapJson::from).collect())
}

/// Merges calls and gaps, newest first.
fn merged(calls: Vec<AuditEntryJson>, gaps: Vec<AuditGapJson>, query: &Query) -> Vec<Item> {
    let mut gaps = gaps.into_iter().peekable();
    let mut items = Vec::new();
    for call in calls {
        while let Some(gap) = gaps.next_if(|gap| gap.to > call.time) {
            items.push(Item::Gap(gap.into()));
        }
        items.push(Item::Call(Box::new(Row::new(call, query))));
    }
    items.extend(gaps.map(|gap| Item::Gap(gap.into())));
    items
}

// === impl AuditPage ===

impl AuditPage {
    fn new(layout: Layout, query: Query, now: UnixMillis, newest: i64) -> Self {
        let range = |(label, millis): (&'static str, u64)| {
            let from = format_time(UnixMillis(now.0.saturating_sub(millis)));
            (label, query.link(&[("from", &from), ("to", "")]))
        };
        let filters = query.with(&[]);
        let export = |format| filters.path("/audit/export", &[("format", format)]);
        let after = newest.to_string();
        let live = query.with(&[("from", ""), ("to", "")]).path("/audit/live", &[("after", &after)]);
        Self {
            layout,
            from: to_field(&query.from),
            to: to_field(&query.to),
            chips: query.chips(),
            errors: Vec::new(),
            reasons: Outcome::all().map(Outcome::reason).collect(),
            ranges: RANGES.map(range).to_vec(),
            exports: [("NDJSON", export("ndjson")), ("CSV", export("csv"))],
            refresh: query.path("/audit", &[]),
            live: (query.cursor.is_empty() && query.to.is_empty()).then_some(live),
            summary: None,
            in_progress: Vec::new(),
            items: Vec::new(),
            next: None,
            resume: None,
            query,
        }
    }

    fn with(self, found: Found) -> Self {
        let Found { summary, in_progress, items, next, resume } = found;
        let resume = resume.map(|position| {
            let cursor = position.to_string();
            let path = Query { cursor, count: String::new(), ..self.query.clone() }.path("/audit", &[]);
            (path, Moment(position.time))
        });
        Self { summary, in_progress, items, next, resume, ..self }
    }

    fn has_calls(&self) -> bool {
        self.items.iter().any(|item| matches!(item, Item::Call(_)))
    }

    /// The text fields of the search: name, label, value and placeholder.
    fn texts(&self) -> [(&'static str, &'static str, &str, &'static str); 6] {
        let Query { key, endpoint, method, status, grpc_status, ip, .. } = &self.query;
        [
            ("key", "Key", key, "Name or ID"),
            ("endpoint", "Endpoint", endpoint, "/api/v1/contacts/{id}"),
            ("method", "Method", method, "GET"),
            ("status", "Status", status, "404 or 4xx"),
            ("grpc_status", "gRPC status", grpc_status, "14 or error"),
            ("ip", "IP address", ip, "203.0.113.0/24"),
        ]
    }

    /// The time fields of the search: name, label and value.
    fn times(&self) -> [(&'static str, &'static str, &str); 2] {
        [("from", "From (UTC)", &self.from), ("to", "Before (UTC)", &self.to)]
    }

    /// The error at a field.
    fn error_at(&self, name: &str) -> &str {
        error_at(&self.errors, name).unwrap_or_default()
    }

    /// The error of the search as a whole.
    fn other_error(&self) -> Option<&str> {
        general_error(&self.errors)
    }
}

// === impl ListedCall ===

impl From<CallInProgress> for ListedCall {
    fn from(call: CallInProgress) -> Self {
        Self {
            since: Moment(call.time),
            key: call.key.map(|key| (key.name, format!("/keys/{}", key.id))),
            method: call.method,
            path: call.path,
            address: call.source_ip.map(|address| address.to_string()),
            gateway: call.gateway,
            is_lost: call.is_lost,
        }
    }
}

// === impl Gap ===

impl From<AuditGapJson> for Gap {
    fn from(gap: AuditGapJson) -> Self {
        let cause = match gap.cause.as_ref() {
            "buffer_full" => "the gateway's buffer was full",
            "vm_lost" => "a worker of the gateway ended and lost its buffer",
            "gateway_lost" => "the gateway ended and lost its buffers",
            "purged_without_key" => {
                "calls without a key were purged, because the log reached its maximum size"
            }
            "purged_refused" => "refused calls were purged, because the log reached its maximum size",
            "purged_allowed" => "allowed calls were purged, because the log reached its maximum size",
            _ => "the cause is unknown",
        };
        Self {
            from: gap.from.map(|time| Moment(time.0)),
            to: Moment(gap.to.0),
            missing: Count(gap.missing),
            is_minimum: gap.at_least,
            gateway: gap.gateway,
            cause,
        }
    }
}
