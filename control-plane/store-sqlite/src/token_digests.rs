//! The digests of all tokens, in memory: anyone can send any number of unknown tokens, and none of them costs a query.
//!
//! This is sound because only one process at a time uses a data directory.

use std::collections::HashSet;
use std::fmt;
use std::sync::{PoisonError, RwLock};

use omniflow_policy::digest::Digest;

/// The digests of all tokens of a database, and those of tokens whose insertion is not committed.
#[derive(Default)]
pub(crate) struct TokenDigests(RwLock<HashSet<Digest>>);

// === impl TokenDigests ===

impl TokenDigests {
    /// Whether a token may have this digest.
    pub(crate) fn may_contain(&self, digest: &Digest) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    /// Adds digests. Call this before the commit, so that a token is found as soon as it exists.
    pub(crate) fn extend(&self, digests: impl IntoIterator<Item = Digest>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(digests);
    }

    /// Adds one digest, under the same rule.
    pub(crate) fn add(&self, digest: Digest) {
        self.extend([digest]);
    }

    /// Removes the digests of tokens that no longer exist.
    pub(crate) fn remove(&self, digests: &[Digest]) {
        if digests.is_empty() {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for digest in digests {
            known.remove(digest);
        }
    }
}

impl fmt::Debug for TokenDigests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigests")
    }
}
