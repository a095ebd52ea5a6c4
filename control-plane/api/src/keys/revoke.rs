//! `POST /v1/keys/{id}/revoke` revokes a key, and `POST /v1/keys/{id}/versions/{version}/revoke` one version of it.
//!
//! With `?wait=5s`, the response is sent when every live gateway enforces the revocation, or after 5 s. It lists the gateways
//! and their state.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;

use crate::access::Authenticated;
use crate::extract::{Segments, StrictQuery};
use crate::params::{IfMatch, KeyPath, KeyVersionPath};
use crate::precondition::{Conditional, tagged};
use crate::problem::Problem;
use crate::query::WaitQuery;
use omniflow_api_types::key::RevokedKey;
use omniflow_domain::key::KeyReference;
use omniflow_service::keys::{Keys, Revoke, Revoked, no_such_version};

/// Revoke a key and all its versions.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/revoke",
    operation_id = "revoke_key",
    tag = "keys",
    params(KeyPath, WaitQuery, IfMatch),
    responses((status = 200, body = RevokedKey, description = "The key.", headers(("ETag" = String)))),
)]
pub(crate) async fn revoke_key(
    State(keys): State<Arc<Keys>>,
    Authenticated(principal): Authenticated,
    Segments(key): Segments<String>,
    Conditional(precondition): Conditional,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<impl IntoResponse, Problem> {
    let request =
        Revoke { key: KeyReference::from(key.as_str()), version: None, precondition, wait: query.parse()? };
    Ok(revoked(keys.revoke(&principal, request).await?))
}

/// Revoke one version of a key.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/versions/{version}/revoke",
    operation_id = "revoke_key_version",
    tag = "keys",
    params(KeyPath, KeyVersionPath, WaitQuery, IfMatch),
    responses((status = 200, body = RevokedKey, description = "The key.", headers(("ETag" = String)))),
)]
pub(crate) async fn revoke_version(
    State(keys): State<Arc<Keys>>,
    Authenticated(principal): Authenticated,
    Segments((key, version)): Segments<(String, String)>,
    Conditional(precondition): Conditional,
    StrictQuery(query): StrictQuery<WaitQuery>,
) -> Result<impl IntoResponse, Problem> {
    let version = version.parse().map_err(|_| no_such_version())?;
    let request = Revoke {
        key: KeyReference::from(key.as_str()),
        version: Some(version),
        precondition,
        wait: query.parse()?,
    };
    Ok(revoked(keys.revoke(&principal, request).await?))
}

