//! One version of a key, as gateways need it.

use alloc::string::String;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::address::{Allowlist, AllowlistView};
use crate::authorize::CredentialView;
use crate::digest::Digest;
use crate::key::Environment;
use crate::limit::RateLimit;
use crate::scope::ScopeSet;
use crate::time::UnixMillis;

/// One version of a key. Versions of one key share `key_id`, and with it the counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// SHA-256 of the secret.
    pub digest: Digest,
    /// The key.
    pub key_id: Uuid,
    /// The version, from 1.
    pub version: u16,
    /// The key's environment.
    pub environment: Environment,
    /// Whether the key or this version was revoked.
    pub revoked: bool,
    /// When it stops being valid: the key's expiry or the end of the overlap, whichever is earlier.
    pub not_after: Option<UnixMillis>,
    /// The key's name. At most 255 bytes; it travels in a request header.
    pub name: String,
    /// What the key may do.
    pub scopes: ScopeSet,
    /// What it may spend.
    pub rate_limit: RateLimit,
    /// From where it may be used.
    pub allowlist: Allowlist,
}

impl Credential {
    /// The credential as it is read from a page. `scopes` and `networks` are its own in their binary forms.
    pub(super) fn view<'c>(&'c self, scopes: &'c str, networks: &'c [u8]) -> CredentialView<'c> {
        CredentialView {
            key_id: self.key_id,
            version: self.version,
            name: &self.name,
            environment: self.environment,
            revoked: self.revoked,
            not_after: self.not_after,
            scopes,
            rate_limit: self.rate_limit,
            allowlist: AllowlistView::from_bytes(networks).unwrap_or_default(),
        }
    }
}
