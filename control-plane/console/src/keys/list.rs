//! The list of keys, with its search and filters in the address.

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
use crate::page::{Page, PageResult};
use crate::state::Console;
use omniflow_domain::error::Error;
use omniflow_domain::key_details::KeyDetails;
use omniflow_domain::time::{DAY_MS, format_time};
use omniflow_service::keys::{Keys, List};
use omniflow_service::query::PageRequest;

/// Keys of one page: as many as a reader looks through.
const PAGE_SIZE: &str = "50";
/// How long a key is not used to be called unused.
const UNUSED_MS: u64 = 30 * DAY_MS;
/// How soon a key expires to be listed.
const EXPIRING_MS: u64 = 14 * DAY_MS;

/// What the address says. All of it may be left out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Query {
    /// Text in name or description, or a hint.
    q: String,
    status: String,
    environment: String,
    scope: String,
    /// `unused`, `due` or `expiring`: what needs attention.
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

/// A choice of keys that need attention.
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
    let page = keys.list(query.to_request(now)?).await?;
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
    /// The request for the keys that it selects.
    fn to_request(&self, now: UnixMillis) -> Result<List, Error> {
        let stated = |text: &String| Some(text.clone());
        let list = List {
            status: stated(&self.status),
            environment: stated(&self.environment),
            scope: stated(&self.scope),
            text: stated(&self.q),
            sort: stated(&self.sort),
            page: PageRequest { limit: Some(PAGE_SIZE.to_owned()), cursor: stated(&self.cursor) },
            ..List::default()
        };
        Ok(match self.attention.as_str() {
            "" => list,
            "due" => List { rotation_due: Some("true".to_owned()), ..list },
            "unused" => {
                let since = format_time(UnixMillis(now.0.saturating_sub(UNUSED_MS)));
                List { unused_since: Some(since), ..list }
            }
            "expiring" => {
                let end = format_time(UnixMillis(now.0.saturating_add(EXPIRING_MS)));
                List { expires_before: Some(end), ..list }
            }
            _ => return Err(Error::invalid_query("attention", "attention is due, unused or expiring")),
        })
    }

    /// The address of the list that it asks for.
    fn path(&self) -> String {
        let fields = [
            ("q", &self.q),
            ("status", &self.status),
            ("environment", &self.environment),
            ("scope", &self.scope),
            ("attention", &self.attention),
            ("sort", &self.sort),
            ("cursor", &self.cursor),
        ];
        let stated: Vec<_> = fields.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        match serde_urlencoded::to_string(stated) {
            Ok(query) if !query.is_empty() => format!("/keys?{query}"),
            _ => "/keys".to_owned(),
        }
    }

    /// The address of its first page.
    fn first_path(&self) -> String {
        Self { cursor: String::new(), ..self.clone() }.path()
    }

    fn attention_filters(&self) -> [AttentionFilter; 4] {
        [
            ("", "All"),
            ("due", "Rotation due"),
            ("unused", "Unused for 30 days"),
            ("expiring", "Expire within 14 days"),
        ]
        .map(|(attention, label)| AttentionFilter {
            label,
            path: Self { attention: attention.to_owned(), cursor: String::new(), ..self.clone() }.path(),
            is_current: self.attention == attention,
        })
    }

    /// Whether anything but a page is asked for.
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
