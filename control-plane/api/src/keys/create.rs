//! `POST /v1/keys`: creates a key. Only the response contains its secret.
//!
//! With a digest, it imports a key of another system instead. Only the holder has the secret of that key.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use crate::access::Authenticated;
use crate::extract::{StrictJson, StrictQuery};
use crate::idempotency::IdempotentBody;
use crate::params::IdempotencyKey;
use crate::problem::Problem;
use crate::query::WaitQuery;
use omniflow_api_types::key::{CreateKey, CreatedKey};
use omniflow_service::keys::{Create, KeyText, Keys, SettingsText};

/// Create a key.
///
/// Only this response contains the secret. With `digest`, the request imports a key from another system instead, and
/// the response contains no secret.
#[utoipa::path(
    post,
    path = "/v1/keys",
    operation_id = "create_key",
    tag = "keys",
    params(WaitQuery, IdempotencyKey),
    request_body = CreateKey,
    responses(
        (status = 201, body = CreatedKey, description = "The key and its secret.", headers(("ETag" = String))),
        (status = 409, description = "`name_taken`, `digest_taken`, `imports_disabled`, `already_created`"),
    ),
)]
pub(crate) async fn create(
    State(keys): State<Arc<Keys>>,
    Authenticated(principal): Authenticated,
    StrictQuery(query): StrictQuery<WaitQuery>,
    IdempotentBody { body: StrictJson(request), attempt }: IdempotentBody<StrictJson<CreateKey>>,
) -> Result<Response, Problem> {
    let wait = query.parse()?;
    let request = Create { wait, ..key_text(request).parse().into_request()? };
    Ok(super::created(keys.create(&principal, request, attempt).await?)?)
}

/// Converts the body. A null limit is the default.
fn key_text(request: CreateKey) -> KeyText {
    let CreateKey { name, environment, scopes, digest, hint, .. } = request;
    let settings = SettingsText {
        scopes: Some(scopes),
        rate_limit: request.rate_limit,
        ip_allowlist: request.ip_allowlist,
        expires_at: Some(request.expires_at),
        description: request.description,
    };
    KeyText { name, environment, settings, digest, hint }
}

#[cfg(test)]
mod tests {
    use axum::http::{StatusCode, header};
    use omniflow_domain::error::{Error, ErrorCode};
    use omniflow_policy::digest::Digest;
    use omniflow_policy::limit::RateLimit;
    use serde_json::{Value, json};

    use omniflow_service::keys::{KeyText, SettingsText};
    use omniflow_test_server::TestServer;

    #[tokio::test]
    async fn a_key_is_issued_with_what_was_asked_for() {
        let server = TestServer::new().await;
        let before = server.app.publisher.publication.version().unwrap();
        let body = json!({
            "name": "CI deploy", "environment": "test", "scopes": ["tickets:write", "contacts:read"],
            "rate_limit": {"per_hour": 1000, "burst": 20}, "ip_allowlist": ["203.0.113.0/24", "2001:db8::1"],
            "expires_at": "2027-06-01T00:00:00+02:00", "description": "nightly",
        });
        let answer = server.post("/v1/keys", body).await;
        let location = answer.headers[header::LOCATION].to_str().unwrap().to_owned();
        let created = answer.expect(StatusCode::CREATED);
        let secret = created["secret"].as_str().unwrap();
        assert!(secret.starts_with("omf_test_") && secret.len() == 55);
        let key = &created["key"];
        assert_eq!(location, format!("/v1/keys/{}", key["id"].as_str().unwrap()));
        assert_eq!(
            *key,
            json!({
                "id": key["id"], "name": "CI deploy", "environment": "test", "status": "active",
                "scopes": ["contacts:read", "tickets:write"],
                "rate_limit": {"per_minute": null, "per_hour": 1000, "burst": 20},
                "ip_allowlist": ["203.0.113.0/24", "2001:db8::1/128"], "description": "nightly",
                "created_by": "owner", "created_at": "2027-01-15T08:00:00.000Z",
                "expires_at": "2027-05-31T22:00:00.000Z", "last_used_at": null,
                "rotation_due_at": "2027-04-15T08:00:00.000Z", "revision": 1,
                "versions": [{
                    "id": 1, "hint": &secret[45..49], "created_at": "2027-01-15T08:00:00.000Z",
                    "expires_at": null, "revoked_at": null, "last_used_at": null,
                }],
            })
        );
        assert!(server.app.publisher.publication.version().unwrap() > before);
        let image = server.app.publisher.publication.image().unwrap();
        assert!(image.find(&Digest::of(secret.as_bytes())).is_some());
        for path in [location.as_str(), "/v1/keys/CI%20deploy"] {
            assert_eq!(server.get(path).await.expect(StatusCode::OK), *key, "{path}");
        }
    }

