//! The policy in JSON.

use omniflow_policy::key::KeyPrefix;
use omniflow_policy::policy::{PolicyDocument, RouteDefinition, ScopeDefinition};
use serde::{Deserialize, Serialize};

use super::gateway::EnforcementJson;

/// `GET` and `PUT /v1/policy`.
#[derive(Debug, Serialize)]
pub(crate) struct PolicyJson {
    /// The number of this version of the policy.
    pub(crate) version: u64,
    /// What it says.
    pub(crate) document: PolicyDocument,
    /// How far it is in force, where the caller waited for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) enforcement: Option<EnforcementJson>,
}

/// `PUT /v1/policy`: the document. A key prefix that is not stated is the one that there is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetPolicy {
    /// How all keys begin.
    pub(crate) key_prefix: Option<KeyPrefix>,
    /// Whether credentials of another form may be imported keys.
    #[serde(default)]
    pub(crate) imported_keys: bool,
    /// The scopes that a key may be given.
    pub(crate) scopes: Vec<ScopeDefinition>,
    /// The routes that keys may call.
    pub(crate) routes: Vec<RouteDefinition>,
}
