//! Keys: issued, listed, changed, rotated and revoked.

pub(crate) mod create;
pub(in crate::http) mod list;
pub(crate) mod revoke;
pub(in crate::http) mod rotate;
pub(in crate::http) mod update;

use omniflow_domain::principal::Principal;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use omniflow_policy::time::UnixMillis;

use super::access::{Endpoints, READ, WRITE};
use super::extract::Segments;
use super::params::KeyPath;
use super::precondition::entity_tag;
use super::problem::Problem;
use crate::service::app::App;
use crate::storage::KeyReference;
use omniflow_api_types::event::{difference, key_state};
use omniflow_api_types::key::{KeyJson, LastUsed};
use omniflow_domain::error::Error;
use omniflow_domain::event::{Action, NewEvent, Subject};
use omniflow_domain::key::Key;

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints
        .get("/v1/keys", READ, list::list)
        .post("/v1/keys", WRITE, create::create)
        .get("/v1/keys/{id}", READ, show)
        .patch("/v1/keys/{id}", WRITE, update::update)
        .post("/v1/keys/{id}/rotate", WRITE, rotate::rotate)
        .post("/v1/keys/{id}/revoke", WRITE, revoke::revoke_key)
        .post("/v1/keys/{id}/versions/{version}/revoke", WRITE, revoke::revoke_version)
}

/// Shows a key, by identifier or by name.
#[utoipa::path(
    get,
    path = "/v1/keys/{id}",
    operation_id = "show_key",
    tag = "keys",
    params(KeyPath),
    responses((status = 200, body = KeyJson, description = "The key.", headers(("ETag" = String)))),
)]
pub(in crate::http) async fn show(
    State(app): State<Arc<App>>,
    Segments(id): Segments<String>,
) -> Result<impl IntoResponse, Problem> {
    Ok(tagged(find(&app, &id).await?))
}

/// The key with this identifier or name.
pub(in crate::http) async fn find(app: &App, id: &str) -> Result<KeyJson, Error> {
    let key = app.storage.main.key(&KeyReference::from(id)).await?.ok_or_else(no_such_key)?;
    in_json(app, key).await
}

/// A key with its entity tag.
fn tagged(key: KeyJson) -> impl IntoResponse {
    ([(header::ETAG, entity_tag(key.revision()))], Json(key))
}

/// The key as the trail names it.
fn subject(key: &Key) -> Subject {
    Subject { id: key.id.to_string(), name: key.name.to_string() }
}

/// What the trail keeps of a change to a key.
fn changed(principal: &Principal, action: Action, before: &Key, after: &Key, now: UnixMillis) -> NewEvent {
    let (old, new) = difference(key_state(before), key_state(after));
    NewEvent {
        time: now,
        actor: principal.actor(),
        action,
        subject: subject(after),
        before: Some(old),
        after: Some(new),
    }
}

/// A key with the times of its last use.
async fn in_json(app: &App, key: Key) -> Result<KeyJson, Error> {
    let last_used = app.storage.audit.last_used(&[key.id]).await?;
    Ok(KeyJson::new(key, &last_used, app.rotation_after, app.now()))
}

/// The same behind a change that is committed. It is told as done even if the audit log cannot be read.
async fn committed_in_json(app: &App, key: Key) -> KeyJson {
    let last_used = app.storage.audit.last_used(&[key.id]).await.unwrap_or_else(|error| {
        tracing::error!(%error, key = %key.id, "a change is told without the key's last use");
        LastUsed::new()
    });
    KeyJson::new(key, &last_used, app.rotation_after, app.now())
}

fn no_such_key() -> Error {
    Error::not_found("No key has this identifier or name. List them with GET /v1/keys.")
}
