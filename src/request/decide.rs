//! The decision on a request: `omniflow_policy::authorize` with this VM's snapshot, then the limits of the key.

use std::net::IpAddr;

use omniflow_policy::audit::{AuditKey, MAX_PATH, clip};
use omniflow_policy::authorize::{
    Call, CredentialView, GatewaySettings, Request, authorize, authorize_redirected,
};
use omniflow_policy::credential::{SentCredential, find_credential, find_method, find_token_beside};
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::digest::Digest;
use omniflow_policy::limit::{INTROSPECTION_LIMIT_NAME, LimitDecision, LimitReport};
use omniflow_policy::path::split_query;
use omniflow_policy::policy::Policy;
use omniflow_policy::scope::Scope;
use omniflow_policy::time::{MonotonicNanos, UnixMillis};

use super::headers::RequestHeaders;
use super::introspection::Introspection;
use crate::host;
use crate::limits;
use crate::snapshot::view::{SegmentUnavailable, Segments};
use crate::vm::Vm;

/// A decision, with everything that follows from it.
pub(super) struct Decision {
    pub(super) outcome: Outcome,
    /// The path as it is recorded.
    pub(super) path: String,
    /// The template of the route.
    pub(super) endpoint: Option<String>,
    pub(super) key: Option<AuditKey>,
    /// The key's scopes, separated by spaces.
    pub(super) scopes: String,
    pub(super) limits: Option<LimitReport>,
    /// The credential, if the client used a key that exists.
    pub(super) credential: Option<UsedCredential>,
    /// Whether the call was charged to the limits of its key. The number of other calls is unbounded.
    pub(super) is_metered: bool,
    /// The maximum number of payload bytes to keep.
    pub(super) payload_bytes: usize,
    pub(super) details: DenialDetails,
    /// The response to a client that queries its own key.
    pub(super) introspection: Option<Introspection>,
}

/// A credential that a call was decided on.
#[derive(Clone, Copy, Debug)]
pub(super) struct UsedCredential {
    pub(super) digest: Digest,
    /// End of its validity.
    pub(super) not_after: Option<UnixMillis>,
}

/// Details of a denial besides its code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DenialDetails {
    /// The scope that the route requires.
    pub(super) required_scope: Option<Scope>,
    /// The exhausted limit: `minute`, `hour` or `introspection`.
    pub(super) limit: Option<&'static str>,
    /// Seconds until the next call is allowed.
    pub(super) retry_after: Option<u64>,
}

impl Decision {
    /// A decision on a client with this key.
    fn of_key(outcome: Outcome, path: String, key: &CredentialView<'_>) -> Self {
        let audit_key = AuditKey {
            id: key.key_id,
            name: key.name.to_owned(),
            version: key.version,
            environment: key.environment,
        };
        Self {
            key: Some(audit_key),
            scopes: key.scopes.to_owned(),
            ..Self::unidentified(outcome, path, None)
        }
    }

    /// A decision on a client without a known key.
    fn unidentified(outcome: Outcome, path: String, endpoint: Option<String>) -> Self {
        Self {
            outcome,
            path,
            endpoint,
            key: None,
            scopes: String::new(),
            limits: None,
            credential: None,
            is_metered: false,
            payload_bytes: 0,
            details: DenialDetails::default(),
            introspection: None,
        }
    }
}

