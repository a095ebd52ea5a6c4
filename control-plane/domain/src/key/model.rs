//! A key, its versions, and the order in which lists have keys.

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

/// The most bytes of a description.
pub const MAX_DESCRIPTION_LENGTH: usize = 1024;
/// The most characters of a hint: as many as those of keys that are issued here have.
pub const MAX_HINT_LENGTH: usize = 4;

/// A key: what it is called, what it may do, and the secrets that stand for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its identifier, UUID version 7.
    pub id: Uuid,
    /// A name that no other key has.
    pub name: Name,
    /// Which upstream it reaches.
    pub environment: Environment,
    /// What it may do.
    pub scopes: ScopeSet,
    /// How often it may be used.
    pub rate_limit: RateLimit,
    /// From where it may be used.
    pub ip_allowlist: Allowlist,
    /// What it is for, in the words of the person who made it.
    pub description: Option<String>,
    /// The name of the token with which it was made.
    pub created_by: String,
    /// When it was made.
    pub created_at: UnixMillis,
    /// From when on all its versions are refused.
    pub expires_at: Option<UnixMillis>,
    /// Counts its changes, from 1.
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
    /// Four characters of the secret, by which a person distinguishes two secrets.
    pub hint: String,
    /// When it was made.
    pub created_at: UnixMillis,
    /// From when on it is refused though the key is not.
    pub expires_at: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
    /// Whether another system has issued it: gateways take it only where the policy has `imported_keys`.
    pub imported: bool,
}

/// In which order a list has keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyOrder {
    /// Those that were made last first.
    #[default]
    Newest,
    /// Those that were made first first.
    Oldest,
    /// By name, byte by byte.
    Name,
    /// By name, from its end.
    NameReversed,
}

/// A word that names no order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an order is \"newest\", \"oldest\", \"name\" or \"name_reversed\"")]
pub struct InvalidKeyOrder;

// === impl Key ===

impl Key {
    /// What the gateways hold of this key: one credential for each version.
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

    /// From when on a version is refused: its own end, or the key's if that is sooner.
    pub fn not_after(&self, version: &KeyVersion) -> Option<UnixMillis> {
        self.expires_at.into_iter().chain(version.expires_at).min()
    }
}

/// `time` and then `by`.
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
