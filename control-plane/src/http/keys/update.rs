//! `PATCH /v1/keys/{id}`: changes what a key may do, from where, how often and until when.

use omniflow_domain::principal::Principal;
use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use omniflow_policy::snapshot::{Change, Credential};

use super::{changed, committed_in_json, no_such_key, tagged};
use crate::http::access::Authenticated;
use crate::http::extract::{Segments, StrictJson};
use crate::http::params::{IfMatch, KeyPath};
use crate::http::precondition::Precondition;
use crate::http::problem::Problem;
use crate::http::to_its_end;
use crate::service::app::App;
use crate::service::fields;
use crate::storage::KeyReference;
use omniflow_api_types::event::key_state;
use omniflow_api_types::key::{KeyJson, UpdateKey};
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::event::Action;
use omniflow_domain::key::{Key, KeyStatus};

/// Changes a key. What is absent stays; null clears.
#[utoipa::path(
    patch,
    path = "/v1/keys/{id}",
    operation_id = "update_key",
    tag = "keys",
    params(KeyPath, IfMatch),
    request_body = UpdateKey,
    responses(
        (status = 200, body = KeyJson, description = "The key.", headers(("ETag" = String))),
        (status = 409, description = "`key_revoked`"),
    ),
)]
pub(in crate::http) async fn update(
    State(app): State<Arc<App>>,
    Authenticated(principal): Authenticated,
    Segments(id): Segments<String>,
    precondition: Precondition,
    StrictJson(request): StrictJson<UpdateKey>,
) -> Result<impl IntoResponse, Problem> {
    let key = to_its_end(change(Arc::clone(&app), principal, id, precondition, request)).await?;
    Ok(tagged(committed_in_json(&app, key).await))
}

/// Changes a key, unless it is at another state than the precondition says.
pub(in crate::http) async fn change(
    app: Arc<App>,
    principal: Principal,
    id: String,
    precondition: Precondition,
    request: UpdateKey,
) -> Result<Key, Error> {
    let mut writer = app.storage.main.writer().await;
    let now = app.now();
    let (policy, _) = app.publisher.publication.policy()?;
    let mut transaction = writer.begin().await?;
    let mut key = transaction.key(&KeyReference::from(id.as_str())).await?.ok_or_else(no_such_key)?;
    precondition.check(key.name.as_str(), key.revision)?;
    if key.status(now) == KeyStatus::Revoked {
        return Err(Error::new(ErrorCode::KeyRevoked, "This key was revoked and stays so. Issue a new one."));
    }
    let before = key.clone();
    if let Some(scopes) = request.scopes {
        key.scopes = fields::scopes(&scopes, &policy)?;
    }
    if let Some(rate_limit) = request.rate_limit {
        key.rate_limit = fields::rate_limit(rate_limit)?;
    }
    if let Some(ip_allowlist) = request.ip_allowlist {
        key.ip_allowlist = fields::ip_allowlist(ip_allowlist)?;
    }
    if let Some(expires_at) = request.expires_at {
        key.expires_at = fields::expires_at(expires_at, now)?;
    }
    if let Some(description) = request.description {
        key.description = fields::description(description)?;
    }
    if key_state(&key) == key_state(&before) {
        return Ok(key);
    }
    transaction.update_key(&key).await?;
    transaction.advance_revision(&mut key).await?;
    transaction.insert_event(&changed(&principal, Action::KeyChanged, &before, &key, now)).await?;
    let credentials: Vec<Credential> = key.credentials().collect();
    if before.credentials().eq(credentials.iter().cloned()) {
        // Words only: gateways hold what they need.
        transaction.commit().await?;
        return Ok(key);
    }
    let version =
        app.publisher.commit(transaction, credentials.into_iter().map(Change::Put).collect()).await?;
    tracing::info!(key = %key.id, name = key.name.as_str(), by = principal.name.as_str(), version, "a key was changed");
    Ok(key)
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use omniflow_policy::digest::Digest;
    use serde_json::{Value, json};

    use crate::http::testing::Plane;

    #[tokio::test]
    async fn what_is_stated_changes_and_null_clears() {
        let plane = Plane::new().await;
        let created = plane.key("ci").await;
        let before = plane.app.publisher.publication.version().unwrap();
        let all = json!({
            "scopes": ["tickets:read"], "rate_limit": {"per_hour": 5}, "ip_allowlist": ["10.0.0.0/8"],
            "expires_at": "2027-02-01T00:00:00Z", "description": "d",
        });
        let key = plane.patch("/v1/keys/ci", all).await.expect(StatusCode::OK);
        assert_eq!(key["scopes"], json!(["tickets:read"]));
        assert_eq!(key["rate_limit"], json!({"per_minute": null, "per_hour": 5, "burst": null}));
        assert_eq!(key["ip_allowlist"], json!(["10.0.0.0/8"]));
        assert_eq!(key["expires_at"], "2027-02-01T00:00:00.000Z");
        assert_eq!(key["description"], "d");
        let after = plane.app.publisher.publication.version().unwrap();
        assert!(after > before);
        let image = plane.app.publisher.publication.image().unwrap();
        let digest = Digest::of(created["secret"].as_str().unwrap().as_bytes());
        assert_eq!(image.find(&digest).unwrap().scopes, "tickets:read");

        let nothing = plane.patch("/v1/keys/ci", json!({})).await.expect(StatusCode::OK);
        assert_eq!(nothing, key);
        let words = plane.patch("/v1/keys/ci", json!({"description": "e"})).await.expect(StatusCode::OK);
        assert_eq!(words["description"], "e");
        assert_eq!(
            plane.app.publisher.publication.version().unwrap(),
            after,
            "gateways need not know of words"
        );

        let nulls =
            json!({"rate_limit": null, "ip_allowlist": null, "expires_at": null, "description": null});
        let cleared = plane.patch("/v1/keys/ci", nulls).await.expect(StatusCode::OK);
        assert_eq!(cleared["rate_limit"]["per_minute"], 60);
        assert_eq!(cleared["ip_allowlist"], json!([]));
        assert_eq!((&cleared["expires_at"], &cleared["description"]), (&Value::Null, &Value::Null));
        assert_eq!(plane.get("/v1/keys/ci").await.expect(StatusCode::OK), cleared);

        let burst =
            plane.patch("/v1/keys/ci", json!({"rate_limit": {"burst": 5}})).await.expect(StatusCode::OK);
        assert_eq!(burst["rate_limit"], json!({"per_minute": 60, "per_hour": null, "burst": 5}));
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let plane = Plane::new().await;
        plane.key("ci").await;
        for (body, expected) in [
            (json!({"name": "other"}), (400, "invalid_json", "/name")),
            (json!({"scopes": ["nothing:read"]}), (422, "invalid_field", "/scopes/0")),
            (json!({"expires_at": "2020-01-01T00:00:00Z"}), (422, "invalid_field", "/expires_at")),
        ] {
            let (status, code, field) = plane.patch("/v1/keys/ci", body.clone()).await.problem();
            assert_eq!((status, code.as_str(), field.as_str()), expected, "{body}");
        }
        assert_eq!(plane.patch("/v1/keys/nobody", json!({})).await.problem().1, "not_found");
        plane.post("/v1/keys/ci/revoke", json!({})).await.expect(StatusCode::OK);
        assert_eq!(plane.patch("/v1/keys/ci", json!({})).await.problem().1, "key_revoked");
    }
}
