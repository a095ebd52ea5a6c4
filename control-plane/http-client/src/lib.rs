//! The HTTP client for all outgoing calls. A leaf crate, because two sides make such calls and must not depend on each
//! other: the command line, which calls the control plane, and the control plane, which calls webhook and OTLP receivers.
//!
//! | module | content |
//! |---|---|
//! | `client` | the configuration of the client, and bodies of limited length |
//! | `trust` | CA files, and why a certificate is rejected |
//! | `failure` | why a call failed: TLS, no HTTP, or the error that caused all others |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod client;
mod failure;
mod trust;

pub use self::client::{ClientError, new_client, read_body};
pub use self::failure::{is_not_http, root_cause, tls_error};
pub use self::trust::{CaFileError, is_authority, read_ca_file};
