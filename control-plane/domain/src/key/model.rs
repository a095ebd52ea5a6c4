//! A key, its versions, and the sort order of lists of keys.

use std::str::FromStr;
use std::time::Duration;

use omniflow_policy::address::Allowlist;
use omniflow_policy::digest::Digest;
use omniflow_policy::key::Environment;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::scope::ScopeSet;
use omniflow_policy::snapshot::Credential;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use crate::name::Name;

/// Maximum length of a description in bytes.
pub const MAX_DESCRIPTION_LENGTH: usize = 1024;
/// Maximum length of a hint in characters: as long as the hints of keys created here.
pub const MAX_HINT_LENGTH: usize = 4;

/// A key: its name, its permissions, and its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its identifier, UUID version 7.
    pub id: Uuid,
    /// Its unique name.
    pub name: Name,
    /// The environment, which determines the upstream.
    pub environment: Environment,
    /// Its scopes.
    pub scopes: ScopeSet,
    /// Its rate limits.
    pub rate_limit: RateLimit,
    /// Its IP allowlist.
    pub ip_allowlist: Allowlist,
    /// Its purpose, in the words of the person who created it.
    pub description: Option<String>,
    /// The name of the token with which it was created.
    pub created_by: String,
    /// When it was created.
    pub created_at: UnixMillis,
    /// The time from which all its versions are refused.
    pub expires_at: Option<UnixMillis>,
    /// Its revision, which counts its changes from 1.
    pub revision: u64,
    /// Its versions, oldest first. There is at least one.
    pub versions: Vec<KeyVersion>,
}

/// One secret of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyVersion {
    /// Its number within the key, from 1.
    pub version: u16,
    /// The SHA-256 of the secret.
    pub digest: Digest,
    /// Four characters of the secret, so that a person can distinguish two secrets.
    pub hint: String,
    /// When it was created.
    pub created_at: UnixMillis,
    /// The time from which this version is refused, although the key is not.
    pub expires_at: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
    /// Whether another system issued it: gateways accept it only if the policy enables `imported_keys`.
    pub imported: bool,
}

/// The sort order of a list of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyOrder {
    /// Newest first.
    #[default]
    Newest,
    /// Oldest first.
    Oldest,
    /// By name, byte by byte.
    Name,
    /// By name, in reverse order.
    NameReversed,
}

/// The error for a text that is not a sort order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an order must be \"newest\", \"oldest\", \"name\" or \"name_reversed\"")]
pub struct InvalidKeyOrder;

// === impl Key ===

impl Key {
    /// The part of this key that gateways have: one credential for each version.
    pub fn credentials(&self) -> impl Iterator<Item = Credential> {
        self.versions.iter().map(|version| Credential {
            digest: version.digest,
            key_id: self.id,
            version: version.version,
            environment: self.environment,
            revoked: version.revoked_at.is_some(),
            not_after: self.not_after(version),
            name: self.name.as_str().to_owned(),
            scopes: self.scopes.clone(),
            rate_limit: self.rate_limit,
            allowlist: self.ip_allowlist.clone(),
        })
    }

    /// The time from which a version is refused: its own expiry, or the key's if that is sooner.
    pub fn not_after(&self, version: &KeyVersion) -> Option<UnixMillis> {
        self.expires_at.into_iter().chain(version.expires_at).min()
    }
}

/// Orders by `time` and then by `by`.
pub(super) fn later(time: UnixMillis, by: Duration) -> UnixMillis {
    UnixMillis(time.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
}

// === impl KeyOrder ===

impl KeyOrder {
    /// All orders.
    pub const ALL: [Self; 4] = [Self::Newest, Self::Oldest, Self::Name, Self::NameReversed];

    /// `newest`, `oldest`, `name` or `name_reversed`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Oldest => "oldest",
            Self::Name => "name",
            Self::NameReversed => "name_reversed",
        }
    }
}

impl FromStr for KeyOrder {
    type Err = InvalidKeyOrder;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|order| order.as_str() == text).ok_or(InvalidKeyOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::fixtures::key;

    #[test]
    fn a_credential_ends_with_the_first_of_both_expiries() {
        let key = key(Some(200), &[(Some(150), None), (None, None), (Some(250), Some(9))]);
        let ends: Vec<_> = key.credentials().map(|c| (c.version, c.not_after, c.revoked)).collect();
        assert_eq!(
            ends,
            [
                (1, Some(UnixMillis(150)), false),
                (2, Some(UnixMillis(200)), false),
                (3, Some(UnixMillis(200)), true)
            ]
        );
    }
}
