//! Why a use case was refused or failed: one enum of stable codes, and one error with a sentence for people.

use serde::Serialize;

use crate::clock::EntropyUnavailable;

/// Makes the enum and its list out of one table, so that no code can miss in the list.
macro_rules! codes {
    ($($code:ident $text:literal,)*) => {
        /// What went wrong, for programs. The codes are stable; `docs/API.md` describes each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub enum ErrorCode {
            $(#[doc = concat!("`", $text, "`")] #[serde(rename = $text)] $code,)*
        }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            /// The code as it is written in problems, metrics and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$code => $text,)* }
            }
        }
    };
}

codes! {
    InvalidJson "invalid_json",
    InvalidToml "invalid_toml",
    InvalidQuery "invalid_query",
    InvalidHeader "invalid_header",
    BodyIncomplete "body_incomplete",
    InvalidBatch "invalid_batch",
    Unauthenticated "unauthenticated",
    Forbidden "forbidden",
    NotFound "not_found",
    MethodNotAllowed "method_not_allowed",
    NameTaken "name_taken",
    DigestTaken "digest_taken",
    ImportsNotTaken "imports_not_taken",
    KeyRevoked "key_revoked",
    KeyExpired "key_expired",
    VersionsExhausted "versions_exhausted",
    AlreadyCreated "already_created",
    ScopeInUse "scope_in_use",
    ImportsInUse "imports_in_use",
    KeyNotPublished "key_not_published",
    LastOwnerToken "last_owner_token",
    PayloadUnreadable "payload_unreadable",
    ImageGone "image_gone",
    VersionMismatch "version_mismatch",
    BodyTooLarge "body_too_large",
    UnsupportedMediaType "unsupported_media_type",
    InvalidField "invalid_field",
    IdempotencyKeyReused "idempotency_key_reused",
    TooManyAttempts "too_many_attempts",
    InternalError "internal_error",
    NotReady "not_ready",
    Busy "busy",
}

/// A refusal or failure of a use case: a stable code for programs and a sentence for people. Only `api` and `console` turn
/// it into HTTP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Error {
    code: ErrorCode,
    detail: String,
    field: Option<String>,
    line: Option<usize>,
    retry_after: Option<u64>,
}

// === impl Error ===

impl Error {
    /// A problem with this code, its status, and a sentence that says what to do.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), field: None, line: None, retry_after: None }
    }

    /// A value in the request's body that is understood and refused. `field` is a JSON pointer.
    pub fn invalid_field(field: impl Into<String>, detail: impl ToString) -> Self {
        let error = Self::new(ErrorCode::InvalidField, detail.to_string());
        Self { field: Some(field.into()), ..error }
    }

    /// A query parameter that is refused.
    pub fn invalid_query(name: &str, detail: impl ToString) -> Self {
        let error = Self::new(ErrorCode::InvalidQuery, detail.to_string());
        Self { field: Some(name.to_owned()), ..error }
    }

    /// A header that is refused.
    pub fn invalid_header(name: &str, detail: impl ToString) -> Self {
        let error = Self::new(ErrorCode::InvalidHeader, detail.to_string());
        Self { field: Some(name.to_owned()), ..error }
    }

    /// A body that is not the JSON that is expected.
    pub fn invalid_json(field: Option<String>, detail: impl Into<String>) -> Self {
        Self { field, ..Self::new(ErrorCode::InvalidJson, detail) }
    }

    /// A body that is not the TOML that is expected.
    pub fn invalid_toml(field: Option<String>, detail: impl ToString) -> Self {
        Self { field, ..Self::new(ErrorCode::InvalidToml, detail.to_string()) }
    }

    /// The same, at this line of the body, from 1.
    pub fn at_line(self, line: Option<usize>) -> Self {
        Self { line, ..self }
    }

    /// The same, with one more sentence.
    pub fn or_say(self, sentence: &str) -> Self {
        Self { detail: format!("{} {sentence}", self.detail), ..self }
    }

    /// There is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, detail)
    }

    /// No token, or none that is valid. One answer for all of them, so that nothing is learnt from it.
    pub fn unauthenticated() -> Self {
        Self::new(
            ErrorCode::Unauthenticated,
            "Send a valid token of the control plane, once, as 'Authorization: Bearer TOKEN'.",
        )
    }

    /// No valid token, as many times before from the same address. The next one is looked at after so many seconds.
    pub fn too_many_attempts(seconds: u64) -> Self {
        let error = Self::new(
            ErrorCode::TooManyAttempts,
            "This token is not valid, like many that came from this address before. Send a valid one: it is taken at \
             once.",
        );
        Self { retry_after: Some(seconds), ..error }
    }

    /// A valid token whose role does not reach.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::Forbidden, detail)
    }

    /// A failure on this side. What it was stands in the log only.
    pub fn internal() -> Self {
        Self::new(ErrorCode::InternalError, "The control plane failed. Its log says why.")
    }
}

impl Error {
    /// Which problem it is.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// What went wrong and what to do.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The line of the body, from 1, where it is known.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// When to come again, in seconds, where that is known.
    pub fn retry_after(&self) -> Option<u64> {
        let starting = matches!(self.code, ErrorCode::NotReady | ErrorCode::Busy);
        self.retry_after.or(starting.then_some(1))
    }

    /// What is to blame, where that is known.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

impl From<EntropyUnavailable> for Error {
    fn from(error: EntropyUnavailable) -> Self {
        tracing::error!(%error, "request failed");
        Self::internal()
    }
}
