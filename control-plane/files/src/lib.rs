//! Files with secrets: private ones that this process writes, and those that others wrote.
//!
//! A crate of its own because the listener, the outgoing calls, the store, the use cases and the command line all read or
//! write such files, and none of them may depend on another for it.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod private;
pub mod secret;
