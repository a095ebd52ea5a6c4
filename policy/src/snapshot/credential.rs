//! One version of a key, as sent to gateways.

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

/// One version of a key. All versions of a key share `key_id`, and therefore its rate limits.
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
    /// End of validity: the key's expiry or the end of the overlap, whichever is earlier.
    pub not_after: Option<UnixMillis>,
    /// The key's name, at most 255 bytes. It is sent to the upstream in a request header.
    pub name: String,
    /// The key's scopes.
    pub scopes: ScopeSet,
    /// The key's rate limits.
    pub rate_limit: RateLimit,
    /// The networks the key may be used from.
    pub allowlist: Allowlist,
}

impl Credential {
    /// The credential as read from a segment. `scopes` and `networks` are its scopes and allowlist in binary
    /// form.
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
