//! Keys and their versions.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use omniflow_policy::address::Allowlist;
use omniflow_policy::digest::Digest;
use omniflow_policy::key::{Environment, Secret};
use omniflow_policy::limit::RateLimit;
use omniflow_policy::scope::ScopeSet;
use omniflow_policy::snapshot::Credential;
use omniflow_policy::time::UnixMillis;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::name::Name;

/// The most bytes of a description.
pub const MAX_DESCRIPTION_LENGTH: usize = 1024;
/// The most characters of a hint: as many as those of keys that are issued here have.
pub const MAX_HINT_LENGTH: usize = 4;
/// How long older versions are still accepted after a rotation, unless it says otherwise.
pub const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 3_600);
/// The longest overlap.
pub const MAX_OVERLAP: Duration = Duration::from_secs(720 * 3_600);

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
    /// Four characters of the secret, by which a person tells two secrets apart.
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

/// What a key is at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Why a key cannot be rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRotatable {
    /// Every version was revoked.
    #[error("this key was revoked and stays so; issue a new one")]
    Revoked,
    /// The key has expired.
    #[error("this key has expired; give it a later expires_at with PATCH first, or issue a new one")]
    Expired,
    /// The key has not expired, but none of its versions is accepted any more.
    #[error("no version of this key is accepted any more; issue a new key")]
    Ended,
    /// The numbers of versions are used up.
    #[error("this key has had {} versions, which is the most; issue a new key", u16::MAX)]
    Exhausted,
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

    /// What one version is at `now`: rotating where it is accepted until the end of its overlap.
    pub fn version_status(&self, version: &KeyVersion, now: UnixMillis) -> KeyStatus {
        match version.expires_at {
            _ if version.revoked_at.is_some() => KeyStatus::Revoked,
            _ if !self.accepts(version, now) => KeyStatus::Expired,
            Some(_) => KeyStatus::Rotating,
            None => KeyStatus::Active,
        }
    }

    /// The newest of the versions that are accepted at `now`.
    pub fn newest_accepted(&self, now: UnixMillis) -> Option<&KeyVersion> {
        self.versions.iter().rfind(|version| self.accepts(version, now))
    }

    /// When the key should be rotated: `after` the newest version that is accepted was made. `None` if nothing ever
    /// falls due, or if no version is accepted.
    ///
    /// A newer version that was revoked does not put it off, as the older secret is then still the one in use.
    pub fn rotation_due_at(&self, after: Option<Duration>, now: UnixMillis) -> Option<UnixMillis> {
        let newest = self.newest_accepted(now)?;
        Some(later(newest.created_at, after?))
    }

    /// Adds a version with this secret and ends those before it that are accepted: after `overlap`, or when they
    /// would have ended already if that is sooner.
    pub fn rotate(
        &mut self,
        secret: &Secret,
        overlap: Duration,
        now: UnixMillis,
    ) -> Result<(), NotRotatable> {
        match self.status(now) {
            KeyStatus::Active | KeyStatus::Rotating => {}
            KeyStatus::Revoked => return Err(NotRotatable::Revoked),
            KeyStatus::Expired if self.expires_at.is_some_and(|end| end <= now) => {
                return Err(NotRotatable::Expired);
            }
            KeyStatus::Expired => return Err(NotRotatable::Ended),
        }
        let newest = self.versions.last().map_or(0, |version| version.version);
        let version = newest.checked_add(1).ok_or(NotRotatable::Exhausted)?;
        let end = later(now, overlap);
        let ends: Vec<bool> = self.versions.iter().map(|version| self.accepts(version, now)).collect();
        for (version, accepted) in self.versions.iter_mut().zip(ends) {
            if accepted {
                version.expires_at = version.expires_at.into_iter().chain([end]).min();
            }
        }
        self.versions.push(KeyVersion {
            version,
            digest: secret.digest(),
            hint: secret.hint(),
            created_at: now,
            expires_at: None,
            revoked_at: None,
            imported: false,
        });
        Ok(())
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

fn later(time: UnixMillis, by: Duration) -> UnixMillis {
    UnixMillis(time.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
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
    use omniflow_policy::key::{KeyPrefix, compose_key};

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
            revision: 1,
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
                    imported: false,
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
    fn a_version_has_a_status_of_its_own() {
        let now = UnixMillis(100);
        let key = key(Some(200), &[(Some(150), None), (None, None), (Some(100), None), (Some(150), Some(9))]);
        let found: Vec<_> = key.versions.iter().map(|version| key.version_status(version, now)).collect();
        let expected = [KeyStatus::Rotating, KeyStatus::Active, KeyStatus::Expired, KeyStatus::Revoked];
        assert_eq!(found, expected);
        assert_eq!(key.version_status(&key.versions[1], UnixMillis(200)), KeyStatus::Expired);
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

    /// Ends and revocations of all versions after a rotation at 100, with an overlap of 50.
    fn rotated(mut key: Key) -> Result<Vec<Option<u64>>, NotRotatable> {
        let secret = compose_key(&KeyPrefix::default(), Environment::Live, &mut || 7);
        let before = key.versions.len();
        key.rotate(&secret, Duration::from_millis(50), UnixMillis(100))?;
        let newest = key.versions.last().unwrap();
        assert_eq!((newest.digest, newest.created_at), (secret.digest(), UnixMillis(100)));
        assert_eq!((newest.hint.clone(), newest.revoked_at), (secret.hint(), None));
        assert_eq!(usize::from(newest.version), before + 1);
        Ok(key.versions.iter().map(|version| version.expires_at.map(|end| end.0)).collect())
    }

    #[test]
    fn a_rotation_ends_what_is_accepted_and_never_later_than_it_would_have_ended() {
        assert_eq!(rotated(key(None, &[(None, None)])), Ok(vec![Some(150), None]));
        // In turn: over, ends sooner, ends later, was revoked, has no end.
        let versions =
            [(Some(100), None), (Some(120), None), (Some(500), None), (None, Some(9)), (None, None)];
        let ends = rotated(key(Some(1_000), &versions));
        assert_eq!(ends, Ok(vec![Some(100), Some(120), Some(150), None, Some(150), None]));
    }

    #[test]
    fn what_has_ended_is_not_rotated() {
        assert_eq!(rotated(key(None, &[(None, Some(5))])), Err(NotRotatable::Revoked));
        assert_eq!(rotated(key(Some(50), &[(None, Some(5))])), Err(NotRotatable::Revoked));
        assert_eq!(rotated(key(Some(100), &[(None, None)])), Err(NotRotatable::Expired));
        assert_eq!(rotated(key(None, &[(Some(90), None), (None, Some(5))])), Err(NotRotatable::Ended));
        let mut last = key(None, &[(None, None)]);
        last.versions[0].version = u16::MAX;
        assert_eq!(rotated(last), Err(NotRotatable::Exhausted));
    }

    #[test]
    fn a_rotation_falls_due_after_the_newest_accepted_version() {
        let due = |key: &Key, after: Option<u64>| {
            key.rotation_due_at(after.map(Duration::from_millis), UnixMillis(100)).map(|due| due.0)
        };
        let mut two = key(None, &[(Some(150), None), (None, None)]);
        two.versions[0].created_at = UnixMillis(10);
        two.versions[1].created_at = UnixMillis(90);
        assert_eq!(due(&two, Some(1_000)), Some(1_090));
        assert_eq!(due(&two, None), None);
        assert_eq!(due(&two, Some(u64::MAX)), Some(u64::MAX));
        two.versions[1].revoked_at = Some(UnixMillis(95));
        assert_eq!(due(&two, Some(1_000)), Some(1_010), "the older secret is the one in use");
        two.versions[0].revoked_at = Some(UnixMillis(96));
        assert_eq!(due(&two, Some(1_000)), None);
        assert_eq!(due(&key(Some(100), &[(None, None)]), Some(1_000)), None);
    }
}
