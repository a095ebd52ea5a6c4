//! What has changed between two versions.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::credential::Credential;
use super::page_id::page_index;
use super::{SnapshotError, open, seal};
use crate::digest::Digest;

const MAGIC: [u8; 4] = *b"OMFD";
/// The most changes in one delta, so that applying it never holds a thread for long.
pub const MAX_CHANGES_PER_DELTA: usize = 256;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A credential that is new or has other settings.
    Put(Credential),
    /// A credential that is revoked; all else about it stays. The most urgent change is the shortest.
    Revoke(Digest),
}

/// Takes a snapshot from version `from` to version `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The installation.
    pub installation: Uuid,
    /// The version it is for.
    pub from: u64,
    /// The version after it.
    pub to: u64,
    /// The policy document in JSON, where it has changed.
    pub policy: Option<String>,
    /// The changes, in order.
    pub changes: Vec<Change>,
}

impl Change {
    /// The credential that changes.
    pub fn digest(&self) -> &Digest {
        match self {
            Self::Put(credential) => &credential.digest,
            Self::Revoke(digest) => digest,
        }
    }
}

impl Delta {
    /// The encoded form.
    pub fn encode(&self) -> Vec<u8> {
        // Encoding into memory has no way to fail.
        seal(MAGIC, &postcard::to_allocvec(self).unwrap_or_default())
    }

    /// Reads a delta whole.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let body = open(bytes, MAGIC)?;
        let (delta, rest): (Self, _) = postcard::take_from_bytes(body).map_err(|_| SnapshotError::Damaged)?;
        if !rest.is_empty() || delta.to <= delta.from || delta.changes.len() > MAX_CHANGES_PER_DELTA {
            return Err(SnapshotError::Damaged);
        }
        Ok(delta)
    }

    /// The changes by the page that they touch, in the order of the pages; within a page their order stays.
    pub fn by_page(&self, page_bits: u8) -> Vec<(u32, Vec<&Change>)> {
        let mut pages = BTreeMap::<u32, Vec<&Change>>::new();
        for change in &self.changes {
            pages.entry(page_index(change.digest(), page_bits)).or_default().push(change);
        }
        pages.into_iter().collect()
    }
}
