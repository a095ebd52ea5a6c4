//! How two policies differ.

use omniflow_policy::policy_diff::PolicyDiff;

use crate::error::Error;

/// How a version of the policy differs from another version or from a draft.
#[derive(Clone, Debug)]
pub struct PolicyComparison {
    /// The earlier version.
    pub from: u64,
    /// The later version; `None` for a draft.
    pub to: Option<u64>,
    /// The errors with which setting the draft would be refused now. Empty between two versions.
    pub blocked_by: Vec<Error>,
    /// The differences.
    pub diff: PolicyDiff,
}
