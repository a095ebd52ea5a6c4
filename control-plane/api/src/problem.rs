//! Domain errors as problem documents: `application/problem+json` (RFC 9457).
//!
//! The texts are those of [`Error`], in `domain/src/error.rs` and in the use cases, with what `wording.rs` adds for
//! clients; the status of each code is in `api-types/src/problem.rs`.

use std::ops::Deref;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use omniflow_api_types::problem::{self, ProblemJson};
use omniflow_domain::error::{Error, ErrorCode};

use super::wording;

/// An [`Error`] as an HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(Error);

// === impl Problem ===

impl Problem {
    /// The status of the response.
    pub(super) fn status(&self) -> StatusCode {
        status(self.0.code())
    }
}

/// The status of every response with this code.
pub(crate) fn status(code: ErrorCode) -> StatusCode {
    StatusCode::from_u16(problem::status(code)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl Deref for Problem {
    type Target = Error;

    fn deref(&self) -> &Error {
        &self.0
    }
}

impl<E: Into<Error>> From<E> for Problem {
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
        if let Some(seconds) = problem::retry_after(&self.0) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
