//! Gateways that are lost with their records, tested through the API.

use std::time::Duration;

use axum::http::{Method, StatusCode};
use omniflow_policy::audit::{AuditBatch, AuditItem, AuditSource, DeliveryReport, VmDelivery};
use omniflow_policy::gateway::{Incarnation, PollRequest};
use omniflow_policy::time::UnixMillis;
use serde_json::{Value, json};

use omniflow_service::fleet::{OpenPoll, VersionBounds};
use omniflow_test_server::{START, TestServer, record, request};

/// A gateway with two workers that uses the gateway protocol.
struct Gateway {
    incarnation: u64,
    token: String,
}

impl Gateway {
    async fn new(server: &TestServer, incarnation: u64) -> Self {
        Self { incarnation, token: server.token("gateway").await }
    }

    /// A progress report at this second since the start, with the number of calls that each VM has begun and of those
    /// that were acknowledged.
    fn word(second: u64, quiescent: bool, vms: &[(u64, u64, u64)]) -> DeliveryReport {
        let at = UnixMillis(START + second * 1_000);
        let vms = vms.iter().map(|(id, begun, acknowledged)| VmDelivery {
            id: Incarnation(*id),
            begun: *begun,
            acknowledged: *acknowledged,
            at,
        });
        DeliveryReport { clock: second * 1_000, at, quiescent, vms: vms.collect() }
    }

    async fn tell(&self, server: &TestServer, vm: u64, items: Vec<AuditItem>, progress: DeliveryReport) {
        let source = AuditSource {
            gateway: "edge".to_owned(),
            incarnation: Incarnation(self.incarnation),
            vm: Incarnation(vm),
        };
        let batch = AuditBatch { source, delivery: Some(progress), items }.encode();
        assert_eq!(server.deliver_bytes(&self.token, batch).await.status, StatusCode::NO_CONTENT);
    }

    /// Ten calls of a VM, one every 100 ms from this second on, while two more are in progress.
    async fn work(&self, server: &TestServer, vm: u64, second: u64) {
        let items = (0..10).map(|n| record(n, START + second * 1_000 + n * 100, None).into()).collect();
        self.tell(server, vm, items, Self::word(second + 1, false, &[(vm, 12, 0), (9, 0, 0)])).await;
    }

    fn poll(&self, server: &TestServer) -> OpenPoll {
        let poll = PollRequest {
            gateway: "edge".to_owned(),
            incarnation: Incarnation(self.incarnation),
            filter_version: "1".to_owned(),
            snapshot_format: 1,
            installation: None,
            version: 0,
            wait_ms: 0,
            cut_after_ms: None,
            clock: omniflow_policy::time::UnixMillis(0),
            vms: vec![],
        };
        server.app.fleet.poll_began(&poll, VersionBounds::ALL)
    }
}

async fn gaps(server: &TestServer) -> Vec<Value> {
    server.record_lost_gateways().await;
    let list = server.get("/v1/audit/gaps").await.expect(StatusCode::OK);
    list["items"].as_array().unwrap().clone()
}

fn seconds(server: &TestServer, seconds: u64) {
    server.pass(Duration::from_secs(seconds));
}

#[tokio::test]
async fn a_gateway_that_falls_silent_with_undelivered_calls_leaves_a_gap() {
    let server = TestServer::new().await;
    let gateway = Gateway::new(&server, 1).await;
    seconds(&server, 1);
    let poll = gateway.poll(&server);
    gateway.work(&server, 5, 0).await;
    seconds(&server, 1);
    drop(poll);
    seconds(&server, 60);
    assert_eq!(gaps(&server).await, [] as [Value; 0], "its lease is not over");
    seconds(&server, 1);
    let gap = json!({
        "id": "1", "gateway": "edge", "incarnation": "0000000000000001", "vm": null,
        "from": "2027-01-15T08:00:00.000Z", "to": "2027-01-15T08:00:03.000Z",
        "missing": 2, "at_least": true, "cause": "gateway_lost",
    });
    for _ in 0..2 {
        assert_eq!(
            gaps(&server).await,
            std::slice::from_ref(&gap),
            "once, until a moment after its connection ended"
        );
    }
    let metrics = String::from_utf8(server.get("/metrics").await.body.to_vec()).unwrap();
    for line in [
        "omf_audit_gaps_total{cause=\"gateway_lost\"} 1",
        "omf_audit_gap_calls_total{cause=\"gateway_lost\"} 2",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{metrics}");
    }
}

#[tokio::test]
async fn quiescent_gateway_leaves_no_gap_until_its_next_batch() {
    let server = TestServer::new().await;
    let gateway = Gateway::new(&server, 1).await;
    gateway.work(&server, 5, 0).await;
    gateway.tell(&server, 9, vec![], Gateway::word(5, true, &[(5, 12, 12), (9, 0, 0)])).await;
    // It was sent before that and arrived later.
    gateway.tell(&server, 9, vec![], Gateway::word(4, false, &[(5, 12, 10), (9, 0, 0)])).await;
    seconds(&server, 3_600);
    assert_eq!(gaps(&server).await, [] as [Value; 0]);

    // It begins to work and disappears before a batch is sent.
    gateway.tell(&server, 9, vec![], Gateway::word(3_600, false, &[(5, 13, 12), (9, 0, 0)])).await;
    seconds(&server, 100);
    let found = gaps(&server).await;
    let reported = |name: &str| found[0][name].clone();
    assert_eq!((found.len(), reported("missing"), reported("at_least")), (1, json!(3), json!(true)));
    assert_eq!(reported("from"), "2027-01-15T08:00:05.000Z", "it held nothing then");
    assert_eq!(reported("to"), "2027-01-15T09:01:40.000Z", "nobody saw when it ended");
}

