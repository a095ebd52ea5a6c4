//! `GET /admin-log`: events of the admin log, newest first.

use std::borrow::Cow;
use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};

use super::browser_session::BrowserSession;
use super::changes::{Changed, changes};
use super::form::{FormError, error_at, general_error};
use super::format::Moment;
use super::layout::Layout;
use super::list_query::{page_request, path_with_query};
use super::page::{Page, PageResult};
use super::time_field::{to_field, to_instant};
use crate::extract::StrictQuery;
use crate::routes::{PageRoutes, READ};
use omniflow_api_types::admin_event::AdminEventJson;
use omniflow_api_types::parameters::{AdminLogParameters, InvalidQuery};
use omniflow_domain::admin_event::{Action, AdminLogFilter};
use omniflow_service::admin_log::AdminLog;

/// Events per page.
const PAGE_SIZE: usize = 50;
/// Fields of the search form that can be invalid. The action is selected from a list.
const FIELDS: [&str; 4] = ["principal", "subject", "from", "to"];

/// The query string. Every parameter is optional.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct Query {
    action: String,
    principal: String,
    subject: String,
    from: String,
    to: String,
    cursor: String,
}

#[derive(Template)]
#[template(path = "admin_log.html")]
struct AdminLogPage {
    layout: Layout,
    query: Query,
    from: String,
    to: String,
    errors: Vec<FormError>,
    actions: Vec<(&'static str, &'static str)>,
    events: Vec<EventView>,
    next: Option<String>,
}

/// An event, formatted for display.
struct EventView {
    id: String,
    time: Moment,
    principal: String,
    principal_path: String,
    action: Cow<'static, str>,
    description: &'static str,
    subject: String,
    subject_id: String,
    /// Page of the subject.
    path: Option<String>,
    subject_path: String,
    changes: Vec<Changed>,
    /// Whether the event created its subject, so that there is no earlier state.
    is_new: bool,
}

pub(super) fn routes(routes: PageRoutes) -> PageRoutes {
    routes.query("/admin-log", READ, show)
}

async fn show(
    State(log): State<Arc<AdminLog>>,
    browser: BrowserSession,
    StrictQuery(query): StrictQuery<Query>,
) -> PageResult {
    let layout = browser.layout("Admin log");
    let request = InvalidQuery::join(query.to_filter(), page_request(PAGE_SIZE, &query.cursor));
    let (status, errors, page) = match request {
        Ok((filter, page)) => (StatusCode::OK, Vec::new(), Some(log.list(filter, page).await?)),
        Err(invalid) => (StatusCode::BAD_REQUEST, FormError::of_search(&invalid, &FIELDS), None),
    };
    let (items, next) = page.map(|page| (page.items, page.next_cursor)).unwrap_or_default();
    let page = AdminLogPage {
        events: items.into_iter().map(|event| EventView::new(event.into(), &query, &layout)).collect(),
        layout,
        from: to_field(&query.from),
        to: to_field(&query.to),
        errors,
        actions: Action::ALL.map(|action| (action.as_str(), describe_action(action.as_str()))).to_vec(),
        next: next.map(|cursor| Query { cursor, ..query.clone() }.path()),
        query,
    };
    Ok((status, Page(page)).into_response())
}

/// Describes an action as a verb phrase.
fn describe_action(action: &str) -> &'static str {
    match action {
        "installation.created" => "created the installation",
        "installation.restored" => "restored a backup",
        "key.created" => "created a key",
        "key.imported" => "imported a key",
        "key.changed" => "changed a key",
        "key.rotated" => "rotated a key",
        "key.revoked" => "revoked a key",
        "key.version_revoked" => "revoked a version of a key",
        "key.leaked" => "reported a key as leaked",
        "policy.set" => "published a policy",
        "policy.rolled_back" => "rolled back the policy",
        "payload.read" => "viewed a payload",
        "payload_key.rotated" => "rotated the payload key",
        "token.created" => "created a token",
        "token.revoked" => "revoked a token",
        "gateway.removed" => "removed a gateway",
        _ => "performed an unknown action",
    }
}

// === impl AdminLogPage ===

