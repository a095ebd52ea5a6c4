//! Leaked secrets: finds them in a text, revokes them immediately, and reports how their keys were used.

pub mod handle;
mod search;
mod usage;

pub use self::search::SearchTerms;
use crate::keys::KeyParts;

/// Maximum number of keys in one report: the revocations are one change, which gateways apply as a whole.
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
