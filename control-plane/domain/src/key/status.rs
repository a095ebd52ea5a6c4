//! The status of a key and of each version, and when a key is due for rotation.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use omniflow_policy::time::UnixMillis;
use serde::{Deserialize, Serialize};

use super::model::{Key, KeyVersion, later};

/// The status of a key at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyStatus {
    /// One version is accepted.
    Active,
    /// Several versions are accepted: an overlap is running.
    Rotating,
    /// Every version was revoked.
    Revoked,
    /// No version is accepted anymore, and not all were revoked.
    Expired,
}

/// The error for a text that is not a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a status must be \"active\", \"rotating\", \"revoked\" or \"expired\"")]
pub struct InvalidKeyStatus;

// === impl Key ===

impl Key {
    /// The status of the key at `now`.
    pub fn status(&self, now: UnixMillis) -> KeyStatus {
        let accepted = self.versions.iter().filter(|version| self.accepts(version, now)).count();
        match accepted {
            0 if self.versions.iter().all(|version| version.revoked_at.is_some()) => KeyStatus::Revoked,
            0 => KeyStatus::Expired,
            1 => KeyStatus::Active,
            _ => KeyStatus::Rotating,
        }
    }

    /// The status of one version at `now`: rotating if it is accepted only until the end of its overlap.
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

    /// When the key is due for rotation: `after` the creation of the newest accepted version. `None` if rotation is
    /// never due, or if no version is accepted.
    ///
    /// A newer version that was revoked does not postpone it, because the older secret is then still in use.
    pub fn rotation_due_at(&self, after: Option<Duration>, now: UnixMillis) -> Option<UnixMillis> {
        let newest = self.newest_accepted(now)?;
        Some(later(newest.created_at, after?))
    }

    /// Whether a version is neither revoked nor expired at `now`.
    pub(super) fn accepts(&self, version: &KeyVersion, now: UnixMillis) -> bool {
        version.revoked_at.is_none() && self.not_after(version).is_none_or(|not_after| now < not_after)
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
    use crate::key::fixtures::key;

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
