//! The codes of problems: those of the use cases and those of HTTP, each with its status and its meaning. Part of the API's
//! contract.

use omniflow_domain::error::ErrorCode;

use ProblemCode::{Http, UseCase};

/// What went wrong, for programs. The codes are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemCode {
    /// The request was refused before its use case.
    Http(HttpErrorCode),
    /// The use case failed.
    UseCase(ErrorCode),
}

/// Why a request was refused before its use case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpErrorCode {
    /// A query parameter is unknown, repeated or invalid.
    InvalidQuery,
    /// A header of the request is repeated or invalid.
    InvalidHeader,
    /// The body ended early or took too long.
    BodyIncomplete,
    /// The path does not support this method.
    MethodNotAllowed,
    /// The body is longer than the endpoint accepts.
    BodyTooLarge,
    /// The endpoint does not accept this media type.
    UnsupportedMediaType,
}

/// All codes with their HTTP status and their meaning, in the order of the documentation.
const CODES: [(ProblemCode, u16, &str); 36] = [
    (
        UseCase(ErrorCode::InvalidJson),
        400,
        "The body is not valid JSON, or does not have the structure that the endpoint expects. `field` is the location, if known.",
    ),
    (
        UseCase(ErrorCode::InvalidToml),
        400,
        "The body is not valid TOML, or does not have the structure that the endpoint expects. `field` and `line` are the location, if known.",
    ),
    (Http(HttpErrorCode::InvalidQuery), 400, "A query parameter is unknown, repeated or invalid."),
    (
        Http(HttpErrorCode::InvalidHeader),
        400,
        "`Idempotency-Key` is empty, repeated, too long or not printable, or `Last-Event-ID` is repeated or not a whole number.",
    ),
    (
        Http(HttpErrorCode::BodyIncomplete),
        400,
        "The body ended early, paused for more than 15 seconds, or took more than 60 seconds.",
    ),
    (
        UseCase(ErrorCode::InvalidBatch),
        400,
        "The audit batch cannot be parsed, or its sequence numbers skip too many calls.",
    ),
    (
        UseCase(ErrorCode::Unauthenticated),
        401,
        "The request has no valid token. The response has a `WWW-Authenticate` header.",
    ),
    (UseCase(ErrorCode::Forbidden), 403, "The token's role does not permit this request."),
    (
        UseCase(ErrorCode::GatewayNotPermitted),
        403,
        "The token of this gateway request is not valid for a gateway with this name.",
    ),
    (
        UseCase(ErrorCode::GatewayOfOtherToken),
        403,
        "This gateway process uses another token, which is still valid and permitted for it.",
    ),
    (
        UseCase(ErrorCode::NotFound),
        404,
        "The path, key, version, token, gateway, record or chunk does not exist.",
    ),
    (
        Http(HttpErrorCode::MethodNotAllowed),
        405,
        "The path does not support this method. The `Allow` header lists the methods that it supports.",
    ),
    (
        UseCase(ErrorCode::VersionNotPublished),
        409,
        "The gateway reports a snapshot version that this control plane has not published.",
    ),
    (
        UseCase(ErrorCode::NameTaken),
        409,
        "Another key, or another token, has this name. Names of revoked keys cannot be reused.",
    ),
    (UseCase(ErrorCode::DigestTaken), 409, "Another key already has this digest."),
    (
        UseCase(ErrorCode::ImportsDisabled),
        409,
        "The request imports a key, and the policy does not enable `imported_keys`.",
    ),
    (UseCase(ErrorCode::KeyRevoked), 409, "A revoked key cannot be changed or rotated."),
    (UseCase(ErrorCode::KeyExpired), 409, "A key without any accepted version cannot be rotated."),
    (UseCase(ErrorCode::VersionsExhausted), 409, "The key has had 65,535 versions, which is the maximum."),
    (
        UseCase(ErrorCode::AlreadyCreated),
        409,
        "A request with this `Idempotency-Key` succeeded before, and its secret is no longer available.",
    ),
    (
        UseCase(ErrorCode::ScopeInUse),
        409,
        "Keys that are not revoked have scopes that the new policy does not define.",
    ),
    (
        UseCase(ErrorCode::ImportsInUse),
        409,
        "The new policy does not enable `imported_keys`, and there are imported versions that are not revoked.",
    ),
    (UseCase(ErrorCode::KeyNotPublished), 409, "The key is being published. Send the request again."),
    (
        UseCase(ErrorCode::LastOwnerToken),
        409,
        "This is the last valid token with the role `owner`. Without it, no further token could be created.",
    ),
    (
        UseCase(ErrorCode::PayloadUnreadable),
        409,
        "The wrapping key of this payload is not in `payload_key_file`. `detail` names that key.",
    ),
    (UseCase(ErrorCode::ImageGone), 410, "The image is no longer available. Poll again."),
    (UseCase(ErrorCode::VersionMismatch), 412, "`If-Match` does not match the current `ETag`."),
    (Http(HttpErrorCode::BodyTooLarge), 413, "The body exceeds the maximum size for the endpoint."),
    (Http(HttpErrorCode::UnsupportedMediaType), 415, "The endpoint does not accept this `Content-Type`."),
    (UseCase(ErrorCode::InvalidField), 422, "A field has an invalid value. `field` names it."),
    (
        UseCase(ErrorCode::IdempotencyKeyReused),
        422,
        "This `Idempotency-Key` was used with another path or body.",
    ),
    (
        UseCase(ErrorCode::TooManyAttempts),
        429,
        "The token is invalid, and more than 60 invalid tokens were sent from this address in the same minute. A valid token is accepted at any time.",
    ),
    (
        UseCase(ErrorCode::TooManyGateways),
        429,
        "The token has 1,000 gateway processes that may still be serving requests, or the control plane has 10,000. Remove those that have ended.",
    ),
    (
        UseCase(ErrorCode::InternalError),
        500,
        "The control plane failed to process the request. See its log for the reason.",
    ),
    (
        UseCase(ErrorCode::NotReady),
        503,
        "The control plane is starting: it is opening or migrating its databases, or building the image of all keys. The response has `Retry-After: 1`.",
    ),
    (
        UseCase(ErrorCode::Busy),
        503,
        "The control plane cannot process the request at the moment: another replay is running, the token is already running the maximum number of queries, a query exceeded its time limit, or the volume of the request log is almost full. `detail` states the cause. The response has `Retry-After: 1`.",
    ),
];

