//! Parameters of several endpoints, as the OpenAPI document tells of them. The handlers read them with
//! [`Segments`](super::extract::Segments), [`Conditional`](super::precondition::Conditional) and
//! [`IdempotentBody`](super::idempotency::IdempotentBody).

// Only their descriptions are used.
#![allow(dead_code)]

use utoipa::IntoParams;

use omniflow_api_types::schema;

/// The key in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct KeyPath {
    /// The key's identifier or name.
    id: String,
}

/// The version of a key in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct KeyVersionPath {
    /// The version's number, from 1.
    #[param(minimum = 1, maximum = 65_535)]
    version: u16,
}

/// The record in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct RecordPath {
    /// The record's `id`.
    #[param(value_type = schema::Number)]
    id: String,
}

/// The token in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct TokenPath {
    /// The token's `id`.
    #[param(value_type = schema::Identifier)]
    id: String,
}

/// The version of the policy in the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct PolicyVersionPath {
    /// The version's number, from 1.
    #[param(minimum = 1)]
    version: u64,
}

/// The state that a change is made to.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct IfMatch {
    /// The `ETag` of what was read. If it has changed since, the response is 412 and nothing is changed.
    #[param(rename = "If-Match", required = false, example = "\"3\"")]
    if_match: String,
}

/// Where a stream goes on.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct LastEventId {
    /// The `id` of the last event that was seen: the stream begins behind it. Without it, it begins now.
    #[param(rename = "Last-Event-ID", required = false, pattern = "^[0-9]{1,18}$")]
    last_event_id: String,
}

/// The name of an attempt.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct IdempotencyKey {
    /// Names this attempt. Sent again within a day with the same body, it makes nothing twice.
    #[param(
        rename = "Idempotency-Key",
        pattern = "^[!-~]+$",
        min_length = 1,
        max_length = 255,
        required = false
    )]
    idempotency_key: String,
}
