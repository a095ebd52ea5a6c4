//! Leaked secrets: found in a text, revoked at once, with an account of how their keys were used.

pub mod handle;
mod search;
mod usage;

pub use self::search::SearchTerms;
use crate::keys::KeyParts;

/// The most keys in one report: what is revoked is one change, which gateways apply as a whole.
pub const MAX_KEYS: usize = 100;

/// The use cases of leaked secrets.
pub struct Leaks {
    parts: KeyParts,
}

// === impl Leaks ===

impl Leaks {
    /// The use cases over these parts.
    pub fn new(parts: KeyParts) -> Self {
        Self { parts }
    }
}
