//! The use cases: what admins and gateways ask for, without HTTP. Each takes a principal and a request, and returns a domain
//! result or an [`Error`](omniflow_domain::error::Error).

pub(crate) mod app;
mod errors;
pub(crate) mod fields;
pub(crate) mod fleet;
pub(crate) mod jobs;
pub(crate) mod known_tokens;
pub mod memory;
pub(crate) mod publication;
pub(crate) mod publisher;
pub(crate) mod query;
pub(crate) mod signals;
pub(crate) mod vault;
