//! What the control plane keeps: keys with their versions, tokens with their roles, and audited calls.

pub(crate) mod audit;
pub(crate) mod event;
pub(crate) mod finding;
pub mod key;
pub(crate) mod key_use;
pub mod name;
pub(crate) mod payload;
pub(crate) mod session;
pub(crate) mod stats;
pub(crate) mod token;
