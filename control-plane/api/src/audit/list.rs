//! `GET /v1/audit`: calls, newest first.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::extract::StrictQuery;
use crate::problem::Problem;
use crate::query::Filtered;
use omniflow_api_types::audit::AuditEntryJson;
use omniflow_api_types::page::Page;
use omniflow_api_types::parameters::{AuditParameters, PageParameters};
use omniflow_service::audit::RequestLog;

/// List calls, newest first.
#[utoipa::path(
    get,
    path = "/v1/audit",
    operation_id = "list_audit_records",
    tag = "audit",
    params(AuditParameters, PageParameters),
    responses((status = 200, body = Page<AuditEntryJson>, description = "A page of calls.")),
)]
pub(crate) async fn list(
    State(log): State<Arc<RequestLog>>,
    StrictQuery(query): StrictQuery<Filtered<AuditParameters, PageParameters>>,
) -> Result<Json<Page<AuditEntryJson>>, Problem> {
    let page = log.list(query.filter.parse()?, query.options.parse()?).await?;
    Ok(Json(Page::json(page, AuditEntryJson::from)))
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use omniflow_policy::denial::{Denial, Outcome};
    use serde_json::{Value, json};
    use uuid::Uuid;

    use omniflow_test_server::{START, TestServer, record};

    #[tokio::test]
    async fn a_record_has_the_shape_of_the_contract() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let id = Uuid::from_u128(9);
        server.deliver(&token, vec![record(0, START + 1, Some((id, "ci")))]).await;
        let list = server.get("/v1/audit").await.expect(StatusCode::OK);
        let expected = json!({
            "id": "1", "time": "2027-01-15T08:00:00.001Z", "key_id": id, "key_name": "ci", "version_id": 1,
            "environment": "live", "method": "GET", "endpoint": "/api/v1/contacts", "path": "/api/v1/contacts",
            "status": 200, "grpc_status": null, "interruption": null, "decision": "allowed", "reason": "allowed", "latency_us": 900,
            "source_ip": "203.0.113.7", "request_id": "request-0", "request_bytes": 120, "response_bytes": 340,
            "gateway": "edge", "argument_hash": "01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b",
            "argument_hash_partial": false, "has_payload": false, "aggregated_calls": null, "first_time": null,
        });
        assert_eq!(list, json!({"items": [expected], "next_cursor": null}));
        assert_eq!(server.get("/v1/audit/1").await.expect(StatusCode::OK), expected);
        for missing in ["/v1/audit/2", "/v1/audit/x"] {
            assert_eq!(server.get(missing).await.problem().1, "not_found");
        }
    }

    #[tokio::test]
    async fn filters_select() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let id = Uuid::from_u128(9);
        let mut other = record(1, START + 1_000, None);
        other.method = "POST".to_owned();
        other.endpoint = None;
        other.path = "/nothing".to_owned();
        other.status = 403;
        other.grpc_status = Some(7);
        other.outcome = Outcome::Denied(Denial::RouteNotMapped);
        other.source_ip = Some("2001:db8::5".parse().unwrap());
        server.deliver(&token, vec![record(0, START, Some((id, "ci"))), other]).await;
        let by_id = format!("key={id}");
        let (first, second): (&[u64], &[u64]) = (&[0], &[1]);
        for (query, expected) in [
            ("", &[1, 0][..]),
            ("key=ci", first),
            (&by_id, first),
            ("key=nobody", &[]),
            ("environment=live", first),
            ("environment=test", &[]),
            ("endpoint=/api/v1/contacts", first),
            ("method=POST", second),
            ("status=200", first),
            ("status=4xx", second),
            ("status=404", &[]),
            ("grpc_status=7", second),
            ("grpc_status=error", second),
            ("grpc_status=0", &[]),
            ("decision=allowed", first),
            ("decision=denied&reason=route_not_mapped", second),
            ("reason=key_revoked", &[]),
            ("ip=203.0.113.7", first),
            ("ip=203.0.113.0/24", first),
            ("ip=0.0.0.0/0", first),
            ("ip=::/0", &[1, 0]),
            ("ip=2001:db8::/32", second),
            ("ip=2001:db9::/32", &[]),
            ("from=2027-01-15T08:00:01Z", second),
            ("to=2027-01-15T08:00:01Z", first),
            ("from=2027-01-15T09:00:00%2B01:00&to=2027-01-15T08:00:02Z", &[1, 0]),
        ] {
            let list = server.get(&format!("/v1/audit?{query}")).await.expect(StatusCode::OK);
            let found: Vec<Value> =
                list["items"].as_array().unwrap().iter().map(|entry| entry["request_id"].clone()).collect();
            let expected: Vec<Value> = expected.iter().map(|n| json!(format!("request-{n}"))).collect();
            assert_eq!(found, expected, "{query}");
        }
        for (query, field) in [
            ("status=40x", "status"),
            ("status=6xx", "status"),
            ("grpc_status=failed", "grpc_status"),
            ("decision=maybe", "decision"),
            ("reason=because", "reason"),
            ("ip=10.0.0.0/33", "ip"),
            ("from=now", "from"),
            ("cursor=1", "cursor"),
            ("colour=red", ""),
            ("limit=1&limit=2", ""),
        ] {
            let (status, _, named) = server.get(&format!("/v1/audit?{query}")).await.problem();
            assert_eq!((status, named.as_str()), (400, field), "{query}");
        }
    }

    #[tokio::test]
    async fn pages_neither_repeat_nor_miss_while_records_arrive() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        // Three records in each millisecond, so that a page ends in the middle of one.
        server.deliver(&token, (0..20).map(|n| record(n, START + n / 3, None)).collect()).await;
        let mut seen = Vec::new();
        let mut cursor = String::new();
        let mut next_sequence = 20;
        loop {
            let page = server.get(&format!("/v1/audit?limit=4&cursor={cursor}")).await.expect(StatusCode::OK);
            for entry in page["items"].as_array().unwrap() {
                seen.push(entry["request_id"].as_str().unwrap().to_owned());
            }
            server.deliver(&token, vec![record(next_sequence, START + 1_000, None)]).await;
            next_sequence += 1;
            let Some(next) = page["next_cursor"].as_str() else {
                break;
            };
            cursor = next.to_owned();
        }
        let expected: Vec<String> = (0..20).rev().map(|n| format!("request-{n}")).collect();
        assert_eq!(seen, expected);
    }
}
