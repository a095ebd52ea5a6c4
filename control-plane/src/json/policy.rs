//! The policy in JSON.

use omniflow_policy::policy::PolicyDocument;
use serde::Serialize;

/// `GET /v1/policy`.
#[derive(Debug, Serialize)]
pub(crate) struct PolicyJson {
    /// The number of this version of the policy.
    pub(crate) version: u64,
    /// What it says.
    pub(crate) document: PolicyDocument,
}
