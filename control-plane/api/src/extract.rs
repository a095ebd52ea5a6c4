//! Extractors: strict JSON, strict query strings, and errors that name the field.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::problem::Problem;
use omniflow_api_types::problem_code::HttpErrorCode;
use omniflow_api_types::request_error::{HttpError, RequestError};
use omniflow_domain::error::Error;
pub(super) use omniflow_service::json::parse;

/// Maximum time for receiving a request body. The largest, a batch of 1 MiB, needs at least 140 kbit/s.
const BODY_TIME: Duration = Duration::from_secs(60);

/// A request body in JSON. Its type rejects unknown fields.
pub(super) struct StrictJson<T>(pub(super) T);

/// A request body like [`StrictJson`], or an empty body for the default value.
pub(super) struct OptionalJson<T>(pub(super) T);

/// The query string. Unknown and repeated parameters are rejected.
pub(super) struct StrictQuery<T>(pub(super) T);

/// The variable segments of the path.
pub(super) struct Segments<T>(pub(super) T);

/// The bytes of a request's body, within the endpoint's limit.
pub(super) struct Body(pub(super) Bytes);

/// A value that is parsed from a body and its headers.
pub(super) trait FromBody: Sized {
    /// Parses the value.
    fn from_body(headers: &HeaderMap, bytes: &[u8]) -> Result<Self, RequestError>;
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        match whole(Bytes::from_request(request, state)).await? {
            Ok(bytes) => Ok(Self(bytes)),
            Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(HttpError::new(
                HttpErrorCode::BodyTooLarge,
                "The body exceeds the maximum size for this endpoint.",
            )
            .into()),
            Err(_) => Err(incomplete().into()),
        }
    }
}

/// Reads a body within the time limit. Without it, a client that sends single bytes could take days.
pub(super) async fn whole<T>(reading: impl Future<Output = T>) -> Result<T, HttpError> {
    timeout(BODY_TIME, reading).await.map_err(|_| incomplete())
}

fn incomplete() -> HttpError {
    HttpError::new(
        HttpErrorCode::BodyIncomplete,
        "The body ended early or took too long. Send the request again.",
    )
}

impl<T: DeserializeOwned> FromBody for StrictJson<T> {
    fn from_body(headers: &HeaderMap, bytes: &[u8]) -> Result<Self, RequestError> {
        check_media_type(headers, "application/json")?;
        Ok(Self(parse(bytes)?))
    }
}

impl<T: DeserializeOwned + Default> FromBody for OptionalJson<T> {
    fn from_body(headers: &HeaderMap, bytes: &[u8]) -> Result<Self, RequestError> {
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        check_media_type(headers, "application/json")?;
        Ok(Self(parse(bytes)?))
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for StrictJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        let headers = request.headers().clone();
        // This check precedes reading the body, because a body of another media type may be long.
        check_media_type(&headers, "application/json")?;
        let Body(bytes) = Body::from_request(request, state).await?;
        Self::from_body(&headers, &bytes).map_err(Into::into)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for StrictQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        read_query(parts.uri.query().unwrap_or_default()).map(Self).map_err(Into::into)
    }
}

fn read_query<T: DeserializeOwned>(text: &str) -> Result<T, HttpError> {
    serde_urlencoded::from_str(text).map_err(|error| {
        HttpError::new(HttpErrorCode::InvalidQuery, format!("Invalid query string: {error}."))
    })
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let Path(segments) = Path::<T>::from_request_parts(parts, state)
            .await
            .map_err(|_| Error::not_found("There is no resource at this path. Check the ID in the path."))?;
        Ok(Self(segments))
    }
}

/// The media type of a body without its parameters; empty if there is none.
pub(super) fn media_type(headers: &HeaderMap) -> &str {
    let stated = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    stated.split(';').next().unwrap_or_default().trim()
}

/// Rejects a body of another media type, so that an HTML form on another site cannot send an API request.
pub(super) fn check_media_type(headers: &HeaderMap, wanted: &str) -> Result<(), HttpError> {
    if media_type(headers).eq_ignore_ascii_case(wanted) {
        Ok(())
    } else {
        Err(HttpError::new(
            HttpErrorCode::UnsupportedMediaType,
            format!("Send the body as 'Content-Type: {wanted}'."),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::http::StatusCode;
    use http_body_util::channel::Channel;
    use serde_json::json;
    use tokio::time::{Instant, sleep};

    use super::*;
    use omniflow_test_server::TestServer;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_not_waited_for() {
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
        let dripping = tokio::spawn(async move {
            while sender.send_data(Bytes::from_static(b" ")).await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let start = Instant::now();
        let request = Request::new(axum::body::Body::new(body));
        let problem = Body::from_request(request, &()).await.err().unwrap();
        assert!((BODY_TIME..BODY_TIME * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
        assert_eq!(problem, incomplete().into());
        dripping.await.unwrap();
    }

    #[tokio::test]
    async fn a_list_is_no_object() {
        let server = TestServer::new().await;
        let list = json!(["ci", "live", ["contacts:read"]]);
        assert_eq!(
            server.post("/v1/keys", list).await.problem(),
            (400, "invalid_json".into(), String::new())
        );
        server.key("ci").await;
        assert_eq!(server.patch("/v1/keys/ci", json!([null, null])).await.problem().0, 400);
        assert_eq!(server.patch("/v1/keys/ci", json!({})).await.status, StatusCode::OK);
    }
}
