//! The domain model of the control plane, without I/O: keys with their versions, tokens with their roles, versions of
//! the policy, the two logs, statistics, anomalies, and the clock and randomness that other crates receive as
//! parameters.
//!
//! | module | content |
//! |---|---|
//! | [`key`], [`key_details`], [`key_use`], [`name`] | keys with their versions; key details for display; usage of keys; names |
//! | [`token`], [`session`], [`principal`] | tokens with their roles; sessions of the console; the principal of a request |
//! | [`access`] | which roles may use which operations |
//! | [`leak`], [`encoded_text`] | reports of leaked secrets; the search for texts that are encoded in a text |
//! | [`policy`] | stored versions of the policy, what they allow keys to do, and what a draft would change |
//! | [`admin_event`], [`admin_event_state`], [`audit`], [`audit_query`], [`log_content`], [`stats`], [`payload`] | the admin log and the states in it; the request log, the shares of its content, its statistics, redacted and sealed arguments |
//! | [`anomaly`], [`detection`] | anomalies in the usage of a key, compared with its own history |
//! | [`page`], [`idempotency`] | paginated lists; what a request with an idempotency key created |
//! | [`error`] | why a use case was refused or failed |
//! | [`gateway`], [`gateway_pattern`], [`version`] | gateways and the versions they enforce; names that a token is valid for; bounds of versions |
//! | [`clock`], [`time`] | clock and randomness as parameters; human-readable times |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests prepare files and measure time"))]

pub mod access;
pub mod admin_event;
pub mod admin_event_state;
pub mod anomaly;
pub mod audit;
pub mod audit_query;
pub mod clock;
pub mod detection;
pub mod encoded_text;
pub mod error;
pub mod gateway;
pub mod gateway_pattern;
pub mod idempotency;
pub mod key;
pub mod key_details;
pub mod key_use;
pub mod leak;
pub mod log_content;
pub mod name;
pub mod page;
pub mod payload;
pub mod policy;
pub mod principal;
pub mod session;
pub mod stats;
pub mod time;
pub mod token;
pub mod version;
