//! The use cases: what admins and gateways ask for, without HTTP. Each takes a principal and a request, and returns a domain
//! result or an [`Error`](omniflow_domain::error::Error).

pub(crate) mod admin_log;
pub(crate) mod app;
pub(crate) mod audit;
pub(crate) mod authentication;
mod errors;
pub(crate) mod fields;
pub(crate) mod fleet;
pub(crate) mod gateway_protocol;
pub(crate) mod gateways;
pub(crate) mod idempotency;
pub(crate) mod installation;
pub(crate) mod jobs;
pub(crate) mod json;
pub(crate) mod keys;
pub(crate) mod known_tokens;
pub(crate) mod leaks;
pub mod memory;
pub(crate) mod monitoring;
pub(crate) mod policy;
pub(crate) mod precondition;
pub(crate) mod publication;
pub(crate) mod publisher;
pub(crate) mod query;
pub(crate) mod sessions;
pub(crate) mod signals;
pub(crate) mod tokens;
pub(crate) mod vault;

use omniflow_domain::error::Error;

/// Runs a change to completion even if the caller goes away in the middle: what is committed must be published.
pub(crate) async fn run_to_completion<T, F>(change: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    tokio::spawn(change).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a change did not end");
        Err(Error::internal())
    })
}
