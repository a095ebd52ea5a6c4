//! `GET /audit/live`: new calls as they arrive, each as a table row.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use tokio::time::sleep;

use super::query::Query;
use super::row::Row;
use crate::extract::Authenticated;
use crate::extract::StrictQuery;
use crate::live::{Parts, event, parts};
use crate::page::PageResult;
use omniflow_api_types::audit::AuditEntryJson;
use omniflow_api_types::parameters::{LAST_EVENT_ID, last_event_id, record_number};
use omniflow_service::audit::RequestLog;
use omniflow_service::audit::follow::{FollowItem, Follower};

/// Duration of a stream before the browser reconnects. A stream can outlive its session by at most this long.
const MAX_DURATION: Duration = Duration::from_secs(30);
/// Interval of events without data on an idle stream, which keep proxies from closing the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The search, and the last call on the page.
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
    State(log): State<Arc<RequestLog>>,
    Authenticated(principal): Authenticated,
    headers: HeaderMap,
    StrictQuery(tail): StrictQuery<Tail>,
) -> PageResult {
    let Tail { after, key, environment, endpoint, method, status, decision, reason, ip } = tail;
    let last = last_event_id(headers.get_all(LAST_EVENT_ID).iter().map(HeaderValue::as_bytes))?;
    let after = last.or_else(|| record_number(&after));
    let query =
        Query { key, environment, endpoint, method, status, decision, reason, ip, ..Query::default() };
    let follower = log.follow(&principal, query.to_filter()?, after).await?;
    Ok(parts(|parts| send(follower, query, parts)))
}

async fn send(mut follower: Follower, query: Query, mut parts: Parts) {
    let stopped = follower.stopped();
    let ended = tokio::select! {
        ended = send_rows(&mut follower, &query, &mut parts) => ended,
        () = stopped => Ok(()),
        () = sleep(MAX_DURATION) => Ok(()),
    };
    if let Err(error) = ended {
        tracing::warn!(%error, "audit log stream aborted");
        parts.abort(error);
    }
}

/// Sends rows until the browser disconnects or loses access.
async fn send_rows(follower: &mut Follower, query: &Query, parts: &mut Parts) -> io::Result<()> {
    let mut events = position_event(follower);
    loop {
        if !events.is_empty() && !parts.send_events(events).await {
            return Ok(());
        }
        events = match follower.next(KEEP_ALIVE).await.map_err(io::Error::other)? {
            FollowItem::Records(records) => {
                let mut events = String::new();
                for record in records {
                    let id = record.id;
                    let row = Row::new(AuditEntryJson::from(record), query);
                    let html = row.render().map_err(io::Error::other)?;
                    events.push_str(&format!("id: {id}\n{}", event(&html)));
                }
                events
            }
            FollowItem::Idle => position_event(follower),
            FollowItem::Ended => return Ok(()),
        };
    }
}

/// An event without data, which only updates the position of the browser.
fn position_event(follower: &Follower) -> String {
    format!("id: {}\n\n", follower.position())
}
