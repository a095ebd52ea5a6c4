//! The detection of anomalies, tested through the API.

use std::time::Duration;

use axum::http::StatusCode;
use omniflow_policy::audit::AuditRecord;
use omniflow_policy::denial::{Denial, Outcome};
use serde_json::{Value, json};
use uuid::Uuid;

use omniflow_domain::detection::HOUR_MS;
use omniflow_service::jobs::detection::evaluate;
use omniflow_store::{ChangedHour, EvaluationCursor};
use omniflow_test_server::{START, TestServer, record};

const KEY: Uuid = Uuid::from_u128(9);

/// Five calls per hour for ten days, from one network, until the hour that begins now.
async fn history(server: &TestServer, token: &str) -> u64 {
    let hours = 240;
    let records: Vec<AuditRecord> = (0..hours * 5)
        .map(|n| record(n, START - (hours - n / 5) * HOUR_MS + n % 5, Some((KEY, "ci"))))
        .collect();
    for part in records.chunks(400) {
        assert_eq!(server.deliver(token, part.to_vec()).await.status, StatusCode::NO_CONTENT);
    }
    server.detect_anomalies().await;
    hours * 5
}

async fn anomalies(server: &TestServer, query: &str) -> Vec<Value> {
    let list = server.get(&format!("/v1/anomalies?{query}")).await.expect(StatusCode::OK);
    list["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn what_is_unusual_is_found_once_with_the_calls_that_show_it() {
    let server = TestServer::new().await;
    let token = server.token("gateway").await;
    let next = history(&server, &token).await;
    assert_eq!(anomalies(&server, "").await, [] as [Value; 0], "ten quiet days");

    let hostile = |n: u64| {
        let mut record = record(next + n, START + n, Some((KEY, "ci")));
        // 300 calls: the last 40 are refused, five are from other networks, and two are made after the revocation.
        if n >= 260 {
            (record.status, record.outcome) = (403, Outcome::Denied(Denial::InsufficientScope));
        }
        if n < 5 {
            record.source_ip = Some(format!("198.51.{n}.1").parse().unwrap());
        }
        if n >= 298 {
            (record.status, record.outcome) = (401, Outcome::Denied(Denial::KeyRevoked));
        }
        record
    };
    server.deliver(&token, (0..150).map(hostile).collect()).await;
    server.detect_anomalies().await;
    server.deliver(&token, (150..300).map(hostile).collect()).await;
    for _ in 0..2 {
        server.detect_anomalies().await;
    }
    let mut found = anomalies(&server, "").await;
    found.sort_by_key(|anomaly| anomaly["kind"].as_str().unwrap().to_owned());
    let reported: Vec<_> = found
        .iter()
        .map(|one| (one["kind"].as_str().unwrap(), one["evidence"]["observed"].as_u64().unwrap()))
        .collect();
    let expected = [
        ("error_run", 38),
        ("many_places", 6),
        ("new_network", 5),
        ("used_after_end", 2),
        ("volume_spike", 298),
    ];
    assert_eq!(reported, expected, "{found:?}");
    for (anomaly, calls) in found.iter().zip([38, 298, 298, 2, 298]) {
        let mut query = anomaly["query"].as_str().unwrap().to_owned();
        query.push_str("&limit=500");
        let shown = server.get(&query).await.expect(StatusCode::OK);
        assert_eq!(shown["items"].as_array().unwrap().len(), calls, "{query}");
    }
    assert_eq!(found[0]["evidence"]["status"], "403");
    assert_eq!(found[2]["evidence"]["networks"].as_array().unwrap().len(), 5);
    assert_eq!(
        (&found[3]["evidence"]["version_id"], &found[3]["evidence"]["reason"]),
        (&json!(1), &json!("key_revoked"))
    );
    assert_eq!(found[4]["evidence"]["expected"], 5.0);
    assert_eq!(found[4]["first_seen"], "2027-01-15T08:00:00.000Z");

    assert_eq!(anomalies(&server, "kind=new_network&key=ci").await.len(), 1);
    assert_eq!(anomalies(&server, &format!("key={KEY}&to=2027-01-15T08:00:00Z")).await.len(), 0);
    assert_eq!(anomalies(&server, "from=2027-01-15T08:00:01Z").await.len(), 0);
    assert_eq!(server.get("/v1/anomalies?kind=odd").await.problem().2, "kind");
    let metrics = server.get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    for line in ["omf_anomalies_total{kind=\"volume_spike\"} 1", "omf_audit_records_total 1500"] {
        assert!(text.lines().any(|one| one == line), "{text}");
    }
    assert!(!text.contains("ci\"") && !text.contains(&KEY.to_string()));
}

#[tokio::test]
async fn it_goes_on_as_one_finding_and_is_a_new_one_another_day() {
    let server = TestServer::new().await;
    let token = server.token("gateway").await;
    let mut next = history(&server, &token).await;
    let mut spike = async |hour: u64, calls: u64| {
        let time = START + hour * HOUR_MS;
        server.pass(Duration::from_millis(time.saturating_sub(server.app.now().0)));
        let records: Vec<_> = (0..calls).map(|n| record(next + n, time + n, Some((KEY, "ci")))).collect();
        for part in records.chunks(500) {
            assert_eq!(server.deliver(&token, part.to_vec()).await.status, StatusCode::NO_CONTENT);
        }
        next += calls;
        server.detect_anomalies().await;
        anomalies(&server, "").await
    };
    let first = spike(0, 300).await;
    assert_eq!(first.len(), 1);
    let more = spike(1, 900).await;
    assert_eq!((more.len(), &more[0]["id"]), (1, &first[0]["id"]));
    assert_eq!(more[0]["evidence"]["observed"], 900);
    assert_eq!(more[0]["first_seen"], first[0]["first_seen"]);
    let still = spike(2, 900).await;
    assert_eq!((still.len(), &still[0]["id"]), (1, &first[0]["id"]));
    assert!(still[0]["last_seen"].as_str() > more[0]["last_seen"].as_str(), "it goes on");
    let later = spike(49, 900).await;
    assert_eq!(later.len(), 1, "it is in the history now");
    assert_eq!(spike(50, 9_000).await.len(), 2);
}

#[tokio::test]
async fn a_new_key_is_judged_by_nothing_but_its_end() {
    let server = TestServer::new().await;
    let token = server.token("gateway").await;
    let mut records: Vec<_> = (0..400).map(|n| record(n, START + n, Some((KEY, "new")))).collect();
    records[399].outcome = Outcome::Denied(Denial::KeyExpired);
    server.deliver(&token, records).await;
    server.detect_anomalies().await;
    let found = anomalies(&server, "").await;
    assert_eq!((found.len(), &found[0]["kind"]), (1, &json!("used_after_end")));
}

#[tokio::test]
async fn one_look_takes_each_hour_once_however_busy_the_first_ones_are() {
    let server = TestServer::new().await;
    let token = server.token("gateway").await;
    let mut next = 0;
    let mut call = async |key: u128| {
        let mut both = [
            record(next, START, Some((Uuid::from_u128(key), "ci"))),
            record(next + 1, START, Some((Uuid::from_u128(key), "ci"))),
        ];
        both[1].outcome = Outcome::Denied(Denial::KeyRevoked);
        next += 2;
        assert_eq!(server.deliver(&token, both.to_vec()).await.status, StatusCode::NO_CONTENT);
    };
    for key in [2, 1, 3] {
        call(key).await;
    }
    let (mut cursor, mut keys) = (EvaluationCursor::default(), Vec::new());
    loop {
        let changed = server.app.store.changed_hours(&mut cursor, 1).await.unwrap();
        if changed.is_empty() {
            break;
        }
        keys.extend(changed.iter().map(|one| match one {
            ChangedHour::Hour(present) => ("hour", present.key_id.as_u128()),
            ChangedHour::Ended(detection) => ("end", detection.key_id.as_u128()),
        }));
        let omniflow_test_server::ControlPlane { store, notifications, clock, .. } = &*server.app;
        evaluate(&**store, notifications, clock, false, changed).await.unwrap();
        call(1).await;
    }
    assert_eq!(keys, [("hour", 1), ("end", 1), ("hour", 2), ("end", 2), ("hour", 3), ("end", 3)]);
    let again = server.app.store.changed_hours(&mut EvaluationCursor::default(), 9).await.unwrap();
    assert_eq!(again.len(), 2, "what has come meanwhile is for the next look");
}

#[tokio::test]
async fn what_was_found_goes_with_the_records() {
    let server = TestServer::new().await;
    let token = server.token("gateway").await;
    let next = history(&server, &token).await;
    server.deliver(&token, (0..300).map(|n| record(next + n, START + n, Some((KEY, "ci")))).collect()).await;
    server.detect_anomalies().await;
    assert_eq!(anomalies(&server, "").await.len(), 1);
    server.pass(Duration::from_secs(91 * 86_400));
    server.purge().await;
    assert_eq!(anomalies(&server, "").await.len(), 0);
    let metrics = server.get("/metrics").await;
    assert!(String::from_utf8_lossy(&metrics.body).contains("{kind=\"volume_spike\"} 1"), "a counter stays");
}