#[tokio::test]
async fn of_one_that_held_nothing_that_is_known_none_is_known_to_be_missing() {
    let server = TestServer::new().await;
    let gateway = Gateway::new(&server, 1).await;
    let items = vec![record(0, START, None).into()];
    gateway.tell(&server, 5, items, Gateway::word(1, false, &[(5, 1, 0)])).await;
    seconds(&server, 61);
    let found = gaps(&server).await;
    assert_eq!((&found[0]["missing"], &found[0]["at_least"]), (&json!(0), &json!(true)));
}

#[tokio::test]
async fn a_successor_tells_sooner_and_a_replica_tells_nothing() {
    let server = TestServer::new().await;
    let replica = Gateway::new(&server, 1).await;
    let gateway = Gateway { incarnation: 2, token: replica.token.clone() };
    let polls = (replica.poll(&server), gateway.poll(&server));
    gateway.work(&server, 5, 0).await;
    seconds(&server, 30);
    assert_eq!(gaps(&server).await.len(), 0, "both call");
    drop(polls.1);
    seconds(&server, 30);
    assert_eq!(gaps(&server).await.len(), 0, "the replica was there before");
    let successor = Gateway { incarnation: 3, token: String::new() };
    let _polls = successor.poll(&server);
    assert_eq!(gaps(&server).await.len(), 1, "it has been silent for long enough");
}

#[tokio::test]
async fn one_that_was_only_cut_off_has_its_gap_withdrawn() {
    let server = TestServer::new().await;
    let gateway = Gateway::new(&server, 1).await;
    gateway.work(&server, 5, 0).await;
    seconds(&server, 61);
    assert_eq!(gaps(&server).await.len(), 1);
    let late = (10..12).map(|n| record(n, START + 1_000, None).into()).collect();
    gateway.tell(&server, 5, late, Gateway::word(70, false, &[(5, 12, 10), (9, 0, 0)])).await;
    assert_eq!(gaps(&server).await, [] as [Value; 0]);
    let list = server.get("/v1/audit").await.expect(StatusCode::OK);
    assert_eq!(list["items"].as_array().unwrap().len(), 12, "nothing of it is passed over");
    let notices = server.app.store.gap_notices_after(0, 10).await.unwrap();
    assert_eq!(
        notices.iter().map(|notice| (notice.gap.id, notice.withdraws)).collect::<Vec<_>>(),
        [(2, Some(1))]
    );
    // It is evaluated again from there.
    seconds(&server, 61);
    assert_eq!(gaps(&server).await.len(), 1);
}

#[tokio::test]
async fn a_restarted_control_plane_knows_who_was_there_and_gives_it_time_to_come_back() {
    let server = TestServer::new().await;
    let gateway = Gateway::new(&server, 1).await;
    gateway.work(&server, 5, 0).await;
    seconds(&server, 600);
    let server = server.restart().await;
    seconds(&server, 60);
    assert_eq!(gaps(&server).await.len(), 0);
    seconds(&server, 1);
    let found = gaps(&server).await;
    assert_eq!((found.len(), &found[0]["missing"]), (1, &json!(2)));
    let server = server.restart().await;
    seconds(&server, 61);
    assert_eq!(gaps(&server).await.len(), 1, "once");
}

#[tokio::test]
async fn an_older_filter_tells_nothing_and_what_is_old_is_forgotten() {
    let server = TestServer::new().await;
    let gateway = Gateway::new(&server, 1).await;
    server.deliver(&gateway.token, vec![record(0, START, None)]).await;
    gateway.tell(&server, 9, vec![], Gateway::word(5, true, &[(9, 0, 0)])).await;
    seconds(&server, 61);
    assert_eq!(gaps(&server).await.len(), 0);
    let store = &*server.app.store;
    let forget = async || {
        server.purge().await;
        store.gateway_reports().await.unwrap()
    };
    assert_eq!(forget().await, 1);
    seconds(&server, 86_400);
    assert_eq!(forget().await, 0);
}

#[tokio::test]
async fn a_poll_that_is_answered_is_no_end() {
    let server = TestServer::new().await;
    let gateway = Gateway::new(&server, 1).await;
    gateway.work(&server, 5, 0).await;
    seconds(&server, 30);
    let body = json!({
        "gateway": "edge", "incarnation": "0000000000000001", "filter_version": "0.1.0", "snapshot_format": 1,
        "installation": null, "version": 0, "wait_ms": 0, "clock": 1_800_000_000_000_u64, "vms": [],
    });
    server.call(request(Method::POST, "/gateway/v1/poll", &gateway.token, Some(body))).await;
    seconds(&server, 61);
    assert_eq!(gaps(&server).await[0]["to"], "2027-01-15T08:01:32.000Z", "when it was found to be gone");
}