impl AdminLogPage {
    /// The text fields of the search: name, label, value and placeholder.
    fn texts(&self) -> [(&'static str, &'static str, &str, &'static str); 2] {
        let Query { principal, subject, .. } = &self.query;
        [
            ("principal", "Principal", principal, "Token name"),
            ("subject", "Subject", subject, "Key, token or policy version"),
        ]
    }

    /// The time fields of the search: name, label and value.
    fn times(&self) -> [(&'static str, &'static str, &str); 2] {
        [("from", "From (UTC)", &self.from), ("to", "Before (UTC)", &self.to)]
    }

    fn error_at(&self, name: &str) -> &str {
        error_at(&self.errors, name).unwrap_or_default()
    }

    fn other_error(&self) -> Option<&str> {
        general_error(&self.errors)
    }
}

// === impl Query ===

impl Query {
    fn to_filter(&self) -> Result<AdminLogFilter, InvalidQuery> {
        let parameters = AdminLogParameters {
            action: Some(self.action.clone()),
            principal: Some(self.principal.trim().to_owned()),
            subject: Some(self.subject.trim().to_owned()),
            from: Some(to_instant(&self.from)),
            to: Some(to_instant(&self.to)),
        };
        parameters.parse()
    }

    fn path(&self) -> String {
        let Self { action, principal, subject, from, to, cursor } = self;
        let parameters = [
            ("action", action.as_str()),
            ("principal", principal),
            ("subject", subject),
            ("from", from),
            ("to", to),
            ("cursor", cursor),
        ];
        path_with_query("/admin-log", parameters)
    }

    fn is_narrow(&self) -> bool {
        [&self.action, &self.principal, &self.subject, &self.from, &self.to]
            .iter()
            .any(|text| !text.is_empty())
    }

    /// Path of the first page of the same search with another principal or subject.
    fn of(&self, principal: &str, subject: &str) -> String {
        let given = |value: &str, before: &String| {
            if value.is_empty() { before.clone() } else { value.to_owned() }
        };
        Self {
            principal: given(principal, &self.principal),
            subject: given(subject, &self.subject),
            cursor: String::new(),
            ..self.clone()
        }
        .path()
    }
}

// === impl EventView ===

impl EventView {
    fn new(event: AdminEventJson, query: &Query, layout: &Layout) -> Self {
        let AdminEventJson { id, time, principal, action, subject, before, after } = event;
        let (kind, _) = action.split_once('.').unwrap_or((&action, ""));
        let path = match kind {
            "key" => Some(format!("/keys/{}", subject.id)),
            "policy" => Some(format!("/policy/versions/{}", subject.id)),
            "payload" => Some(format!("/audit/{}", subject.id)),
            "token" if layout.can_open("/tokens") => Some("/tokens".to_owned()),
            _ => None,
        };
        Self {
            id,
            time: Moment(time.0),
            principal_path: query.of(&principal.name, ""),
            principal: principal.name,
            description: describe_action(&action),
            action,
            subject_path: query.of("", &subject.id),
            subject: if subject.name.is_empty() { subject.id.clone() } else { subject.name },
            subject_id: subject.id,
            path,
            is_new: before.is_none(),
            changes: changes(before.as_ref(), after.as_ref()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{Browser, text};
    use omniflow_test_server::TestServer;

    #[tokio::test]
    async fn events_are_described_and_filtered() {
        let server = TestServer::new().await;
        let created = server.key("ci").await;
        let id = created["key"]["id"].as_str().unwrap();
        let change = json!({"description": "<script>alert(1)</script>", "rate_limit": {"per_minute": 5}});
        server.patch("/v1/keys/ci", change).await.expect(StatusCode::OK);
        let mut browser = Browser::signed_in(&server, &server.owner).await;
        let page = browser.page("/admin-log").await;
        for part in [
            "changed a key",
            "</span>5 per minute</ins>",
            &format!("href=\"/keys/{id}\">ci</a>"),
            "key.changed",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("<script>alert") && page.contains("&#60;script&#62;alert(1)"), "{page}");
        let events = |page: &str| page.matches("<li id=\"event-").count();
        for (query, expected) in [
            ("action=key.created", 1),
            ("subject=ci", 2),
            ("principal=owner&action=key.changed", 1),
            ("principal=nobody", 0),
            ("from=2027-01-15T08:00&to=2027-01-16", 3),
            ("to=2027-01-15T07:00", 0),
        ] {
            let page = browser.page(&format!("/admin-log?{query}")).await;
            assert_eq!(events(&page), expected, "{query}");
            assert_eq!(page.contains("No events match your filters"), expected == 0, "{query}");
        }
        let wrong = browser.open("/admin-log?from=now&to=then&principal=owner").await;
        assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
        for part in ["id=\"e-from\"", "id=\"e-to\"", "value=\"owner\""] {
            assert!(text(&wrong).contains(part), "{part}: every error is at its field");
        }
    }
}
