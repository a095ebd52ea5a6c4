//! The differences between two versions, or between the effective policy and a draft.

use omniflow_domain::error::{Error, Missing};
use omniflow_domain::policy::PolicyComparison;
use omniflow_policy::policy::PolicyDocument;
use omniflow_policy::policy_diff::PolicyDiff;

use super::document::Draft;
use super::{Policies, conflicts};
use crate::publication::NumberedPolicy;

/// Two versions to compare. An absent one is the effective policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct CompareVersions {
    /// The earlier version.
    pub from: Option<u64>,
    /// The later version.
    pub to: Option<u64>,
}

/// Why two versions were not compared.
#[derive(Debug)]
pub enum CompareError {
    /// The policy has no such earlier version.
    UnknownFrom,
    /// The policy has no such later version.
    UnknownTo,
    /// The versions cannot be read.
    Failed(Error),
}

impl Policies {
    /// Compares two versions.
    pub async fn compare_versions(&self, request: CompareVersions) -> Result<PolicyComparison, CompareError> {
        let from = self.version_or_current(request.from).await?.ok_or(CompareError::UnknownFrom)?;
        let to = self.version_or_current(request.to).await?.ok_or(CompareError::UnknownTo)?;
        let diff = PolicyDiff::between(&from.1, &to.1);
        Ok(PolicyComparison { from: from.0, to: Some(to.0), blocked_by: Vec::new(), diff })
    }

    /// Compares the effective policy with a draft, which is checked as if it were set.
    pub async fn compare_draft(&self, draft: Draft) -> Result<PolicyComparison, Error> {
        let NumberedPolicy { version: from, policy: current } = self.current()?;
        let draft = draft.compile(current.key_prefix()).await?;
        let diff = PolicyDiff::between(current.document(), draft.document());
        let blocked_by = conflicts::of_draft(&*self.store, &current, &draft).await?;
        Ok(PolicyComparison { from, to: None, blocked_by, diff })
    }

    /// A version with its number, if it exists; the effective policy for `None`.
    async fn version_or_current(&self, version: Option<u64>) -> Result<Option<(u64, PolicyDocument)>, Error> {
        let Some(version) = version else {
            let current = self.current()?;
            return Ok(Some((current.version, current.policy.document().clone())));
        };
        let stored = self.store.policy_version(version).await?;
        Ok(stored.map(|stored| (stored.version, stored.document)))
    }
}

// === impl CompareError ===

impl From<Error> for CompareError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<CompareError> for Error {
    fn from(error: CompareError) -> Self {
        match error {
            CompareError::UnknownFrom | CompareError::UnknownTo => Self::missing(Missing::PolicyVersion),
            CompareError::Failed(error) => error,
        }
    }
}
