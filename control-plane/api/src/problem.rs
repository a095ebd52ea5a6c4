//! Errors as problem documents: `application/problem+json` (RFC 9457).
//!
//! The texts are those of the use cases and of `domain/src/error.rs`, with what `wording.rs` adds for clients; the status of
//! each code is in `api-types/src/problem_code.rs`.

use std::ops::Deref;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use omniflow_api_types::problem::ProblemJson;
use omniflow_api_types::problem_code::ProblemCode;
use omniflow_api_types::request_error::RequestError;

use super::wording;

/// A [`RequestError`] as an HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(RequestError);

// === impl Problem ===

impl Problem {
    /// The status of the response.
    pub(super) fn status(&self) -> StatusCode {
        status(self.0.code())
    }
}

/// The status of every response with this code.
pub(crate) fn status(code: ProblemCode) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl Deref for Problem {
    type Target = RequestError;

    fn deref(&self) -> &RequestError {
        &self.0
    }
}

impl<E: Into<RequestError>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = ProblemJson::new(
            &self.0,
            status.canonical_reason().unwrap_or_default(),
            wording::detail(&self.0),
        );
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"omniflow\""));
        }
        if let Some(seconds) = self.0.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
