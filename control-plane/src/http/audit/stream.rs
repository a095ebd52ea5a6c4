//! `GET /v1/audit/stream`: new calls as they are committed, as server-sent events.
//!
//! The number of a record is the event's id. Numbers grow in the order of commits, because there is one writer, so a
//! client that names the last one it saw misses nothing and gets nothing twice.

use omniflow_domain::principal::Principal;
use std::fmt::Write;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use http_body_util::channel::{Channel, Sender};
use tokio::sync::watch;
use tokio::time::sleep;

use super::FilterQuery;
use crate::http::access::Authenticated;
use crate::http::extract::StrictQuery;
use crate::http::params::LastEventId;
use crate::http::problem::Problem;
use crate::service::app::App;
use crate::service::authentication::TokenGuard;
use crate::storage::AuditFilter;
use omniflow_api_types::audit::AuditEntryJson;
use omniflow_api_types::audit_lines::json_line;
use omniflow_domain::audit::AuditEntry;
use omniflow_domain::error::Error;

/// Where a client that comes back says what it saw last.
const LAST_EVENT_ID: &str = "last-event-id";
/// Numbers of records that are looked through at once.
const NUMBERS_PER_PIECE: i64 = 500;
/// Pieces that wait for a client that reads slowly. What comes meanwhile stays in the log until it is asked for.
const PIECES_WAITING: usize = 2;
/// How often a quiet stream says that it lives. A token that expired ends its stream within this time.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// A stream under way.
struct Stream {
    app: Arc<App>,
    filter: AuditFilter,
    guard: TokenGuard,
    committed: watch::Receiver<()>,
    /// The number of the last record that was looked at.
    seen: i64,
    sender: Sender<Bytes, io::Error>,
    manner: Manner,
}

/// Sends new audited calls that the filter selects, as they arrive.
///
/// Server-sent events: `id` is the record's number, `data` the record in JSON. With `Last-Event-ID` it begins behind that
/// record. It ends when any part of what it needs does: the token, the process, the client.
#[utoipa::path(
    get,
    path = "/v1/audit/stream",
    operation_id = "stream_audit_records",
    tag = "audit",
    params(FilterQuery, LastEventId),
    responses((status = 200, description = "Events.", body = String, content_type = "text/event-stream")),
)]
pub(in crate::http) async fn stream(
    State(app): State<Arc<App>>,
    Authenticated(principal): Authenticated,
    headers: HeaderMap,
    StrictQuery(filter): StrictQuery<FilterQuery>,
) -> Result<Response, Problem> {
    let manner = Manner { event: Arc::new(in_json), longest: None };
    open(&app, &principal, last_event_id(&headers)?, filter, manner).await.map_err(Into::into)
}

/// How a stream tells of records.
pub(in crate::http) struct Manner {
    /// The lines of an event, each with its end.
    pub(in crate::http) event: Arc<dyn Fn(AuditEntry) -> io::Result<String> + Send + Sync>,
    /// How long it goes on; the client comes back then, and is let in anew. `None` for as long as may be.
    pub(in crate::http) longest: Option<Duration>,
}

/// Sends new calls that the filter selects, as they arrive: those behind the record `last`, or from now on.
pub(in crate::http) async fn open(
    app: &Arc<App>,
    principal: &Principal,
    last: Option<i64>,
    filter: FilterQuery,
    manner: Manner,
) -> Result<Response, Error> {
    let filter = filter.read()?;
    // Before the newest number is read, so that nothing comes between.
    let committed = app.signals.audit_committed.subscribe();
    let seen = match last {
        Some(id) => id,
        None => app.storage.audit.newest_record().await?,
    };
    let (sender, body) = Channel::new(PIECES_WAITING);
    let guard = app.authentication.guard(principal);
    let app = Arc::clone(app);
    tokio::spawn(Stream { app, filter, guard, committed, seen, sender, manner }.run());
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::new(body)).into_response())
}

fn in_json(entry: AuditEntry) -> io::Result<String> {
    json_line(&AuditEntryJson::from(entry)).map(|line| format!("data: {line}")).map_err(io::Error::other)
}

