//! `GET /v1/audit/{id}/payload`: the arguments of a call. `POST /v1/audit/payload-key/rotate`: rotation of the key that
//! encrypts them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::access::Authenticated;
use crate::extract::Segments;
use crate::params::RecordPath;
use crate::problem::Problem;
use omniflow_api_types::payload::{PayloadJson, RotatedPayloadKey};
use omniflow_service::audit::RequestLog;

/// Show the payload of a call.
///
/// Each read is recorded in the admin log.
#[utoipa::path(
    get,
    path = "/v1/audit/{id}/payload",
    operation_id = "show_audit_payload",
    tag = "audit",
    params(RecordPath),
    responses((status = 200, body = PayloadJson, description = "The stored arguments.")),
)]
pub(crate) async fn show(
    State(log): State<Arc<RequestLog>>,
    Authenticated(principal): Authenticated,
    Segments(id): Segments<String>,
) -> Result<Json<PayloadJson>, Problem> {
    let read = log.read_payload(&principal, &id).await?;
    Ok(Json(PayloadJson::new(read.record, read.payload, read.kept_until)))
}

/// Rotate the key that encrypts payloads.
///
/// Generates a new key and re-encrypts the existing data keys with it.
#[utoipa::path(
    post,
    path = "/v1/audit/payload-key/rotate",
    operation_id = "rotate_payload_key",
    tag = "audit",
    responses((status = 200, body = RotatedPayloadKey, description = "The new key, which is in use from now on.")),
)]
pub(crate) async fn rotate_key(
    State(log): State<Arc<RequestLog>>,
    Authenticated(principal): Authenticated,
) -> Result<Json<RotatedPayloadKey>, Problem> {
    let rotated = log.rotate_payload_key(&principal).await?;
    Ok(Json(RotatedPayloadKey {
        wrapping_key: rotated.wrapping_key,
        data_keys: rotated.data_keys,
        unreadable: rotated.unreadable,
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::{Method, StatusCode};
    use omniflow_policy::audit::AuditItem;
    use omniflow_policy::payload::{CallPayload, PayloadState};
    use serde_json::{Value, json};

    use omniflow_test_server::{Answer, START, TestServer, record, request};

    const DAY: Duration = Duration::from_secs(86_400);

    fn call(sequence: u64, body: &[u8]) -> AuditItem {
        let payload = CallPayload {
            query: b"page=2&password=hunter2".to_vec(),
            body: body.to_vec(),
            state: PayloadState::Whole,
            media_type: "application/json".to_owned(),
            content_encoding: String::new(),
        };
        AuditItem::CallWithPayload(
            record(sequence, START + sequence, Some((uuid::Uuid::nil(), "ci"))),
            payload,
        )
    }

    async fn read(server: &TestServer, token: &str, id: &str) -> Answer {
        server.call(request(Method::GET, &format!("/v1/audit/{id}/payload"), token, None)).await
    }

    async fn events(server: &TestServer, action: &str) -> Value {
        server.get(&format!("/v1/admin-log?action={action}")).await.expect(StatusCode::OK)["items"].clone()
    }

    #[tokio::test]
    async fn an_auditor_reads_what_was_sent_and_the_trail_tells() {
        let server = TestServer::new().await;
        let (gateway, auditor) = (server.token("gateway").await, server.token("auditor").await);
        let items = vec![AuditItem::Call(record(0, START, None)), call(1, br#"{"a": 1}"#), call(2, b"\xff")];
        for _ in 0..2 {
            server.deliver_items(&gateway, items.clone()).await;
        }
        let list = server.get("/v1/audit").await.expect(StatusCode::OK);
        let kept: Vec<_> =
            list["items"].as_array().unwrap().iter().map(|entry| &entry["has_payload"]).collect();
        assert_eq!(kept, [true, true, false]);
        let shown = read(&server, &auditor, "2").await.expect(StatusCode::OK);
        assert_eq!(
            shown,
            json!({
                "record_id": "2", "query": "page=2&password=hunter2", "body": "{\"a\": 1}", "body_encoding": "text",
                "media_type": "application/json", "content_encoding": "", "state": "whole",
                "kept_until": "2027-01-22T08:00:00.001Z",
            })
        );
        let shown = read(&server, &auditor, "3").await.expect(StatusCode::OK);
        assert_eq!((&shown["body"], &shown["body_encoding"]), (&json!("/w=="), &json!("base64")));
        for (id, detail) in [("1", "were not stored"), ("4", "no such record"), ("x", "no such record")] {
            let answer = read(&server, &auditor, id).await;
            assert_eq!(answer.problem().0, 404);
            assert!(answer.json()["detail"].as_str().unwrap().contains(detail));
        }
        let admin = server.token("admin").await;
        for token in [&server.owner, &admin, &gateway] {
            assert_eq!(read(&server, token, "2").await.status, StatusCode::FORBIDDEN);
        }
        let events = events(&server, "payload.read").await;
        let reported: Vec<_> = events
            .as_array()
            .unwrap()
            .iter()
            .map(|e| (&e["principal"]["name"], &e["after"]["record_id"]))
            .collect();
        assert_eq!(reported, [(&json!("the auditor"), &json!("3")), (&json!("the auditor"), &json!("2"))]);
        let of_key =
            server.get(&format!("/v1/admin-log?subject={}", uuid::Uuid::nil())).await.expect(StatusCode::OK);
        assert_eq!(of_key["items"], events, "they are found by the key");
    }

    #[tokio::test]
    async fn fields_are_redacted_by_the_effective_policy() {
        let server = TestServer::new().await;
        let (gateway, auditor) = (server.token("gateway").await, server.token("auditor").await);
        let mut policy = server.get("/v1/policy").await.expect(StatusCode::OK)["document"].clone();
        policy["payloads"] = json!({"redact": ["/password", "/card/number"]});
        server.put("/v1/policy", policy).await.expect(StatusCode::OK);
        let body = br#"{"card": {"number": "4111111111111111", "name": "A"}}"#;
        server.deliver_items(&gateway, vec![call(0, body), call(1, b"not JSON")]).await;
        let shown = read(&server, &auditor, "1").await.expect(StatusCode::OK);
        assert_eq!(shown["query"], "page=2&password=***");
        assert_eq!(shown["body"], r#"{"card":{"name":"A","number":"***"}}"#);
        let shown = read(&server, &auditor, "2").await.expect(StatusCode::OK);
        assert_eq!((&shown["body"], &shown["state"]), (&json!(""), &json!("not_redactable")));
    }

    #[tokio::test]
    async fn what_the_policy_does_not_keep_is_not_stored_though_a_gateway_sends_it() {
        let server = TestServer::new().await;
        let gateway = server.token("gateway").await;
        let AuditItem::CallWithPayload(keyless, payload) = call(0, b"{}") else { panic!("no payload") };
        let keyless =
            AuditItem::CallWithPayload(omniflow_policy::audit::AuditRecord { key: None, ..keyless }, payload);
        let mut policy = server.get("/v1/policy").await.expect(StatusCode::OK)["document"].clone();
        server.deliver_items(&gateway, vec![keyless]).await;
        policy["payloads"] = json!({"max_bytes": 0});
        server.put("/v1/policy", policy).await.expect(StatusCode::OK);
        server.deliver_items(&gateway, vec![call(1, b"{}")]).await;
        let list = server.get("/v1/audit").await.expect(StatusCode::OK);
        let kept: Vec<_> =
            list["items"].as_array().unwrap().iter().map(|entry| &entry["has_payload"]).collect();
        assert_eq!(kept, [false, false]);
    }

    #[tokio::test]
    async fn payloads_go_before_their_records_and_their_room_is_used_again() {
        let server = TestServer::new().await;
        let (gateway, auditor) = (server.token("gateway").await, server.token("auditor").await);
        // Poorly compressible data.
        let noise = server
            .app
            .console
            .entropy
            .compose(|next| (0..60_000).map(|_| next()).collect::<Vec<u8>>())
            .unwrap();
        for n in 0..40 {
            server.deliver_items(&gateway, vec![call(n, &noise)]).await;
        }
        let store = &*server.app.store;
        let full = store.log_size().await.unwrap();
        server.pass(7 * DAY);
        server.purge().await;
        assert_eq!(read(&server, &auditor, "1").await.status, StatusCode::OK, "on the day it is there");

        server.pass(Duration::from_millis(40));
        server.purge().await;
        for id in ["1", "40"] {
            assert_eq!(read(&server, &auditor, id).await.status, StatusCode::NOT_FOUND);
        }
        let list = server.get("/v1/audit?limit=500").await.expect(StatusCode::OK);
        let items = list["items"].as_array().unwrap();
        assert!(items.len() == 40 && items.iter().all(|entry| entry["has_payload"] == false));
        let purged = store.log_size().await.unwrap();
        assert!(purged.bytes < full.bytes / 2, "{purged:?} of {full:?}");
        assert_eq!(store.data_keys().await.unwrap().len(), 1);
        server.pass(3 * DAY);
        server.purge().await;
        assert_eq!(store.data_keys().await.unwrap().len(), 0, "nothing needs it");

        server.deliver_items(&gateway, vec![call(40, &noise)]).await;
        assert_eq!(store.data_keys().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn the_owner_rotates_the_key_and_a_missing_one_is_reported() {
        let server = TestServer::new().await;
        let (gateway, auditor) = (server.token("gateway").await, server.token("auditor").await);
        server.deliver_items(&gateway, vec![call(0, b"{}")]).await;
        let refused =
            server.call(request(Method::POST, "/v1/audit/payload-key/rotate", &auditor, None)).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN);
        let rotated = server.post("/v1/audit/payload-key/rotate", json!({})).await.expect(StatusCode::OK);
        assert_eq!(rotated["data_keys"], 1);
        let reported = &events(&server, "payload_key.rotated").await[0];
        assert_eq!(
            (&reported["subject"]["id"], &reported["after"]),
            (&rotated["wrapping_key"], &json!({"data_keys": 1, "unreadable": 0}))
        );
        assert_eq!(read(&server, &auditor, "1").await.status, StatusCode::OK);

        std::fs::write(server.folder().join("payload-key"), "0f".repeat(32)).unwrap();
        let server = server.restart().await;
        let answer = read(&server, &auditor, "1").await;
        assert_eq!((answer.problem().0, answer.problem().1.as_str()), (409, "payload_unreadable"));
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(rotated["wrapping_key"].as_str().unwrap()), "{detail}");
    }
}
