//! Keys: issued, listed, changed, rotated and revoked.

mod create;
mod list;
mod revoke;
mod rotate;
mod update;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::access::{Endpoints, READ, WRITE};
use super::extract::Segments;
use super::problem::Problem;
use crate::app::App;
use crate::json::key::KeyJson;
use crate::model::key::Key;
use crate::storage::KeyReference;

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

/// `GET /v1/keys/{id}`, by identifier or by name.
async fn show(State(app): State<Arc<App>>, Segments(id): Segments<String>) -> Result<Json<KeyJson>, Problem> {
    let key = app.storage.main.key(&KeyReference::from(id.as_str())).await?.ok_or_else(no_such_key)?;
    Ok(Json(in_json(&app, key).await?))
}

/// A key with the times of its last use.
async fn in_json(app: &App, key: Key) -> Result<KeyJson, Problem> {
    let last_used = app.storage.audit.last_used(&[key.id]).await?;
    Ok(KeyJson::new(key, &last_used, app.rotation_after, app.now()))
}

fn no_such_key() -> Problem {
    Problem::not_found("No key has this identifier or name. List them with GET /v1/keys.")
}
