//! Tokens of the control plane: created, listed and revoked by owners.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use utoipa_axum::routes;

use super::access::{Authenticated, OWNER};
use super::endpoint::Endpoints;
use super::extract::{Segments, StrictJson, StrictQuery};
use super::idempotency::{CreatedResponse, IdempotentBody};
use super::params::{IdempotencyKey, TokenPath};
use super::problem::Problem;
use omniflow_api_types::page::Page;
use omniflow_api_types::parameters::PageParameters;
use omniflow_api_types::token::{CreateToken, CreatedToken, GatewayRequestsJson, TokenJson};
use omniflow_domain::error::Error;
use omniflow_service::tokens::{self, TokenText, Tokens};

pub(super) fn endpoints(endpoints: Endpoints) -> Endpoints {
    endpoints.add(OWNER, routes!(list)).add(OWNER, routes!(create)).add(OWNER, routes!(revoke))
}

/// List tokens, newest first.
#[utoipa::path(
    get,
    path = "/v1/tokens",
    operation_id = "list_tokens",
    tag = "tokens",
    params(PageParameters),
    responses((status = 200, body = Page<TokenJson>, description = "A page of tokens.")),
)]
pub(super) async fn list(
    State(tokens): State<Arc<Tokens>>,
    StrictQuery(query): StrictQuery<PageParameters>,
) -> Result<Json<Page<TokenJson>>, Problem> {
    let page = tokens.list(query.parse()?).await?;
    let json = |token| {
        let requests = tokens.gateway_requests(&token).map(GatewayRequestsJson::from);
        TokenJson { gateway_requests: requests, ..token.into() }
    };
    Ok(Json(Page::json(page, json)))
}

/// Create a token.
///
/// Only this response contains the secret.
#[utoipa::path(
    post,
    path = "/v1/tokens",
    operation_id = "create_token",
    tag = "tokens",
    params(IdempotencyKey),
    request_body = CreateToken,
    responses(
        (status = 201, body = CreatedToken, description = "The token and its secret."),
        (status = 409, description = "`name_taken`, `already_created`"),
    ),
)]
pub(super) async fn create(
    State(tokens): State<Arc<Tokens>>,
    Authenticated(principal): Authenticated,
    IdempotentBody { body: StrictJson(request), attempt }: IdempotentBody<StrictJson<CreateToken>>,
) -> Result<Response, Problem> {
    let request = tokens.parse(&token_text(request)).map_err(first)?;
    let created = tokens.create(&principal, request, attempt).await?;
    let tokens::CreatedToken { token, secret } = created.value;
    let location = format!("/v1/tokens/{}", token.id);
    let body = CreatedToken { token: token.into(), secret: secret.expose().to_owned() };
    Ok(CreatedResponse::new(location, None, &body)?.replayed(created.replayed).into_response())
}

/// Converts the body.
fn token_text(CreateToken { name, role, gateways, expires_at }: CreateToken) -> TokenText {
    TokenText { name, role, gateways, expires_at }
}

fn first(errors: Vec<Error>) -> Error {
    errors.into_iter().next().unwrap_or_else(Error::internal)
}

