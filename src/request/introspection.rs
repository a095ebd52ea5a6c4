//! The response to a client that queries its own key.

use omniflow_policy::authorize::CredentialView;
use omniflow_policy::key::Environment;
use omniflow_policy::limit::{LimitReport, RateLimit};
use omniflow_policy::time::UnixMillis;
use serde::Serialize;
use uuid::Uuid;

use crate::host;

/// The body of the response.
#[derive(Debug, Serialize)]
pub(super) struct Introspection {
    key_id: Uuid,
    name: String,
    version: u16,
    environment: Environment,
    scopes: Vec<String>,
    rate_limit: RateLimit,
    remaining: Remaining,
    /// RFC 3339, UTC. `null` for a key that does not expire.
    expires_at: Option<String>,
}

/// The state of the tightest limit, as in the X-RateLimit headers.
#[derive(Debug, Serialize)]
struct Remaining {
    window: &'static str,
    limit: u32,
    remaining: u32,
    reset_seconds: u64,
}

impl Introspection {
    pub(super) fn new(key: &CredentialView<'_>, limits: &LimitReport) -> Self {
        Self {
            key_id: key.key_id,
            name: key.name.to_owned(),
            version: key.version,
            environment: key.environment,
            scopes: key.scopes.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
            rate_limit: key.rate_limit,
            remaining: Remaining {
                window: limits.window.as_str(),
                limit: limits.bucket,
                remaining: limits.remaining,
                reset_seconds: limits.reset_seconds,
            },
            expires_at: key.not_after.and_then(UnixMillis::to_rfc3339),
        }
    }

    /// Sends the response. At most once per request.
    pub(super) fn send(&self) {
        let headers = vec![("content-type", "application/json"), ("cache-control", "no-store")];
        host::send_http_response(200, headers, &serde_json::to_vec(self).unwrap_or_default());
    }
}
