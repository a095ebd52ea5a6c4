//! A key, together with the facts that follow from the current time and from its usage.

use std::collections::HashMap;
use std::time::Duration;

use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

use crate::key::{Key, KeyStatus};

/// When each version of each key was last used.
pub type LastUsed = HashMap<(Uuid, u16), UnixMillis>;

/// A key with its derived facts.
#[derive(Clone, Debug)]
pub struct KeyDetails {
    /// The key.
    pub key: Key,
    /// Its status.
    pub status: KeyStatus,
    /// When it is due for rotation; `None` if never.
    pub rotation_due_at: Option<UnixMillis>,
    /// When its versions were last used, by number. Versions that were never used are missing.
    pub last_used: HashMap<u16, UnixMillis>,
}

// === impl KeyDetails ===

impl KeyDetails {
    /// The key at `now`. Versions are due for rotation `rotation_after` their creation.
    pub fn new(key: Key, last_used: &LastUsed, rotation_after: Option<Duration>, now: UnixMillis) -> Self {
        let uses = key.versions.iter().filter_map(|version| {
            last_used.get(&(key.id, version.version)).map(|time| (version.version, *time))
        });
        Self {
            status: key.status(now),
            rotation_due_at: key.rotation_due_at(rotation_after, now),
            last_used: uses.collect(),
            key,
        }
    }

    /// When the key was last used, in any version.
    pub fn last_used_at(&self) -> Option<UnixMillis> {
        self.last_used.values().copied().max()
    }
}
