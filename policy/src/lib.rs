//! The pure core of Omniflow Keys, shared by the filter inside Envoy and by the control plane.
//!
//! Everything here is a function of its arguments: no I/O, no clock, no randomness. The crate is `no_std`, so
//! the compiler enforces this; time and random bytes are parameters.
//!
//! | module | content |
//! |---|---|
//! | [`key`] | the grammar of keys and control-plane tokens, and their generation |
//! | [`digest`] | SHA-256 digests, the only form in which a secret is stored |
//! | [`scope`] | scopes: what a key may do |
//! | [`address`] | IP allowlists: where a key may be used from |
//! | [`gcra`], [`limit`] | rate limits: how often a key may be used |
//! | [`path`] | request targets that every server interprets in the same way |
//! | [`policy`] | routes and the scopes they require |
//! | [`policy_diff`] | differences between two policies |
//! | [`credential`] | finds the one credential of a request |
//! | [`authorize`] | the decision on a request, rate limits aside |
//! | [`explain`] | a human-readable explanation of a decision, step by step |
//! | [`denial`] | why a request is denied, with texts and stable reason codes; outcomes |
//! | [`snapshot`] | the binary format in which gateways receive keys |
//! | [`audit`] | the audit record of one call, and the batches in which filters deliver records |
//! | [`payload`] | the arguments of a call: how much is recorded, and which fields are redacted |
//! | [`redaction`] | finds and redacts secrets in text from clients |
//! | [`scan`] | finds keys in a text |
//! | [`gateway`] | the JSON messages between a gateway and the control plane |
//! | [`time`] | instants |
#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

extern crate alloc;

pub mod address;
pub mod audit;
pub mod authorize;
pub mod credential;
pub mod denial;
pub mod digest;
pub mod explain;
pub mod gateway;
pub mod gcra;
pub mod key;
pub mod limit;
pub mod path;
pub mod payload;
pub mod policy;
pub mod policy_diff;
pub mod redaction;
pub mod scan;
pub mod scope;
pub mod snapshot;
pub mod time;

#[cfg(test)]
mod decision_table;
