//! A request log that has reached its limits.

use axum::http::StatusCode;
use omniflow_policy::audit::AuditRecord;
use omniflow_service::jobs::retention::purge_to_size;
use omniflow_test_server::{START, TestServer, record};
use serde_json::json;

#[tokio::test]
async fn batches_are_refused_first_where_space_runs_out() {
    let server = TestServer::new().await;
    // More space than any volume has.
    let server = server.restart_with(|settings| settings.log_limits.reserve_bytes = u64::MAX).await;
    let gateway = server.token("gateway").await;
    server.key("ci").await;
    let refused = server.deliver(&gateway, vec![record(0, START, None)]).await;
    assert_eq!(refused.problem(), (503, "busy".to_owned(), String::new()));
    assert!(refused.headers.contains_key("retry-after"));
    server.post("/v1/keys/ci/rotate", json!({})).await.expect(StatusCode::CREATED);
    server.post("/v1/keys/ci/revoke", json!({})).await.expect(StatusCode::OK);
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status, StatusCode::OK, "it serves keys");
    let text = String::from_utf8(ready.body.to_vec()).unwrap();
    assert!(text.starts_with("ready\naudit log: ") && text.contains("\nwarning: less than "), "{text}");
    assert!(text.contains("\naudit batches not stored: 1\naudit records lost: 0\n"), "{text}");
    let rejected = server.metric("omf_audit_batches_rejected_total{cause=\"reserve\"}").await;
    assert_eq!(rejected, Some(1.0));
    assert!(server.metric("omf_volume_free_bytes").await.unwrap() > 0.0);

    let server = server.restart_with(|settings| settings.log_limits.reserve_bytes = 1).await;
    let stored = server.deliver(&gateway, vec![record(0, START, None)]).await;
    assert_eq!(stored.status, StatusCode::NO_CONTENT, "gateways deliver again what was refused");
}

#[tokio::test]
async fn statistics_are_refused_first_where_space_runs_out() {
    let server = TestServer::new().await;
    let gateway = server.token("gateway").await;
    server.key("ci").await;
    server.deliver(&gateway, vec![record(0, START, None)]).await;
    let path = "/v1/audit/stats?from=2027-01-15T00:00:00Z&to=2027-01-16T00:00:00Z";
    server.get(path).await.expect(StatusCode::OK);
    // More than any volume has.
    let server = server.restart_with(|settings| settings.log_limits.reserve_bytes = u64::MAX).await;
    let refused = server.get(path).await;
    assert!(refused.headers.contains_key("retry-after"));
    assert!(refused.json()["detail"].as_str().unwrap().contains("statistics are not computed"));
    assert_eq!(refused.problem(), (503, "busy".to_owned(), String::new()));
    for path in ["/v1/keys?q=ci", "/v1/audit?status=4xx", "/v1/audit/export", "/v1/audit/gaps", "/v1/admin-log"] {
        assert_eq!(server.get(path).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn oldest_records_are_purged_above_the_maximum_size() {
    const RECORDS: u64 = 4_000;
    let server = TestServer::new().await;
    let gateway = server.token("gateway").await;
    for first in (0..RECORDS).step_by(500) {
        let long = |n| AuditRecord { path: "/x".repeat(500), ..record(n, START + n, None) };
        let stored = server.deliver(&gateway, (first..first + 500).map(long).collect()).await;
        assert_eq!(stored.status, StatusCode::NO_CONTENT);
    }
    let store = &*server.app.store;
    let full = store.log_size().await.unwrap().bytes;
    let most = full / 2;
    purge_to_size(store, None).await.unwrap();
    assert_eq!(store.log_size().await.unwrap().bytes, full);
    purge_to_size(store, Some(most)).await.unwrap();
    let size = store.log_size().await.unwrap();
    assert!(size.bytes - size.free <= most, "{size:?} of {full}");
    let list = server.get("/v1/audit?limit=500").await.expect(StatusCode::OK);
    assert_eq!(list["items"].as_array().unwrap().len(), 500, "the newest remain");
    let stats = server
        .get("/v1/audit/stats?from=2027-01-15T00:00:00Z&to=2027-01-16T00:00:00Z")
        .await
        .expect(StatusCode::OK);
    let left = stats["total"]["calls"].as_u64().unwrap();
    assert!((RECORDS / 10..RECORDS).contains(&left), "{left}");
}