    #[tokio::test]
    async fn the_secret_is_nowhere_on_disk() {
        let server = TestServer::new().await;
        let created = server.key("ci").await;
        let secret = created["secret"].as_str().unwrap();
        for file in std::fs::read_dir(server.folder()).unwrap() {
            let path = file.unwrap().path();
            let content = std::fs::read(&path).unwrap();
            let found = |text: &str| content.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!found(secret), "{}", path.display());
            assert!(path.ends_with("admin-token") || !found(&server.owner), "{}", path.display());
        }
    }

    #[tokio::test]
    async fn a_key_of_another_system_is_taken_over_by_its_digest() {
        let server = TestServer::new().await;
        let digest = Digest::of(b"sk_live_of_another_system");
        let mut policy = server.get("/v1/policy").await.expect(StatusCode::OK)["document"].clone();
        policy["imported_keys"] = json!(true);
        let import = |name: &str, digest: &str| json!({"name": name, "environment": "live", "scopes": ["contacts:read"], "digest": digest, "hint": "stem"});
        let early = server.post("/v1/keys", import("moved", &digest.to_hex())).await;
        assert_eq!(early.problem(), (409, "imports_disabled".to_owned(), String::new()));
        server.put("/v1/policy", policy).await.expect(StatusCode::OK);
        let answer = server.post("/v1/keys", import("moved", &digest.to_hex())).await;
        assert_eq!(answer.headers[header::ETAG], "\"1\"");
        let created = answer.expect(StatusCode::CREATED);
        assert_eq!(created.get("secret"), None);
        assert_eq!(created["key"]["versions"][0]["hint"], "stem");
        assert!(server.app.publisher.publication.image().unwrap().find(&digest).is_some());
        let events = server.get("/v1/admin-log?action=key.imported").await.expect(StatusCode::OK);
        assert_eq!(events["items"][0]["subject"]["name"], "moved");
        assert!(!events.to_string().contains(&digest.to_hex()));

        let mut without = import("x", &digest.to_hex());
        without.as_object_mut().unwrap().remove("digest");
        let mut long_hint = import("x", &"0".repeat(64));
        long_hint["hint"] = json!("abcde");
        for (body, expected) in [
            (import("again", &digest.to_hex().to_uppercase()), (409, "digest_taken", "")),
            (import("x", "abc"), (422, "invalid_field", "/digest")),
            (import("x", &"g".repeat(64)), (422, "invalid_field", "/digest")),
            (long_hint, (422, "invalid_field", "/hint")),
            (without, (422, "invalid_field", "/hint")),
        ] {
            let (status, code, field) = server.post("/v1/keys", body.clone()).await.problem();
            assert_eq!((status, code.as_str(), field.as_str()), expected, "{body}");
        }
        server.post("/v1/keys/moved/rotate", json!({})).await.expect(StatusCode::CREATED);
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let server = TestServer::new().await;
        server.key("taken").await;
        let version = server.app.publisher.publication.version().unwrap();
        let with = |changes: Value| {
            let mut body = json!({"name": "x", "environment": "live", "scopes": ["contacts:read"]});
            for (name, value) in changes.as_object().unwrap() {
                body[name] = value.clone();
            }
            body
        };
        for (changes, expected) in [
            (json!({"name": "taken"}), (409, "name_taken", "")),
            (json!({"name": "a/b"}), (422, "invalid_field", "/name")),
            (json!({"name": "0190163d-8694-739b-aea5-966c26f8ad91"}), (422, "invalid_field", "/name")),
            (json!({"name": 7}), (400, "invalid_json", "/name")),
            (json!({"environment": "prod"}), (422, "invalid_field", "/environment")),
            (json!({"scopes": ["contacts:read", "contacts"]}), (422, "invalid_field", "/scopes/1")),
            (json!({"scopes": ["nothing:read"]}), (422, "invalid_field", "/scopes/0")),
            (json!({"rate_limit": {"burst": 0}}), (422, "invalid_field", "/rate_limit/burst")),
            (json!({"rate_limit": {}}), (422, "invalid_field", "/rate_limit")),
            (json!({"rate_limit": {"per_minute": 0}}), (422, "invalid_field", "/rate_limit/per_minute")),
            (json!({"rate_limit": {"per_minute": -1}}), (400, "invalid_json", "/rate_limit/per_minute")),
            (json!({"rate_limit": {"per_day": 5}}), (400, "invalid_json", "/rate_limit/per_day")),
            (
                json!({"ip_allowlist": ["10.0.0.0/8", "10.0.0.1/8"]}),
                (422, "invalid_field", "/ip_allowlist/1"),
            ),
            (json!({"expires_at": "2027-01-15T08:00:00Z"}), (422, "invalid_field", "/expires_at")),
            (json!({"expires_at": "tomorrow"}), (422, "invalid_field", "/expires_at")),
            (json!({"description": "x".repeat(1025)}), (422, "invalid_field", "/description")),
            (json!({"secret": "mine"}), (400, "invalid_json", "/secret")),
        ] {
            let (status, code, field) = server.post("/v1/keys", with(changes.clone())).await.problem();
            assert_eq!((status, code.as_str(), field.as_str()), expected, "{changes}");
        }
        assert_eq!(
            server.app.publisher.publication.version().unwrap(),
            version,
            "a refusal publishes nothing"
        );
        let list = server.get("/v1/keys").await.expect(StatusCode::OK);
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_body_is_json_and_says_so() {
        let server = TestServer::new().await;
        let call = async |media_type: &str, body: &'static str| {
            let request = axum::http::Request::post("/v1/keys")
                .header(header::AUTHORIZATION, format!("Bearer {}", server.owner))
                .header(header::CONTENT_TYPE, media_type)
                .body(axum::body::Body::from(body))
                .unwrap();
            server.call(request).await.problem().1
        };
        assert_eq!(call("text/plain", "{}").await, "unsupported_media_type");
        assert_eq!(call("application/json", "").await, "invalid_json");
        assert_eq!(call("application/json", "{\"name\":").await, "invalid_json");
        let twice = r#"{"name":"a","environment":"live","scopes":[]} {}"#;
        assert_eq!(call("application/json; charset=utf-8", twice).await, "invalid_json");
    }

    fn pointers(errors: &[Error]) -> Vec<(ErrorCode, Option<&str>)> {
        errors.iter().map(|error| (error.code(), error.field())).collect()
    }

    #[tokio::test]
    async fn every_invalid_field_is_reported_once() {
        let server = TestServer::new().await;
        server.key("taken").await;
        let text = KeyText {
            name: "taken".to_owned(),
            environment: "prod".to_owned(),
            settings: SettingsText {
                scopes: Some(vec!["contacts:read".to_owned(), "nothing:read".to_owned()]),
                rate_limit: Some(RateLimit { per_minute: Some(0), per_hour: Some(0), burst: Some(0) }),
                ip_allowlist: Some(vec!["10.0.0.1/8".to_owned()]),
                expires_at: Some(Some("tomorrow".to_owned())),
                description: Some("x".repeat(1_025)),
            },
            ..KeyText::default()
        };
        let invalid = |pointer| (ErrorCode::InvalidField, Some(pointer));
        let keys = &server.app.api.keys;
        let parsed = text.parse();
        assert_eq!(
            pointers(&parsed.errors),
            [invalid("/environment"), invalid("/ip_allowlist/0"), invalid("/expires_at")]
        );
        let found = keys.find_errors(parsed.name.as_ref(), &parsed.settings).await.unwrap();
        let expected = [
            invalid("/scopes/1"),
            invalid("/rate_limit/per_minute"),
            invalid("/rate_limit/per_hour"),
            invalid("/rate_limit/burst"),
            invalid("/description"),
            (ErrorCode::NameTaken, None),
        ];
        assert_eq!(pointers(&found), expected);

        let unlimited = SettingsText {
            rate_limit: Some(RateLimit { per_minute: None, per_hour: None, burst: None }),
            expires_at: Some(Some("2020-01-01T00:00:00Z".to_owned())),
            ..SettingsText::default()
        };
        let (settings, errors) = unlimited.parse();
        assert_eq!(errors, []);
        let found = keys.find_errors(None, &settings).await.unwrap();
        assert_eq!(pointers(&found), [invalid("/rate_limit"), invalid("/expires_at")]);
        let valid =
            SettingsText { scopes: Some(vec!["contacts:read".to_owned()]), ..SettingsText::default() };
        assert_eq!(keys.find_errors(None, &valid.parse().0).await.unwrap(), []);
    }
}
