//! A human-readable explanation of a decision, step by step.
//!
//! Nothing is decided here: the steps are derived from the [`Decision`], so that an explanation cannot differ
//! from what the gateway does.

mod detail;

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::authorize::{Decision, Request};
use crate::credential::SentCredential;
use crate::denial::{Denial, Outcome};
use crate::limit::LimitDecision;
use crate::policy::Policy;

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The step.
    pub name: StepName,
    /// The result of the step.
    pub verdict: Verdict,
    /// Why the step refused, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Denial>,
    /// The facts, in plain sentences, without secrets.
    pub detail: String,
}

/// The steps, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    /// The request has one well-formed credential.
    Credential,
    /// The credential belongs to a key.
    Key,
    /// The key is neither revoked nor expired.
    Validity,
    /// The key may be used from the client's address.
    Address,
    /// The policy has a route for path and method.
    Route,
    /// The key has the scope that the route requires.
    Scope,
    /// The key's rate limits admit the call.
    Limit,
}

/// The outcome of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The request proceeds to the next step.
    Passed,
    /// The step denied the request.
    Refused,
    /// An earlier step decided, or the request skipped this step.
    NotReached,
}

/// The last step that a request reached, and the denial, if that step denied it.
#[derive(Clone, Copy)]
struct End {
    step: StepName,
    denial: Option<Denial>,
}

/// Returns all steps of a decision, including those that were not reached.
///
/// `sent` is the request's credential, or `None` if the key was given by name. `limit` is the decision of the
/// key's rate limits, or `None` if their counters are not available.
pub fn explain(
    policy: &Policy,
    sent: Option<Result<SentCredential<'_>, Denial>>,
    request: &Request<'_>,
    decision: &Decision<'_, '_>,
    limit: Option<&LimitDecision>,
) -> Vec<Step> {
    let end = End::of(decision, limit);
    let step = |name| {
        let verdict = end.verdict(name);
        let detail = match (name, verdict) {
            (StepName::Limit, _) => detail::limit(decision, verdict, limit),
            (_, Verdict::NotReached) => detail::NOT_REACHED.into(),
            (StepName::Credential, _) => detail::credential(policy, sent, decision.outcome),
            (StepName::Key, _) => detail::key(decision.credential.as_ref()),
            (StepName::Validity, _) => detail::validity(decision, request.now),
            (StepName::Address, _) => detail::address(decision, verdict, request),
            (StepName::Route, _) => detail::route(policy, decision, request),
            (StepName::Scope, _) => detail::scope(decision, verdict),
        };
        Step { name, verdict, reason: end.denial.filter(|_| verdict == Verdict::Refused), detail }
    };
    StepName::ALL.into_iter().map(step).collect()
}

// === impl Verdict ===

impl Verdict {
    /// The value in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Refused => "refused",
            Self::NotReached => "not_reached",
        }
    }
}

// === impl StepName ===

impl StepName {
    /// All steps, in order.
    pub const ALL: [Self; 7] =
        [Self::Credential, Self::Key, Self::Validity, Self::Address, Self::Route, Self::Scope, Self::Limit];

    /// The value in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Key => "key",
            Self::Validity => "validity",
            Self::Address => "address",
            Self::Route => "route",
            Self::Scope => "scope",
            Self::Limit => "limit",
        }
    }

    /// The step that refuses for this reason.
    pub const fn of(denial: Denial) -> Self {
        match denial {
            Denial::MissingCredentials | Denial::MalformedKey | Denial::AmbiguousCredentials => {
                Self::Credential
            }
            Denial::UnknownKey | Denial::PolicyUnavailable => Self::Key,
            Denial::KeyRevoked | Denial::KeyExpired => Self::Validity,
            Denial::IpNotAllowed => Self::Address,
            Denial::AmbiguousPath | Denial::RouteNotMapped | Denial::MethodOverridden => Self::Route,
            Denial::InsufficientScope => Self::Scope,
            Denial::RateLimited => Self::Limit,
        }
    }
}

// === impl End ===

impl End {
    fn of(decision: &Decision<'_, '_>, limit: Option<&LimitDecision>) -> Self {
        let refused = |denial| Self { step: StepName::of(denial), denial: Some(denial) };
        let passed = |step| Self { step, denial: None };
        match (decision.outcome, limit) {
            (Outcome::Denied(denial), _) => refused(denial),
            (Outcome::PassedThrough, _) => passed(StepName::Credential),
            (Outcome::Allowed, Some(LimitDecision::Refused { .. })) => refused(Denial::RateLimited),
            (Outcome::Allowed, _) if decision.is_introspection => passed(StepName::Limit),
            (Outcome::Allowed, Some(LimitDecision::Admitted { .. })) => passed(StepName::Limit),
            (Outcome::Allowed, None) => passed(StepName::Scope),
        }
    }

    fn verdict(self, step: StepName) -> Verdict {
        match self.denial {
            Some(_) if step == self.step => Verdict::Refused,
            _ if step <= self.step => Verdict::Passed,
            _ => Verdict::NotReached,
        }
    }
}

#[cfg(test)]
mod tests;