/// Behind which record a client goes on.
pub(in crate::http) fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, Error> {
    let mut values = headers.get_all(LAST_EVENT_ID).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|id: &i64| *id >= 0);
    let wrong = || Error::invalid_header("Last-Event-ID", "Last-Event-ID is the id of an event, sent once");
    if values.next().is_some() { Err(wrong()) } else { id.map(Some).ok_or_else(wrong) }
}

// === impl Stream ===

impl Stream {
    async fn run(mut self) {
        let app = Arc::clone(&self.app);
        let longest = self.manner.longest;
        let over = async {
            match longest {
                Some(longest) => sleep(longest).await,
                None => pending().await,
            }
        };
        let ended = tokio::select! {
            ended = self.send_all() => ended,
            () = app.signals.stopped() => Ok(()),
            () = over => Ok(()),
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "a stream of audit records was cut");
            self.sender.abort(error);
        }
    }

    /// Sends until the client goes or may not have more.
    async fn send_all(&mut self) -> io::Result<()> {
        // The client knows from now on where to begin when it comes back.
        if !self.send(self.place()).await {
            return Ok(());
        }
        loop {
            self.committed.mark_unchanged();
            if !self.send_new().await? {
                return Ok(());
            }
            tokio::select! {
                // An error would mean that the sender is gone; it lives as long as the process.
                _ = self.committed.changed() => {}
                () = self.guard.revoked() => {}
                // Not to look for records, which wake it: so that proxies on the way keep a quiet connection.
                () = sleep(SIGN_OF_LIFE) => {
                    if !self.send(self.place()).await {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Sends what has been committed. Tells whether to go on.
    async fn send_new(&mut self) -> io::Result<bool> {
        if !self.guard.is_valid().await.map_err(io::Error::other)? {
            return Ok(false);
        }
        let audit = &self.app.storage.audit;
        let newest = audit.newest_record().await.map_err(io::Error::other)?;
        while self.seen < newest {
            let last = newest.min(self.seen.saturating_add(NUMBERS_PER_PIECE));
            let audit = &self.app.storage.audit;
            let entries = audit.audit_entries_between(&self.filter, self.seen, last).await;
            let mut events = String::new();
            for entry in entries.map_err(io::Error::other)? {
                let id = entry.id;
                let lines = (self.manner.event)(entry)?;
                // The lines have their own ends; the last ends the event.
                write!(events, "id: {id}\n{lines}\n").map_err(io::Error::other)?;
            }
            self.seen = last;
            if !events.is_empty() && !self.send(events).await {
                return Ok(false);
            }
            // A long way through the log takes a while.
            if !self.guard.is_valid().await.map_err(io::Error::other)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// An event without data: it moves the place of the client, and nothing else.
    fn place(&self) -> String {
        format!("id: {}\n\n", self.seen)
    }

    /// Waits until the client takes it; false if it is gone.
    async fn send(&mut self, text: String) -> bool {
        self.sender.send_data(Bytes::from(text)).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, StatusCode};
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;
    use uuid::Uuid;

    use super::*;
    use crate::http::testing::{Plane, START, record, request};

    /// What a client reads.
    struct Reader(Body);

    impl Reader {
        async fn open(plane: &Plane, token: &str, query: &str, last: Option<&str>) -> Self {
            let mut request = request(Method::GET, &format!("/v1/audit/stream?{query}"), token, None);
            if let Some(last) = last {
                request.headers_mut().insert(LAST_EVENT_ID, last.parse().unwrap());
            }
            let response = plane.router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
            let mut reader = Self(response.into_body());
            assert!(reader.piece().await.unwrap().starts_with("id: "));
            reader
        }

        /// The next piece; `None` at the end.
        async fn piece(&mut self) -> Option<String> {
            let frame = self.0.frame().await?.unwrap();
            Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
        }

        /// The numbers and request ids of the next `count` events.
        async fn events(&mut self, count: usize) -> Vec<(String, String)> {
            let mut found = Vec::new();
            while found.len() < count {
                for event in self.piece().await.unwrap().split_terminator("\n\n") {
                    let (id, data) = event.strip_prefix("id: ").unwrap().split_once("\ndata: ").unwrap();
                    let record: Value = serde_json::from_str(data).unwrap();
                    assert_eq!(record["id"], id);
                    found.push((id.to_owned(), record["request_id"].as_str().unwrap().to_owned()));
                }
            }
            found
        }
    }

    fn events(numbers: impl IntoIterator<Item = u64>) -> Vec<(String, String)> {
        numbers.into_iter().map(|n| ((n + 1).to_string(), format!("request-{n}"))).collect()
    }

    #[tokio::test]
    async fn new_records_come_as_they_are_committed_and_a_client_that_comes_back_misses_none() {
        let plane = Plane::new().await;
        let gateway = plane.token("gateway").await;
        plane.deliver(&gateway, vec![record(0, START, None)]).await;
        let mut reader = Reader::open(&plane, &plane.owner, "", None).await;
        // Times do not decide, numbers do: a batch may come late.
        plane.deliver(&gateway, vec![record(1, START + 9, None), record(2, START - 9, None)]).await;
        assert_eq!(reader.events(2).await, events(1..3));
        drop(reader);
        let many = (3..1_203).map(|n| record(n, START, Some((Uuid::from_u128(1 + u128::from(n % 2)), "x"))));
        plane.deliver(&gateway, many.collect()).await;
        let mut again = Reader::open(&plane, &plane.owner, "", Some("3")).await;
        assert_eq!(again.events(1_200).await, events(3..1_203));
        let filter = format!("key={}", Uuid::from_u128(1));
        let mut some = Reader::open(&plane, &plane.owner, &filter, Some("0")).await;
        assert_eq!(some.events(600).await, events((4..1_203).step_by(2)));
        plane.deliver(&gateway, vec![record(1_203, START, None)]).await;
        assert_eq!(again.events(1).await, events([1_203]));
    }

    #[tokio::test]
    async fn it_ends_with_its_token_and_with_the_process() {
        let plane = Plane::new().await;
        let auditor = plane.token("auditor").await;
        plane.token("admin").await;
        let mut theirs = Reader::open(&plane, &auditor, "", None).await;
        let mut mine = Reader::open(&plane, &plane.owner, "", None).await;
        let revoke = async |name: &str| {
            let path = plane.path_of_token(name).await;
            assert_eq!(plane.delete(&path).await.status, StatusCode::NO_CONTENT);
        };
        revoke("the admin").await;
        let gateway = plane.token("gateway").await;
        plane.deliver(&gateway, vec![record(0, START, None)]).await;
        assert_eq!(theirs.events(1).await, events([0]), "another's token is none of its business");
        revoke("the auditor").await;
        assert_eq!(theirs.piece().await, None);
        assert_eq!(mine.events(1).await, events([0]));
        plane.app.signals.stopping.send_replace(true);
        assert_eq!(mine.piece().await, None);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_nothing_back() {
        let plane = Plane::new().await;
        let gateway = plane.token("gateway").await;
        let mut slow = Reader::open(&plane, &plane.owner, "", None).await;
        for first in (0..10_000).step_by(1_000) {
            let records = (first..first + 1_000).map(|n| record(n, START + n, None)).collect();
            assert_eq!(plane.deliver(&gateway, records).await.status, StatusCode::NO_CONTENT);
        }
        assert_eq!(slow.events(10_000).await, events(0..10_000));
    }

    #[tokio::test]
    async fn what_it_cannot_begin_behind_is_refused() {
        let plane = Plane::new().await;
        for wrong in ["x", "-1", "", "99999999999999999999"] {
            let mut request = request(Method::GET, "/v1/audit/stream", &plane.owner, None);
            request.headers_mut().insert(LAST_EVENT_ID, wrong.parse().unwrap());
            assert_eq!(plane.call(request).await.problem().2, "Last-Event-ID", "{wrong}");
        }
        assert_eq!(plane.get("/v1/audit/stream?limit=1").await.problem().1, "invalid_query");
    }
}
