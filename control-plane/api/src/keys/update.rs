//! `PATCH /v1/keys/{id}`: changes the scopes, rate limits, IP allowlist, expiry and description of a key.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;

use crate::access::Authenticated;
use crate::extract::{Segments, StrictJson, StrictQuery};
use crate::params::{IfMatch, KeyPath};
use crate::precondition::{Conditional, tagged};
use crate::problem::Problem;
use crate::query::WaitQuery;
use omniflow_api_types::key::{UpdateKey, UpdatedKey};
use omniflow_domain::key::KeyReference;
use omniflow_service::keys::{Keys, SettingsText, Update, Updated};

/// Update a key.
///
/// Absent fields keep their values; null resets a field.
#[utoipa::path(
    patch,
    path = "/v1/keys/{id}",
    operation_id = "update_key",
    tag = "keys",
    params(KeyPath, WaitQuery, IfMatch),
    request_body = UpdateKey,
    responses(
        (status = 200, body = UpdatedKey, description = "The key.", headers(("ETag" = String))),
        (status = 409, description = "`key_revoked`"),
    ),
)]
pub(crate) async fn update(
    State(keys): State<Arc<Keys>>,
    Authenticated(principal): Authenticated,
    Segments(key): Segments<String>,
    Conditional(precondition): Conditional,
    StrictQuery(query): StrictQuery<WaitQuery>,
    StrictJson(request): StrictJson<UpdateKey>,
) -> Result<impl IntoResponse, Problem> {
    let wait = query.parse()?;
    let (settings, errors) = settings_text(request).parse();
    if let Some(error) = errors.into_iter().next() {
        return Err(error.into());
    }
    let request = Update { key: KeyReference::from(key.as_str()), precondition, settings, wait };
    let Updated { key, enforcement } = keys.update(&principal, request).await?;
    let revision = key.key.revision;
    Ok(tagged(revision, UpdatedKey { key: key.into(), enforcement: enforcement.map(Into::into) }))
}

/// The fields of the body. Null clears: it is the default limit, any address, no end, or no description.
fn settings_text(request: UpdateKey) -> SettingsText {
    SettingsText {
        scopes: request.scopes,
        rate_limit: request.rate_limit.map(Option::unwrap_or_default),
        ip_allowlist: request.ip_allowlist.map(Option::unwrap_or_default),
        expires_at: request.expires_at,
        description: request.description.map(Option::unwrap_or_default),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use omniflow_policy::digest::Digest;
    use serde_json::{Value, json};

    use omniflow_test_server::TestServer;

    #[tokio::test]
    async fn what_is_stated_changes_and_null_clears() {
        let server = TestServer::new().await;
        let created = server.key("ci").await;
        let before = server.app.publisher.publication.version().unwrap();
        let all = json!({
            "scopes": ["tickets:read"], "rate_limit": {"per_hour": 5}, "ip_allowlist": ["10.0.0.0/8"],
            "expires_at": "2027-02-01T00:00:00Z", "description": "d",
        });
        let key = server.patch("/v1/keys/ci", all).await.expect(StatusCode::OK);
        assert_eq!(key["scopes"], json!(["tickets:read"]));
        assert_eq!(key["rate_limit"], json!({"per_minute": null, "per_hour": 5, "burst": null}));
        assert_eq!(key["ip_allowlist"], json!(["10.0.0.0/8"]));
        assert_eq!(key["expires_at"], "2027-02-01T00:00:00.000Z");
        assert_eq!(key["description"], "d");
        let after = server.app.publisher.publication.version().unwrap();
        assert!(after > before);
        let image = server.app.publisher.publication.image().unwrap();
        let digest = Digest::of(created["secret"].as_str().unwrap().as_bytes());
        assert_eq!(image.find(&digest).unwrap().scopes, "tickets:read");

        let nothing = server.patch("/v1/keys/ci", json!({})).await.expect(StatusCode::OK);
        assert_eq!(nothing, key);
        let words = server.patch("/v1/keys/ci", json!({"description": "e"})).await.expect(StatusCode::OK);
        assert_eq!(words["description"], "e");
        assert_eq!(
            server.app.publisher.publication.version().unwrap(),
            after,
            "gateways need not know of words"
        );

        let nulls =
            json!({"rate_limit": null, "ip_allowlist": null, "expires_at": null, "description": null});
        let cleared = server.patch("/v1/keys/ci", nulls).await.expect(StatusCode::OK);
        assert_eq!(cleared["rate_limit"]["per_minute"], 60);
        assert_eq!(cleared["ip_allowlist"], json!([]));
        assert_eq!((&cleared["expires_at"], &cleared["description"]), (&Value::Null, &Value::Null));
        assert_eq!(server.get("/v1/keys/ci").await.expect(StatusCode::OK), cleared);

        let burst =
            server.patch("/v1/keys/ci", json!({"rate_limit": {"burst": 5}})).await.expect(StatusCode::OK);
        assert_eq!(burst["rate_limit"], json!({"per_minute": 60, "per_hour": null, "burst": 5}));
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let server = TestServer::new().await;
        server.key("ci").await;
        for (body, expected) in [
            (json!({"name": "other"}), (400, "invalid_json", "/name")),
            (json!({"scopes": ["nothing:read"]}), (422, "invalid_field", "/scopes/0")),
            (json!({"expires_at": "2020-01-01T00:00:00Z"}), (422, "invalid_field", "/expires_at")),
        ] {
            let (status, code, field) = server.patch("/v1/keys/ci", body.clone()).await.problem();
            assert_eq!((status, code.as_str(), field.as_str()), expected, "{body}");
        }
        assert_eq!(server.patch("/v1/keys/nobody", json!({})).await.problem().1, "not_found");
        server.post("/v1/keys/ci/revoke", json!({})).await.expect(StatusCode::OK);
        assert_eq!(server.patch("/v1/keys/ci", json!({})).await.problem().1, "key_revoked");
    }
}
