//! Why a use case was refused or failed: one enum of stable codes, and one error with a sentence for people.

use serde::Serialize;

use crate::clock::EntropyUnavailable;

/// Makes the enum and its list out of one table, so that no code can miss in the list.
macro_rules! codes {
    ($($code:ident $text:literal: $meaning:literal,)*) => {
        /// What went wrong, for programs. The codes are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub enum ErrorCode {
            $(#[doc = $meaning] #[serde(rename = $text)] $code,)*
        }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            /// The code as it is written in problems, metrics and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$code => $text,)* }
            }

            /// When it occurs, for the documentation.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$code => $meaning,)* }
            }
        }
    };
}

codes! {
    InvalidJson "invalid_json":
        "The body is not valid JSON, or not the JSON that the endpoint expects. `field` names the part, if known.",
    InvalidToml "invalid_toml":
        "The body is not valid TOML, or not the TOML that the endpoint expects. `field` and `line` name the place, if known.",
    InvalidQuery "invalid_query":
        "A query parameter is unknown, repeated or invalid.",
    InvalidHeader "invalid_header":
        "`Idempotency-Key` is empty, repeated, too long or not printable, or `Last-Event-ID` is repeated or not a whole number.",
    BodyIncomplete "body_incomplete":
        "The body ended early, paused for more than 15 seconds, or took more than 60 seconds.",
    InvalidBatch "invalid_batch":
        "The audit records cannot be read, or their sequence numbers skip too far.",
    Unauthenticated "unauthenticated":
        "The request has no valid token. The response has a `WWW-Authenticate` header.",
    Forbidden "forbidden":
        "The role of the token does not permit this request.",
    NotFound "not_found":
        "The path, key, version, token, record or chunk does not exist.",
    MethodNotAllowed "method_not_allowed":
        "The path does not support this method. The `Allow` header lists the methods that it supports.",
    NameTaken "name_taken":
        "Another key, or another token, has this name. Names of revoked keys stay taken.",
    DigestTaken "digest_taken":
        "Another key already has this digest.",
    ImportsNotTaken "imports_not_taken":
        "The request imports a key, and the policy does not enable `imported_keys`.",
    KeyRevoked "key_revoked":
        "A revoked key cannot be changed or rotated.",
    KeyExpired "key_expired":
        "A key without any accepted version cannot be rotated.",
    VersionsExhausted "versions_exhausted":
        "The key has had 65,535 versions, which is the maximum.",
    AlreadyCreated "already_created":
        "A request with this `Idempotency-Key` succeeded before, and its secret is no longer available.",
    ScopeInUse "scope_in_use":
        "Keys that are not revoked have scopes that the new policy does not define.",
    ImportsInUse "imports_in_use":
        "The new policy does not enable `imported_keys`, and there are imported versions that are not revoked.",
    KeyNotPublished "key_not_published":
        "The key is being published. Send the request again.",
    LastOwnerToken "last_owner_token":
        "This is the last valid token with the role `owner`. Without it, no further token could be created.",
    PayloadUnreadable "payload_unreadable":
        "The key that seals this payload is not in `payload_key_file`. `detail` names that key.",
    ImageGone "image_gone":
        "The image is no longer available. Poll again.",
    VersionMismatch "version_mismatch":
        "`If-Match` does not match the current `ETag`.",
    BodyTooLarge "body_too_large":
        "The body is longer than the endpoint accepts.",
    UnsupportedMediaType "unsupported_media_type":
        "The endpoint does not accept this `Content-Type`.",
    InvalidField "invalid_field":
        "A field has an invalid value. `field` names it.",
    IdempotencyKeyReused "idempotency_key_reused":
        "This `Idempotency-Key` was used with another path or body.",
    TooManyAttempts "too_many_attempts":
        "The token is invalid, and so were more than 60 tokens sent from this address in the same minute. A valid token is accepted at any time.",
    InternalError "internal_error":
        "The control plane failed. Its log contains the reason.",
    NotReady "not_ready":
        "The image of all keys is still being built. The response has `Retry-After: 1`.",
    Busy "busy":
        "Another replay is running. The response has `Retry-After: 1`.",
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
