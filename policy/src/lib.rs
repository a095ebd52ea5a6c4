//! The pure core of Omniflow Keys, shared by the filter inside Envoy and by the control plane.
//!
//! Everything here is a function of its arguments: no I/O, no clock, no randomness. The crate is `no_std`, so
//! that the compiler keeps it so; time and random bytes are passed in by the caller.
//!
//! | module | idea |
//! |---|---|
//! | [`key`] | the grammar of a key and of a control-plane token, and how one is composed |
//! | [`digest`] | SHA-256 digests, the only form in which a secret is stored |
//! | [`scope`] | what a key may do |
//! | [`address`] | from where a key may be used |
//! | [`gcra`], [`limit`] | how often a key may be used |
//! | [`path`] | which request targets have one reading only |
//! | [`policy`] | routes and the scopes they need |
//! | [`policy_diff`] | what differs between two policies |
//! | [`credential`] | the one credential that a request presents |
//! | [`authorize`] | steps 1 to 5 of a request: the decision |
//! | [`explain`] | a decision, step by step, for people |
//! | [`outcome`] | decisions and their stable reason codes |
//! | [`snapshot`] | the binary format in which keys travel to the gateways |
//! | [`audit`] | the record of one call, and the batches in which records travel back |
//! | [`payload`] | the arguments of a call: what of them is kept, and what is redacted |
//! | `redaction` | secrets in texts of callers |
//! | [`scan`] | keys that stand in a text |
//! | [`gateway`] | the JSON messages between a gateway and the control plane |
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
pub mod digest;
pub mod explain;
pub mod gateway;
pub mod gcra;
pub mod key;
pub mod limit;
pub mod outcome;
pub mod path;
pub mod payload;
pub mod policy;
pub mod policy_diff;
mod redaction;
pub mod scan;
pub mod scope;
pub mod snapshot;
pub mod time;

#[cfg(test)]
mod decision_table;
