//! Everything that is answered instead of what was asked for: `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::code::Code;
use crate::app::PublishError;
use crate::publication::NotReady;
use crate::storage::StorageError;
use crate::vault::VaultError;
use omniflow_api_types::policy::ObstacleJson;
use omniflow_domain::clock::EntropyUnavailable;

/// A refusal or failure, with a stable code for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    field: Option<String>,
    line: Option<usize>,
    retry_after: Option<u64>,
}

/// What is answered instead of what was asked for (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Body<'a> {
    /// Always `about:blank`: `code` says which problem it is.
    #[schema(value_type = String)]
    r#type: &'static str,
    /// The name of the status.
    #[schema(value_type = String)]
    title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What went wrong, for programs.
    code: Code,
    /// What went wrong and what to do, for people.
    #[schema(value_type = String)]
    detail: &'a str,
    /// What is to blame: a JSON pointer into the body, or the name of a query parameter or header.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    field: Option<&'a str>,
    /// The line of the body, from 1, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u32, minimum = 1)]
    line: Option<usize>,
}

// === impl Problem ===

impl Problem {
    /// A problem with this code, its status, and a sentence that says what to do.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), field: None, line: None, retry_after: None }
    }

    /// A value in the request's body that is understood and refused. `field` is a JSON pointer.
    pub(crate) fn invalid_field(field: impl Into<String>, detail: impl ToString) -> Self {
        let problem = Self::new(Code::InvalidField, detail.to_string());
        Self { field: Some(field.into()), ..problem }
    }

    /// A query parameter that is refused.
    pub(crate) fn invalid_query(name: &str, detail: impl ToString) -> Self {
        let problem = Self::new(Code::InvalidQuery, detail.to_string());
        Self { field: Some(name.to_owned()), ..problem }
    }

    /// A header that is refused.
    pub(crate) fn invalid_header(name: &str, detail: impl ToString) -> Self {
        let problem = Self::new(Code::InvalidHeader, detail.to_string());
        Self { field: Some(name.to_owned()), ..problem }
    }

    /// A body that is not the JSON that is expected.
    pub(crate) fn invalid_json(field: Option<String>, detail: impl Into<String>) -> Self {
        Self { field, ..Self::new(Code::InvalidJson, detail) }
    }

    /// A body that is not the TOML that is expected.
    pub(crate) fn invalid_toml(field: Option<String>, detail: impl ToString) -> Self {
        Self { field, ..Self::new(Code::InvalidToml, detail.to_string()) }
    }

    /// The same, at this line of the body, from 1.
    pub(crate) fn at_line(self, line: Option<usize>) -> Self {
        Self { line, ..self }
    }

    /// The same, with one more sentence.
    pub(crate) fn or_say(self, sentence: &str) -> Self {
        Self { detail: format!("{} {sentence}", self.detail), ..self }
    }

    /// There is no such thing.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Code::NotFound, detail)
    }

    /// No token, or none that is valid. One answer for all of them, so that nothing is learnt from it.
    pub(crate) fn unauthenticated() -> Self {
        Self::new(
            Code::Unauthenticated,
            "Send a valid token of the control plane, once, as 'Authorization: Bearer TOKEN'.",
        )
    }

    /// No valid token, as many times before from the same address. The next one is looked at after so many seconds.
    pub(crate) fn too_many_attempts(seconds: u64) -> Self {
        let problem = Self::new(
            Code::TooManyAttempts,
            "This token is not valid, like many that came from this address before. Send a valid one: it is taken at \
             once.",
        );
        Self { retry_after: Some(seconds), ..problem }
    }

    /// A valid token whose role does not reach.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(Code::Forbidden, detail)
    }

    /// A failure on this side. What it was stands in the log only.
    pub(crate) fn internal() -> Self {
        Self::new(Code::InternalError, "The control plane failed. Its log says why.")
    }
}

impl Problem {
    /// Which problem it is.
    pub(super) fn code(&self) -> Code {
        self.code
    }

    /// What went wrong and what to do.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// The line of the body, from 1, where it is known.
    pub(super) fn line(&self) -> Option<usize> {
        self.line
    }

    /// When to come again, in seconds, where that is known.
    pub(super) fn retry_after(&self) -> Option<u64> {
        let starting = self.code.status() == StatusCode::SERVICE_UNAVAILABLE;
        self.retry_after.or(starting.then_some(1))
    }

    /// What is to blame, where that is known.
    pub(super) fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

impl From<Problem> for ObstacleJson {
    fn from(problem: Problem) -> Self {
        Self { code: problem.code.as_str(), detail: problem.detail }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let retry_after = self.retry_after();
        let body = Body {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            code: self.code,
            detail: &self.detail,
            field: self.field.as_deref(),
            line: self.line,
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"omniflow\""));
        }
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        if matches!(error, StorageError::ActorGone) {
            return Self::unauthenticated();
        }
        tracing::error!(%error, "a request failed");
        Self::internal()
    }
}

impl From<EntropyUnavailable> for Problem {
    fn from(error: EntropyUnavailable) -> Self {
        tracing::error!(%error, "a request failed");
        Self::internal()
    }
}

impl From<VaultError> for Problem {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Storage(error) => error.into(),
            VaultError::Entropy(error) => error.into(),
            VaultError::KeyMissing(_) => {
                Self::new(Code::PayloadUnreadable, format!("The payload cannot be read: {error}."))
            }
            error => {
                tracing::error!(%error, "a payload cannot be sealed or opened");
                Self::internal()
            }
        }
    }
}

impl From<NotReady> for Problem {
    fn from(_: NotReady) -> Self {
        Self::new(Code::NotReady, "The control plane is starting. Try again in a second.")
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::NotReady(not_ready) => not_ready.into(),
            error => {
                tracing::error!(%error, "a change was not published");
                Self::internal()
            }
        }
    }
}
