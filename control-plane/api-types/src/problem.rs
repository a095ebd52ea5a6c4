//! Problem documents (RFC 9457).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::request_error::RequestError;
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

// === impl ProblemJson ===

impl ProblemJson {
    /// Builds the document of an error. `title` is the name of the status, `detail` the explanation for the client.
    pub fn new(error: &RequestError, title: &str, detail: String) -> Self {
        Self {
            r#type: "about:blank".to_owned(),
            title: title.to_owned(),
            status: error.code().status(),
            code: error.code().as_str().to_owned(),
            detail,
            field: error.field().map(str::to_owned),
            line: error.line(),
        }
    }
}
