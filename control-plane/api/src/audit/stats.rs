//! `GET /v1/audit/stats`: statistics of calls.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::extract::StrictQuery;
use crate::problem::Problem;
use crate::query::Filtered;
use omniflow_api_types::parameters::{AuditParameters, StatsParameters};
use omniflow_api_types::stats::AuditStatsJson;
use omniflow_service::audit::RequestLog;

/// Summarize calls, errors and latencies by group.
///
/// Covers the 24 hours before `to` if `from` is omitted.
#[utoipa::path(
    get,
    path = "/v1/audit/stats",
    operation_id = "count_audit_records",
    tag = "audit",
    params(AuditParameters, StatsParameters),
    responses((status = 200, body = AuditStatsJson, description = "The groups.")),
)]
pub(crate) async fn stats(
    State(log): State<Arc<RequestLog>>,
    StrictQuery(query): StrictQuery<Filtered<AuditParameters, StatsParameters>>,
) -> Result<Json<AuditStatsJson>, Problem> {
    Ok(Json(log.stats(query.options.parse(query.filter)?).await?.into()))
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use omniflow_policy::audit::AuditRecord;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use omniflow_test_server::{START, TestServer, record};

    const HOUR: u64 = 3_600_000;

    fn call(sequence: u64, time: u64, key: Option<(Uuid, &str)>, status: u16, latency: u64) -> AuditRecord {
        AuditRecord { status, latency_us: latency, ..record(sequence, time, key) }
    }

    /// Two keys and none, over two hours, and one call of the day before yesterday.
    async fn start_server() -> (TestServer, Uuid, Uuid) {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        server.pass(std::time::Duration::from_millis(2 * HOUR));
        let records = vec![
            call(0, START - 40 * HOUR, Some((a, "old name")), 200, 7),
            call(1, START, Some((a, "a")), 200, 1_239),
            call(2, START + 1, Some((a, "a")), 404, 20),
            call(3, START + HOUR, Some((a, "a")), 503, 30),
            call(4, START + HOUR + 1, Some((b, "b")), 200, 40),
            AuditRecord { source_ip: None, endpoint: None, ..call(5, START + HOUR + 2, None, 401, 50) },
        ];
        server.deliver(&token, records).await;
        (server, a, b)
    }

    fn counts(calls: u64, client: u64, server: u64, latencies: [u64; 3]) -> Value {
        let [p50, p95, p99] = latencies;
        json!({"calls": calls, "client_errors": client, "server_errors": server, "grpc_errors": 0,
            "latency_us": {"p50": p50, "p95": p95, "p99": p99}})
    }

    #[tokio::test]
    async fn hours_of_the_last_day() {
        let (server, ..) = start_server().await;
        let stats = server.get("/v1/audit/stats").await.expect(StatusCode::OK);
        let group = |hour: &str, counts: Value| json!({"group": [hour], "key_name": null, "counts": counts});
        let expected = json!({
            "from": "2027-01-14T10:00:00.000Z", "to": "2027-01-15T10:00:00.000Z", "by": ["hour"],
            "groups": [
                group("2027-01-15T08:00:00.000Z", counts(2, 1, 0, [20, 1_230, 1_230])),
                group("2027-01-15T09:00:00.000Z", counts(3, 1, 1, [40, 50, 50])),
            ],
            "other": null, "total": counts(5, 2, 1, [40, 1_230, 1_230]),
        });
        assert_eq!(stats, expected);
    }

    #[tokio::test]
    async fn every_grouping_and_filter() {
        let (server, a, b) = start_server().await;
        let (a, b) = (a.to_string(), b.to_string());
        let hour = |n: u64| format!("2027-01-15T0{}:00:00.000Z", 8 + n);
        for (query, expected) in [
            ("by=key", json!([[[a], 3], [[null], 1], [[b], 1]])),
            ("by=key&from=2027-01-01T00:00:00Z", json!([[[a], 4], [[null], 1], [[b], 1]])),
            ("by=endpoint", json!([[["/api/v1/contacts"], 4], [[null], 1]])),
            ("by=address", json!([[["203.0.113.7"], 4], [[null], 1]])),
            ("by=status&status=4xx", json!([[["401"], 1], [["404"], 1]])),
            ("by=grpc_status", json!([[[null], 5]])),
            ("by=key&grpc_status=error", json!([])),
            ("by=reason&key=a", json!([[["allowed"], 3]])),
            ("by=hour,key&ip=203.0.113.7", json!([[[hour(0), a], 2], [[hour(1), a], 1], [[hour(1), b], 1]])),
            ("by=key,status&to=2027-01-15T09:00:00Z", json!([[[a, "200"], 1], [[a, "404"], 1]])),
            ("by=hour&from=2027-01-15T08:00:00.001Z&key=a", json!([[[hour(0)], 1], [[hour(1)], 1]])),
            ("from=2028-01-01T00:00:00Z", json!([])),
            ("from=2027-01-15T09:00:00Z&to=2027-01-15T08:00:00Z", json!([])),
        ] {
            let stats = server.get(&format!("/v1/audit/stats?{query}")).await.expect(StatusCode::OK);
            let groups = stats["groups"].as_array().unwrap().iter();
            let found: Vec<Value> =
                groups.map(|group| json!([group["group"], group["counts"]["calls"]])).collect();
            assert_eq!(json!(found), expected, "{query}");
            assert_eq!(stats["other"], json!(null), "{query}");
        }
        let named = server.get("/v1/audit/stats?by=key&key=old%20name&from=2027-01-01T00:00:00Z").await;
        assert_eq!(named.expect(StatusCode::OK)["groups"][0]["key_name"], "a", "the newest name");
    }

    #[tokio::test]
    async fn what_has_no_place_is_other() {
        let (server, a, _) = start_server().await;
        let stats = server.get("/v1/audit/stats?by=key&limit=1").await.expect(StatusCode::OK);
        assert_eq!(stats["groups"].as_array().unwrap().len(), 1);
        assert_eq!(stats["groups"][0]["group"], json!([a]));
        assert_eq!(stats["other"], counts(2, 1, 0, [40, 50, 50]));
        assert_eq!(stats["total"]["calls"], 5);
        let hours = server.get("/v1/audit/stats?limit=1").await.expect(StatusCode::OK);
        assert_eq!(
            (&hours["groups"][0]["counts"]["calls"], &hours["other"]["calls"]),
            (&json!(3), &json!(2))
        );
    }

    #[tokio::test]
    async fn nonsense_is_rejected() {
        let server = TestServer::new().await;
        for (query, field) in [
            ("by=colour", "by"),
            ("by=hour,hour", "by"),
            ("by=hour,key,status", "by"),
            ("by=hour,", "by"),
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("cursor=1", ""),
            ("from=now", "from"),
        ] {
            let (status, _, named) = server.get(&format!("/v1/audit/stats?{query}")).await.problem();
            assert_eq!((status, named.as_str()), (400, field), "{query}");
        }
        let empty = server.get("/v1/audit/stats").await.expect(StatusCode::OK);
        assert_eq!((&empty["groups"], &empty["total"]["latency_us"]["p50"]), (&json!([]), &json!(null)));
    }
}