// === impl ProblemCode ===

impl ProblemCode {
    /// All codes.
    pub fn all() -> impl Iterator<Item = Self> {
        CODES.iter().map(|(code, ..)| *code)
    }

    /// The code as it is written in problems, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            UseCase(code) => code.as_str(),
            Http(code) => code.as_str(),
        }
    }

    /// The HTTP status of every problem with this code, in the API and the console.
    pub fn status(self) -> u16 {
        self.entry().map_or(500, |(_, status, _)| *status)
    }

    /// When it occurs, for the documentation.
    pub fn meaning(self) -> &'static str {
        self.entry().map_or("", |(.., meaning)| meaning)
    }

    fn entry(self) -> Option<&'static (Self, u16, &'static str)> {
        CODES.iter().find(|(code, ..)| *code == self)
    }
}

impl From<ErrorCode> for ProblemCode {
    fn from(code: ErrorCode) -> Self {
        UseCase(code)
    }
}

impl From<HttpErrorCode> for ProblemCode {
    fn from(code: HttpErrorCode) -> Self {
        Http(code)
    }
}

// === impl HttpErrorCode ===

impl HttpErrorCode {
    /// The code as it is written in problems and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidQuery => "invalid_query",
            Self::InvalidHeader => "invalid_header",
            Self::BodyIncomplete => "body_incomplete",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTooLarge => "body_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_one_status_and_one_meaning() {
        let names: BTreeSet<&str> = ProblemCode::all().map(ProblemCode::as_str).collect();
        assert_eq!(names.len(), CODES.len(), "a code is listed twice");
        for code in ErrorCode::ALL {
            assert!(UseCase(*code).entry().is_some(), "{code:?} has no status");
        }
        assert_eq!(CODES.len(), ErrorCode::ALL.len() + 6, "the codes of HTTP");
        assert!(CODES.is_sorted_by_key(|(_, status, _)| status));
    }
}
