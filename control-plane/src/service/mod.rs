//! The use cases: what admins and gateways ask for, without HTTP. Each takes a principal and a request, and returns a domain
//! result or an [`Error`](omniflow_domain::error::Error).

mod errors;
