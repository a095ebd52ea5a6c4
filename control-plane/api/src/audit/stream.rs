//! `GET /v1/audit/stream`: new calls as they are committed, as server-sent events.
//!
//! The event ID is the number of the record. Numbers increase in the order of commits, because the store runs one
//! request-log transaction at a time. So a client that resumes with the last ID it received misses no record and
//! receives none twice.

use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use http_body_util::channel::{Channel, Sender};

use crate::access::Authenticated;
use crate::extract::StrictQuery;
use crate::params::LastEventId;
use crate::problem::Problem;
use omniflow_api_types::audit::AuditEntryJson;
use omniflow_api_types::audit_lines::json_line;
use omniflow_api_types::parameters::{AuditParameters, LAST_EVENT_ID, last_event_id};
use omniflow_service::audit::RequestLog;
use omniflow_service::audit::follow::{FollowItem, Follower};

/// Batches of events that wait for a slow client. Later records are read from the log when there is room.
const PIECES_WAITING: usize = 2;
/// Interval at which an idle stream sends an event without data, so that proxies keep the connection open. When a token
/// expires, its stream ends within this time.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Stream new calls as server-sent events.
///
/// In each event, `id` is the ID of the record and `data` is the record in JSON. With `Last-Event-ID`, the stream
/// begins after that record. The stream ends when the token expires or is revoked, when the control plane stops, or
/// when the client disconnects.
#[utoipa::path(
    get,
    path = "/v1/audit/stream",
    operation_id = "stream_audit_records",
    tag = "audit",
    params(AuditParameters, LastEventId),
    responses((status = 200, description = "A stream of server-sent events.", body = String, content_type = "text/event-stream")),
)]
pub(crate) async fn stream(
    State(log): State<Arc<RequestLog>>,
    Authenticated(principal): Authenticated,
    headers: HeaderMap,
    StrictQuery(filter): StrictQuery<AuditParameters>,
) -> Result<Response, Problem> {
    let after = last_event_id(headers.get_all(LAST_EVENT_ID).iter().map(HeaderValue::as_bytes))?;
    let follower = log.follow(&principal, filter.parse()?, after).await?;
    let (sender, body) = Channel::new(PIECES_WAITING);
    tokio::spawn(send(follower, sender));
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::new(body)).into_response())
}

async fn send(mut follower: Follower, mut sender: Sender<Bytes, io::Error>) {
    let stopped = follower.stopped();
    let ended = tokio::select! {
        ended = send_events(&mut follower, &mut sender) => ended,
        () = stopped => Ok(()),
    };
    if let Err(error) = ended {
        tracing::warn!(%error, "audit log stream aborted");
        sender.abort(error);
    }
}

/// Sends events until the client disconnects or its token is no longer valid.
async fn send_events(follower: &mut Follower, sender: &mut Sender<Bytes, io::Error>) -> io::Result<()> {
    // A client that reconnects continues from here.
    let mut events = position(follower);
    loop {
        if !events.is_empty() && sender.send_data(Bytes::from(events)).await.is_err() {
            return Ok(());
        }
        events = match follower.next(KEEP_ALIVE).await.map_err(io::Error::other)? {
            FollowItem::Records(records) => {
                let mut events = String::new();
                for record in records {
                    let id = record.id;
                    let line = json_line(&AuditEntryJson::from(record)).map_err(io::Error::other)?;
                    // The line ends with a line feed; the second one ends the event.
                    write!(events, "id: {id}\ndata: {line}\n").map_err(io::Error::other)?;
                }
                events
            }
            FollowItem::Idle => position(follower),
            FollowItem::Ended => return Ok(()),
        };
    }
}

/// An event without data, which only advances the position of the client.
fn position(follower: &Follower) -> String {
    format!("id: {}\n\n", follower.position())
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, StatusCode};
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::ServiceExt;
    use uuid::Uuid;

    use super::*;
    use omniflow_test_server::{START, TestServer, record, request};

    /// What a client reads.
    struct Reader(Body);

    impl Reader {
        async fn open(server: &TestServer, token: &str, query: &str, last: Option<&str>) -> Self {
            let mut request = request(Method::GET, &format!("/v1/audit/stream?{query}"), token, None);
            if let Some(last) = last {
                request.headers_mut().insert(LAST_EVENT_ID, last.parse().unwrap());
            }
            let response = server.router.clone().oneshot(request).await.unwrap();
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
        let server = TestServer::new().await;
        let gateway = server.token("gateway").await;
        server.deliver(&gateway, vec![record(0, START, None)]).await;
        let mut reader = Reader::open(&server, &server.owner, "", None).await;
        // The order is by number, not by time, because a batch may arrive late.
        server.deliver(&gateway, vec![record(1, START + 9, None), record(2, START - 9, None)]).await;
        assert_eq!(reader.events(2).await, events(1..3));
        drop(reader);
        let many = (3..1_203).map(|n| record(n, START, Some((Uuid::from_u128(1 + u128::from(n % 2)), "x"))));
        server.deliver(&gateway, many.collect()).await;
        let mut again = Reader::open(&server, &server.owner, "", Some("3")).await;
        assert_eq!(again.events(1_200).await, events(3..1_203));
        let filter = format!("key={}", Uuid::from_u128(1));
        let mut some = Reader::open(&server, &server.owner, &filter, Some("0")).await;
        assert_eq!(some.events(600).await, events((4..1_203).step_by(2)));
        server.deliver(&gateway, vec![record(1_203, START, None)]).await;
        assert_eq!(again.events(1).await, events([1_203]));
    }

    #[tokio::test]
    async fn it_ends_with_its_token_and_with_the_process() {
        let server = TestServer::new().await;
        let auditor = server.token("auditor").await;
        server.token("admin").await;
        let mut theirs = Reader::open(&server, &auditor, "", None).await;
        let mut mine = Reader::open(&server, &server.owner, "", None).await;
        let revoke = async |name: &str| {
            let path = server.path_of_token(name).await;
            assert_eq!(server.delete(&path).await.status, StatusCode::NO_CONTENT);
        };
        revoke("the admin").await;
        let gateway = server.token("gateway").await;
        server.deliver(&gateway, vec![record(0, START, None)]).await;
        assert_eq!(theirs.events(1).await, events([0]), "another's token is none of its business");
        revoke("the auditor").await;
        assert_eq!(theirs.piece().await, None);
        assert_eq!(mine.events(1).await, events([0]));
        server.app.notifications.stopping.send_replace(true);
        assert_eq!(mine.piece().await, None);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_nothing_back() {
        let server = TestServer::new().await;
        let gateway = server.token("gateway").await;
        let mut slow = Reader::open(&server, &server.owner, "", None).await;
        for first in (0..10_000).step_by(1_000) {
            let records = (first..first + 1_000).map(|n| record(n, START + n, None)).collect();
            assert_eq!(server.deliver(&gateway, records).await.status, StatusCode::NO_CONTENT);
        }
        assert_eq!(slow.events(10_000).await, events(0..10_000));
    }

    #[tokio::test]
    async fn an_invalid_last_event_id_is_rejected() {
        let server = TestServer::new().await;
        for wrong in ["x", "-1", "", "99999999999999999999"] {
            let mut request = request(Method::GET, "/v1/audit/stream", &server.owner, None);
            request.headers_mut().insert(LAST_EVENT_ID, wrong.parse().unwrap());
            assert_eq!(server.call(request).await.problem().2, "Last-Event-ID", "{wrong}");
        }
        assert_eq!(server.get("/v1/audit/stream?limit=1").await.problem().1, "invalid_query");
    }
}
