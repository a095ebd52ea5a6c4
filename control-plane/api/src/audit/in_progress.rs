//! `GET /v1/audit/in-progress`: calls that have not ended.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::extract::StrictQuery;
use crate::problem::Problem;
use crate::query::Filtered;
use omniflow_api_types::audit::CallInProgressJson;
use omniflow_api_types::page::Page;
use omniflow_api_types::parameters::{InProgressParameters, PageParameters};
use omniflow_service::audit::RequestLog;

/// List calls in progress, most recently reported first.
///
/// Gateways report allowed calls that have been in progress for 5 seconds. The list shows a call until its record arrives.
#[utoipa::path(
    get,
    path = "/v1/audit/in-progress",
    operation_id = "list_calls_in_progress",
    tag = "audit",
    params(InProgressParameters, PageParameters),
    responses((status = 200, body = Page<CallInProgressJson>, description = "A page of calls in progress.")),
)]
pub(crate) async fn in_progress(
    State(log): State<Arc<RequestLog>>,
    StrictQuery(query): StrictQuery<Filtered<InProgressParameters, PageParameters>>,
) -> Result<Json<Page<CallInProgressJson>>, Problem> {
    let page = log.in_progress(query.filter.parse().as_ref(), query.options.parse()?).await?;
    Ok(Json(Page::json(page, CallInProgressJson::from)))
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use omniflow_policy::audit::{AuditItem, CallEnd, CallInProgress};
    use omniflow_policy::time::UnixMillis;
    use serde_json::json;
    use uuid::Uuid;

    use omniflow_test_server::{START, TestServer, record};

    #[tokio::test]
    async fn a_call_is_in_progress_until_its_record_arrives() {
        let server = TestServer::new().await;
        let token = server.token("gateway").await;
        let id = Uuid::from_u128(9);
        let call = record(0, START + 1, Some((id, "ci")));
        let begun = CallInProgress { number: 0, record: call.clone() };
        server.deliver_items(&token, vec![AuditItem::InProgress(begun)]).await;
        let expected = json!({
            "id": "1", "time": "2027-01-15T08:00:00.001Z", "key_id": id, "key_name": "ci", "version_id": 1,
            "environment": "live", "method": "GET", "endpoint": "/api/v1/contacts", "path": "/api/v1/contacts",
            "status": 200, "source_ip": "203.0.113.7", "request_id": "request-0", "gateway": "edge", "lost": false,
        });
        for path in ["/v1/audit/in-progress", "/v1/audit/in-progress?key=ci"] {
            let list = server.get(path).await.expect(StatusCode::OK);
            assert_eq!(list, json!({"items": [expected], "next_cursor": null}), "{path}");
        }
        let none = json!({"items": [], "next_cursor": null});
        for path in ["/v1/audit/in-progress?key=other", "/v1/audit"] {
            assert_eq!(server.get(path).await.expect(StatusCode::OK), none, "{path}");
        }
        let end = CallEnd { number: 0, sequence: 1, time: UnixMillis(START + 1) };
        server.deliver_items(&token, vec![AuditItem::Call(call), AuditItem::Ended(end)]).await;
        assert_eq!(server.get("/v1/audit/in-progress").await.expect(StatusCode::OK), none);
        assert_eq!(
            server.get("/v1/audit").await.expect(StatusCode::OK)["items"][0]["request_id"],
            "request-0"
        );
        let unknown = server.get("/v1/audit/in-progress?status=200").await.problem();
        assert_eq!(unknown.1, "invalid_query");
    }
}
