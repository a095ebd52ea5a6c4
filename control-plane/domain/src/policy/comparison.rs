//! Differences between two policies.

use omniflow_policy::policy_diff::PolicyDiff;

use crate::error::Error;

/// The differences between a version of the policy and another version or a draft.
#[derive(Clone, Debug)]
pub struct PolicyComparison {
    /// The earlier version.
    pub from: u64,
    /// The later version; `None` for a draft.
    pub to: Option<u64>,
    /// The errors with which publishing the draft would be refused at the moment. Empty when two versions are compared.
    pub blocked_by: Vec<Error>,
    /// The differences.
    pub diff: PolicyDiff,
}
