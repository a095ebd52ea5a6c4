//! A request log that has reached its limits.

use axum::http::StatusCode;
use omniflow_policy::audit::{AuditKey, AuditRecord};
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::key::Environment;
use omniflow_service::jobs::retention::purge_to_size;
use omniflow_test_server::{START, TestServer, record};
use serde_json::json;

#[tokio::test]
async fn batches_are_rejected_first_where_space_runs_out() {
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
    for path in
        ["/v1/keys?q=ci", "/v1/audit?status=4xx", "/v1/audit/export", "/v1/audit/gaps", "/v1/admin-log"]
    {
        assert_eq!(server.get(path).await.status, StatusCode::OK, "{path}");
    }
}

/// Delivers records in batches of 500.
async fn deliver(
    server: &TestServer,
    gateway: &str,
    numbers: std::ops::Range<u64>,
    kind: impl Fn(AuditRecord) -> AuditRecord,
) {
    for first in numbers.clone().step_by(500) {
        let records = (first..(first + 500).min(numbers.end))
            .map(|n| kind(AuditRecord { path: "/x".repeat(500), ..record(n, START + n, None) }));
        let stored = server.deliver(gateway, records.collect()).await;
        assert_eq!(stored.status, StatusCode::NO_CONTENT);
    }
}

/// The calls in the log that match a query.
async fn recorded(server: &TestServer, query: &str) -> u64 {
    let path = format!("/v1/audit/stats?from=2027-01-15T00:00:00Z&to=2027-01-16T00:00:00Z&{query}");
    server.get(&path).await.expect(StatusCode::OK)["total"]["calls"].as_u64().unwrap()
}

#[tokio::test]
async fn oldest_records_are_purged_above_the_maximum_size() {
    const RECORDS: u64 = 4_000;
    let server = TestServer::new().await;
    let gateway = server.token("gateway").await;
    deliver(&server, &gateway, 0..RECORDS, |record| record).await;
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
    let left = recorded(&server, "").await;
    assert!((RECORDS / 10..RECORDS).contains(&left), "{left}");
}

#[tokio::test]
async fn a_flood_of_refusals_does_not_push_out_allowed_calls() {
    let server = TestServer::new().await;
    let gateway = server.token("gateway").await;
    let key = AuditKey {
        id: uuid::Uuid::from_u128(9),
        name: "ci".to_owned(),
        version: 1,
        environment: Environment::Live,
    };
    let of_key = |record| AuditRecord { key: Some(key.clone()), ..record };
    let refused =
        |reason| move |record| AuditRecord { outcome: Outcome::Denied(reason), status: 403, ..record };
    deliver(&server, &gateway, 0..500, of_key).await;
    deliver(&server, &gateway, 500..600, |record| refused(Denial::RouteNotMapped)(of_key(record))).await;
    let size = async || {
        let size = server.app.store.log_size().await.unwrap();
        size.bytes - size.free
    };
    let most = 2 * size().await;
    // Seven times as much, from many addresses.
    deliver(&server, &gateway, 600..5_000, |record| {
        let source_ip = Some(std::net::Ipv4Addr::from_bits(record.sequence as u32).into());
        AuditRecord { source_ip, ..refused(Denial::MissingCredentials)(record) }
    })
    .await;
    purge_to_size(&*server.app.store, Some(most)).await.unwrap();
    assert!(size().await <= most);
    assert_eq!(recorded(&server, "key=ci&decision=allowed").await, 500);
    assert_eq!(recorded(&server, "key=ci&decision=denied").await, 100);
    let without_key = recorded(&server, "reason=missing_credentials").await;
    assert!((100..2_000).contains(&without_key), "{without_key}: the newest remain");

    let gaps = server.get("/v1/audit/gaps").await.expect(StatusCode::OK);
    let [gap] = &gaps["items"].as_array().unwrap()[..] else { panic!("{gaps}") };
    assert_eq!((&gap["cause"], &gap["gateway"]), (&json!("purged_without_key"), &json!("edge")));
    assert_eq!(
        (&gap["incarnation"], &gap["vm"], &gap["at_least"]),
        (&json!(null), &json!(null), &json!(false))
    );
    assert_eq!(gap["missing"], 4_400 - without_key, "recorded + lost = calls");
    let ready = String::from_utf8(server.get("/readyz").await.body.to_vec()).unwrap();
    assert!(
        ready.ends_with(&format!("lost: 0\naudit records purged early: {}\n", 4_400 - without_key)),
        "{ready}"
    );

    // What a kind leaves unused, others may use. Beyond its share, it is purged too.
    deliver(&server, &gateway, 5_000..9_000, of_key).await;
    purge_to_size(&*server.app.store, Some(most)).await.unwrap();
    let (allowed, without_key) = (
        recorded(&server, "key=ci&decision=allowed").await,
        recorded(&server, "reason=missing_credentials").await,
    );
    assert!((500..4_000).contains(&allowed) && (100..800).contains(&without_key), "{allowed}, {without_key}");
    let list = server.get("/v1/audit?limit=1").await.expect(StatusCode::OK);
    assert_eq!(list["items"][0]["request_id"], "request-8999", "the newest remain");
    let gaps = server.get("/v1/audit/gaps").await.expect(StatusCode::OK);
    let missing: u64 =
        gaps["items"].as_array().unwrap().iter().map(|gap| gap["missing"].as_u64().unwrap()).sum();
    assert_eq!(missing + recorded(&server, "").await, 9_000, "recorded + lost = calls");
}
