//! `GET /v1/audit/export`: all calls that match a filter, as one file.
//!
//! Records are read and sent in batches. The next batch is read when the client has received the previous one, and no
//! database reader is held in between.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::access::Authenticated;
use crate::extract::StrictQuery;
use crate::problem::Problem;
use crate::query::Filtered;
use omniflow_api_types::audit_lines::file;
use omniflow_api_types::parameters::{AuditParameters, ExportParameters};
use omniflow_service::audit::RequestLog;

/// Export calls, newest first.
///
/// If the connection closes before the end of the body, the export is incomplete.
#[utoipa::path(
    get,
    path = "/v1/audit/export",
    operation_id = "export_audit_records",
    tag = "audit",
    params(AuditParameters, ExportParameters),
    responses((
        status = 200,
        description = "The matching calls.",
        content((String = "application/x-ndjson"), (String = "text/csv")),
    )),
)]
pub(super) async fn export(
    State(log): State<Arc<RequestLog>>,
    Authenticated(principal): Authenticated,
    StrictQuery(query): StrictQuery<Filtered<AuditParameters, ExportParameters>>,
) -> Result<Response, Problem> {
    let (filter, format) = (query.filter.parse()?, query.options.parse()?);
    let export = log.export(&principal, filter).await?;
    let headers =
        [(header::CONTENT_TYPE, format.media_type()), (header::CONTENT_DISPOSITION, format.disposition())];
    Ok((headers, Body::from_stream(file(format, export.batches()))).into_response())
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use axum::http::{Method, StatusCode};
    use http_body_util::BodyExt;
    use serde_json::{Value, json};
    use tower::ServiceExt;
    use uuid::Uuid;

    use super::*;
    use omniflow_api_types::audit_lines::CSV_HEADER;
    use omniflow_service::audit::export::BATCH_RECORDS;
    use omniflow_test_server::{START, TestServer, record, request};

    /// A log with more than two pieces.
    async fn start_server() -> TestServer {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let key = Uuid::from_u128(7);
        server
            .deliver(&token, (0..1_200).map(|n| record(n, START + n / 7, Some((key, "ci")))).collect())
            .await;
        server
    }

    #[tokio::test]
    async fn an_export_has_every_record_of_the_list_once_and_in_its_order() {
        let server = start_server().await;
        let answer = server.get("/v1/audit/export").await;
        assert_eq!(answer.headers[header::CONTENT_TYPE], "application/x-ndjson");
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ids: Vec<&str> = lines.iter().map(|line| line["request_id"].as_str().unwrap()).collect();
        let expected: Vec<String> = (0..1_200).rev().map(|n| format!("request-{n}")).collect();
        assert_eq!(ids, expected);
        let first = server.get("/v1/audit?limit=1").await.expect(StatusCode::OK);
        assert_eq!(lines[0], first["items"][0]);

        let few = server.get("/v1/audit/export?key=ci&to=2027-01-15T08:00:00.001Z").await;
        assert_eq!(few.body.iter().filter(|byte| **byte == b'\n').count(), 7);
        assert_eq!(server.get("/v1/audit/export?key=nobody").await.body, Bytes::new());
        let csv = server.get("/v1/audit/export?format=csv").await;
        let text = String::from_utf8(csv.body.to_vec()).unwrap();
        assert_eq!(text.matches("\r\n").count(), 1_201);
        assert!(text.starts_with("id,time,key_id,key_name,"), "{text}");
        assert_eq!(server.get("/v1/audit/export?key=nobody&format=csv").await.body, CSV_HEADER);
        for (query, field) in [("format=xml", "format"), ("limit=1", ""), ("status=x", "status")] {
            let (status, _, named) = server.get(&format!("/v1/audit/export?{query}")).await.problem();
            assert_eq!((status, named.as_str()), (400, field));
        }
    }

    #[tokio::test]
    async fn an_export_is_cut_when_its_token_is_revoked() {
        let server = TestServer::new().await;
        let gateway = server.token("gateway").await;
        let auditor = server.token("auditor").await;
        for first in (0..5_000).step_by(1_000) {
            server
                .deliver(&gateway, (first..first + 1_000).map(|n| record(n, START + n, None)).collect())
                .await;
        }
        let request = request(Method::GET, "/v1/audit/export", &auditor, None);
        let mut body = server.router.clone().oneshot(request).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        let path = server.path_of_token("the auditor").await;
        assert_eq!(server.delete(&path).await.status, StatusCode::NO_CONTENT);
        let rest = body.collect().await;
        assert!(rest.is_err(), "what is not whole does not end as if it were");
    }

    #[tokio::test]
    async fn nothing_is_read_ahead_of_a_client_that_does_not_take_it() {
        let server = start_server().await;
        let request = request(Method::GET, "/v1/audit/export", &server.owner, None);
        let mut body = server.router.clone().oneshot(request).await.unwrap().into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let line: Value = serde_json::from_slice(first.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
        assert_eq!(line["request_id"], json!("request-1199"));
        assert_eq!(first.iter().filter(|byte| **byte == b'\n').count(), BATCH_RECORDS);
        drop(body);
    }
}
