//! `POST /v1/keys`: issues a key. Its secret is in the answer, and nowhere else ever after.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use omniflow_policy::key::{Environment, compose_key};
use omniflow_policy::snapshot::Change;

use crate::app::App;
use crate::http::access::Caller;
use crate::http::extract::StrictJson;
use crate::http::problem::Problem;
use crate::http::{fields, to_its_end};
use crate::json::key::{CreateKey, CreatedKey, KeyJson, LastUsed};
use crate::model::key::{Key, KeyVersion};

pub(super) async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    StrictJson(request): StrictJson<CreateKey>,
) -> Result<impl IntoResponse, Problem> {
    let created = to_its_end(issue(app, caller, request)).await?;
    let location = format!("/v1/keys/{}", created.key.id());
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(created)))
}

async fn issue(app: Arc<App>, caller: Caller, request: CreateKey) -> Result<CreatedKey, Problem> {
    let mut writer = app.storage.main.writer().await;
    let now = app.now();
    let (policy, _) = app.publication.policy()?;
    let environment: Environment =
        request.environment.parse().map_err(|error| Problem::invalid_field("/environment", error))?;
    let name = fields::name(&request.name)?;
    let scopes = fields::scopes(&request.scopes, &policy)?;
    let secret = app
        .entropy
        .compose(|mut random| compose_key(&app.installation.key_prefix, environment, &mut random))?;
    let key = Key {
        id: app.entropy.uuid(now)?,
        name,
        environment,
        scopes,
        rate_limit: fields::rate_limit(request.rate_limit)?,
        ip_allowlist: fields::ip_allowlist(request.ip_allowlist)?,
        description: fields::description(request.description)?,
        created_by: caller.name.to_string(),
        created_at: now,
        expires_at: fields::expires_at(request.expires_at, now)?,
        versions: vec![KeyVersion {
            version: 1,
            digest: secret.digest(),
            hint: secret.hint(),
            created_at: now,
            expires_at: None,
            revoked_at: None,
        }],
    };
    let mut transaction = writer.begin().await?;
    if transaction.key_name_is_taken(&key.name).await? {
        return Err(Problem::conflict(
            "name_taken",
            format!(
                "Another key is called {}. Choose another name: those of revoked keys stay taken.",
                key.name
            ),
        ));
    }
    transaction.insert_keys(std::slice::from_ref(&key)).await?;
    let changes = key.credentials().map(Change::Put).collect();
    let version = app.commit(transaction, changes).await?;
    tracing::info!(key = %key.id, name = key.name.as_str(), by = key.created_by, version, "a key was issued");
    let key = KeyJson::new(key, &LastUsed::new(), app.rotation_after, now);
    Ok(CreatedKey { key, secret: secret.expose().to_owned() })
}

#[cfg(test)]
mod tests {
    use omniflow_policy::digest::Digest;
    use serde_json::{Value, json};

    use super::*;
    use crate::http::testing::Plane;

    #[tokio::test]
    async fn a_key_is_issued_with_what_was_asked_for() {
        let plane = Plane::new().await;
        let before = plane.app.publication.version().unwrap();
        let body = json!({
            "name": "CI deploy", "environment": "test", "scopes": ["tickets:write", "contacts:read"],
            "rate_limit": {"per_hour": 1000, "burst": 20}, "ip_allowlist": ["203.0.113.0/24", "2001:db8::1"],
            "expires_at": "2027-06-01T00:00:00+02:00", "description": "nightly",
        });
        let answer = plane.post("/v1/keys", body).await;
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
                "rotation_due_at": "2027-04-15T08:00:00.000Z",
                "versions": [{
                    "id": 1, "hint": &secret[45..49], "created_at": "2027-01-15T08:00:00.000Z",
                    "expires_at": null, "revoked_at": null, "last_used_at": null,
                }],
            })
        );
        assert!(plane.app.publication.version().unwrap() > before);
        let image = plane.app.publication.image().unwrap();
        assert!(image.find(&Digest::of(secret.as_bytes())).is_some());
        for path in [location.as_str(), "/v1/keys/CI%20deploy"] {
            assert_eq!(plane.get(path).await.expect(StatusCode::OK), *key, "{path}");
        }
    }

    #[tokio::test]
    async fn the_secret_is_nowhere_on_disk() {
        let plane = Plane::new().await;
        let created = plane.key("ci").await;
        let secret = created["secret"].as_str().unwrap();
        for file in std::fs::read_dir(plane.folder()).unwrap() {
            let path = file.unwrap().path();
            let content = std::fs::read(&path).unwrap();
            let found = |text: &str| content.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!found(secret), "{}", path.display());
            assert!(path.ends_with("admin-token") || !found(&plane.owner), "{}", path.display());
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let plane = Plane::new().await;
        plane.key("taken").await;
        let version = plane.app.publication.version().unwrap();
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
            let (status, code, field) = plane.post("/v1/keys", with(changes.clone())).await.problem();
            assert_eq!((status, code.as_str(), field.as_str()), expected, "{changes}");
        }
        assert_eq!(plane.app.publication.version().unwrap(), version, "a refusal publishes nothing");
        let list = plane.get("/v1/keys").await.expect(StatusCode::OK);
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_body_is_json_and_says_so() {
        let plane = Plane::new().await;
        let call = async |media_type: &str, body: &'static str| {
            let request = axum::http::Request::post("/v1/keys")
                .header(header::AUTHORIZATION, format!("Bearer {}", plane.owner))
                .header(header::CONTENT_TYPE, media_type)
                .body(axum::body::Body::from(body))
                .unwrap();
            plane.call(request).await.problem().1
        };
        assert_eq!(call("text/plain", "{}").await, "unsupported_media_type");
        assert_eq!(call("application/json", "").await, "invalid_json");
        assert_eq!(call("application/json", "{\"name\":").await, "invalid_json");
        let twice = r#"{"name":"a","environment":"live","scopes":[]} {}"#;
        assert_eq!(call("application/json; charset=utf-8", twice).await, "invalid_json");
    }
}
