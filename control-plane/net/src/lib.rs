//! How connections reach the control plane.
//!
//! | module | idea |
//! |---|---|
//! | [`connections`] | the listening socket, and the server that accepts connections on it |
//! | [`admission`] | how many connections may be open, in all and for each address |
//! | [`idle`] | connections that are closed because nothing happens on them |
//! | [`tls`] | certificate and key, their checks and their renewal |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod admission;
pub mod connections;
pub mod idle;
pub mod tls;
