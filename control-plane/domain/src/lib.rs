//! What the control plane is about, without I/O: keys with their versions, tokens with their roles, the policy's versions,
//! the two logs, statistics, anomalies, and the clock and randomness that everything else is given.
//!
//! | module | idea |
//! |---|---|
//! | [`key`], [`key_details`], [`key_use`], [`name`] | keys with their versions; keys as they are shown; how they are used; names |
//! | [`token`], [`session`], [`principal`] | tokens with their roles; sessions of the console; who makes a request |
//! | [`access`] | which roles may use which operations |
//! | [`leak`] | reports of leaked secrets |
//! | [`policy`] | stored versions of the policy, what keys may do under them, what a draft would change |
//! | [`event`], [`event_state`], [`audit`], [`stats`], [`payload`] | the admin log and the states in it; the log of calls, its sums and sealed arguments |
//! | [`patterns`], [`finding`] | what is unusual in the use of a key, judged by its own history |
//! | [`page`] | lists in pages |
//! | [`error`] | why a use case was refused or failed |
//! | [`gateway`], [`version`] | gateways and how far each enforces a version; bounds of versions |
//! | [`clock`], [`time`] | clock and randomness passed in; times as people write them |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod access;
pub mod audit;
pub mod clock;
pub mod error;
pub mod event;
pub mod event_state;
pub mod finding;
pub mod gateway;
pub mod key;
pub mod key_details;
pub mod key_use;
pub mod leak;
pub mod name;
pub mod page;
pub mod patterns;
pub mod payload;
pub mod policy;
pub mod principal;
pub mod session;
pub mod stats;
pub mod time;
pub mod token;
pub mod version;
