//! Setting the policy: a document replaces the one in effect, as a new version.

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::admin_event::{Action, NewAdminEvent, Subject};
use omniflow_domain::admin_event_state::policy_state;
use omniflow_domain::error::Error;
use omniflow_domain::gateway::Enforcement;
use omniflow_domain::policy::StoredPolicy;
use omniflow_domain::principal::Principal;
use omniflow_policy::policy::Policy;
use tokio::time::Instant;

use super::document::Draft;
use super::{Policies, conflicts};
use crate::precondition::Precondition;
use crate::publication::NumberedPolicy;
use crate::run_to_completion;

/// A document to publish.
pub struct SetPolicy {
    /// The document.
    pub draft: Draft,
    /// The versions that may be replaced.
    pub precondition: Precondition,
    /// How long to wait for gateways to enforce the change; `None` to return immediately.
    pub wait: Option<Duration>,
}

/// The policy in effect after a change.
pub struct EffectivePolicy {
    /// The policy and its version.
    pub current: NumberedPolicy,
    /// Its enforcement status; `None` without a wait.
    pub enforcement: Option<Enforcement>,
}

/// A policy that is committed.
struct Committed {
    current: NumberedPolicy,
    /// The snapshot version that contains it.
    snapshot: u64,
    /// When it was committed; `None` if it was already in effect.
    at: Option<Instant>,
}

impl Policies {
    /// Sets the policy. A document equal to the one in effect creates no new version.
    ///
    /// Fails with `version_mismatch` if the precondition does not hold, and with `scope_in_use` or `imports_in_use` if
    /// keys would lose their scopes or acceptance.
    pub async fn set(
        self: &Arc<Self>,
        principal: &Principal,
        request: SetPolicy,
    ) -> Result<EffectivePolicy, Error> {
        let SetPolicy { draft, precondition, wait } = request;
        // Before the publisher's turn, which other changes wait for.
        let policy = draft.compile(&self.publisher.installation.key_prefix).await?;
        self.make_effective(principal, Action::PolicySet, policy, precondition, wait).await
    }

    /// Makes a policy effective, and waits for the gateways if there is a `wait`.
    pub(super) async fn make_effective(
        self: &Arc<Self>,
        principal: &Principal,
        action: Action,
        policy: Policy,
        precondition: Precondition,
        wait: Option<Duration>,
    ) -> Result<EffectivePolicy, Error> {
        let (policies, principal) = (Arc::clone(self), principal.clone());
        let change = async move { policies.replace(&principal, action, policy, precondition).await };
        let Committed { current, snapshot, at } = run_to_completion(change).await?;
        let (publication, notifications) = (&self.publisher.publication, &self.notifications);
        let enforcement = self.fleet.enforcement_after(snapshot, publication, notifications, at, wait).await;
        Ok(EffectivePolicy { current, enforcement })
    }

    async fn replace(
        &self,
        principal: &Principal,
        action: Action,
        policy: Policy,
        precondition: Precondition,
    ) -> Result<Committed, Error> {
        // Changes that assign scopes to keys also hold the turn, so no scope is assigned while it is being removed.
        let _turn = self.publisher.turn().await;
        let current = self.current()?;
        precondition.check("The policy", current.version)?;
        if policy.document() == current.policy.document() {
            return Ok(Committed { current, snapshot: self.publisher.publication.version()?, at: None });
        }
        let mut transaction = self.store.begin().await?;
        conflicts::check(&mut *transaction, &current.policy, &policy).await?;
        let stored = StoredPolicy {
            version: current.version + 1,
            document: policy.document().clone(),
            created_by: principal.name.to_string(),
            created_at: self.clock.now(),
        };
        transaction.insert_policy(&stored).await?;
        transaction.insert_admin_event(&event(principal, action, current.version, &stored)).await?;
        let current = NumberedPolicy { version: stored.version, policy: Arc::new(policy) };
        let snapshot = self.publisher.commit_policy(transaction, current.clone()).await?;
        let at = Some(Instant::now());
        tracing::info!(
            policy = current.version,
            by = principal.name.as_str(),
            version = snapshot,
            %action,
            "policy set"
        );
        Ok(Committed { current, snapshot, at })
    }
}

fn event(principal: &Principal, action: Action, before: u64, after: &StoredPolicy) -> NewAdminEvent {
    NewAdminEvent {
        time: after.created_at,
        principal: principal.reference(),
        action,
        subject: Subject { id: after.version.to_string(), name: "policy".to_owned() },
        before: Some(policy_state(before)),
        after: Some(policy_state(after.version)),
    }
}