/// Decides on a request and charges its limits. `charged`: the key that was charged for a request that Envoy has redirected
/// to this one. It is not charged again.
pub(super) fn decide(
    vm: &Vm,
    request: &mut RequestHeaders<'_>,
    source: Option<IpAddr>,
    now: UnixMillis,
    monotonic: MonotonicNanos,
    charged: Option<(UsedCredential, LimitReport)>,
) -> Decision {
    let mut snapshot = vm.snapshot.borrow_mut();
    let Some((policy, mut segments)) = snapshot.open(monotonic, vm.config.max_snapshot_age) else {
        // Without a policy, only the control plane can redact the path.
        let path = clip(split_query(request.target()).0, MAX_PATH);
        return Decision::unidentified(Outcome::Denied(Denial::PolicyUnavailable), path, None);
    };
    let settings = &vm.config.settings;
    let method = find_method(request.iter(), request.method(), settings.method_override);
    if let Ok(method) = method
        && method != request.method()
    {
        request.override_method(method);
        host::replace_request_header(":method", method);
    }
    let credential = find_only_credential(request, policy, settings, &mut segments);
    let call = Call {
        credential: credential.unwrap_or(Err(Denial::PolicyUnavailable)),
        request: Request {
            method: request.method(),
            is_method_overridden: method.is_err(),
            target: request.target(),
            source,
            now,
        },
    };
    let mut segment_unavailable = false;
    let mut used = None;
    let find = |digest: &Digest| {
        used = Some(*digest);
        segments.find(digest).unwrap_or_else(|_| {
            segment_unavailable = true;
            None
        })
    };
    let decision = match &charged {
        Some((credential, _)) => {
            authorize_redirected(policy, settings, &call.request, &credential.digest, find)
        }
        None => authorize(policy, settings, &call, find),
    };
    let path = policy.recorded_path(decision.route, request.target());
    let endpoint = decision.route.map(|route| route.template.to_owned());
    if segment_unavailable {
        return Decision::unidentified(Outcome::Denied(Denial::PolicyUnavailable), path, endpoint);
    }
    let Some(key) = &decision.credential else {
        return Decision::unidentified(decision.outcome, path, endpoint);
    };
    let mut details = DenialDetails::default();
    if decision.outcome == Outcome::Denied(Denial::InsufficientScope) {
        details.required_scope = decision.route.and_then(|route| route.scope).cloned();
    }
    let (outcome, limits) = match decision.outcome {
        Outcome::Allowed if decision.is_introspection => {
            charge_introspection(vm, key, &mut details, monotonic)
        }
        Outcome::Allowed => match charged {
            Some((_, limits)) => (Outcome::Allowed, limits),
            None => charge(vm, key, &mut details, monotonic),
        },
        outcome => (outcome, limits::report(&vm.names, key.key_id, &key.rate_limit, monotonic)),
    };
    let is_introspection = decision.is_introspection && outcome == Outcome::Allowed;
    Decision {
        endpoint,
        introspection: is_introspection.then(|| Introspection::new(key, &limits)),
        limits: Some(limits),
        credential: used.map(|digest| UsedCredential { digest, not_after: key.not_after }),
        is_metered: outcome == Outcome::Allowed && !is_introspection,
        // Refused calls are unbounded, so their payloads are not kept.
        payload_bytes: if outcome == Outcome::Allowed { policy.payload_bytes(decision.route) } else { 0 },
        details,
        ..Decision::of_key(outcome, path, key)
    }
}

/// The credential of a request. A bearer token beside it, which the upstream would receive, must not be a key.
fn find_only_credential<'a>(
    request: &RequestHeaders<'a>,
    policy: &Policy,
    settings: &GatewaySettings,
    segments: &mut Segments<'_>,
) -> Result<Result<SentCredential<'a>, Denial>, SegmentUnavailable> {
    let (prefix, counts) = (policy.key_prefix(), settings.credential_header);
    let beside = find_token_beside(request.iter(), prefix, counts);
    match beside.filter(|token| policy.may_be_imported(token)) {
        Some(token) if segments.has(&Digest::of(token))? => Ok(Err(Denial::AmbiguousCredentials)),
        _ => Ok(find_credential(request.iter(), prefix, counts)),
    }
}

/// Charges the limits of a key. Only calls that are otherwise allowed are charged.
fn charge(
    vm: &Vm,
    key: &CredentialView<'_>,
    details: &mut DenialDetails,
    now: MonotonicNanos,
) -> (Outcome, LimitReport) {
    match limits::charge(&vm.names, key.key_id, &key.rate_limit, now) {
        Some(LimitDecision::Admitted { report, .. }) => (Outcome::Allowed, report),
        Some(LimitDecision::Refused { report, retry_after_seconds }) => {
            details.limit = Some(report.window.as_str());
            details.retry_after = Some(retry_after_seconds);
            (Outcome::Denied(Denial::RateLimited), report)
        }
        None => {
            let report = limits::report(&vm.names, key.key_id, &key.rate_limit, now);
            (Outcome::Denied(Denial::PolicyUnavailable), report)
        }
    }
}

/// Charges an introspection. An allowed one reports the key's own limits, a refused one the exhausted limit.
fn charge_introspection(
    vm: &Vm,
    key: &CredentialView<'_>,
    details: &mut DenialDetails,
    now: MonotonicNanos,
) -> (Outcome, LimitReport) {
    let own = || limits::report(&vm.names, key.key_id, &key.rate_limit, now);
    match limits::charge_introspection(&vm.names, key.key_id, now) {
        Some(LimitDecision::Admitted { .. }) => (Outcome::Allowed, own()),
        Some(LimitDecision::Refused { report, retry_after_seconds }) => {
            details.limit = Some(INTROSPECTION_LIMIT_NAME);
            details.retry_after = Some(retry_after_seconds);
            (Outcome::Denied(Denial::RateLimited), report)
        }
        None => (Outcome::Denied(Denial::PolicyUnavailable), own()),
    }
}
