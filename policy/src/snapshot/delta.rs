//! The changes between two versions.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::credential::Credential;
use super::framing::{SnapshotError, open, seal};
use super::segment::id::segment_index;
use crate::digest::Digest;

const MAGIC: [u8; 4] = *b"OMFD";
/// Maximum number of changes in one delta, so that applying one does not block a thread for long.
pub const MAX_CHANGES_PER_DELTA: usize = 256;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A new credential, or one with changed settings.
    Put(Credential),
    /// Revokes a credential and changes nothing else. The most urgent change has the shortest encoding.
    Revoke(Digest),
}

/// The changes that take a snapshot from version `from` to version `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The installation.
    pub installation: Uuid,
    /// The version that the delta applies to.
    pub from: u64,
    /// The version after the delta.
    pub to: u64,
    /// The policy document in JSON, if it has changed.
    pub policy: Option<String>,
    /// The changes, in order.
    pub changes: Vec<Change>,
}

impl Change {
    /// The digest of the changed credential.
    pub fn digest(&self) -> &Digest {
        match self {
            Self::Put(credential) => &credential.digest,
            Self::Revoke(digest) => digest,
        }
    }
}

impl Delta {
    /// Encodes the delta.
    pub fn encode(&self) -> Vec<u8> {
        // Encoding into memory cannot fail.
        seal(MAGIC, &postcard::to_allocvec(self).unwrap_or_default())
    }

    /// Decodes a whole delta.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let body = open(bytes, MAGIC)?;
        let (delta, rest): (Self, _) = postcard::take_from_bytes(body).map_err(|_| SnapshotError::Damaged)?;
        if !rest.is_empty() || delta.to <= delta.from || delta.changes.len() > MAX_CHANGES_PER_DELTA {
            return Err(SnapshotError::Damaged);
        }
        Ok(delta)
    }

    /// Groups the changes by segment, in the order of the segments. Within a segment, the order of the
    /// changes is kept.
    pub fn by_segment(&self, segment_bits: u8) -> Vec<(u32, Vec<&Change>)> {
        let mut segments = BTreeMap::<u32, Vec<&Change>>::new();
        for change in &self.changes {
            segments.entry(segment_index(change.digest(), segment_bits)).or_default().push(change);
        }
        segments.into_iter().collect()
    }
}
