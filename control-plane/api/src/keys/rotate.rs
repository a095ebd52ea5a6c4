//! `POST /v1/keys/{id}/rotate`: gives a key a new secret, while the older ones remain valid for the overlap.
//!
//! Only the response contains the new secret.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use crate::access::Authenticated;
use crate::extract::{OptionalJson, Segments, StrictQuery};
use crate::idempotency::IdempotentBody;
use crate::params::{IdempotencyKey, IfMatch, KeyPath};
use crate::precondition::Conditional;
use crate::problem::Problem;
use crate::query::WaitQuery;
use omniflow_api_types::key::{CreatedKey, RotateKey};
use omniflow_domain::key::KeyReference;
use omniflow_service::fields;
use omniflow_service::keys::{Keys, Rotate};

/// Rotate a key.
///
/// Adds a version with a new secret. Earlier versions remain valid for the overlap. All versions share the name, the
/// settings, the rate limit counters and the audit log of the key. Only this response contains the new secret.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/rotate",
    operation_id = "rotate_key",
    tag = "keys",
    params(KeyPath, WaitQuery, IfMatch, IdempotencyKey),
    request_body = Option<RotateKey>,
    responses(
        (status = 201, body = CreatedKey, description = "The key and its new secret.", headers(("ETag" = String))),
        (status = 409, description = "`key_revoked`, `key_expired`, `versions_exhausted`, `already_created`"),
    ),
)]
pub(crate) async fn rotate(
    State(keys): State<Arc<Keys>>,
    Authenticated(principal): Authenticated,
    Segments(key): Segments<String>,
    StrictQuery(query): StrictQuery<WaitQuery>,
    Conditional(precondition): Conditional,
    IdempotentBody { body: OptionalJson(request), attempt }: IdempotentBody<OptionalJson<RotateKey>>,
) -> Result<Response, Problem> {
    let overlap = fields::overlap(request.overlap.as_deref())?;
    let request =
        Rotate { key: KeyReference::from(key.as_str()), overlap, precondition, wait: query.parse()? };
    Ok(super::created(keys.rotate(&principal, request, attempt).await?)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use axum::http::{Method, Request};
    use omniflow_policy::digest::Digest;
    use omniflow_policy::snapshot::Change;
    use omniflow_policy::time::UnixMillis;
    use serde_json::{Value, json};

    use crate::tests::publish_key;
    use axum::http::{StatusCode, header};
    use omniflow_domain::key::KeyReference;
    use omniflow_service::publication::Offer;
    use omniflow_test_server::{Answer, START, TestServer, record, request};

    const HOUR: u64 = 3_600_000;

    fn secret(answer: &Value) -> String {
        answer["secret"].as_str().unwrap().to_owned()
    }

    /// When this secret expires in the published image.
    fn not_after(server: &TestServer, secret: &str) -> Option<u64> {
        let image = server.app.publisher.publication.image().unwrap();
        image.find(&Digest::of(secret.as_bytes())).unwrap().not_after.map(|end| end.0)
    }

    /// What a gateway at `version` receives: key version and end of each change.
    fn delta(server: &TestServer, version: u64) -> Vec<(u16, Option<u64>)> {
        let offer = server.app.publisher.publication.offer(
            Some(server.app.publisher.installation.id),
            (version, 0, 0),
            UnixMillis(START),
        );
        let Ok(Offer::Delta(delta)) = offer else { panic!("a delta leads on from {version}") };
        let put = |change: &Change| match change {
            Change::Put(credential) => (credential.version, credential.not_after.map(|end| end.0)),
            Change::Revoke(_) => panic!("nothing was revoked"),
        };
        delta.changes.iter().map(put).collect()
    }

    async fn rotate(server: &TestServer, body: Value) -> Value {
        server.post("/v1/keys/ci/rotate", body).await.expect(StatusCode::CREATED)
    }

    #[tokio::test]
    async fn a_key_gets_another_secret_and_the_older_one_an_end() {
        let server = TestServer::new().await;
        let created = server.key("ci").await;
        let before = server.app.publisher.publication.version().unwrap();
        server.pass(Duration::from_millis(HOUR));
        let answer = server.post("/v1/keys/ci/rotate", json!({"overlap": "2h"})).await;
        let location = answer.headers[header::LOCATION].to_str().unwrap().to_owned();
        let rotated = answer.expect(StatusCode::CREATED);
        assert_eq!(rotated.as_object().unwrap().len(), 2);
        assert_eq!(location, format!("/v1/keys/{}", created["key"]["id"].as_str().unwrap()));
        let (old, new) = (secret(&created), secret(&rotated));
        assert!(new.starts_with("omf_live_") && new.len() == 55 && new != old);
        let mut expected = created["key"].clone();
        expected["status"] = json!("rotating");
        expected["revision"] = json!(2);
        expected["rotation_due_at"] = json!("2027-04-15T09:00:00.000Z");
        expected["versions"] = json!([
            {"id": 1, "hint": &old[45..49], "created_at": "2027-01-15T08:00:00.000Z",
             "expires_at": "2027-01-15T11:00:00.000Z", "revoked_at": null, "last_used_at": null},
            {"id": 2, "hint": &new[45..49], "created_at": "2027-01-15T09:00:00.000Z",
             "expires_at": null, "revoked_at": null, "last_used_at": null},
        ]);
        assert_eq!(rotated["key"], expected);
        assert_eq!(server.get("/v1/keys/ci").await.expect(StatusCode::OK), expected);
        assert_eq!(delta(&server, before), [(1, Some(START + 3 * HOUR)), (2, None)]);
        let image = server.app.publisher.publication.image().unwrap();
        let found = [&old, &new].map(|secret| image.find(&Digest::of(secret.as_bytes())).unwrap().key_id);
        assert_eq!(found[0], found[1], "counters and audit go by the key");

        let rotating = server.get("/v1/keys?status=rotating").await.expect(StatusCode::OK);
        assert_eq!(rotating["items"], json!([expected]));
        server.pass(Duration::from_millis(2 * HOUR));
        expected["status"] = json!("active");
        assert_eq!(server.get("/v1/keys/ci").await.expect(StatusCode::OK), expected);

        let image = server.app.publisher.publication.image().unwrap();
        let server = server.restart().await;
        assert_eq!(server.get("/v1/keys/ci").await.expect(StatusCode::OK), expected);
        assert_eq!(server.app.publisher.publication.image().unwrap().manifest(), image.manifest());
    }

    #[tokio::test]
    async fn the_overlap_is_a_day_unless_it_is_stated() {
        let server = TestServer::new().await;
        let call = async |name: &str, media_type: Option<&str>, body: &'static str| -> Answer {
            let mut request = Request::post(format!("/v1/keys/{name}/rotate"))
                .header(header::AUTHORIZATION, format!("Bearer {}", server.owner));
            if let Some(media_type) = media_type {
                request = request.header(header::CONTENT_TYPE, media_type);
            }
            server.call(request.body(Body::from(body)).unwrap()).await
        };
        let json = Some("application/json");
        for (name, media_type, body, overlap) in [
            ("a", None, "", 24 * HOUR),
            ("b", json, "", 24 * HOUR),
            ("c", json, "{}", 24 * HOUR),
            ("d", json, r#"{"overlap": null}"#, 24 * HOUR),
            ("e", json, r#"{"overlap": "0s"}"#, 0),
            ("f", json, r#"{"overlap": "720h"}"#, 720 * HOUR),
            ("g", json, r#"{"overlap": "30d"}"#, 720 * HOUR),
            ("h", json, r#"{"overlap": "90m"}"#, 90 * 60_000),
            ("i", json, r#"{"overlap": "5ms"}"#, 5),
        ] {
            let created = server.key(name).await;
            let rotated = call(name, media_type, body).await.expect(StatusCode::CREATED);
            assert_eq!(not_after(&server, &secret(&created)), Some(START + overlap), "{body}");
            assert_eq!(rotated["key"]["status"], if overlap == 0 { "active" } else { "rotating" }, "{body}");
        }
        server.key("ci").await;
        for (media_type, body, expected) in [
            (json, r#"{"overlap": "721h"}"#, (422, "invalid_field", "/overlap")),
            (json, r#"{"overlap": "31d"}"#, (422, "invalid_field", "/overlap")),
            (json, r#"{"overlap": "-1s"}"#, (422, "invalid_field", "/overlap")),
            (json, r#"{"overlap": "24"}"#, (422, "invalid_field", "/overlap")),
            (json, r#"{"overlap": ""}"#, (422, "invalid_field", "/overlap")),
            (json, r#"{"overlap": 24}"#, (400, "invalid_json", "/overlap")),
            (json, r#"{"secret": "mine"}"#, (400, "invalid_json", "/secret")),
            (json, "null", (400, "invalid_json", "")),
            (json, "{} {}", (400, "invalid_json", "")),
            (None, "{}", (415, "unsupported_media_type", "")),
            (Some("text/plain"), "{}", (415, "unsupported_media_type", "")),
        ] {
            let (status, code, field) = call("ci", media_type, body).await.problem();
            assert_eq!((status, code.as_str(), field.as_str()), expected, "{body}");
        }
        let waiting = request(Method::POST, "/v1/keys/ci/rotate?wait=5min", &server.owner, None);
        assert_eq!(server.call(waiting).await.problem().1, "invalid_query");
        let key = server.get("/v1/keys/ci").await.expect(StatusCode::OK);
        assert_eq!(key["versions"].as_array().unwrap().len(), 1, "a refusal changes nothing");
        assert_eq!(server.post("/v1/keys/nobody/rotate", json!({})).await.problem().1, "not_found");
    }

    #[tokio::test]
    async fn a_second_rotation_prolongs_no_overlap() {
        let server = TestServer::new().await;
        let first = secret(&server.key("ci").await);
        let second = secret(&rotate(&server, json!({"overlap": "2h"})).await);
        server.pass(Duration::from_millis(HOUR));
        let before = server.app.publisher.publication.version().unwrap();
        let third = rotate(&server, json!({"overlap": "24h"})).await;
        assert_eq!(not_after(&server, &first), Some(START + 2 * HOUR), "the end that it had");
        assert_eq!(not_after(&server, &second), Some(START + 25 * HOUR));
        assert_eq!(not_after(&server, &secret(&third)), None);
        assert_eq!(delta(&server, before).iter().map(|(version, _)| *version).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(third["key"]["status"], "rotating");

        // A shorter overlap ends versions that would have ended later.
        rotate(&server, json!({"overlap": "0s"})).await;
        let now = Some(START + HOUR);
        assert_eq!([&first, &second, &secret(&third)].map(|secret| not_after(&server, secret)), [now; 3]);
        let key = server.get("/v1/keys/ci").await.expect(StatusCode::OK);
        assert_eq!((&key["status"], &key["versions"][3]["id"]), (&json!("active"), &json!(4)));
    }

    #[tokio::test]
    async fn all_versions_end_with_the_key() {
        let server = TestServer::new().await;
        let first = secret(&server.key("ci").await);
        let soon = json!({"expires_at": "2027-01-15T09:00:00Z"});
        server.patch("/v1/keys/ci", soon).await.expect(StatusCode::OK);
        let before = server.app.publisher.publication.version().unwrap();
        let second = secret(&rotate(&server, json!({})).await);
        assert_eq!(not_after(&server, &first), Some(START + HOUR));
        assert_eq!(not_after(&server, &second), Some(START + HOUR));
        assert_eq!(delta(&server, before), [(2, Some(START + HOUR))], "nothing else changes for gateways");
        server.patch("/v1/keys/ci", json!({"expires_at": null})).await.expect(StatusCode::OK);
        assert_eq!(not_after(&server, &first), Some(START + 24 * HOUR), "the overlap is kept in mind");
        assert_eq!(not_after(&server, &second), None);
    }

    #[tokio::test]
    async fn what_has_ended_is_refused_with_a_way_out() {
        let server = TestServer::new().await;
        server.key("revoked").await;
        server.post("/v1/keys/revoked/revoke", json!({})).await.expect(StatusCode::OK);
        let body = json!({"name": "expired", "environment": "live", "scopes": [], "expires_at": "2027-01-15T09:00:00Z"});
        server.post("/v1/keys", body).await.expect(StatusCode::CREATED);
        server.key("ci").await;
        rotate(&server, json!({"overlap": "1h"})).await;
        server.post("/v1/keys/ci/versions/2/revoke", json!({})).await.expect(StatusCode::OK);
        server.pass(Duration::from_millis(HOUR));
        let version = server.app.publisher.publication.version().unwrap();
        for (name, code, way_out) in [
            ("revoked", "key_revoked", "Create a new key"),
            ("expired", "key_expired", "Set a later expires_at"),
            ("ci", "key_expired", "Create a new key"),
        ] {
            let answer = server.post(&format!("/v1/keys/{name}/rotate"), json!({})).await;
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert_eq!(answer.problem(), (409, code.to_owned(), String::new()));
            assert!(detail.contains(way_out), "{detail}");
        }
        assert_eq!(server.app.publisher.publication.version().unwrap(), version);
        let later = json!({"expires_at": "2027-02-01T00:00:00Z"});
        server.patch("/v1/keys/expired", later).await.expect(StatusCode::OK);
        server.post("/v1/keys/expired/rotate", json!({})).await.expect(StatusCode::CREATED);
    }

    #[tokio::test]
    async fn the_last_number_is_the_end() {
        let server = TestServer::new().await;
        server.key("other").await;
        let mut key = server.app.store.key(&KeyReference::from("other")).await.unwrap().unwrap();
        key.id = uuid::Uuid::from_u128(1);
        key.name = "ci".parse().unwrap();
        key.versions[0].version = u16::MAX - 1;
        key.versions[0].digest = Digest::of(b"old");
        publish_key(&server, &key).await;
        assert_eq!(rotate(&server, json!({})).await["key"]["versions"][1]["id"], u16::MAX);
        let answer = server.post("/v1/keys/ci/rotate", json!({})).await;
        assert_eq!(answer.problem(), (409, "versions_exhausted".to_owned(), String::new()));
    }

    #[tokio::test]
    async fn versions_are_used_and_revoked_each_by_itself() {
        let server = TestServer::new().await;
        let first = server.key("ci").await;
        let second = rotate(&server, json!({})).await;
        let id = first["key"]["id"].as_str().unwrap().parse().unwrap();
        let gateway = server.token("gateway").await;
        let mut calls = vec![record(0, START + 1, Some((id, "ci"))), record(1, START + 2, Some((id, "ci")))];
        calls[1].key.as_mut().unwrap().version = 2;
        server.pass(Duration::from_millis(2));
        server.deliver(&gateway, calls).await;
        let key = server.get("/v1/keys/ci").await.expect(StatusCode::OK);
        assert_eq!(key["versions"][0]["last_used_at"], "2027-01-15T08:00:00.001Z");
        assert_eq!(key["versions"][1]["last_used_at"], "2027-01-15T08:00:00.002Z");
        assert_eq!(key["last_used_at"], "2027-01-15T08:00:00.002Z");
        let audit = server.get("/v1/audit?key=ci").await.expect(StatusCode::OK);
        let versions = audit["items"].as_array().unwrap().iter().map(|item| &item["version_id"]);
        assert_eq!(versions.collect::<Vec<_>>(), [&json!(2), &json!(1)]);

        let answer = server.post("/v1/keys/ci/versions/1/revoke", json!({})).await.expect(StatusCode::OK);
        assert_eq!(answer["key"]["status"], "active");
        let image = server.app.publisher.publication.image().unwrap();
        let revoked = [&first, &second]
            .map(|answer| image.find(&Digest::of(secret(answer).as_bytes())).unwrap().revoked);
        assert_eq!(revoked, [true, false]);
        let third = rotate(&server, json!({})).await;
        assert_eq!(third["key"]["versions"][0]["expires_at"], "2027-01-16T08:00:00.000Z");
        assert_eq!(server.post("/v1/keys/ci/revoke", json!({})).await.json()["key"]["status"], "revoked");
    }

    #[tokio::test]
    async fn the_secret_is_nowhere_on_disk_and_the_change_outlives_its_client() {
        let server = TestServer::new().await;
        server.key("ci").await;
        let rotated = rotate(&server, json!({})).await;
        let new = secret(&rotated);
        for file in std::fs::read_dir(server.folder()).unwrap() {
            let path = file.unwrap().path();
            let content = std::fs::read(&path).unwrap();
            let found = content.windows(new.len()).any(|window| window == new.as_bytes());
            assert!(!found, "{}", path.display());
        }
        // The client disconnects while the change waits for its turn to write.
        let mut published = server.app.publisher.publication.subscribe();
        let before = *published.borrow_and_update();
        let turn = server.app.store.begin().await.unwrap();
        let call = server.call(request(Method::POST, "/v1/keys/ci/rotate", &server.owner, None));
        assert!(tokio::time::timeout(Duration::from_millis(50), call).await.is_err());
        drop(turn);
        let later = published.wait_for(|version| *version > before);
        tokio::time::timeout(Duration::from_secs(10), later).await.unwrap().unwrap();
        let key = server.get("/v1/keys/ci").await.expect(StatusCode::OK);
        assert_eq!(key["versions"].as_array().unwrap().len(), 3);
    }
}
