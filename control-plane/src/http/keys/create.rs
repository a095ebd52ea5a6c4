//! `POST /v1/keys`: issues a key. Its secret is in the answer, and nowhere else ever after.
//!
//! With a digest it takes over a key of another system instead, whose secret is known to its holder alone.

use omniflow_domain::principal::Principal;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use omniflow_policy::digest::Digest;
use omniflow_policy::key::{Environment, Secret, compose_key};
use omniflow_policy::snapshot::Change;
use omniflow_policy::time::UnixMillis;

use crate::http::access::Authenticated;
use crate::http::extract::StrictJson;
use crate::http::idempotency::{Created, Once, note, repeated};
use crate::http::params::IdempotencyKey;
use crate::http::problem::Problem;
use crate::http::to_its_end;
use crate::service::app::App;
use crate::service::fields;
use crate::storage::{Attempt, Transaction};
use omniflow_api_types::event::key_state;
use omniflow_api_types::key::{CreateKey, CreatedKey, KeyJson, LastUsed};
use omniflow_domain::error::{Error, ErrorCode};
use omniflow_domain::event::{Action, NewEvent};
use omniflow_domain::key::{Key, KeyVersion};

/// Issues a key.
///
/// Its secret is in this answer and nowhere else. With `digest` it takes over a key of another system, and has no secret.
#[utoipa::path(
    post,
    path = "/v1/keys",
    operation_id = "create_key",
    tag = "keys",
    params(IdempotencyKey),
    request_body = CreateKey,
    responses(
        (status = 201, body = CreatedKey, description = "The key and its secret.", headers(("ETag" = String))),
        (status = 409, description = "`name_taken`, `digest_taken`, `imports_not_taken`, `already_created`"),
    ),
)]
pub(in crate::http) async fn create(
    State(app): State<Arc<App>>,
    Authenticated(principal): Authenticated,
    Once { body: StrictJson(request), attempt }: Once<StrictJson<CreateKey>>,
) -> Result<Response, Problem> {
    Ok(to_its_end(issue(app, principal, request, attempt)).await?.into_response())
}

/// Issues a key, unless this attempt has issued it already.
pub(in crate::http) async fn issue(
    app: Arc<App>,
    principal: Principal,
    request: CreateKey,
    attempt: Option<Attempt>,
) -> Result<Created, Error> {
    let mut writer = app.storage.main.writer().await;
    let now = app.now();
    let mut transaction = writer.begin().await?;
    if let Some(answer) = repeated(&app, &mut transaction, attempt.as_ref(), now).await? {
        return Ok(answer);
    }
    let (key, secret) = prepare(&app, &mut transaction, &principal, request, now).await?;
    let location = format!("/v1/keys/{}", key.id);
    note(&mut transaction, attempt.as_ref(), &location, now).await?;
    let action = if secret.is_some() { Action::KeyCreated } else { Action::KeyImported };
    let changes = add(&mut transaction, &principal, action, &key).await?;
    let version = app.publisher.commit(transaction, changes).await?;
    tracing::info!(key = %key.id, name = key.name.as_str(), by = key.created_by, version, %action, "a key was made");
    let key = KeyJson::new(key, &LastUsed::new(), app.rotation_after, now);
    let body = CreatedKey { key, secret: secret.map(|secret| secret.expose().to_owned()) };
    let created = Created::new(location, Some(body.key.revision()), &body)?;
    Ok(created.kept(&app, attempt, now))
}

/// Checks whatever issuing this key would check, and issues nothing.
pub(in crate::http) async fn rehearse(
    app: &App,
    principal: &Principal,
    request: CreateKey,
) -> Result<(), Error> {
    let mut writer = app.storage.main.writer().await;
    let now = app.now();
    let mut transaction = writer.begin().await?;
    prepare(app, &mut transaction, principal, request, now).await.map(drop)
}

/// The key that is asked for, with its secret where one is made here, if it may be issued. It is not yet.
async fn prepare(
    app: &App,
    transaction: &mut Transaction<'_>,
    principal: &Principal,
    request: CreateKey,
    now: UnixMillis,
) -> Result<(Key, Option<Secret>), Error> {
    let environment = fields::environment(&request.environment)?;
    if request.digest.is_some() {
        check_imports_are_taken(app)?;
    }
    let (digest, hint, secret) = match fields::digest(request.digest.as_deref())? {
        Some(digest) => (digest, fields::hint(request.hint.as_deref())?, None),
        None if request.hint.is_some() => {
            return Err(Error::invalid_field(
                "/hint",
                "a hint is for a key that is taken over by its digest",
            ));
        }
        None => {
            let secret = new_secret(app, environment)?;
            (secret.digest(), secret.hint(), Some(secret))
        }
    };
    let version = KeyVersion { imported: secret.is_none(), ..first_version(digest, hint, now) };
    let key = new_key(app, principal, request, version, now)?;
    check_is_new(transaction, &key, digest).await?;

    Ok((key, secret))
}

/// A secret of this installation's form.
pub(in crate::http) fn new_secret(app: &App, environment: Environment) -> Result<Secret, Error> {
    let prefix = &app.publisher.installation.key_prefix;
    Ok(app.entropy.compose(|mut random| compose_key(prefix, environment, &mut random))?)
}

