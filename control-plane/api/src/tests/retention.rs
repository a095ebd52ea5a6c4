//! The purge of old records, as the API shows it.

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

async fn ids(plane: &TestServer) -> Vec<String> {
    let list = plane.get("/v1/audit?limit=500").await.expect(StatusCode::OK);
    let items = list["items"].as_array().unwrap().iter();
    items.map(|entry| entry["request_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn records_and_gaps_go_after_their_time_and_uses_of_keys_stay() {
    let plane = TestServer::new().await;
    let token = plane.token("gateway").await;
    let created = plane.key("ci").await;
    let id: Uuid = serde_json::from_value(created["key"]["id"].clone()).unwrap();
    let key = Some((id, "ci"));
    // The number 1 is missing.
    plane.deliver(&token, vec![record(0, START, key), record(2, START + 1, key)]).await;
    plane.pass(90 * DAY);
    plane.deliver(&token, vec![record(3, START + 90 * DAY_MS, key)]).await;
    plane.purge().await;
    assert_eq!(ids(&plane).await, ["request-3", "request-2", "request-0"], "on the day they are there");

    plane.pass(Duration::from_millis(1));
    plane.purge().await;
    assert_eq!(ids(&plane).await, ["request-3", "request-2"]);
    let gaps = async || plane.get("/v1/audit/gaps").await.expect(StatusCode::OK)["items"].clone();
    assert_eq!(gaps().await[0]["missing"], 1);

    plane.pass(Duration::from_millis(1));
    plane.purge().await;
    assert_eq!((ids(&plane).await, gaps().await), (vec!["request-3".to_owned()], json!([])));

    plane.pass(91 * DAY);
    plane.purge().await;
    assert!(ids(&plane).await.is_empty());
    let shown = plane.get("/v1/keys/ci").await.expect(StatusCode::OK);
    assert_eq!(shown["last_used_at"], "2027-04-15T08:00:00.000Z");
    let events = plane.get("/v1/admin-log").await.expect(StatusCode::OK);
    assert_eq!(events["items"].as_array().unwrap().len(), 3, "the admin log stays: {events}");

    // What was purged is still known as delivered.
    plane.deliver(&token, vec![record(3, START + 90 * DAY_MS, key)]).await;
    assert!(ids(&plane).await.is_empty());
}

#[tokio::test]
async fn places_of_gateways_that_are_gone_are_forgotten() {
    let plane = TestServer::new().await;
    let token = plane.token("gateway").await;
    let deliver = async |incarnation, sequence, time| {
        let source = AuditSource {
            gateway: "edge".to_owned(),
            incarnation: Incarnation(incarnation),
            vm: Incarnation(1),
        };
        let items = vec![AuditItem::Call(record(sequence, time, None))];
        let batch = AuditBatch { source, delivery: None, items };
        plane.deliver_bytes(&token, batch.encode()).await
    };
    let quiet = async || {
        let streams = plane.app.store.quiet_streams(UnixMillis(u64::MAX >> 1)).await.unwrap();
        streams.iter().map(|run| run.incarnation.0).collect::<Vec<_>>()
    };
    for run in 0..3 * STREAMS_AT_ONCE as u64 {
        deliver(run, 0, START).await;
    }
    plane.pass(180 * DAY);
    deliver(1, 1, START + 1).await;
    plane.purge().await;
    assert_eq!(quiet().await.len(), 3 * STREAMS_AT_ONCE, "on the day they are known");

    // One has no calls, and is there. Its next call leaves no gap behind.
    plane.pass(Duration::from_millis(1));
    let report = EnforcedReport {
        gateway: "edge".to_owned(),
        incarnation: Incarnation(7),
        installation: None,
        vms: Vec::new(),
    };
    plane.app.fleet.reported(&report, true);
    plane.purge().await;
    assert_eq!(quiet().await, [1, 7]);
    deliver(7, 1, START + 1).await;
    let gaps = plane.get("/v1/audit/gaps").await.expect(StatusCode::OK);
    assert_eq!(gaps["items"], json!([]));
}

/// Delivers `count` records that begin at `time`.
async fn fill(plane: &TestServer, token: &str, first: u64, count: u64, time: u64) {
    for first in (first..first + count).step_by(1_000) {
        let records = (first..first + 1_000).map(|n| record(n, time + n, None)).collect();
        assert_eq!(plane.deliver(token, records).await.status, StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn records_arrive_while_old_ones_go() {
    let plane = TestServer::new().await;
    let token = plane.token("gateway").await;
    fill(&plane, &token, 0, 5_000, START).await;
    plane.pass(91 * DAY);
    let now = START + 91 * DAY_MS;
    let arriving = async {
        let mut delivered = 0;
        while delivered < 50 {
            let n = 5_000 + delivered;
            let answer = plane.deliver(&token, vec![record(n, now + n, None)]).await;
            assert_eq!(answer.status, StatusCode::NO_CONTENT);
            delivered += 1;
        }
    };
    tokio::join!(plane.purge(), arriving);
    let expected: Vec<String> = (5_000..5_050).rev().map(|n| format!("request-{n}")).collect();
    assert_eq!(ids(&plane).await, expected);
}
