//! The purge of old records, tested through the API.

use std::time::Duration;

use axum::http::StatusCode;
use omniflow_domain::time::DAY_MS;
use omniflow_policy::audit::{AuditBatch, AuditItem, AuditSource};
use omniflow_policy::gateway::{EnforcedReport, Incarnation};
use omniflow_policy::time::UnixMillis;
use serde_json::json;
use uuid::Uuid;

use omniflow_service::jobs::retention::STREAMS_AT_ONCE;
use omniflow_test_server::{START, TestServer, record};

const DAY: Duration = Duration::from_secs(86_400);

async fn ids(server: &TestServer) -> Vec<String> {
    let list = server.get("/v1/audit?limit=500").await.expect(StatusCode::OK);
    let items = list["items"].as_array().unwrap().iter();
    items.map(|entry| entry["request_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn records_and_gaps_go_after_their_time_and_uses_of_keys_stay() {
    let server = TestServer::new().await;
    let token = server.token("gateway").await;
    let created = server.key("ci").await;
    let id: Uuid = serde_json::from_value(created["key"]["id"].clone()).unwrap();
    let key = Some((id, "ci"));
    // The number 1 is missing.
    server.deliver(&token, vec![record(0, START, key), record(2, START + 1, key)]).await;
    server.pass(90 * DAY);
    server.deliver(&token, vec![record(3, START + 90 * DAY_MS, key)]).await;
    server.purge().await;
    assert_eq!(ids(&server).await, ["request-3", "request-2", "request-0"], "on the day they are there");

    server.pass(Duration::from_millis(1));
    server.purge().await;
    assert_eq!(ids(&server).await, ["request-3", "request-2"]);
    let gaps = async || server.get("/v1/audit/gaps").await.expect(StatusCode::OK)["items"].clone();
    assert_eq!(gaps().await[0]["missing"], 1);

    server.pass(Duration::from_millis(1));
    server.purge().await;
    assert_eq!((ids(&server).await, gaps().await), (vec!["request-3".to_owned()], json!([])));

    server.pass(91 * DAY);
    server.purge().await;
    assert!(ids(&server).await.is_empty());
    let shown = server.get("/v1/keys/ci").await.expect(StatusCode::OK);
    assert_eq!(shown["last_used_at"], "2027-04-15T08:00:00.000Z");
    let events = server.get("/v1/admin-log").await.expect(StatusCode::OK);
    assert_eq!(events["items"].as_array().unwrap().len(), 3, "the admin log stays: {events}");

    // Purged records still count as delivered.
    server.deliver(&token, vec![record(3, START + 90 * DAY_MS, key)]).await;
    assert!(ids(&server).await.is_empty());
}

#[tokio::test]
async fn places_of_gateways_that_are_gone_are_forgotten() {
    let server = TestServer::new().await;
    let token = server.token("gateway").await;
    let deliver = async |incarnation, sequence, time| {
        let source = AuditSource {
            gateway: "edge".to_owned(),
            incarnation: Incarnation(incarnation),
            vm: Incarnation(1),
        };
        let items = vec![AuditItem::Call(record(sequence, time, None))];
        let batch = AuditBatch { source, delivery: None, items };
        server.deliver_bytes(&token, batch.encode()).await
    };
    let quiet = async || {
        let streams = server.app.store.quiet_streams(UnixMillis(u64::MAX >> 1)).await.unwrap();
        streams.iter().map(|run| run.incarnation.0).collect::<Vec<_>>()
    };
    for run in 0..3 * STREAMS_AT_ONCE as u64 {
        deliver(run, 0, START).await;
    }
    server.pass(180 * DAY);
    deliver(1, 1, START + 1).await;
    server.purge().await;
    assert_eq!(quiet().await.len(), 3 * STREAMS_AT_ONCE, "on the day they are known");

    // One gateway is present but has no calls. Its next call causes no gap.
    server.pass(Duration::from_millis(1));
    let report = EnforcedReport {
        gateway: "edge".to_owned(),
        incarnation: Incarnation(7),
        installation: None,
        vms: Vec::new(),
    };
    server.app.fleet.reported(&report, omniflow_service::fleet::VersionBounds::ALL);
    server.purge().await;
    assert_eq!(quiet().await, [1, 7]);
    deliver(7, 1, START + 1).await;
    let gaps = server.get("/v1/audit/gaps").await.expect(StatusCode::OK);
    assert_eq!(gaps["items"], json!([]));
}

/// Delivers `count` records that begin at `time`.
async fn fill(server: &TestServer, token: &str, first: u64, count: u64, time: u64) {
    for first in (first..first + count).step_by(1_000) {
        let records = (first..first + 1_000).map(|n| record(n, time + n, None)).collect();
        assert_eq!(server.deliver(token, records).await.status, StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn records_arrive_while_old_ones_go() {
    let server = TestServer::new().await;
    let token = server.token("gateway").await;
    fill(&server, &token, 0, 5_000, START).await;
    server.pass(91 * DAY);
    let now = START + 91 * DAY_MS;
    let arriving = async {
        let mut delivered = 0;
        while delivered < 50 {
            let n = 5_000 + delivered;
            let answer = server.deliver(&token, vec![record(n, now + n, None)]).await;
            assert_eq!(answer.status, StatusCode::NO_CONTENT);
            delivered += 1;
        }
    };
    tokio::join!(server.purge(), arriving);
    let expected: Vec<String> = (5_000..5_050).rev().map(|n| format!("request-{n}")).collect();
    assert_eq!(ids(&server).await, expected);
}
