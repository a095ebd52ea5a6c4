//! Keys: created, listed, updated, rotated and revoked.

pub(crate) mod create;
pub(crate) mod list;
pub(crate) mod revoke;
pub(crate) mod rotate;
pub(crate) mod update;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use utoipa_axum::routes;

use super::access::{READ, WRITE};
use super::endpoint::Endpoints;
use super::extract::Segments;
use super::idempotency::CreatedResponse;
use super::params::KeyPath;
use super::precondition::tagged;
use super::problem::Problem;
use omniflow_api_types::key::{CreatedKey, KeyJson};
use omniflow_domain::error::Error;
use omniflow_domain::key_details::KeyDetails;
use omniflow_service::idempotency::Idempotent;
use omniflow_service::keys::{Issued, Keys};

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints
        .add_query(READ, routes!(list::list))
        .add(WRITE, routes!(create::create))
        .add(READ, routes!(show))
        .add(WRITE, routes!(update::update))
        .add(WRITE, routes!(rotate::rotate))
        .add(WRITE, routes!(revoke::revoke_key))
        .add(WRITE, routes!(revoke::revoke_version))
}

/// Show a key.
#[utoipa::path(
    get,
    path = "/v1/keys/{id}",
    operation_id = "show_key",
    tag = "keys",
    params(KeyPath),
    responses((status = 200, body = KeyJson, description = "The key.", headers(("ETag" = String)))),
)]
pub(crate) async fn show(
    State(keys): State<Arc<Keys>>,
    Segments(id): Segments<String>,
) -> Result<impl IntoResponse, Problem> {
    Ok(tagged_key(keys.show(&id).await?))
}

/// A key with its entity tag.
fn tagged_key(details: KeyDetails) -> impl IntoResponse {
    tagged(details.key.revision, KeyJson::from(details))
}

/// The response to a request that created a key or a version.
fn created(issued: Idempotent<Issued>) -> Result<Response, Error> {
    let Idempotent { value: Issued { key, secret, enforcement }, replayed } = issued;
    let (location, revision) = (format!("/v1/keys/{}", key.key.id), key.key.revision);
    let secret = secret.map(|secret| secret.expose().to_owned());
    let body = CreatedKey { key: key.into(), secret, enforcement: enforcement.map(Into::into) };
    Ok(CreatedResponse::new(location, Some(revision), &body)?.replayed(replayed).into_response())
}
