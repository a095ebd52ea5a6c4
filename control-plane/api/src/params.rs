//! OpenAPI descriptions of parameters that several endpoints share. The handlers read the parameters with
//! [`Segments`](super::extract::Segments), [`Conditional`](super::precondition::Conditional) and
//! [`IdempotentBody`](super::idempotency::IdempotentBody).

// These types only describe parameters.
#![allow(dead_code)]

use utoipa::IntoParams;

use omniflow_api_types::schema;

/// The key in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct KeyPath {
    /// Identifier or name of the key.
    id: String,
}

/// The version of a key in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct KeyVersionPath {
    /// Version number, starting at 1.
    #[param(minimum = 1, maximum = 65_535)]
    version: u16,
}

/// The record in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct RecordPath {
    /// `id` of the record.
    #[param(value_type = schema::Number)]
    id: String,
}

/// The token in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct TokenPath {
    /// `id` of the token.
    #[param(value_type = schema::Identifier)]
    id: String,
}

/// The gateway in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct GatewayPath {
    /// `id` of the gateway, with `/` encoded as `%2F`.
    #[param(example = "edge/9f3c2a7d10b4e685")]
    id: String,
}

/// The version of the policy in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct PolicyVersionPath {
    /// Version number, starting at 1.
    #[param(minimum = 1)]
    version: u64,
}

/// The revision that a change requires.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct IfMatch {
    /// `ETag` of the revision that the change is based on. If the object has changed since, the response is 412 and nothing
    /// is changed.
    #[param(rename = "If-Match", required = false, example = "\"3\"")]
    if_match: String,
}

/// The event after which a stream continues.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct LastEventId {
    /// `id` of the last event received. The stream begins after that event, or with the next new call if the header is
    /// omitted.
    #[param(rename = "Last-Event-ID", required = false, pattern = "^[0-9]{1,18}$")]
    last_event_id: String,
}

/// The idempotency key of a request.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct IdempotencyKey {
    /// Idempotency key. For 10 minutes, a retry with the same key and body returns the original response. After that,
    /// for the rest of 24 hours, it returns 409 `already_created`.
    #[param(
        rename = "Idempotency-Key",
        pattern = "^[!-~]+$",
        min_length = 1,
        max_length = 255,
        required = false
    )]
    idempotency_key: String,
}
