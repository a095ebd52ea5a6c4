//! Files with secrets: private files that this process writes, and files that an operator provides.
//!
//! A leaf crate, because the listener, outgoing connections, the store, the use cases and the command line all read or
//! write such files and must not depend on each other for it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![expect(clippy::disallowed_methods, reason = "this crate is where files with secrets are read and written")]

pub mod private;
pub mod secret;
