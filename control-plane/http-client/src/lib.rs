//! The HTTP client for all outgoing requests. A leaf crate, because two sides use it and must not depend on each other: the
//! command line, which calls the control plane, and the control plane, which calls webhook and OTLP receivers.
//!
//! | module | content |
//! |---|---|
//! | `client` | the configuration of the client, and bodies with a maximum length |
//! | `proxy` | the proxies of the environment, and which requests use one |
//! | `trust` | CA files, and why a certificate is rejected |
//! | `failure` | why a request failed: TLS, not HTTP, or the root cause |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests prepare files and measure time"))]

mod client;
mod failure;
mod proxy;
mod trust;

pub use self::client::{ClientError, new_client, read_body};
pub use self::failure::{is_not_http, root_cause, tls_error};
pub use self::proxy::proxy_of;
pub use self::trust::{CaFileError, is_authority, read_ca_file};
