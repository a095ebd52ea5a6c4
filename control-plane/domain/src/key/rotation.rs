//! Rotation of a key: how the overlap ends its older versions, and how long an overlap may be.

use std::str::FromStr;
use std::time::Duration;

use omniflow_policy::key::Secret;
use omniflow_policy::time::UnixMillis;

use super::model::{Key, KeyVersion, later};
use super::status::KeyStatus;
use crate::time::parse_duration;

/// The default overlap of a rotation.
pub const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 3_600);
/// The maximum overlap.
pub const MAX_OVERLAP: Duration = Duration::from_secs(720 * 3_600);

/// How long older versions are still accepted after a rotation, at most [`MAX_OVERLAP`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap(Duration);

/// The error for a text that is not an overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("overlap must be a duration from 0s to {}h, such as 24h or 7d", MAX_OVERLAP.as_secs() / 3_600)]
pub struct InvalidOverlap;

/// Why a key cannot be rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRotatable {
    /// Every version was revoked.
    #[error("This key is revoked and cannot be changed. Create a new key.")]
    Revoked,
    /// The key has expired.
    #[error("This key has expired. Set a later expires_at first, or create a new key.")]
    Expired,
    /// The key has not expired, but none of its versions is accepted anymore.
    #[error("No version of this key is accepted anymore. Create a new key.")]
    Ended,
    /// The version numbers are used up.
    #[error("This key has reached the maximum of 65,535 versions. Create a new key.")]
    Exhausted,
}

// === impl Key ===

impl Key {
    /// Adds a version with this secret. The earlier versions that are still accepted expire after `overlap`, or at
    /// their own expiry if that is sooner.
    pub fn rotate(&mut self, secret: &Secret, overlap: Overlap, now: UnixMillis) -> Result<(), NotRotatable> {
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
        let end = later(now, overlap.0);
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
}

// === impl Overlap ===

impl Overlap {
    /// The time for which older versions are still accepted.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl Default for Overlap {
    fn default() -> Self {
        Self(DEFAULT_OVERLAP)
    }
}

impl FromStr for Overlap {
    type Err = InvalidOverlap;

    /// Reads a duration such as `24h` or `7d`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_duration(text).filter(|overlap| *overlap <= MAX_OVERLAP).map(Self).ok_or(InvalidOverlap)
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::key::{Environment, KeyPrefix, compose_key};

    use super::*;
    use crate::key::fixtures::key;

    /// Ends and revocations of all versions after a rotation at 100, with an overlap of 50.
    fn rotated(mut key: Key) -> Result<Vec<Option<u64>>, NotRotatable> {
        let secret = compose_key(&KeyPrefix::default(), Environment::Live, &mut || 7);
        let before = key.versions.len();
        key.rotate(&secret, "50ms".parse().unwrap(), UnixMillis(100))?;
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
    fn an_overlap_lasts_at_most_720_hours() {
        assert_eq!(Overlap::default().duration(), Duration::from_secs(86_400));
        for (text, seconds) in [("0s", 0), ("90m", 5_400), ("720h", 2_592_000), ("30d", 2_592_000)] {
            assert_eq!(text.parse().map(Overlap::duration), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "24", "-1h", "2592000001ms", "721h", "31d"] {
            assert_eq!(wrong.parse::<Overlap>(), Err(InvalidOverlap), "{wrong}");
        }
        assert_eq!(
            InvalidOverlap.to_string(),
            "overlap must be a duration from 0s to 720h, such as 24h or 7d"
        );
    }
}
