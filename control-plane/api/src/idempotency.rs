//! `Idempotency-Key`: a create request that is sent again gets the response to the first one.
//!
//! Which requests count as repeated, and for how long, is defined by
//! [`IdempotencyCache`](omniflow_service::idempotency::IdempotencyCache).

use std::fmt;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use omniflow_policy::digest::Digest;
use serde::Serialize;
use zeroize::Zeroizing;

use super::entity_tag::entity_tag;
use super::extract::{Body, FromBody};
use super::problem::Problem;
use omniflow_api_types::problem_code::HttpErrorCode;
use omniflow_api_types::request_error::HttpError;
use omniflow_domain::error::Error;
use omniflow_domain::principal::Principal;
use omniflow_service::idempotency::IdempotentRequest;

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Marks the response of an earlier attempt.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The maximum length of the header in bytes, as in other APIs.
const MAX_LENGTH: usize = 255;
/// The usual length of a response in bytes.
const USUAL_BYTES: usize = 4 * 1024;

/// The body of a create request, and its attempt.
pub(super) struct IdempotentBody<B> {
    /// The body.
    pub(super) body: B,
    /// The attempt; `None` without an idempotency key.
    pub(super) attempt: Option<IdempotentRequest>,
}

/// The response to a create request. It contains a secret, so it does not implement `Debug`.
#[derive(Clone)]
pub(crate) struct CreatedResponse {
    /// The URL of the created object; `None` if it was created as part of something else.
    location: Option<String>,
    revision: Option<u64>,
    body: Zeroizing<String>,
    /// Whether this is the response of an earlier attempt.
    is_replayed: bool,
}

impl<S, B> FromRequest<S> for IdempotentBody<B>
where
    S: Send + Sync,
    B: FromBody,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let principal = request.extensions().get::<Principal>().cloned().ok_or_else(Error::internal)?;
        let key = key(request.headers())?;
        let headers = request.headers().clone();
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        // Without the authority, which is part of the URI over HTTP/2 only.
        let call = format!("{} {path}\n", request.method());
        let Body(bytes) = Body::from_request(request, state).await?;
        let attempt = key.map(|key| IdempotentRequest {
            token: principal.id,
            key,
            request: Digest::of(&[call.as_bytes(), &bytes].concat()),
        });
        Ok(Self { body: B::from_body(&headers, &bytes)?, attempt })
    }
}

fn key(headers: &HeaderMap) -> Result<Option<Digest>, HttpError> {
    let mut values = headers.get_all(HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(HEADER) { Err(invalid_header()) } else { Ok(None) };
    };
    let fits = (1..=MAX_LENGTH).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    if fits { Ok(Some(Digest::of(value.as_bytes()))) } else { Err(invalid_header()) }
}

fn invalid_header() -> HttpError {
    let detail = format!(
        "Idempotency-Key must be 1 to {MAX_LENGTH} printable ASCII characters without spaces, sent only once."
    );
    HttpError::new(HttpErrorCode::InvalidHeader, detail).at("Idempotency-Key")
}

fn serialised(body: &impl Serialize) -> Result<Zeroizing<String>, Error> {
    let failed = |error: &dyn fmt::Display| {
        tracing::error!(%error, "response serialization failed");
        Error::internal()
    };
    // Large enough for most responses: a buffer that grows leaves copies of a secret in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(USUAL_BYTES));
    serde_json::to_writer(&mut *text, body).map_err(|error| failed(&error))?;
    let text = String::from_utf8(std::mem::take(&mut *text)).map_err(|error| failed(&error.utf8_error()))?;
    Ok(Zeroizing::new(text))
}

// === impl CreatedResponse ===

impl CreatedResponse {
    /// The response for an object created at `location`, with its revision if it has one.
    pub(super) fn new(location: String, revision: Option<u64>, body: &impl Serialize) -> Result<Self, Error> {
        Ok(Self { location: Some(location), revision, body: serialised(body)?, is_replayed: false })
    }

    /// The response for a request that created objects as part of another change.
    pub(super) fn on_the_side(body: &impl Serialize) -> Result<Self, Error> {
        Ok(Self { location: None, revision: None, body: serialised(body)?, is_replayed: false })
    }

    /// Marks the response as that of an earlier attempt if `is_replayed`.
    pub(super) fn replayed(self, is_replayed: bool) -> Self {
        Self { is_replayed, ..self }
    }
}