/// Revoke a token.
#[utoipa::path(
    delete,
    path = "/v1/tokens/{id}",
    operation_id = "revoke_token",
    tag = "tokens",
    params(TokenPath),
    responses(
        (status = 204, description = "The token is revoked."),
        (status = 409, description = "`last_owner_token`"),
    ),
)]
pub(super) async fn revoke(
    State(tokens): State<Arc<Tokens>>,
    Authenticated(principal): Authenticated,
    Segments(id): Segments<String>,
) -> Result<StatusCode, Problem> {
    tokens.revoke(&principal, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use axum::body::{Body, Bytes};
    use axum::http::Method;
    use http_body_util::channel::Channel;
    use serde_json::json;

    use super::*;
    use omniflow_test_server::{TestServer, request, send};

    #[tokio::test]
    async fn a_token_works_until_it_is_revoked_or_ends() {
        let server = TestServer::new().await;
        server.pass(Duration::from_millis(1));
        let body = json!({"name": "review", "role": "auditor", "expires_at": "2027-01-15T09:00:00Z"});
        let created = server.post("/v1/tokens", body).await.expect(StatusCode::CREATED);
        let secret = created["secret"].as_str().unwrap();
        assert!(secret.starts_with("omf_token_"));
        assert_eq!(created["token"]["created_by"], "owner");
        assert_eq!(created["token"]["expires_at"], "2027-01-15T09:00:00.000Z");
        let read = async || server.call(request(Method::GET, "/v1/policy", secret, None)).await.status;
        assert_eq!(read().await, StatusCode::OK);
        server.pass(Duration::from_secs(3_600));
        assert_eq!(read().await, StatusCode::UNAUTHORIZED);

        let admin = server.token("admin").await;
        let list = server.get("/v1/tokens").await.expect(StatusCode::OK);
        let names: Vec<_> = list["items"].as_array().unwrap().iter().map(|token| &token["name"]).collect();
        assert_eq!(names, ["the admin", "review", "owner"]);
        assert!(!list.to_string().contains(&admin));
        let path = format!("/v1/tokens/{}", list["items"][0]["id"].as_str().unwrap());
        assert_eq!(server.delete(&path).await.status, StatusCode::NO_CONTENT);
        let answer = server.call(request(Method::GET, "/v1/policy", &admin, None)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(server.delete(&path).await.problem().1, "not_found");
    }

    #[tokio::test]
    async fn a_token_that_is_revoked_ends_no_change_that_it_has_begun() {
        let server = TestServer::new().await;
        let stolen = server.token("owner").await;
        let body = json!({"name": "back-door", "role": "owner"}).to_string();
        let (mut sender, pieces) = Channel::<Bytes, Infallible>::new(1);
        let mut call = request(Method::POST, "/v1/tokens", &stolen, Some(json!({})));
        *call.body_mut() = Body::new(pieces);
        let waiting = tokio::spawn(send(server.router.clone(), call));
        // There is room for one batch: the second is read after the first was taken, when the token has already been
        // accepted.
        let (first, rest) = body.split_at(5);
        let (second, last) = rest.split_at(5);
        for piece in [first, second] {
            sender.send_data(Bytes::copy_from_slice(piece.as_bytes())).await.unwrap();
        }
        let path = server.path_of_token("the owner").await;
        assert_eq!(server.delete(&path).await.status, StatusCode::NO_CONTENT);
        sender.send_data(Bytes::copy_from_slice(last.as_bytes())).await.unwrap();
        drop(sender);
        assert_eq!(waiting.await.unwrap().problem().0, 401);
        let list = server.get("/v1/tokens").await.expect(StatusCode::OK);
        assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
        assert_eq!(
            server.get("/v1/admin-log?action=token.created").await.json()["items"].as_array().unwrap().len(),
            1
        );
    }

    #[tokio::test]
    async fn a_token_can_revoke_itself() {
        let server = TestServer::new().await;
        let own = server.token("owner").await;
        let path = server.path_of_token("the owner").await;
        let answer = server.call(request(Method::DELETE, &path, &own, None)).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
        let answer = server.call(request(Method::GET, "/v1/tokens", &own, None)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }

    #[tokio::test]
    async fn an_owner_always_remains() {
        let server = TestServer::new().await;
        let list = server.get("/v1/tokens").await.expect(StatusCode::OK);
        let first = format!("/v1/tokens/{}", list["items"][0]["id"].as_str().unwrap());
        assert_eq!(server.delete(&first).await.problem().1, "last_owner_token");
        let body = json!({"name": "second", "role": "owner", "expires_at": "2027-01-15T09:00:00Z"});
        let second = server.post("/v1/tokens", body).await.expect(StatusCode::CREATED);
        assert_eq!(server.delete(&first).await.problem().1, "last_owner_token", "the second ends in an hour");
        server.pass(Duration::from_secs(3_600));
        assert_eq!(server.delete(&first).await.problem().1, "last_owner_token", "the second has ended");
        let second = format!("/v1/tokens/{}", second["token"]["id"].as_str().unwrap());
        assert_eq!(server.delete(&second).await.status, StatusCode::NO_CONTENT);
        server
            .post("/v1/tokens", json!({"name": "third", "role": "owner"}))
            .await
            .expect(StatusCode::CREATED);
        assert_eq!(server.delete(&first).await.status, StatusCode::NO_CONTENT);
    }

    #[tokio::test]
    async fn owner_tokens_that_all_expire_can_be_revoked_down_to_the_last() {
        let server = TestServer::new().await;
        let permanent = server.path_of_token("owner").await;
        let mut owner = String::new();
        for (name, end) in [("short", "2027-01-25T08:00:00Z"), ("long", "2027-03-15T08:00:00Z")] {
            let body = json!({"name": name, "role": "owner", "expires_at": end});
            let created = server.post("/v1/tokens", body).await.expect(StatusCode::CREATED);
            owner = created["secret"].as_str().unwrap().to_owned();
        }
        let (short, long) = (server.path_of_token("short").await, server.path_of_token("long").await);
        let delete = async |path: &str| server.call(request(Method::DELETE, path, &owner, None)).await;
        assert_eq!(delete(&permanent).await.status, StatusCode::NO_CONTENT, "another is valid for 30 days");
        assert_eq!(delete(&long).await.problem().1, "last_owner_token", "the other is valid for 10 days");
        assert_eq!(delete(&short).await.status, StatusCode::NO_CONTENT, "the other is valid for longer");
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        let server = TestServer::new().await;
        for (body, expected) in [
            (json!({"name": "owner", "role": "admin"}), (409, "name_taken", "")),
            (json!({"name": " x", "role": "admin"}), (422, "invalid_field", "/name")),
            (json!({"name": "x", "role": "root"}), (422, "invalid_field", "/role")),
            (json!({"name": "x"}), (400, "invalid_json", "")),
            (json!({"name": "x", "role": "admin", "digest": "00"}), (400, "invalid_json", "/digest")),
            (
                json!({"name": "x", "role": "admin", "expires_at": "2027-01-15T08:00:00Z"}),
                (422, "invalid_field", "/expires_at"),
            ),
        ] {
            let (status, code, field) = server.post("/v1/tokens", body.clone()).await.problem();
            assert_eq!((status, code.as_str(), field.as_str()), expected, "{body}");
        }
    }
}
