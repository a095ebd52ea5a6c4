//! Changes to keys, sign-in and health checks while one token runs as many statistics as it can.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use omniflow_store_sqlite::fixtures;
use omniflow_test_server::{TestServer, request, send};
use serde_json::json;
use tokio::time::Instant;

/// Records of 90 days: enough that one query takes long, and few enough to insert.
const RECORDS: i64 = 200_000;
/// Concurrent queries.
const QUERIES: usize = 48;
/// Longer than any of the changes takes on a busy processor, and shorter than a few queries.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long the first query may take.
const FIRST_QUERY: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn changes_do_not_wait_for_statistics() {
    let server =
        TestServer::new().await.refilled(async |store| fixtures::records(store, RECORDS).await).await;
    let auditor = server.token("auditor").await;
    for name in ["revoked", "rotated", "changed"] {
        server.key(name).await;
    }
    let leaked = server.key("leaked").await;
    let path = "/v1/audit/stats?by=address,key&from=2026-10-17T08:00:00Z&to=2027-01-15T08:00:00Z";
    let queries: Vec<_> = (0..QUERIES)
        .map(|_| tokio::spawn(send(server.router.clone(), request(Method::GET, path, &auditor, None))))
        .collect();
    // When the first has ended, the others run or wait.
    let started = Instant::now();
    while !queries.iter().any(tokio::task::JoinHandle::is_finished) {
        assert!(started.elapsed() < FIRST_QUERY, "no query has ended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (method, path, body) in [
        (Method::POST, "/v1/leaks", Some(json!({"secret": leaked["secret"], "revoke": true}))),
        (Method::POST, "/v1/keys/revoked/revoke", None),
        (Method::POST, "/v1/keys/rotated/rotate", Some(json!({}))),
        (Method::PATCH, "/v1/keys/changed", Some(json!({"description": "changed"}))),
        (Method::POST, "/v1/tokens", Some(json!({"name": "new", "role": "auditor"}))),
        (Method::GET, "/v1/keys/changed", None),
        (Method::GET, "/readyz", None),
        (Method::GET, "/metrics", None),
    ] {
        let started = Instant::now();
        let answer = server.call(request(method.clone(), path, &server.owner, body)).await;
        assert!(answer.status.is_success(), "{method} {path}: {answer:?}");
        assert!(started.elapsed() < DEADLINE, "{method} {path} took {:?}", started.elapsed());
    }
    let waiting = queries.iter().filter(|query| !query.is_finished()).count();
    assert!(waiting > QUERIES / 2, "{waiting} queries were still running: the changes had to get past them");
    for query in queries {
        let answer = query.await.unwrap();
        match answer.status {
            StatusCode::OK => {}
            _ => assert_eq!(answer.problem().1, "busy"),
        }
    }
}
