//! The installation and the versions that are in effect.

use omniflow_policy::key::KeyPrefix;
use uuid::Uuid;

use super::Policies;
use omniflow_domain::error::Error;

/// An installation with the versions that are in effect.
#[derive(Clone, Debug)]
pub struct InstallationStatus {
    /// Its identifier.
    pub id: Uuid,
    /// The prefix of its keys and tokens.
    pub key_prefix: KeyPrefix,
    /// The version of the published snapshot.
    pub snapshot_version: u64,
    /// The version of the policy in it.
    pub policy_version: u64,
}

// === impl Policies ===

impl Policies {
    /// The installation and the versions that are in effect.
    ///
    /// # Errors
    ///
    /// `not_ready` until the image of all keys is built.
    pub fn installation_status(&self) -> Result<InstallationStatus, Error> {
        let (_, policy_version) = self.publisher.publication.policy()?;
        Ok(InstallationStatus {
            id: self.publisher.installation.id,
            key_prefix: self.publisher.installation.key_prefix.clone(),
            snapshot_version: self.publisher.publication.version()?,
            policy_version,
        })
    }
}
