//! Policy versions: list, changes of each version, and rollback.

use crate::page::error_status;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;

use super::difference::Difference;
use super::draft::{PublishedPage, WAIT};
use super::overview::to_pretty_json;
use crate::browser_session::BrowserSession;
use crate::enforcement_status::EnforcementStatus;
use crate::extract::Authenticated;
use crate::extract::{Segments, StrictQuery};
use crate::form::Form;
use crate::format::At;
use crate::layout::Layout;
use crate::list_query::page_request;
use crate::page::{Page, PageResult};
use crate::wording;
use omniflow_api_types::gateway::EnforcementJson;
use omniflow_domain::error::Error;
use omniflow_service::policy::Policies;
use omniflow_service::policy::diff::CompareVersions;
use omniflow_service::policy::roll_back::RollBack;
use omniflow_service::precondition::Precondition;

/// Versions per page.
const PAGE_SIZE: usize = 50;

/// The query string.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Query {
    cursor: String,
}

#[derive(Template)]
#[template(path = "policy/versions.html")]
struct VersionsPage {
    layout: Layout,
    tab: &'static str,
    current: u64,
    versions: Vec<Version>,
    is_first: bool,
    next: Option<String>,
}

struct Version {
    number: u64,
    created: At,
    created_by: String,
}

#[derive(Template)]
#[template(path = "policy/version.html")]
struct VersionPage {
    layout: Layout,
    tab: &'static str,
    current: u64,
    version: Version,
    text: String,
    /// Changes to the previous version.
    changed: Option<Difference>,
    /// Changes that a rollback would make to the effective policy.
    rollback: Option<Difference>,
    error: Option<String>,
}

/// `GET /policy/versions`.
pub(super) async fn list(
    State(policies): State<Arc<Policies>>,
    browser: BrowserSession,
    StrictQuery(query): StrictQuery<Query>,
) -> PageResult {
    let request = page_request(PAGE_SIZE, &query.cursor)?;
    let page = policies.versions(request).await?;
    let current = policies.current()?.version;
    let versions = page.items.into_iter().map(|version| Version {
        number: version.version,
        created: At(version.created_at),
        created_by: version.created_by,
    });
    Ok(Page(VersionsPage {
        layout: browser.layout("Policy versions"),
        tab: "versions",
        current,
        versions: versions.collect(),
        is_first: query.cursor.is_empty(),
        next: page.next_cursor.map(|cursor| format!("/policy/versions?cursor={cursor}")),
    })
    .into_response())
}

/// `GET /policy/versions/{version}`.
pub(super) async fn show(
    State(policies): State<Arc<Policies>>,
    browser: BrowserSession,
    Segments(version): Segments<String>,
) -> PageResult {
    Ok(Page(VersionPage::new(&policies, &browser, &version, None).await?).into_response())
}

/// `POST /policy/versions/{version}/roll-back`.
pub(super) async fn roll_back(
    State(policies): State<Arc<Policies>>,
    browser: BrowserSession,
    Authenticated(principal): Authenticated,
    Segments(version): Segments<String>,
    form: Form,
) -> PageResult {
    let number = policies.version(&version).await?.version;
    let base = form.number("base", "/base")?.unwrap_or_default();
    let request = RollBack { version: number, precondition: Precondition::at(base), wait: Some(WAIT) };
    match policies.roll_back(&principal, request).await {
        Ok(effective) => {
            let page = PublishedPage {
                layout: browser.layout("Policy"),
                tab: "versions",
                version: effective.current.version,
                is_same: effective.current.version == base,
                enforcement: effective.enforcement.map(EnforcementJson::from).map(EnforcementStatus::from),
            };
            Ok(Page(page).into_response())
        }
        Err(problem) if error_status(problem.code()).is_server_error() => Err(problem.into()),
        Err(problem) => {
            let error = Some(wording::text(&problem));
            let page = VersionPage::new(&policies, &browser, &version, error).await?;
            let status: StatusCode = error_status(problem.code());
            Ok((status, Page(page)).into_response())
        }
    }
}

// === impl VersionPage ===

impl VersionPage {
    async fn new(
        policies: &Policies,
        browser: &BrowserSession,
        version: &str,
        error: Option<String>,
    ) -> Result<Self, Error> {
        let stored = policies.version(version).await?;
        let current = policies.current()?.version;
        let number = stored.version.to_string();
        let before = stored.version.checked_sub(1).filter(|before| *before > 0);
        let changed = match before {
            Some(before) => {
                let request = CompareVersions { from: Some(before), to: Some(stored.version) };
                Some(policies.compare_versions(request).await?.into())
            }
            None => None,
        };
        let rollback = match stored.version == current {
            true => None,
            false => {
                let request = CompareVersions { from: None, to: Some(stored.version) };
                Some(policies.compare_versions(request).await?.into())
            }
        };
        Ok(Self {
            layout: browser.layout(format!("Policy version {number}")),
            tab: "versions",
            current,
            text: to_pretty_json(&stored.document)?,
            version: Version {
                number: stored.version,
                created: At(stored.created_at),
                created_by: stored.created_by,
            },
            changed,
            rollback,
            error,
        })
    }
}
