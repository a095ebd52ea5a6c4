//! The differences between two versions, or between the effective policy and a draft.

use omniflow_domain::error::{Error, Facts, Missing};
use omniflow_domain::policy::PolicyComparison;
use omniflow_policy::policy::PolicyDocument;
use omniflow_policy::policy_diff::PolicyDiff;

use super::document::Draft;
use super::{Policies, conflicts};
use crate::publication::NumberedPolicy;
use crate::query;

/// Two versions to compare, as numbers in text. A missing or empty one is the effective policy.
#[derive(Clone, Debug, Default)]
pub struct CompareVersions {
    /// The earlier version.
    pub from: Option<String>,
    /// The later version.
    pub to: Option<String>,
}

impl Policies {
    /// Compares two versions.
    ///
    /// Fails with `invalid_query` if there is no such version.
    pub async fn compare_versions(&self, request: CompareVersions) -> Result<PolicyComparison, Error> {
        let from = self.version_or_current("from", request.from).await?;
        let to = self.version_or_current("to", request.to).await?;
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

    /// The version that the parameter `name` states, with its number; the effective policy if it states none.
    async fn version_or_current(
        &self,
        name: &'static str,
        value: Option<String>,
    ) -> Result<(u64, PolicyDocument), Error> {
        let Some(text) = query::present(value) else {
            let current = self.current()?;
            return Ok((current.version, current.policy.document().clone()));
        };
        let unknown = || {
            Error::invalid_query(name, format!("{name} must be a version of the policy"))
                .about(Facts::Missing(Missing::PolicyVersion))
        };
        let version = text.parse().map_err(|_| unknown())?;
        let stored = self.store.policy_version(version).await?.ok_or_else(unknown)?;
        Ok((stored.version, stored.document))
    }
}
