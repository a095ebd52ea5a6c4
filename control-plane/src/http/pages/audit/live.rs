//! `GET /audit/live`: new calls as they arrive, each as a row of the table, through the very stream of the API.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Deserialize;

use super::query::Query;
use super::row::Row;
use crate::http::audit::stream::{Manner, last_event_id, open};
use crate::http::pages::extract::Authenticated;
use crate::http::pages::extract::StrictQuery;
use crate::http::pages::refusal::PageResult;
use crate::service::app::App;
use omniflow_api_types::audit::AuditEntryJson;
use omniflow_domain::audit::AuditEntry;

/// How long a stream goes on before the browser asks anew: that long at most it outlives its session.
const LONGEST: Duration = Duration::from_secs(30);

/// The search, and the last call that the page has.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tail {
    after: String,
    key: String,
    environment: String,
    endpoint: String,
    method: String,
    status: String,
    decision: String,
    reason: String,
    ip: String,
}

pub(super) async fn stream(
    State(app): State<Arc<App>>,
    Authenticated(principal): Authenticated,
    headers: HeaderMap,
    StrictQuery(tail): StrictQuery<Tail>,
) -> PageResult {
    let Tail { after, key, environment, endpoint, method, status, decision, reason, ip } = tail;
    let last = last_event_id(&headers)?.or_else(|| after.parse().ok().filter(|id: &i64| *id >= 0));
    let query =
        Query { key, environment, endpoint, method, status, decision, reason, ip, ..Query::default() };
    let filter = query.to_filter()?;
    let event = move |entry: AuditEntry| in_html(entry, &query);
    Ok(open(&app, &principal, last, filter, Manner { event: Arc::new(event), longest: Some(LONGEST) })
        .await?)
}

fn in_html(entry: AuditEntry, query: &Query) -> io::Result<String> {
    let html = Row::new(AuditEntryJson::from(entry), query).render().map_err(io::Error::other)?;
    Ok(html.lines().map(|line| format!("data: {line}\n")).collect())
}
