//! The control plane's listener: connections, their limits, and TLS.
//!
//! | module | content |
//! |---|---|
//! | [`connections`] | the listening socket, and the server that accepts connections on it |
//! | [`connection_table`] | limits on open connections |
//! | [`idle`] | closes idle connections |
//! | [`tls`] | certificate and key, their validation and renewal |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests prepare files and measure time"))]

pub mod connection_table;
pub mod connections;
pub mod idle;
pub mod tls;
