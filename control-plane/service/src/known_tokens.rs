//! The digests of all tokens, in memory: a token that is not among them is not asked for in the database, however many
//! of them come from however many addresses.

use std::collections::HashSet;
use std::fmt;
use std::sync::{PoisonError, RwLock};

use omniflow_policy::digest::Digest;

use omniflow_store::{Store, StoreError};

/// Digests of all tokens in the store, and possibly of some that were revoked; the store decides whether a token is
/// valid.
///
/// Requires that no other process adds tokens to the store. A token is added here before it is added to the store.
pub struct KnownTokens(RwLock<HashSet<Digest>>);

// === impl KnownTokens ===

impl KnownTokens {
    /// Those of a database.
    pub async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        Ok(Self(RwLock::new(store.token_digests().await?)))
    }

    /// Whether the database is to be asked.
    pub(crate) fn may_have(&self, digest: &Digest) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(digest)
    }

    /// Adds a token. Call this before its commit, so that the token is accepted as soon as its secret is returned.
    pub(crate) fn add(&self, digest: Digest) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(digest);
    }

    /// Forgets one that was revoked.
    pub(crate) fn forget(&self, digest: &Digest) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(digest);
    }
}

impl fmt::Debug for KnownTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KnownTokens")
    }
}
