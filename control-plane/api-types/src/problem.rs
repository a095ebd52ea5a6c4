//! Problem documents (RFC 9457), and the HTTP status of each error code.

use omniflow_domain::error::{Error, ErrorCode, Facts};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;

/// An error (RFC 9457).
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemJson {
    /// Always `about:blank`. `code` identifies the problem.
    pub r#type: String,
    /// Name of the HTTP status.
    pub title: String,
    /// HTTP status of the response.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// Stable, machine-readable error code.
    #[schema(value_type = schema::Code)]
    pub code: String,
    /// Human-readable description of the error and how to resolve it.
    pub detail: String,
    /// Location of the error: a JSON pointer into the body, or the name of a query parameter or header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String)]
    pub field: Option<String>,
    /// Line number in the body, starting at 1, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u32, minimum = 1)]
    pub line: Option<usize>,
}

/// Returns the HTTP status of every problem with this code, in the API and the console. Part of the API's contract.
pub const fn status(code: ErrorCode) -> u16 {
    match code {
        ErrorCode::InvalidJson => 400,
        ErrorCode::InvalidToml => 400,
        ErrorCode::InvalidQuery => 400,
        ErrorCode::InvalidHeader => 400,
        ErrorCode::BodyIncomplete => 400,
        ErrorCode::InvalidBatch => 400,
        ErrorCode::Unauthenticated => 401,
        ErrorCode::Forbidden => 403,
        ErrorCode::GatewayNotPermitted => 403,
        ErrorCode::GatewayOfOtherToken => 403,
        ErrorCode::NotFound => 404,
        ErrorCode::MethodNotAllowed => 405,
        ErrorCode::NameTaken => 409,
        ErrorCode::DigestTaken => 409,
        ErrorCode::ImportsDisabled => 409,
        ErrorCode::KeyRevoked => 409,
        ErrorCode::KeyExpired => 409,
        ErrorCode::VersionsExhausted => 409,
        ErrorCode::AlreadyCreated => 409,
        ErrorCode::ScopeInUse => 409,
        ErrorCode::ImportsInUse => 409,
        ErrorCode::KeyNotPublished => 409,
        ErrorCode::LastOwnerToken => 409,
        ErrorCode::PayloadUnreadable => 409,
        ErrorCode::ImageGone => 410,
        ErrorCode::VersionMismatch => 412,
        ErrorCode::BodyTooLarge => 413,
        ErrorCode::UnsupportedMediaType => 415,
        ErrorCode::InvalidField => 422,
        ErrorCode::IdempotencyKeyReused => 422,
        ErrorCode::TooManyAttempts => 429,
        ErrorCode::TooManyGateways => 429,
        ErrorCode::InternalError => 500,
        ErrorCode::NotReady => 503,
        ErrorCode::Busy => 503,
    }
}

/// When the request can succeed, in seconds, where that is known: the value of the header `Retry-After`.
pub fn retry_after(error: &Error) -> Option<u64> {
    match (error.facts(), error.code()) {
        (Some(Facts::RetryIn(time)), _) => {
            Some(time.as_nanos().div_ceil(1_000_000_000).try_into().unwrap_or(u64::MAX))
        }
        (_, ErrorCode::NotReady | ErrorCode::Busy) => Some(1),
        _ => None,
    }
}

// === impl ProblemJson ===

impl ProblemJson {
    /// Builds the document of an error. `title` is the name of the status, `detail` the explanation for the client.
    pub fn new(error: &Error, title: &str, detail: String) -> Self {
        Self {
            r#type: "about:blank".to_owned(),
            title: title.to_owned(),
            status: status(error.code()),
            code: error.code().as_str().to_owned(),
            detail,
            field: error.field().map(str::to_owned),
            line: error.line(),
        }
    }
}
