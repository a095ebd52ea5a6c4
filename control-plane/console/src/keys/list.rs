//! The list of keys, with search and filters in the query string.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::IntoResponse;
use omniflow_policy::time::UnixMillis;
use serde::{Deserialize, Serialize};

use super::version_hint;
use crate::browser_session::BrowserSession;
use crate::extract::Authenticated;
use crate::extract::StrictQuery;
use crate::format::{Ago, Badge, Limit};
use crate::layout::Layout;
use crate::list_query::{page_request, path_with_query};
use crate::page::{Page, PageResult};
use crate::state::Console;
use omniflow_api_types::parameters::KeyParameters;
use omniflow_api_types::request_error::{HttpError, RequestError};
use omniflow_domain::key::KeyQuery;
use omniflow_domain::key_details::KeyDetails;
use omniflow_domain::time::DAY_MS;
use omniflow_service::keys::Keys;

/// Keys per page.
const PAGE_SIZE: usize = 50;
/// Time without use after which a key counts as unused.
const UNUSED_MS: u64 = 30 * DAY_MS;
/// Time before expiry from which a key counts as expiring.
const EXPIRING_MS: u64 = 14 * DAY_MS;

/// The query string. Every parameter is optional.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Query {
    /// Text in the name or description, or a hint.
    q: String,
    status: String,
    environment: String,
    scope: String,
    /// `unused`, `due` or `expiring`.
    attention: String,
    sort: String,
    cursor: String,
}

#[derive(Template)]
#[template(path = "keys/list.html")]
struct ListPage {
    layout: Layout,
    query: Query,
    attention_filters: [AttentionFilter; 4],
    scopes: Vec<String>,
    rows: Vec<Row>,
    next: Option<String>,
}

/// A filter for keys that need attention.
struct AttentionFilter {
    label: &'static str,
    path: String,
    is_current: bool,
}

/// A key in the list.
struct Row {
    id: String,
    name: String,
    description: Option<String>,
    environment: &'static str,
    hint: String,
    scopes: Vec<String>,
    limit: Limit,
    last_used: Option<Ago>,
    rotation_due: Option<Ago>,
    is_due: bool,
    expires: Option<Ago>,
    status: Badge,
}

pub(super) async fn show(
    State(app): State<Arc<Console>>,
    State(keys): State<Arc<Keys>>,
    browser: BrowserSession,
    _: Authenticated,
    StrictQuery(query): StrictQuery<Query>,
) -> PageResult {
    let now = browser.now();
    let page = keys.list(query.to_request(now)?, page_request(PAGE_SIZE, &query.cursor)?).await?;
    let policy = app.policies.current()?.policy;
    let prefix = app.policies.key_prefix().as_str();
    Ok(Page(ListPage {
        layout: browser.layout("API keys"),
        attention_filters: query.attention_filters(),
        scopes: policy.document().scopes.iter().map(|scope| scope.name.to_string()).collect(),
        rows: page.items.into_iter().map(|key| Row::new(key, prefix, now)).collect(),
        next: page.next_cursor.map(|cursor| Query { cursor, ..query.clone() }.path()),
        query,
    })
    .into_response())
}

// === impl Query ===

impl Query {
    /// The request for the use case.
    fn to_request(&self, now: UnixMillis) -> Result<KeyQuery, RequestError> {
        let stated = |text: &String| Some(text.clone());
        let parameters = KeyParameters {
            status: stated(&self.status),
            environment: stated(&self.environment),
            scope: stated(&self.scope),
            q: stated(&self.q),
            sort: stated(&self.sort),
            ..KeyParameters::default()
        };
        let query = parameters.parse()?;
        Ok(match self.attention.as_str() {
            "" => query,
            "due" => KeyQuery { rotation_due: Some(true), ..query },
            "unused" => KeyQuery { unused_since: Some(UnixMillis(now.0.saturating_sub(UNUSED_MS))), ..query },
            "expiring" => {
                KeyQuery { expires_before: Some(UnixMillis(now.0.saturating_add(EXPIRING_MS))), ..query }
            }
            _ => {
                let detail = "attention must be due, unused or expiring";
                return Err(HttpError::invalid_query("attention", detail).into());
            }
        })
    }

    /// The path of the list with this query string.
    fn path(&self) -> String {
        let parameters = [
            ("q", self.q.as_str()),
            ("status", &self.status),
            ("environment", &self.environment),
            ("scope", &self.scope),
            ("attention", &self.attention),
            ("sort", &self.sort),
            ("cursor", &self.cursor),
        ];
        path_with_query("/keys", parameters)
    }

    /// The path of its first page.
    fn first_path(&self) -> String {
        Self { cursor: String::new(), ..self.clone() }.path()
    }

    fn attention_filters(&self) -> [AttentionFilter; 4] {
        [
            ("", "All"),
            ("due", "Rotation due"),
            ("unused", "Unused for 30 days"),
            ("expiring", "Expiring within 14 days"),
        ]
        .map(|(attention, label)| AttentionFilter {
            label,
            path: Self { attention: attention.to_owned(), cursor: String::new(), ..self.clone() }.path(),
            is_current: self.attention == attention,
        })
    }

    /// Whether any filter is active.
    fn is_narrow(&self) -> bool {
        [&self.q, &self.status, &self.environment, &self.scope, &self.attention]
            .iter()
            .any(|text| !text.is_empty())
    }
}

// === impl Row ===

impl Row {
    fn new(details: KeyDetails, prefix: &str, now: UnixMillis) -> Self {
        let last_used_at = details.last_used_at();
        let KeyDetails { key, status, rotation_due_at, .. } = details;
        let newest =
            key.versions.iter().rev().find(|version| version.revoked_at.is_none()).or(key.versions.last());
        let environment = key.environment.as_str();
        Self {
            id: key.id.to_string(),
            hint: newest.map(|version| version_hint(version, prefix, environment)).unwrap_or_default(),
            scopes: key.scopes.iter().map(ToString::to_string).collect(),
            limit: Limit(key.rate_limit),
            last_used: last_used_at.map(|time| Ago { time, now }),
            is_due: rotation_due_at.is_some_and(|time| time <= now),
            rotation_due: rotation_due_at.map(|time| Ago { time, now }),
            expires: key.expires_at.map(|time| Ago { time, now }),
            status: Badge(status),
            name: key.name.to_string(),
            description: key.description,
            environment,
        }
    }
}
