//! `GET /v1/policy/versions` and `GET /v1/policy/versions/{version}`: the versions of the policy.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};

use super::document::wants_toml;
use super::in_toml;
use crate::extract::{Segments, StrictQuery};
use crate::params::PolicyVersionPath;
use crate::precondition::tagged;
use crate::problem::Problem;
use omniflow_api_types::page::Page;
use omniflow_api_types::parameters::PageParameters;
use omniflow_api_types::policy::{PolicyVersionJson, StoredPolicyJson};
use omniflow_service::policy::Policies;

/// List versions of the policy, newest first.
#[utoipa::path(
    get,
    path = "/v1/policy/versions",
    operation_id = "list_policy_versions",
    tag = "policy",
    params(PageParameters),
    responses(
        (status = 200, body = Page<PolicyVersionJson>, description = "A page of versions, without their documents."),
    ),
)]
pub(crate) async fn list(
    State(policies): State<Arc<Policies>>,
    StrictQuery(query): StrictQuery<PageParameters>,
) -> Result<Json<Page<PolicyVersionJson>>, Problem> {
    let page = policies.versions(query.parse()?).await?;
    Ok(Json(Page::json(page, PolicyVersionJson::from)))
}

/// Show a version of the policy.
///
/// Returns only the document, in TOML, if the Accept header prefers `application/toml`.
#[utoipa::path(
    get,
    path = "/v1/policy/versions/{version}",
    operation_id = "show_policy_version",
    tag = "policy",
    params(PolicyVersionPath),
    responses(
        (status = 200, description = "The version.", content((StoredPolicyJson = "application/json"), (String = "application/toml")), headers(("ETag" = String))),
    ),
)]
pub(crate) async fn show(
    State(policies): State<Arc<Policies>>,
    Segments(version): Segments<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let stored = policies.version(&version).await?;
    if wants_toml(&headers) {
        return in_toml(&stored.document, stored.version).map_err(Into::into);
    }
    Ok(tagged(stored.version, StoredPolicyJson::from(stored)).into_response())
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use omniflow_policy::policy::PolicyDocument;
    use serde_json::{Value, json};

    use omniflow_test_server::TestServer;

    fn without(scope: &str) -> Value {
        let mut document = serde_json::to_value(PolicyDocument::default()).unwrap();
        document["scopes"].as_array_mut().unwrap().retain(|one| one["name"] != scope);
        document["routes"].as_array_mut().unwrap().retain(|one| one["scope"] != scope);
        document
    }

    #[tokio::test]
    async fn versions_are_kept_compared_and_brought_back() {
        let server = TestServer::new().await;
        server.put("/v1/policy", without("agents:read")).await.expect(StatusCode::OK);
        server.put("/v1/policy", without("tickets:read")).await.expect(StatusCode::OK);
        let list = server.get("/v1/policy/versions?limit=2").await.expect(StatusCode::OK);
        let at = "2027-01-15T08:00:00.000Z";
        let expected =
            [3, 2].map(|version| json!({"version": version, "created_by": "owner", "created_at": at}));
        assert_eq!(list["items"], json!(expected));
        let cursor = list["next_cursor"].as_str().unwrap();
        let rest = server.get(&format!("/v1/policy/versions?cursor={cursor}")).await.expect(StatusCode::OK);
        assert_eq!(rest["items"][0]["created_by"], "first start");
        let second = server.get("/v1/policy/versions/2").await.expect(StatusCode::OK);
        assert_eq!(second["document"], without("agents:read"));
        for missing in ["4", "0", "x", "18446744073709551615"] {
            let path = format!("/v1/policy/versions/{missing}");
            assert_eq!(server.get(&path).await.problem().0, 404, "{missing}");
        }

        let diff = server.get("/v1/policy/diff?from=1&to=2").await.expect(StatusCode::OK);
        assert_eq!((&diff["from"], &diff["to"]), (&json!(1), &json!(2)));
        assert_eq!(diff["scopes"]["removed"][0]["name"], "agents:read");
        assert_eq!(diff["routes"]["removed"].as_array().unwrap().len(), 3);
        let since = server.get("/v1/policy/diff?from=2").await.expect(StatusCode::OK);
        assert_eq!((&since["to"], &since["scopes"]["added"][0]["name"]), (&json!(3), &json!("agents:read")));
        let draft = server.post("/v1/policy/diff", without("agents:read")).await.expect(StatusCode::OK);
        assert_eq!((&draft["from"], &draft["to"]), (&json!(3), &json!(null)));
        assert_eq!(draft["scopes"]["added"][0]["name"], "tickets:read");
        assert_eq!(server.get("/v1/policy/diff?from=9").await.problem().2, "from");
        assert_eq!(server.get("/v1/policy/diff?to=x").await.problem().2, "to");

        let back = server.post("/v1/policy/rollback", json!({"version": 2})).await;
        assert_eq!(back.headers["etag"], "\"4\"");
        let back = back.expect(StatusCode::OK);
        assert_eq!((&back["version"], &back["document"]), (&json!(4), &without("agents:read")));
        let events = server.get("/v1/admin-log?action=policy.rolled_back").await.expect(StatusCode::OK);
        assert_eq!(
            (&events["items"][0]["before"], &events["items"][0]["after"]),
            (&json!({"version": 3}), &json!({"version": 4}))
        );
        let event = server.get("/v1/admin-log?action=policy.set").await.expect(StatusCode::OK);
        assert_eq!(event["items"].as_array().unwrap().len(), 2);

        assert_eq!(server.post("/v1/policy/rollback", json!({"version": 9})).await.problem().2, "/version");
        let again = server.post("/v1/policy/rollback", json!({"version": 2})).await.expect(StatusCode::OK);
        assert_eq!(again["version"], 4, "it is effective already");
        let body = json!({"name": "t", "environment": "live", "scopes": ["tickets:read"]});
        server.post("/v1/keys", body).await.expect(StatusCode::CREATED);
        let lost = server.post("/v1/policy/rollback", json!({"version": 3})).await;
        assert_eq!(lost.problem().1, "scope_in_use");
    }
}
