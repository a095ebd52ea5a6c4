//! Keys and their versions.

use std::fmt;
use std::str::FromStr;

use omniflow_policy::address::Allowlist;
use omniflow_policy::digest::Digest;
use omniflow_policy::key::Environment;
use omniflow_policy::limit::RateLimit;
use omniflow_policy::scope::ScopeSet;
use omniflow_policy::snapshot::Credential;
use omniflow_policy::time::UnixMillis;
use serde::Serialize;
use uuid::Uuid;

use super::name::Name;

/// The most bytes of a description.
pub const MAX_DESCRIPTION_LENGTH: usize = 1024;

/// A key: what it is called, what it may do, and the secrets that stand for it.
#[derive(Clone, Debug)]
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
    /// Its versions, oldest first. There is at least one.
    pub versions: Vec<KeyVersion>,
}

/// One secret of a key.
#[derive(Clone, Debug)]
pub struct KeyVersion {
    /// Its number within the key, from 1.
    pub version: u16,
    /// The SHA-256 of the secret.
    pub digest: Digest,
    /// Four characters of the secret, by which a person tells two secrets apart.
    pub hint: String,
    /// When it was made.
    pub created_at: UnixMillis,
    /// From when on it is refused though the key is not.
    pub expires_at: Option<UnixMillis>,
    /// When it was revoked.
    pub revoked_at: Option<UnixMillis>,
}

/// What a key is at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyStatus {
    /// One version is accepted.
    Active,
    /// Several versions are accepted: an overlap is running.
    Rotating,
    /// Every version was revoked.
    Revoked,
    /// No version is accepted any more, and not all were revoked.
    Expired,
}

/// A word that names no status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a status is \"active\", \"rotating\", \"revoked\" or \"expired\"")]
pub struct InvalidKeyStatus;

// === impl Key ===

impl Key {
    /// What the key is at `now`.
    pub fn status(&self, now: UnixMillis) -> KeyStatus {
        let accepted = self.versions.iter().filter(|version| self.accepts(version, now)).count();
        match accepted {
            0 if self.versions.iter().all(|version| version.revoked_at.is_some()) => KeyStatus::Revoked,
            0 => KeyStatus::Expired,
            1 => KeyStatus::Active,
            _ => KeyStatus::Rotating,
        }
    }

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

    fn accepts(&self, version: &KeyVersion, now: UnixMillis) -> bool {
        version.revoked_at.is_none() && self.not_after(version).is_none_or(|not_after| now < not_after)
    }

    fn not_after(&self, version: &KeyVersion) -> Option<UnixMillis> {
        self.expires_at.into_iter().chain(version.expires_at).min()
    }
}

// === impl KeyStatus ===

impl KeyStatus {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Active, Self::Rotating, Self::Revoked, Self::Expired];

    /// `active`, `rotating`, `revoked` or `expired`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Rotating => "rotating",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for KeyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyStatus {
    type Err = InvalidKeyStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(InvalidKeyStatus)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(expires_at: Option<u64>, versions: &[(Option<u64>, Option<u64>)]) -> Key {
        Key {
            id: Uuid::from_u128(7),
            name: "ci".parse().unwrap(),
            environment: Environment::Live,
            scopes: ScopeSet::default(),
            rate_limit: RateLimit::default(),
            ip_allowlist: Allowlist::default(),
            description: None,
            created_by: "owner".to_owned(),
            created_at: UnixMillis(0),
            expires_at: expires_at.map(UnixMillis),
            versions: versions
                .iter()
                .zip(1u16..)
                .map(|((expires_at, revoked_at), version)| KeyVersion {
                    version,
                    digest: Digest::of(&version.to_be_bytes()),
                    hint: "abcd".to_owned(),
                    created_at: UnixMillis(0),
                    expires_at: expires_at.map(UnixMillis),
                    revoked_at: revoked_at.map(UnixMillis),
                })
                .collect(),
        }
    }

    #[test]
    fn a_status_follows_from_versions_and_clock() {
        let now = UnixMillis(100);
        assert_eq!(key(None, &[(None, None)]).status(now), KeyStatus::Active);
        assert_eq!(key(Some(101), &[(None, None)]).status(now), KeyStatus::Active);
        assert_eq!(key(Some(100), &[(None, None)]).status(now), KeyStatus::Expired);
        assert_eq!(key(None, &[(Some(150), None), (None, None)]).status(now), KeyStatus::Rotating);
        assert_eq!(key(None, &[(Some(100), None), (None, None)]).status(now), KeyStatus::Active);
        assert_eq!(key(None, &[(None, Some(5)), (None, None)]).status(now), KeyStatus::Active);
        assert_eq!(key(None, &[(None, Some(5)), (None, Some(6))]).status(now), KeyStatus::Revoked);
        assert_eq!(key(Some(50), &[(None, Some(5))]).status(now), KeyStatus::Revoked);
        assert_eq!(key(Some(50), &[(None, Some(5)), (None, None)]).status(now), KeyStatus::Expired);
    }

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
