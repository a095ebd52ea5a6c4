//! What has changed between two versions.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::credential::Credential;
use super::{SnapshotError, open, seal};
use crate::digest::Digest;
use crate::policy::PolicyDocument;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// The installation.
    pub installation: Uuid,
    /// The version it is for.
    pub from: u64,
    /// The version after it.
    pub to: u64,
    /// The policy, where it has changed.
    pub policy: Option<PolicyDocument>,
    /// The changes, in order.
    pub changes: Vec<Change>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    installation: Uuid,
    from: u64,
    /// Behind `from`, which makes it a byte or two.
    ahead: u64,
    policy: Option<String>,
    changes: Vec<Change>,
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
        let wire = Wire {
            installation: self.installation,
            from: self.from,
            ahead: self.to.saturating_sub(self.from),
            policy: self
                .policy
                .as_ref()
                .map(|policy| String::from_utf8_lossy(&policy.to_json()).into_owned()),
            changes: self.changes.clone(),
        };
        // Encoding into memory has no way to fail.
        seal(MAGIC, &postcard::to_allocvec(&wire).unwrap_or_default())
    }

    /// Reads a delta whole.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let body = open(bytes, MAGIC)?;
        let (wire, rest): (Wire, _) = postcard::take_from_bytes(body).map_err(|_| SnapshotError::Damaged)?;
        let to = wire.from.checked_add(wire.ahead).ok_or(SnapshotError::Damaged)?;
        if !rest.is_empty() || wire.ahead == 0 || wire.changes.len() > MAX_CHANGES_PER_DELTA {
            return Err(SnapshotError::Damaged);
        }
        let policy = wire
            .policy
            .map(|json| PolicyDocument::from_json(json.as_bytes()))
            .transpose()
            .map_err(|_| SnapshotError::Policy)?;
        Ok(Self { installation: wire.installation, from: wire.from, to, policy, changes: wire.changes })
    }
}