/// The version with which a key begins.
pub(crate) fn first_version(digest: Digest, hint: String, now: UnixMillis) -> KeyVersion {
    KeyVersion {
        version: 1,
        digest,
        hint,
        created_at: now,
        expires_at: None,
        revoked_at: None,
        imported: false,
    }
}

/// Adds a key, with an event that says so; gives what it changes for gateways.
pub(crate) async fn add(
    transaction: &mut Transaction<'_>,
    principal: &Principal,
    action: Action,
    key: &Key,
) -> Result<Vec<Change>, Error> {
    transaction.insert_keys(std::slice::from_ref(key)).await?;
    let event = NewEvent {
        time: key.created_at,
        actor: principal.actor(),
        action,
        subject: super::subject(key),
        before: None,
        after: Some(key_state(key)),
    };
    transaction.insert_event(&event).await?;
    Ok(key.credentials().map(Change::Put).collect())
}

/// Gateways look keys of another form up only where the policy says so: one that is issued before would be refused.
fn check_imports_are_taken(app: &App) -> Result<(), Error> {
    let (policy, _) = app.publisher.publication.policy()?;
    if policy.document().imported_keys {
        return Ok(());
    }
    Err(Error::new(
        ErrorCode::ImportsNotTaken,
        "Gateways do not take keys of another system yet. Set imported_keys to true in the policy first.",
    ))
}

/// The key that is asked for, if all of it may be.
fn new_key(
    app: &App,
    principal: &Principal,
    request: CreateKey,
    version: KeyVersion,
    now: UnixMillis,
) -> Result<Key, Error> {
    let (policy, _) = app.publisher.publication.policy()?;
    Ok(Key {
        id: app.entropy.uuid(now)?,
        name: fields::name(&request.name)?,
        environment: fields::environment(&request.environment)?,
        scopes: fields::scopes(&request.scopes, &policy)?,
        rate_limit: fields::rate_limit(request.rate_limit)?,
        ip_allowlist: fields::ip_allowlist(request.ip_allowlist)?,
        description: fields::description(request.description)?,
        created_by: principal.name.to_string(),
        created_at: now,
        expires_at: fields::expires_at(request.expires_at, now)?,
        revision: 1,
        versions: vec![version],
    })
}

async fn check_is_new(transaction: &mut Transaction<'_>, key: &Key, digest: Digest) -> Result<(), Error> {
    if transaction.key_name_is_taken(&key.name).await? {
        return Err(Error::new(
            ErrorCode::NameTaken,
            format!(
                "Another key is called {}. Choose another name: those of revoked keys stay taken.",
                key.name
            ),
        ));
    }
    if transaction.digest_is_taken(digest).await? {
        return Err(Error::new(
            ErrorCode::DigestTaken,
            "A key of this installation has this digest already. A secret stands for one key.",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::{StatusCode, header};
    use serde_json::{Value, json};

    use super::*;
    use crate::http::testing::Plane;

    #[tokio::test]
    async fn a_key_is_issued_with_what_was_asked_for() {
        let plane = Plane::new().await;
        let before = plane.app.publisher.publication.version().unwrap();
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
                "rotation_due_at": "2027-04-15T08:00:00.000Z", "revision": 1,
                "versions": [{
                    "id": 1, "hint": &secret[45..49], "created_at": "2027-01-15T08:00:00.000Z",
                    "expires_at": null, "revoked_at": null, "last_used_at": null,
                }],
            })
        );
        assert!(plane.app.publisher.publication.version().unwrap() > before);
        let image = plane.app.publisher.publication.image().unwrap();
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
    async fn a_key_of_another_system_is_taken_over_by_its_digest() {
        let plane = Plane::new().await;
        let digest = Digest::of(b"sk_live_of_another_system");
        let mut policy = plane.get("/v1/policy").await.expect(StatusCode::OK)["document"].clone();
        policy["imported_keys"] = json!(true);
        let import = |name: &str, digest: &str| json!({"name": name, "environment": "live", "scopes": ["contacts:read"], "digest": digest, "hint": "stem"});
        let early = plane.post("/v1/keys", import("moved", &digest.to_hex())).await;
        assert_eq!(early.problem(), (409, "imports_not_taken".to_owned(), String::new()));
        plane.put("/v1/policy", policy).await.expect(StatusCode::OK);
        let answer = plane.post("/v1/keys", import("moved", &digest.to_hex())).await;
        assert_eq!(answer.headers[header::ETAG], "\"1\"");
        let created = answer.expect(StatusCode::CREATED);
        assert_eq!(created.get("secret"), None);
        assert_eq!(created["key"]["versions"][0]["hint"], "stem");
        assert!(plane.app.publisher.publication.image().unwrap().find(&digest).is_some());
        let events = plane.get("/v1/events?action=key.imported").await.expect(StatusCode::OK);
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
            let (status, code, field) = plane.post("/v1/keys", body.clone()).await.problem();
            assert_eq!((status, code.as_str(), field.as_str()), expected, "{body}");
        }
        plane.post("/v1/keys/moved/rotate", json!({})).await.expect(StatusCode::CREATED);
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let plane = Plane::new().await;
        plane.key("taken").await;
        let version = plane.app.publisher.publication.version().unwrap();
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
        assert_eq!(
            plane.app.publisher.publication.version().unwrap(),
            version,
            "a refusal publishes nothing"
        );
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