fn revoked(Revoked { key, enforcement, .. }: Revoked) -> impl IntoResponse {
    let revision = key.key.revision;
    tagged(revision, RevokedKey { key: key.into(), enforcement: enforcement.map(Into::into) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::{Method, StatusCode};
    use omniflow_policy::digest::Digest;
    use serde_json::{Value, json};

    use crate::tests::publish_key;
    use omniflow_domain::key::KeyReference;
    use omniflow_domain::key::KeyVersion;
    use omniflow_test_server::{TestServer, request, send};

    #[tokio::test]
    async fn changes_of_a_key_wait_for_gateways_on_request() {
        let server = TestServer::new().await;
        let create = json!({"name": "ci", "environment": "live", "scopes": ["contacts:read"]});
        for (method, path, body) in [
            (Method::POST, "/v1/keys", create),
            (Method::PATCH, "/v1/keys/ci", json!({"expires_at": "2027-06-01T00:00:00Z"})),
            (Method::POST, "/v1/keys/ci/rotate", json!({})),
        ] {
            let call = |query: &str| {
                server.call(request(
                    method.clone(),
                    &format!("{path}{query}"),
                    &server.owner,
                    Some(body.clone()),
                ))
            };
            assert_eq!(call("?wait=soon").await.problem().1, "invalid_query", "{method} {path}");
            let answer = call("?wait=0s").await;
            assert!(answer.status.is_success(), "{method} {path}: {answer:?}");
            let version = server.app.publisher.publication.version().unwrap();
            let expected = json!({"complete": true, "version": version, "gateways": []});
            assert_eq!(answer.json()["enforcement"], expected, "{method} {path}");
        }
        let without = server.patch("/v1/keys/ci", json!({"description": "x"})).await.expect(StatusCode::OK);
        assert_eq!(without.get("enforcement"), None);
    }

    #[tokio::test]
    async fn a_key_is_revoked_once_and_stays_so() {
        let server = TestServer::new().await;
        let created = server.key("ci").await;
        let answer = server.post("/v1/keys/ci/revoke", json!({})).await.expect(StatusCode::OK);
        assert_eq!(answer["key"]["status"], "revoked");
        assert_eq!(answer["key"]["versions"][0]["revoked_at"], "2027-01-15T08:00:00.000Z");
        assert_eq!(answer.get("enforcement"), None);
        let version = server.app.publisher.publication.version().unwrap();
        server.pass(Duration::from_secs(1));
        let again = server.post("/v1/keys/ci/revoke?wait=0s", json!({})).await.expect(StatusCode::OK);
        assert_eq!(again["key"], answer["key"]);
        assert_eq!(again["enforcement"], json!({"complete": true, "version": version, "gateways": []}));
        assert_eq!(server.app.publisher.publication.version().unwrap(), version);
        let digest = Digest::of(created["secret"].as_str().unwrap().as_bytes());
        assert!(server.app.publisher.publication.image().unwrap().find(&digest).unwrap().revoked);
    }

    #[tokio::test]
    async fn one_version_of_two_is_revoked() {
        let server = TestServer::new().await;
        server.key("ci").await;
        let mut key = server.app.store.key(&KeyReference::from("ci")).await.unwrap().unwrap();
        let older = key.versions[0].clone();
        key.id = uuid::Uuid::from_u128(1);
        key.name = "two".parse().unwrap();
        key.versions = vec![
            KeyVersion { digest: Digest::of(b"older"), ..older.clone() },
            KeyVersion { version: 2, digest: Digest::of(b"newer"), ..older },
        ];
        publish_key(&server, &key).await;
        let revoke = async |version: u32| {
            server.post(&format!("/v1/keys/two/versions/{version}/revoke"), json!({})).await
        };
        let answer = revoke(1).await.expect(StatusCode::OK);
        assert_eq!(answer["key"]["status"], "active");
        assert_eq!(answer["key"]["versions"][1]["revoked_at"], Value::Null);
        let image = server.app.publisher.publication.image().unwrap();
        let revoked = [b"older", b"newer"].map(|secret| image.find(&Digest::of(secret)).unwrap().revoked);
        assert_eq!(revoked, [true, false]);
        assert_eq!(revoke(2).await.expect(StatusCode::OK)["key"]["status"], "revoked");
        assert_eq!(revoke(3).await.problem().1, "not_found");
        assert_eq!(revoke(70_000).await.problem().1, "not_found");
    }

    #[tokio::test]
    async fn a_wait_ends_with_the_last_worker() {
        let server = TestServer::new().await;
        server.key("ci").await;
        let gateway = server.token("gateway").await;
        let report = async |body: Value| {
            let call = request(Method::POST, "/gateway/v1/enforced", &gateway, Some(body));
            assert_eq!(server.call(call).await.status, StatusCode::NO_CONTENT);
        };
        let workers = |version: u64| {
            json!({"gateway": "edge", "incarnation": "000000000000000a", "installation": server.app.publisher.installation.id, "vms": [
                {"id": "0000000000000001", "version": version}, {"id": "0000000000000002", "version": version}]})
        };
        let before = server.app.publisher.publication.version().unwrap();
        report(workers(before)).await;
        let revoke = request(Method::POST, "/v1/keys/ci/revoke?wait=30s", &server.owner, None);
        let waiting = tokio::spawn(send(server.router.clone(), revoke));
        let mut published = server.app.publisher.publication.subscribe();
        let version = *published.wait_for(|version| *version > before).await.unwrap();
        let mut one = workers(version);
        one["vms"][1]["version"] = json!(before);
        report(one).await;
        assert!(!waiting.is_finished());
        report(workers(version)).await;
        let answer = waiting.await.unwrap().expect(StatusCode::OK);
        let enforcement = &answer["enforcement"];
        assert_eq!((&enforcement["complete"], &enforcement["version"]), (&json!(true), &json!(version)));
        let gateway = &enforcement["gateways"][0];
        assert_eq!(gateway["id"], "edge/000000000000000a");
        assert_eq!((&gateway["workers"], &gateway["enforced_workers"]), (&json!(2), &json!(2)));
        assert!(gateway["ms"].as_u64().unwrap() < 30_000);
    }

    #[tokio::test]
    async fn a_wait_names_who_does_not_enforce_and_is_not_complete_without_it() {
        let server = TestServer::new().await;
        server.key("ci").await;
        let gateway = server.token("gateway").await;
        let body = json!({"gateway": "edge", "incarnation": "000000000000000a", "installation": null, "vms": [
            {"id": "0000000000000001", "version": 1}]});
        server.call(request(Method::POST, "/gateway/v1/enforced", &gateway, Some(body))).await;
        let answer = server.post("/v1/keys/ci/revoke?wait=1ms", json!({})).await.expect(StatusCode::OK);
        assert_eq!(answer["enforcement"]["complete"], false);
        assert_eq!(answer["enforcement"]["gateways"][0]["enforced"], false);
        assert_eq!(answer["enforcement"]["gateways"][0]["ms"], Value::Null);
        server.pass(Duration::from_secs(61));
        let later = async || {
            let answer = server.post("/v1/keys/ci/revoke?wait=30s", json!({})).await.expect(StatusCode::OK);
            let enforcement = &answer["enforcement"];
            json!([enforcement["complete"], enforcement["gateways"][0]["state"]])
        };
        assert_eq!(later().await, json!([false, "silent"]), "its lease is over");
        let path = server.path_of_token("the gateway").await;
        assert_eq!(server.delete(&path).await.status, StatusCode::NO_CONTENT);
        assert_eq!(later().await, json!([false, "token_revoked"]));
        server.pass(Duration::from_secs(86_400));
        assert_eq!(later().await, json!([true, null]), "a day has passed");
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let server = TestServer::new().await;
        server.key("ci").await;
        for wait in ["31s", "5", "soon"] {
            let answer = server.post(&format!("/v1/keys/ci/revoke?wait={wait}"), json!({})).await;
            assert_eq!(answer.problem(), (400, "invalid_query".to_owned(), "wait".to_owned()));
        }
        assert_eq!(server.get("/v1/keys/ci").await.expect(StatusCode::OK)["status"], "active");
        assert_eq!(server.post("/v1/keys/nobody/revoke", json!({})).await.problem().1, "not_found");
    }
}
