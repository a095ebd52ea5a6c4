//! Create requests with an idempotency key, remembered so that a retry does not repeat them.

use async_trait::async_trait;
use omniflow_domain::idempotency::Created;
use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use crate::error::Result;

/// A create request with an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdempotentRequest {
    /// The principal's token. Idempotency keys of different tokens are independent.
    pub token: Uuid,
    /// The SHA-256 of the idempotency key.
    pub key: Digest,
    /// The SHA-256 of the request.
    pub request: Digest,
}

/// The outcome of an earlier attempt with the same idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRequest {
    /// The SHA-256 of its request.
    pub request: Digest,
    /// What it created.
    pub created: Created,
}

/// Writes idempotency keys.
#[async_trait]
pub trait IdempotencyWrites {
    /// The outcome of an attempt with the same token and key since `since`.
    async fn recorded_request(
        &mut self,
        attempt: &IdempotentRequest,
        since: UnixMillis,
    ) -> Result<Option<RecordedRequest>>;

    /// Records an attempt at `now`, and removes attempts before `since`.
    async fn record_request(
        &mut self,
        attempt: &IdempotentRequest,
        created: &Created,
        now: UnixMillis,
        since: UnixMillis,
    ) -> Result<()>;
}
