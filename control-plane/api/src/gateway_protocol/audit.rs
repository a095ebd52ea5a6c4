//! `POST /gateway/v1/audit`: stores audit records of gateways.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use omniflow_policy::gateway::{AUDIT_MEDIA_TYPE, AUDIT_PATH};

use crate::access::GatewayToken;
use crate::extract::{Body, check_media_type};
use crate::problem::Problem;
use omniflow_service::gateway_protocol::GatewayProtocol;

/// Responds when the records are on disk. A gateway that receives no response sends them again.
#[utoipa::path(post, path = AUDIT_PATH)]
pub(super) async fn ingest(
    State(protocol): State<Arc<GatewayProtocol>>,
    GatewayToken(token): GatewayToken,
    headers: HeaderMap,
    Body(bytes): Body,
) -> Result<StatusCode, Problem> {
    check_media_type(&headers, AUDIT_MEDIA_TYPE)?;
    protocol.ingest(&token, &bytes).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use axum::http::{Request, header};
    use omniflow_policy::audit::{AuditItem, CallAggregate, ReportedGap, ReportedGapCause};
    use omniflow_policy::denial::{Denial, Outcome};
    use omniflow_policy::gateway::MAX_BATCH_BYTES;
    use omniflow_policy::time::UnixMillis;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use omniflow_test_server::{START, TestServer, record};

    /// The highest number that a call may have: the maximum of a database column.
    const MAX_SEQUENCE: u64 = i64::MAX as u64 - 1;

    async fn ids(server: &TestServer) -> Vec<Value> {
        let list = server.get("/v1/audit").await.expect(StatusCode::OK);
        list["items"].as_array().unwrap().iter().map(|entry| entry["request_id"].clone()).collect()
    }

    #[tokio::test]
    async fn each_record_is_stored_once_however_often_it_comes() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let records: Vec<_> = (0..200).map(|n| record(n, START + n, None)).collect();
        for part in [&records[..130], &records[..130], &records[100..], &records[..]] {
            assert_eq!(server.deliver(&token, part.to_vec()).await.status, StatusCode::NO_CONTENT);
        }
        let mut expected: Vec<_> = (0..200).map(|n| json!(format!("request-{n}"))).collect();
        expected.reverse();
        let list = server.get("/v1/audit?limit=500").await.expect(StatusCode::OK);
        let stored: Vec<_> =
            list["items"].as_array().unwrap().iter().map(|entry| entry["request_id"].clone()).collect();
        assert_eq!(stored, expected);
        assert_eq!(server.get("/v1/audit/gaps").await.expect(StatusCode::OK)["items"], json!([]));
    }

    #[tokio::test]
    async fn what_is_missing_is_a_gap() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        server.deliver(&token, vec![record(2, START, None), record(3, START + 1, None)]).await;
        server.deliver(&token, vec![record(10, START + 9, None), record(4, START + 2, None)]).await;
        assert_eq!(ids(&server).await.len(), 4);
        let gaps = server.get("/v1/audit/gaps").await.expect(StatusCode::OK);
        let gap = |id: &str, from: Value, to: &str, missing: u64| {
            json!({"id": id, "gateway": "edge", "incarnation": "0000000000000001", "vm": "0000000000000002",
                "from": from, "to": to, "missing": missing, "at_least": false, "cause": "unknown"})
        };
        assert_eq!(
            gaps["items"],
            json!([
                gap("2", json!("2027-01-15T08:00:00.002Z"), "2027-01-15T08:00:00.009Z", 5),
                gap("1", Value::Null, "2027-01-15T08:00:00.000Z", 2),
            ])
        );
        server.deliver(&token, vec![record(7, START, None)]).await;
        assert_eq!(ids(&server).await.len(), 4, "a reported gap is not withdrawn");
    }

    #[tokio::test]
    async fn aggregated_calls_are_one_record_with_their_count() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let aggregated = |sequence, source_ip: Option<&str>, calls| {
            AuditItem::Aggregated(CallAggregate {
                sequence,
                key: None,
                source_ip: source_ip.map(|address| address.parse().unwrap()),
                outcome: Outcome::Denied(Denial::UnknownKey),
                status: 401,
                calls,
                first_time: UnixMillis(START + 10),
                last_time: UnixMillis(START + 900),
            })
        };
        let items = vec![
            AuditItem::Call(record(0, START, None)),
            aggregated(1, Some("203.0.113.9"), 40),
            aggregated(41, None, 9),
            AuditItem::Call(record(50, START + 1_000, None)),
        ];
        for _ in 0..2 {
            let answer = server.deliver_items(&token, items.clone()).await;
            assert_eq!(answer.status, StatusCode::NO_CONTENT);
        }
        let found = async |query: &str| {
            server.get(&format!("/v1/audit?{query}")).await.expect(StatusCode::OK)["items"].clone()
        };
        assert_eq!(found("ip=203.0.113.9").await[0]["aggregated_calls"], 40);
        assert_eq!(found("").await.as_array().unwrap().len(), 4);
        let day = "from=2027-01-15T00:00:00Z&to=2027-01-16T00:00:00Z";
        let stats = server.get(&format!("/v1/audit/stats?by=reason&{day}")).await.expect(StatusCode::OK);
        let counts: Vec<_> = stats["groups"]
            .as_array()
            .unwrap()
            .iter()
            .map(|group| (&group["group"][0], &group["counts"]["calls"]))
            .collect();
        assert_eq!(counts, [(&json!("unknown_key"), &json!(49)), (&json!("allowed"), &json!(2))]);
        assert_eq!(
            stats["groups"][0]["counts"]["latency_us"]["p50"],
            json!(null),
            "nobody knows those of aggregated calls"
        );
        let floods =
            found("reason=unknown_key&status=401&decision=denied&from=2027-01-15T08:00:00.900Z").await;
        let counts: Vec<_> =
            floods.as_array().unwrap().iter().map(|item| &item["aggregated_calls"]).collect();
        assert_eq!(counts, [9, 40]);
        assert_eq!(
            floods[1],
            json!({
                "id": "3", "time": "2027-01-15T08:00:00.900Z", "key_id": null, "key_name": null,
                "version_id": null, "environment": null, "method": "", "endpoint": null, "path": "",
                "status": 401, "grpc_status": null, "interruption": null, "decision": "denied", "reason": "unknown_key", "latency_us": 0,
                "source_ip": "203.0.113.9", "request_id": "", "request_bytes": 0, "response_bytes": 0,
                "gateway": "edge", "argument_hash": null, "argument_hash_partial": false,
                "has_payload": false, "aggregated_calls": 40, "first_time": "2027-01-15T08:00:00.010Z",
            })
        );
        assert_eq!(server.get("/v1/audit/gaps").await.expect(StatusCode::OK)["items"], json!([]));
    }

    #[tokio::test]
    async fn what_a_gateway_has_lost_is_a_gap_with_its_cause() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let lost = |sequence, calls, cause, from: Option<u64>| {
            let (from, to) = (from.map(UnixMillis), UnixMillis(START + 500));
            AuditItem::Gap(ReportedGap { sequence, calls, cause, from, to })
        };
        let full = lost(1, 7, ReportedGapCause::BufferFull, Some(START + 100));
        server.deliver_items(&token, vec![record(0, START, None).into(), full]).await;
        // Records 8 and 9 arrived, and the VM crashed before it received the acknowledgement; the leader reports all
        // records that it has seen.
        server.deliver(&token, vec![record(8, START + 510, None), record(9, START + 510, None)]).await;
        for _ in 0..2 {
            server.deliver_items(&token, vec![lost(8, 5, ReportedGapCause::VmLost, None)]).await;
        }
        server.deliver_items(&token, vec![lost(20, 1, ReportedGapCause::VmLost, Some(START + 900))]).await;
        let gaps = server.get("/v1/audit/gaps").await.expect(StatusCode::OK);
        let reported: Vec<_> = gaps["items"].as_array().unwrap().iter().rev().collect();
        let reported: Vec<_> = reported
            .iter()
            .map(|gap| json!([gap["cause"], gap["missing"], gap["from"], gap["to"]]))
            .collect();
        let half = "2027-01-15T08:00:00.500Z";
        assert_eq!(
            reported,
            [
                json!(["buffer_full", 7, "2027-01-15T08:00:00.100Z", half]),
                json!(["vm_lost", 3, half, half]),
                json!(["unknown", 7, half, half]),
                json!(["vm_lost", 1, half, half]),
            ]
        );
        let too_much = lost(21, (1 << 32) + 1, ReportedGapCause::VmLost, None);
        let answer = server.deliver_items(&token, vec![too_much]).await;
        assert_eq!(answer.problem().1, "invalid_batch");
    }

    #[tokio::test]
    async fn a_batch_tells_of_no_more_losses_than_a_filter_has_to() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let lost = |n: u64| {
            let (cause, to) = (ReportedGapCause::BufferFull, UnixMillis(START));
            AuditItem::Gap(ReportedGap { sequence: n, calls: 1, cause, from: None, to })
        };
        let skipping = |n: u64| AuditItem::Call(record(2 * n + 1, START, None));
        for items in [(0..133_000 / 8).map(lost).collect::<Vec<_>>(), (0..65).map(skipping).collect()] {
            let answer = server.deliver_items(&token, items).await;
            assert_eq!(answer.problem().1, "invalid_batch");
            assert!(answer.json()["detail"].as_str().unwrap().contains("more than 64 losses"));
        }
        assert_eq!(server.get("/v1/audit/gaps").await.expect(StatusCode::OK)["items"], json!([]));
        let answer = server.deliver_items(&token, (0..64).map(lost).collect()).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
    }

    #[tokio::test]
    async fn a_batch_of_the_released_format_is_accepted() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let hex = include_str!("../../../../policy/golden/audit-batch-1.hex").trim();
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let bytes = (0..hex.len()).step_by(2).map(byte).collect();
        assert_eq!(server.deliver_bytes(&token, bytes).await.status, StatusCode::NO_CONTENT);
        assert_eq!(ids(&server).await, [json!(""), json!(""), json!("d1"), json!("d1"), json!("d1")]);
    }

    #[tokio::test]
    async fn a_call_that_was_let_through_is_a_use_of_the_key() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let created = server.key("ci").await;
        let id: Uuid = serde_json::from_value(created["key"]["id"].clone()).unwrap();
        let mut refused = record(2, START + 9, Some((id, "ci")));
        refused.outcome =
            omniflow_policy::denial::Outcome::Denied(omniflow_policy::denial::Denial::RateLimited);
        let records =
            vec![record(0, START + 5, Some((id, "ci"))), record(1, START + 3, Some((id, "ci"))), refused];
        server.deliver(&token, records).await;
        for key in [
            server.get("/v1/keys/ci").await.expect(StatusCode::OK),
            server.get("/v1/keys").await.expect(StatusCode::OK)["items"][0].clone(),
        ] {
            assert_eq!(key["last_used_at"], "2027-01-15T08:00:00.005Z");
            assert_eq!(key["versions"][0]["last_used_at"], "2027-01-15T08:00:00.005Z");
        }
    }

    #[tokio::test]
    async fn no_record_comes_from_the_future() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let created = server.key("ci").await;
        let id: Uuid = serde_json::from_value(created["key"]["id"].clone()).unwrap();
        let used = async || server.get("/v1/keys/ci").await.expect(StatusCode::OK)["last_used_at"].clone();
        let key = Some((id, "ci"));
        let answer = server.deliver(&token, vec![record(1, u64::MAX, key), record(2, START, key)]).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT, "a wrong clock loses no record");
        let latest = "2027-01-15T08:05:00.000Z";
        assert_eq!(used().await, latest);
        let list = server.get("/v1/audit").await.expect(StatusCode::OK);
        assert_eq!(
            (&list["items"][0]["time"], &list["items"][0]["request_id"]),
            (&json!(latest), &json!("request-1"))
        );
        assert_eq!(server.get("/v1/audit/gaps").await.expect(StatusCode::OK)["items"][0]["to"], latest);

        // A true time is reported once it is later than the claimed one.
        server.pass(std::time::Duration::from_secs(600));
        server.deliver(&token, vec![record(3, START + 400_000, key)]).await;
        assert_eq!(used().await, "2027-01-15T08:06:40.000Z");
    }

    #[tokio::test]
    async fn no_vm_loses_billions_of_records() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let gaps = async || server.get("/v1/audit/gaps").await.expect(StatusCode::OK)["items"].clone();
        let most = 1u64 << 32;
        for records in [
            vec![record(most + 1, START, None)],
            vec![record(0, START, None), record(most + 2, START, None)],
            vec![record(MAX_SEQUENCE, START, None)],
        ] {
            let answer = server.deliver(&token, records).await;
            assert_eq!((answer.problem().0, answer.problem().1.as_str()), (400, "invalid_batch"));
        }
        assert_eq!(
            (ids(&server).await, gaps().await),
            (vec![], json!([])),
            "nothing of a refused batch is kept"
        );
        let answer = server.deliver(&token, vec![record(most, START, None)]).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        assert_eq!(gaps().await[0]["missing"], most);
        let answer = server.deliver(&token, vec![record(most + 1, START, None)]).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
    }

    #[tokio::test]
    async fn garbage_is_rejected() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let call = async |media_type: &str, body: &[u8]| {
            let request = Request::post("/gateway/v1/audit")
                .header(header::AUTHORIZATION, format!("Bearer {token}"))
                .header(header::CONTENT_TYPE, media_type)
                .body(axum::body::Body::from(body.to_vec()))
                .unwrap();
            server.call(request).await.problem()
        };
        assert_eq!(call(AUDIT_MEDIA_TYPE, b"").await.1, "invalid_batch");
        assert_eq!(call(AUDIT_MEDIA_TYPE, b"OMFA\x01\x00\xff\xff").await.1, "invalid_batch");
        assert_eq!(call("application/json", b"{}").await.0, 415);
        assert_eq!(call(AUDIT_MEDIA_TYPE, &vec![0; MAX_BATCH_BYTES + 1]).await.0, 413);
        let answer = server.deliver(&token, vec![record(u64::MAX, START, None)]).await;
        assert_eq!(answer.problem().1, "invalid_batch");
    }
}
