//! The use cases of admins and gateways, without HTTP. Each takes a principal and a request, and returns a domain
//! result or an [`Error`](omniflow_domain::error::Error).
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests prepare files and measure time"))]

pub mod admin_log;
pub mod anomalies;
pub mod audit;
pub mod authentication;
mod errors;
pub mod fields;
pub mod fleet;
pub mod gateway_protocol;
pub mod gateways;
pub mod idempotency;
pub mod jobs;
pub mod json;
pub mod keys;
pub mod leaks;
pub mod log_space;
pub mod metrics;
pub mod monitoring;
pub mod notifications;
pub mod policy;
pub mod precondition;
pub mod publication;
pub mod publisher;
pub mod sessions;
pub mod tokens;
pub mod vault;

use omniflow_domain::error::Error;

/// Runs a change to completion even if the client disconnects, because a committed change must be published.
pub(crate) async fn run_to_completion<T, F>(change: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    tokio::spawn(change).await.unwrap_or_else(|error| {
        tracing::error!(%error, "change aborted");
        Err(Error::internal())
    })
}
