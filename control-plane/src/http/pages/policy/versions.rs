//! What was in force before, what each version changed, and how to go back to it.

use crate::http::problem::status as problem_status;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;

use super::difference::Difference;
use super::draft::{PublishedPage, WAIT};
use super::overview::written;
use crate::http::access::Authenticated;
use crate::http::extract::{Segments, StrictQuery, query_of};
use crate::http::pages::enforcement_status::EnforcementStatus;
use crate::http::pages::form::{Form, sentence};
use crate::http::pages::frame::Frame;
use crate::http::pages::refusal::{Page, PageResult};
use crate::http::pages::show::At;
use crate::http::pages::visitor::Visitor;
use crate::http::policy::diff::compare;
use crate::http::policy::set::{Wanted, put_in_force};
use crate::http::policy::versions::{find, select};
use crate::service::app::App;
use crate::service::precondition::Precondition;

/// Versions of one page.
const PAGE_SIZE: &str = "50";

/// What the address says.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Query {
    cursor: String,
}

#[derive(Template)]
#[template(path = "policy/versions.html")]
struct VersionsPage {
    frame: Frame,
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
    frame: Frame,
    tab: &'static str,
    current: u64,
    version: Version,
    text: String,
    /// What it changed in the version before.
    changed: Option<Difference>,
    /// What going back to it would change in the version in force.
    back: Option<Difference>,
    error: Option<String>,
}

/// `GET /policy/versions`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    StrictQuery(query): StrictQuery<Query>,
) -> PageResult {
    let page = select(&app, query_of(&[("limit", PAGE_SIZE), ("cursor", &query.cursor)])?).await?;
    let (_, current) = app.publisher.publication.policy()?;
    let versions = page.items.into_iter().map(|version| Version {
        number: version.version,
        created: At(version.created_at.0),
        created_by: version.created_by,
    });
    Ok(Page(VersionsPage {
        frame: visitor.frame("Versions of the policy"),
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
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Segments(version): Segments<String>,
) -> PageResult {
    Ok(Page(VersionPage::new(&app, &visitor, &version, None).await?).into_response())
}

/// `POST /policy/versions/{version}/roll-back`.
pub(super) async fn roll_back(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    Authenticated(principal): Authenticated,
    Segments(version): Segments<String>,
    form: Form,
) -> PageResult {
    let number = find(&app, &version).await?.version;
    let base = form.number("base", "/base")?.unwrap_or_default();
    let wanted = Wanted::Version(number);
    match put_in_force(Arc::clone(&app), principal, Precondition::at(base), Some(WAIT), wanted).await {
        Ok((policy, enforcement)) => {
            let page = PublishedPage {
                frame: visitor.frame("Policy"),
                tab: "versions",
                version: policy.version,
                is_same: policy.version == base,
                in_force: enforcement.map(EnforcementStatus::from),
            };
            Ok(Page(page).into_response())
        }
        Err(problem) if problem_status(problem.code()).is_server_error() => Err(problem.into()),
        Err(problem) => {
            let error = Some(sentence(problem.detail()));
            let page = VersionPage::new(&app, &visitor, &version, error).await?;
            let status: StatusCode = problem_status(problem.code());
            Ok((status, Page(page)).into_response())
        }
    }
}

// === impl VersionPage ===

impl VersionPage {
    async fn new(
        app: &App,
        visitor: &Visitor,
        version: &str,
        error: Option<String>,
    ) -> Result<Self, omniflow_domain::error::Error> {
        let stored = find(app, version).await?;
        let (_, current) = app.publisher.publication.policy()?;
        let number = stored.version.to_string();
        let before =
            stored.version.checked_sub(1).filter(|before| *before > 0).map(|before| before.to_string());
        let changed = match before {
            Some(before) => {
                Some(compare(app, query_of(&[("from", before.as_str()), ("to", &number)])?).await?.into())
            }
            None => None,
        };
        let back = match stored.version == current {
            true => None,
            false => Some(compare(app, query_of(&[("to", number.as_str())])?).await?.into()),
        };
        Ok(Self {
            frame: visitor.frame(format!("Version {number} of the policy")),
            tab: "versions",
            current,
            text: written(&stored.document)?,
            version: Version {
                number: stored.version,
                created: At(stored.created_at),
                created_by: stored.created_by,
            },
            changed,
            back,
            error,
        })
    }
}
