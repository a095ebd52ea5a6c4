//! Rolling back the policy: the document of an earlier version takes effect again, as a new version.

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::admin_event::Action;
use omniflow_domain::error::{Error, Facts, Missing};
use omniflow_domain::principal::Principal;
use omniflow_policy::policy::Policy;

use super::Policies;
use super::set::EffectivePolicy;
use crate::precondition::Precondition;

/// A version to publish again.
pub struct RollBack {
    /// Its number.
    pub version: u64,
    /// The versions that may be replaced.
    pub precondition: Precondition,
    /// How long to wait for gateways to enforce the change; `None` to return immediately.
    pub wait: Option<Duration>,
}

impl Policies {
    /// Sets the document of an earlier version again. One equal to the document in effect creates no new version.
    ///
    /// Fails with `invalid_field` if there is no such version or if it is no longer valid, and like [`Self::set`].
    pub async fn roll_back(
        self: &Arc<Self>,
        principal: &Principal,
        request: RollBack,
    ) -> Result<EffectivePolicy, Error> {
        let RollBack { version, precondition, wait } = request;
        // Before the publisher's turn, which other changes wait for.
        let policy = self.compiled_version(version).await?;
        self.make_effective(principal, Action::PolicyRolledBack, policy, precondition, wait).await
    }

    /// A stored version, ready to match.
    async fn compiled_version(&self, version: u64) -> Result<Policy, Error> {
        let invalid = |detail: String| Error::invalid_field("/version", detail);
        let stored = self.store.policy_version(version).await?.ok_or_else(|| {
            invalid(format!("the policy has no version {version}"))
                .about(Facts::Missing(Missing::PolicyVersion))
        })?;
        // A document that an earlier release accepted may be invalid in this one.
        Policy::compile(stored.document).map_err(|error| invalid(error.to_string()))
    }
}
