//! The answer to a caller that asks about its own key.

use omniflow_policy::authorize::CredentialView;
use omniflow_policy::key::Environment;
use omniflow_policy::limit::{LimitReport, RateLimit};
use omniflow_policy::time::UnixMillis;
use serde::Serialize;
use uuid::Uuid;

use crate::abi::{self, LogLevel};
use crate::headers::serialized;
use crate::host;
use crate::respond::NO_GRPC;

/// The answer's body.
#[derive(Debug, Serialize)]
pub(crate) struct KeyInfo {
    key_id: Uuid,
    name: String,
    version: u16,
    environment: Environment,
    scopes: Vec<String>,
    rate_limit: RateLimit,
    remaining: Remaining,
    /// RFC 3339, UTC; null for a key that does not expire.
    expires_at: Option<String>,
}

/// What is left of the tightest limit, as in the X-RateLimit headers.
#[derive(Debug, Serialize)]
struct Remaining {
    window: &'static str,
    limit: u32,
    remaining: u32,
    reset_seconds: u64,
}

impl KeyInfo {
    pub(crate) fn new(key: &CredentialView<'_>, limits: &LimitReport) -> Self {
        Self {
            key_id: key.key_id,
            name: key.name.to_owned(),
            version: key.version,
            environment: key.environment,
            scopes: key.scopes.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
            rate_limit: key.rate_limit,
            remaining: Remaining {
                window: limits.window.as_str(),
                limit: limits.limit,
                remaining: limits.remaining,
                reset_seconds: limits.reset_seconds,
            },
            expires_at: key.not_after.and_then(UnixMillis::to_rfc3339),
        }
    }

    /// Answers the caller. At most once a stream.
    pub(crate) fn send(&self) {
        let headers = serialized(&[("content-type", b"application/json"), ("cache-control", b"no-store")]);
        let body = serde_json::to_vec(self).unwrap_or_default();
        if abi::send_local_response(200, &headers, &body, NO_GRPC).is_err() {
            host::log(LogLevel::Error, "Envoy did not take an answer about a key");
        }
    }
}