impl IntoResponse for CreatedResponse {
    fn into_response(self) -> Response {
        // Wiped after it is sent.
        let body = Bytes::from_owner(self.body);
        let mut answer = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
        let headers = answer.headers_mut();
        if self.is_replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        let Some(location) = &self.location else { return answer };
        let Ok(location) = HeaderValue::try_from(location) else {
            return Problem::from(Error::internal()).into_response();
        };
        headers.insert(header::LOCATION, location);
        if let Some(tag) = self.revision.and_then(|revision| HeaderValue::try_from(entity_tag(revision)).ok())
        {
            headers.insert(header::ETAG, tag);
        }
        *answer.status_mut() = StatusCode::CREATED;
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::{Method, Request};
    use serde_json::{Value, json};

    use super::*;
    use omniflow_test_server::{Answer, TestServer, request};

    async fn create(server: &TestServer, path: &str, key: &str, body: Value) -> Answer {
        create_as(server, &server.owner, path, key, body).await
    }

    async fn create_as(server: &TestServer, token: &str, path: &str, key: &str, body: Value) -> Answer {
        let mut request = request(Method::POST, path, token, Some(body));
        request.headers_mut().insert(HEADER, key.parse().unwrap());
        server.call(request).await
    }

    fn ci(name: &str) -> Value {
        json!({"name": name, "environment": "live", "scopes": ["contacts:read"]})
    }

    #[tokio::test]
    async fn a_repeated_create_answers_alike_and_makes_nothing() {
        let server = TestServer::new().await;
        server.key("rotated").await;
        for (path, body, next) in [
            ("/v1/keys", ci("one"), ci("another")),
            ("/v1/keys/rotated/rotate", json!({}), json!({"overlap": "1h"})),
            (
                "/v1/tokens",
                json!({"name": "edge", "role": "gateway"}),
                json!({"name": "next", "role": "gateway"}),
            ),
        ] {
            let first = create(&server, path, "0190-abc", body.clone()).await;
            assert!(first.headers.get(&REPLAYED).is_none());
            let version = server.app.publisher.publication.version().unwrap();
            server.pass(Duration::from_secs(599));
            let second = create(&server, path, "0190-abc", body.clone()).await;
            assert_eq!(second.headers[&REPLAYED], "true", "{path}");
            for header in [header::LOCATION, header::CONTENT_TYPE] {
                assert_eq!(first.headers[&header], second.headers[&header], "{path}");
            }
            assert_eq!(first.headers.get(header::ETAG), second.headers.get(header::ETAG));
            assert_eq!(first.expect(StatusCode::CREATED), second.expect(StatusCode::CREATED), "{path}");
            assert_eq!(server.app.publisher.publication.version().unwrap(), version, "{path}");

            server.pass(Duration::from_secs(2));
            let late = create(&server, path, "0190-abc", body.clone()).await;
            assert_eq!(late.problem(), (409, "already_created".to_owned(), String::new()), "{path}");
            server.pass(Duration::from_secs(24 * 3_600));
            let other = create(&server, path, "0190-abc", next).await;
            assert_eq!(other.status, StatusCode::CREATED, "{path}: forgotten after a day: {other:?}");
            server.pass(Duration::from_secs(24 * 3_600 + 1));
        }
    }

    #[tokio::test]
    async fn a_restart_keeps_what_was_done_and_not_its_secret() {
        let server = TestServer::new().await;
        create(&server, "/v1/keys", "a", ci("one")).await.expect(StatusCode::CREATED);
        let server = server.restart().await;
        let again = create(&server, "/v1/keys", "a", ci("one")).await;
        assert_eq!(again.problem().1, "already_created");
        assert!(again.json()["detail"].as_str().unwrap().contains("/v1/keys/"), "{again:?}");
        let list = server.get("/v1/keys").await.expect(StatusCode::OK);
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_key_stands_for_one_call_of_one_client() {
        let server = TestServer::new().await;
        create(&server, "/v1/keys", "a", ci("one")).await.expect(StatusCode::CREATED);
        let reused = create(&server, "/v1/keys", "a", ci("two")).await;
        assert_eq!(reused.problem(), (422, "idempotency_key_reused".to_owned(), String::new()));
        let admin = server.token("admin").await;
        create_as(&server, &admin, "/v1/keys", "a", ci("three")).await.expect(StatusCode::CREATED);
        assert_eq!(create(&server, "/v1/keys", "b", ci("one")).await.problem().1, "name_taken");
        let refused = create(&server, "/v1/keys", "c", ci("a/b")).await;
        assert_eq!(refused.problem().1, "invalid_field");
        create(&server, "/v1/keys", "c", ci("four")).await.expect(StatusCode::CREATED);
    }

    #[tokio::test]
    async fn the_form_of_the_target_makes_no_difference() {
        let server = TestServer::new().await;
        let first = create(&server, "/v1/keys", "a", ci("one")).await.expect(StatusCode::CREATED);
        // As HTTP/2 has it.
        let again = create(&server, "https://keys.example/v1/keys", "a", ci("one")).await;
        assert_eq!(again.expect(StatusCode::CREATED), first);
    }

    #[tokio::test]
    async fn many_at_once_make_one_key() {
        let server = TestServer::new().await;
        let create = || create(&server, "/v1/keys", "a", ci("one"));
        let answers = tokio::join!(create(), create(), create(), create());
        let secrets = [answers.0, answers.1, answers.2, answers.3]
            .map(|answer| answer.expect(StatusCode::CREATED)["secret"].as_str().unwrap().to_owned());
        assert!(secrets.iter().all(|secret| *secret == secrets[0]));
    }

    #[tokio::test]
    async fn an_invalid_idempotency_key_is_rejected() {
        let server = TestServer::new().await;
        let long = "x".repeat(MAX_LENGTH + 1);
        for wrong in ["", "a b", &long] {
            let answer = create(&server, "/v1/keys", wrong, ci("one")).await;
            assert_eq!(answer.problem(), (400, "invalid_header".to_owned(), "Idempotency-Key".to_owned()));
        }
        let twice = Request::post("/v1/keys")
            .header(header::AUTHORIZATION, format!("Bearer {}", server.owner))
            .header(header::CONTENT_TYPE, "application/json")
            .header(HEADER, "a")
            .header(HEADER, "a")
            .body(axum::body::Body::from(ci("one").to_string()))
            .unwrap();
        assert_eq!(server.call(twice).await.problem().1, "invalid_header");
    }
}
