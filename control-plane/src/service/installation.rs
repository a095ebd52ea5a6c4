//! The installation and the versions that are in effect.

use omniflow_policy::key::KeyPrefix;
use uuid::Uuid;

use super::publisher::Publisher;
use omniflow_domain::error::Error;

/// An installation with the versions that are in effect.
#[derive(Clone, Debug)]
pub(crate) struct InstallationStatus {
    /// Its identifier.
    pub(crate) id: Uuid,
    /// The prefix of its keys and tokens.
    pub(crate) key_prefix: KeyPrefix,
    /// The version of the published snapshot.
    pub(crate) snapshot_version: u64,
    /// The version of the policy in it.
    pub(crate) policy_version: u64,
}

// === impl Publisher ===

impl Publisher {
    /// The installation and the versions that are in effect.
    ///
    /// # Errors
    ///
    /// `not_ready` until the image of all keys is built.
    pub(crate) fn installation_status(&self) -> Result<InstallationStatus, Error> {
        let (_, policy_version) = self.publication.policy()?;
        Ok(InstallationStatus {
            id: self.installation.id,
            key_prefix: self.installation.key_prefix.clone(),
            snapshot_version: self.publication.version()?,
            policy_version,
        })
    }
}
