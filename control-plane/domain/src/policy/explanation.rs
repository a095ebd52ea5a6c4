//! The decision on one request, step by step.

use omniflow_policy::authorize::Decision;
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::explain::Step;
use omniflow_policy::limit::{INTROSPECTION_LIMIT_NAME, LimitDecision};
use uuid::Uuid;

/// The decision on one request, and the steps that lead to it.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The decision, limits included.
    pub outcome: Outcome,
    /// The key of the request, if its credential belongs to a key.
    pub key: Option<ExplainedKey>,
    /// The path template of the matching route.
    pub endpoint: Option<String>,
    /// The scope that the route requires.
    pub required_scope: Option<String>,
    /// The limit that is exhausted, if one is: `minute`, `hour` or `introspection`.
    pub exhausted: Option<&'static str>,
    /// The version of the policy; `None` for a draft.
    pub policy_version: Option<u64>,
    /// The steps, in the order in which gateways take them.
    pub steps: Vec<Step>,
}

/// The key of an explained request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedKey {
    /// Its identifier.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The version whose secret the request has.
    pub version: u16,
}

// === impl Explanation ===

impl Explanation {
    /// The explanation of a decision and of the limits that apply after it.
    pub fn new(
        decision: &Decision<'_, '_>,
        limit: Option<&LimitDecision>,
        policy_version: Option<u64>,
        steps: Vec<Step>,
    ) -> Self {
        let exhausted = match limit {
            Some(LimitDecision::Refused { .. }) if decision.is_introspection => {
                Some(INTROSPECTION_LIMIT_NAME)
            }
            Some(LimitDecision::Refused { report, .. }) => Some(report.window.as_str()),
            _ => None,
        };
        let key = decision.credential.map(|key| ExplainedKey {
            id: key.key_id,
            name: key.name.to_owned(),
            version: key.version,
        });
        let route = decision.route;
        Self {
            outcome: exhausted.map_or(decision.outcome, |_| Outcome::Denied(Denial::RateLimited)),
            key,
            endpoint: route.map(|route| route.template.to_owned()),
            required_scope: route.and_then(|route| route.scope).map(ToString::to_string),
            exhausted,
            policy_version,
            steps,
        }
    }
}
