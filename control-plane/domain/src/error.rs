//! Why a use case was refused or failed: a stable code, a sentence in terms of the product, and the facts that `api`
//! and `console` need to adapt the wording. Independent of HTTP.

use std::time::Duration;

use serde::Serialize;

use crate::clock::EntropyUnavailable;
use crate::idempotency::Created;

/// Generates the enum and its list from one table, so that the list is always complete.
macro_rules! codes {
    ($($code:ident $text:literal: $doc:literal,)*) => {
        /// What went wrong, for programs. The codes are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        pub enum ErrorCode {
            $(#[doc = $doc] #[serde(rename = $text)] $code,)*
        }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$code,)*];

            /// The code, as it appears in problems, metrics and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$code => $text,)* }
            }
        }
    };
}

codes! {
    InvalidJson "invalid_json":
        "The text is not valid JSON, or does not have the expected structure.",
    InvalidToml "invalid_toml":
        "The text is not valid TOML, or does not have the expected structure.",
    InvalidBatch "invalid_batch":
        "The audit batch cannot be parsed, or its sequence numbers skip too many calls.",
    Unauthenticated "unauthenticated":
        "There is no valid token.",
    Forbidden "forbidden":
        "The token's role does not permit the operation.",
    GatewayNotPermitted "gateway_not_permitted":
        "The token is not valid for a gateway with this name.",
    GatewayOfOtherToken "gateway_of_other_token":
        "This gateway process uses another token, which is still valid and permitted for it.",
    VersionNotPublished "version_not_published":
        "The gateway reports a snapshot version that this control plane has not published.",
    NotFound "not_found":
        "There is no such key, version, token, gateway, record or chunk.",
    NameTaken "name_taken":
        "Another key, or another token, has this name. Names of revoked keys cannot be reused.",
    DigestTaken "digest_taken":
        "Another key already has this digest.",
    ImportsDisabled "imports_disabled":
        "A key was to be imported, and the policy does not enable imported keys.",
    KeyRevoked "key_revoked":
        "A revoked key cannot be changed or rotated.",
    KeyExpired "key_expired":
        "A key without any accepted version cannot be rotated.",
    VersionsExhausted "versions_exhausted":
        "The key has had 65,535 versions, which is the maximum.",
    AlreadyCreated "already_created":
        "A request with this idempotency key succeeded before, and its secret is no longer available.",
    ScopeInUse "scope_in_use":
        "Keys that are not revoked have scopes that the new policy does not define.",
    ImportsInUse "imports_in_use":
        "The new policy does not enable imported keys, and there are imported versions that are not revoked.",
    KeyNotPublished "key_not_published":
        "The key is being published.",
    LastOwnerToken "last_owner_token":
        "This is the last valid token with the role `owner`. Without it, no further token could be created.",
    PayloadUnreadable "payload_unreadable":
        "The key that seals a payload is not in the file of payload keys.",
    ImageGone "image_gone":
        "The image is no longer available.",
    VersionMismatch "version_mismatch":
        "The object to change has a different revision than expected.",
    InvalidField "invalid_field":
        "A field has an invalid value.",
    IdempotencyKeyReused "idempotency_key_reused":
        "The idempotency key was used with another request.",
    TooManyAttempts "too_many_attempts":
        "The token is invalid, and more than 60 invalid tokens were sent from this address in the same minute. A valid token is accepted at any time.",
    TooManyGateways "too_many_gateways":
        "The token has 1,000 gateway processes that may still be serving requests, or the control plane has 10,000. Remove those that have ended.",
    InternalError "internal_error":
        "The control plane failed to process the request. See its log for the reason.",
    NotReady "not_ready":
        "The control plane is starting: it is opening or migrating its databases, or building the image of all keys.",
    Busy "busy":
        "The control plane cannot process the request now: another replay is running, the token already runs the maximum number of queries, a query exceeded its time limit, or the volume of the request log is almost full.",
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
    facts: Option<Box<Facts>>,
}

/// What an error is about, for texts that depend on the interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Facts {
    /// The object does not exist.
    Missing(Missing),
    /// The object to change has a different revision than expected.
    Revision {
        /// The object to change.
        subject: String,
        /// Its revision.
        current: u64,
        /// The revisions that the change was based on.
        expected: Vec<u64>,
    },
    /// An earlier request with the same idempotency key created this, and its result is no longer available.
    Created(Created),
    /// The request can succeed after this time.
    RetryIn(Duration),
}

/// The kind of object that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// A key with this identifier or name.
    Key,
    /// A version of a key.
    KeyVersion,
    /// A token with this identifier.
    Token,
    /// A run of a gateway with this identifier.
    Gateway,
    /// A version of the policy.
    PolicyVersion,
}

// === impl Error ===

impl Error {
    /// An error with this code, and a sentence with what happened, why, and what to do.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), field: None, line: None, facts: None }
    }

    /// A field of the request that is invalid. `field` is a JSON pointer.
    pub fn invalid_field(field: impl Into<String>, detail: impl ToString) -> Self {
        Self::new(ErrorCode::InvalidField, detail.to_string()).at(field)
    }

    /// Text that is not the expected JSON.
    pub fn invalid_json(field: Option<String>, detail: impl Into<String>) -> Self {
        Self { field, ..Self::new(ErrorCode::InvalidJson, detail) }
    }

    /// Text that is not the expected TOML.
    pub fn invalid_toml(field: Option<String>, detail: impl ToString) -> Self {
        Self { field, ..Self::new(ErrorCode::InvalidToml, detail.to_string()) }
    }

    /// The same error, caused by this part of the request.
    pub fn at(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// The same error, caused by this line of the request, starting at 1.
    pub fn at_line(self, line: Option<usize>) -> Self {
        Self { line, ..self }
    }

    /// The same error, with these facts.
    pub fn about(self, facts: Facts) -> Self {
        Self { facts: Some(Box::new(facts)), ..self }
    }

    /// The object does not exist.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, detail)
    }

    /// The key, version, token or other object does not exist.
    pub fn missing(missing: Missing) -> Self {
        Self::not_found(match missing {
            Missing::Key => "No key has this identifier or name.",
            Missing::KeyVersion => "The key has no such version.",
            Missing::Token => "No token has this identifier.",
            Missing::Gateway => "No gateway has this identifier.",
            Missing::PolicyVersion => "The policy has no such version.",
        })
        .about(Facts::Missing(missing))
    }

    /// No token, or an invalid one. All cases share one error, so that it reveals nothing.
    pub fn unauthenticated() -> Self {
        Self::new(ErrorCode::Unauthenticated, "The token is missing or invalid. Use a valid token.")
    }

    /// A valid token whose role does not permit the operation.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::Forbidden, detail)
    }

    /// A failure of the control plane. Its cause is in the log only.
    pub fn internal() -> Self {
        Self::new(
            ErrorCode::InternalError,
            "The control plane failed to process the request. See its log for the reason.",
        )
    }
}

impl Error {
    /// The code of the error.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// What happened, why, and what to do, in terms independent of HTTP.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The facts, if an interface can add to the sentence.
    pub fn facts(&self) -> Option<&Facts> {
        self.facts.as_deref()
    }

    /// The line of the request that caused it, starting at 1, if known.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The part of the request that caused it, if known.
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
