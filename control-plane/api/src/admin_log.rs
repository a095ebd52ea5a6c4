//! `GET /v1/admin-log`: changes by admins, newest first. No endpoint changes or deletes an event.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use utoipa_axum::routes;

use super::access::READ;
use super::endpoint::Endpoints;
use super::extract::StrictQuery;
use super::problem::Problem;
use super::query::Filtered;
use omniflow_api_types::admin_event::AdminEventJson;
use omniflow_api_types::page::Page;
use omniflow_api_types::parameters::{AdminLogParameters, PageParameters};
use omniflow_service::admin_log::AdminLog;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints.add_query(READ, routes!(list))
}

/// List changes by admins, newest first.
#[utoipa::path(
    get,
    path = "/v1/admin-log",
    operation_id = "list_admin_log",
    tag = "admin log",
    params(AdminLogParameters, PageParameters),
    responses((status = 200, body = Page<AdminEventJson>, description = "A page of changes.")),
)]
pub(super) async fn list(
    State(log): State<Arc<AdminLog>>,
    StrictQuery(query): StrictQuery<Filtered<AdminLogParameters, PageParameters>>,
) -> Result<Json<Page<AdminEventJson>>, Problem> {
    let page = log.list(query.filter.parse()?, query.options.parse()?).await?;
    Ok(Json(Page::json(page, AdminEventJson::from)))
}

#[cfg(test)]
mod tests {
    use axum::http::{Method, StatusCode};
    use serde_json::{Value, json};

    use omniflow_test_server::{TestServer, request};

    async fn events(server: &TestServer, query: &str) -> Vec<Value> {
        let list = server.get(&format!("/v1/admin-log?{query}")).await.expect(StatusCode::OK);
        list["items"].as_array().unwrap().clone()
    }

    fn actions(events: &[Value]) -> Vec<&str> {
        events.iter().map(|event| event["action"].as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn every_change_is_reported_with_before_and_after() {
        let server = TestServer::new().await;
        let admin = server.token("admin").await;
        let created = server.key("ci").await;
        let id = created["key"]["id"].as_str().unwrap();
        let change = json!({"description": "nightly", "rate_limit": {"per_minute": 5}});
        let patch = request(Method::PATCH, "/v1/keys/ci", &admin, Some(change.clone()));
        server.call(patch).await.expect(StatusCode::OK);
        server.patch("/v1/keys/ci", change).await.expect(StatusCode::OK);
        let rotated = server.post("/v1/keys/ci/rotate", json!({})).await.expect(StatusCode::CREATED);
        server.post("/v1/keys/ci/versions/1/revoke", json!({})).await.expect(StatusCode::OK);
        server.post("/v1/keys/ci/revoke", json!({})).await.expect(StatusCode::OK);
        server.post("/v1/keys/ci/revoke", json!({})).await.expect(StatusCode::OK);
        let token = server.path_of_token("the admin").await;
        server.delete(&token).await;

        let events = events(&server, "").await;
        let expected = [
            "token.revoked",
            "key.revoked",
            "key.version_revoked",
            "key.rotated",
            "key.changed",
            "key.created",
            "token.created",
            "installation.created",
        ];
        assert_eq!(actions(&events), expected, "what changes nothing is no event");
        let at = "2027-01-15T08:00:00.000Z";
        let limit = |per_minute: u32| json!({"per_minute": per_minute, "per_hour": null, "burst": null});
        assert_eq!(
            events[4],
            json!({
                "id": events[4]["id"], "time": at,
                "principal": {"token_id": token.rsplit('/').next().unwrap(), "name": "the admin"},
                "action": "key.changed", "subject": {"id": id, "name": "ci"},
                "before": {"description": null, "rate_limit": limit(60)},
                "after": {"description": "nightly", "rate_limit": limit(5)},
            })
        );
        let version = |event: &Value, side: &str| event[side]["versions"].clone();
        assert_eq!(version(&events[2], "before")[0]["revoked_at"], json!(null));
        assert_eq!(version(&events[2], "after")[0]["revoked_at"], at);
        assert_eq!(version(&events[3], "after").as_array().unwrap().len(), 2, "an end, and a new version");
        assert_eq!(version(&events[1], "after").as_array().unwrap().len(), 1, "the first was revoked before");
        assert_eq!((&events[0]["after"], &events[0]["before"]["role"]), (&json!(null), &json!("admin")));
        assert_eq!(
            (&events[5]["before"], &events[5]["after"]["environment"]),
            (&json!(null), &json!("live"))
        );

        let text = json!(events).to_string();
        for secret in
            [created["secret"].as_str(), rotated["secret"].as_str(), Some(&admin), Some(&server.owner)]
        {
            let secret = secret.unwrap();
            assert!(!text.contains(secret));
            assert!(!text.contains(&omniflow_policy::digest::Digest::of(secret.as_bytes()).to_hex()));
        }
    }

    #[tokio::test]
    async fn filters_and_pages_select() {
        let server = TestServer::new().await;
        for name in ["a", "b", "c"] {
            server.key(name).await;
            server.pass(std::time::Duration::from_secs(60));
        }
        let names = |events: &[Value]| -> Vec<String> {
            events.iter().map(|event| event["subject"]["name"].as_str().unwrap().to_owned()).collect()
        };
        let b = server.get("/v1/keys/b").await.expect(StatusCode::OK);
        let owner = server.path_of_token("owner").await.rsplit('/').next().unwrap().to_owned();
        for (query, expected) in [
            ("action=key.created", vec!["c", "b", "a"]),
            ("action=key.rotated", vec![]),
            ("subject=b", vec!["b"]),
            (&format!("subject={}", b["id"].as_str().unwrap()), vec!["b"]),
            ("principal=owner&from=2027-01-15T08:01:00Z&to=2027-01-15T08:02:00Z", vec!["b"]),
            ("principal=nobody", vec![]),
            (&format!("action=key.created&principal={owner}"), vec!["c", "b", "a"]),
        ] {
            assert_eq!(names(&events(&server, query).await), expected, "{query}");
        }
        let first = server.get("/v1/admin-log?limit=2&action=key.created").await.expect(StatusCode::OK);
        let cursor = first["next_cursor"].as_str().unwrap();
        server.key("d").await;
        let second = server.get(&format!("/v1/admin-log?limit=2&action=key.created&cursor={cursor}")).await;
        assert_eq!(second.expect(StatusCode::OK)["items"][0]["subject"]["name"], "a");
        assert_eq!(server.get("/v1/admin-log?action=key").await.problem().2, "action");
    }

    #[tokio::test]
    async fn nothing_in_the_api_alters_an_event() {
        let server = TestServer::new().await;
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            for path in ["/v1/admin-log", "/v1/admin-log/1"] {
                let answer = server.call(request(method.clone(), path, &server.owner, Some(json!({})))).await;
                assert!([404, 405].contains(&answer.status.as_u16()), "{method} {path}: {}", answer.status);
            }
        }
    }
}
