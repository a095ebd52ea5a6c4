//! The policy in JSON.

use std::borrow::Cow;

use omniflow_policy::denial::Outcome;
use omniflow_policy::explain::Step;
use omniflow_policy::key::KeyPrefix;
use omniflow_policy::payload::PayloadPolicy;
use omniflow_policy::policy::{PolicyDocument, RouteDefinition, ScopeDefinition};
use omniflow_policy::policy_diff::{Change, PolicyDiff, RouteDiff, ScopeDiff};
use serde::{Deserialize, Serialize};

use super::gateway::EnforcementJson;
use super::schema;
use super::time::Time;
use omniflow_domain::error::Error;
use omniflow_domain::policy::{
    Explanation, PolicyComparison, PolicyVersion, ReplayChange, ReplayCounts, ReplayReport, StoredPolicy,
};
use utoipa::ToSchema;
use uuid::Uuid;

/// Response of `GET` and `PUT /v1/policy`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Policy)]
pub struct PolicyJson {
    /// Version number.
    #[schema(minimum = 1)]
    pub version: u64,
    /// The policy document.
    #[schema(value_type = schema::PolicyDocument)]
    pub document: PolicyDocument,
    /// Enforcement status of the change. Present only with `?wait=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = EnforcementJson)]
    pub enforcement: Option<EnforcementJson>,
}

/// A version of the policy, without its document.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = PolicyVersion)]
pub struct PolicyVersionJson {
    /// Version number.
    pub version: u64,
    /// Name of the token that set the version.
    pub created_by: String,
    /// When the version was set.
    #[schema(value_type = schema::Instant)]
    pub created_at: Time,
}

/// A version of the policy.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = StoredPolicy)]
pub struct StoredPolicyJson {
    /// Version number.
    pub version: u64,
    /// Document of the version.
    #[schema(value_type = schema::PolicyDocument)]
    pub document: PolicyDocument,
    /// Name of the token that set the version.
    pub created_by: String,
    /// When the version was set.
    #[schema(value_type = schema::Instant)]
    pub created_at: Time,
}

/// A conflict that currently prevents the policy from being set.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Obstacle)]
pub struct ObstacleJson {
    /// Error code that a request to set the policy would return.
    #[schema(value_type = String)]
    pub code: Cow<'static, str>,
    /// What the conflict is, and how to resolve it.
    pub detail: String,
}

/// Differences between two policies.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = PolicyDiff)]
pub struct PolicyDiffJson {
    /// The earlier version.
    pub from: u64,
    /// The later version; null for a draft.
    #[schema(required = true)]
    pub to: Option<u64>,
    /// Conflicts that must be resolved before the draft can be set. Empty when two versions are compared.
    pub blocked_by: Vec<ObstacleJson>,
    /// Prefix of all keys, if different.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::ChangedText)]
    pub key_prefix: Option<Change<KeyPrefix>>,
    /// Whether gateways accept imported keys, if different.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::ChangedFlag)]
    pub imported_keys: Option<Change<bool>>,
    /// The parts of the call arguments that are stored, if different.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::ChangedPayloads)]
    pub payloads: Option<Change<PayloadPolicy>>,
    /// The scopes that differ, sorted by name.
    #[schema(value_type = schema::ScopeDiff)]
    pub scopes: ScopeDiff,
    /// The routes that differ, sorted by path and method.
    #[schema(value_type = schema::RouteDiff)]
    pub routes: RouteDiff,
}

/// Body of `POST /v1/policy/rollback`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"version": 1}))]
pub struct RollBack {
    /// Version to publish again.
    #[schema(minimum = 1, maximum = 9_223_372_036_854_775_807_i64)]
    pub version: u64,
}

/// Body of `PUT /v1/policy`: the policy document.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "scopes": [{"name": "orders:read", "description": "Read orders"}],
    "routes": [{"path": "/shop/orders/{id}", "methods": ["read"], "scope": "orders:read"}],
}))]
pub struct SetPolicy {
    /// Prefix of all keys. It cannot be changed; the current one if omitted.
    #[schema(value_type = Option<schema::Prefix>)]
    pub key_prefix: Option<KeyPrefix>,
    /// Whether gateways accept imported keys, which have a different format.
    #[serde(default)]
    pub imported_keys: bool,
    /// The parts of the call arguments that are stored.
    #[schema(value_type = Option<schema::PayloadPolicy>)]
    pub payloads: Option<PayloadPolicy>,
    /// Scopes that keys can grant.
    #[schema(value_type = Vec<schema::ScopeDefinition>, max_items = 500)]
    pub scopes: Vec<ScopeDefinition>,
    /// Routes that keys can call.
    #[schema(value_type = Vec<schema::RouteDefinition>, max_items = 2_000)]
    pub routes: Vec<RouteDefinition>,
}

/// Body of `POST /v1/policy/explain`: a request, and either the key that sends it or the headers with its credential.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "key": "crm-sync", "method": "GET", "path": "/api/v1/contacts", "source_ip": "203.0.113.7",
}))]
pub struct ExplainRequest {
    /// Name or identifier of the key.
    pub key: Option<String>,
    /// Version of the key; the newest accepted one if omitted.
    #[schema(minimum = 1, maximum = 65_535)]
    pub version: Option<u16>,
    /// Request headers, as pairs of name and value, instead of `key`. They are never logged or stored.
    #[schema(value_type = Option<Vec<schema::Header>>)]
    pub headers: Option<Vec<(String, String)>>,
    /// HTTP method.
    pub method: String,
    /// Path, with the query string if there is one.
    pub path: String,
    /// Address of the client; unknown if omitted.
    #[schema(value_type = Option<schema::Address>)]
    pub source_ip: Option<String>,
    /// Time of the call; now if omitted.
    #[schema(value_type = Option<schema::Instant>)]
    pub at: Option<String>,
    /// Number of calls that the key made immediately before. If omitted, rate limits are not checked.
    #[schema(maximum = 100_000)]
    pub calls_before: Option<u32>,
    /// Draft to check against, instead of the effective policy.
    pub policy: Option<SetPolicy>,
}

/// The decision on a request, and the reasons for it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Explanation)]
pub struct ExplanationJson {
    /// Whether the request would be allowed or denied.
    #[schema(value_type = schema::Decision)]
    pub decision: Cow<'static, str>,
    /// Reason for the decision.
    #[schema(value_type = schema::Reason)]
    pub reason: Cow<'static, str>,
    /// HTTP status of the refusal; null if the request would be allowed.
    #[schema(required = true)]
    pub status: Option<u16>,
    /// Identifier of the key; null if the request uses no known key.
    #[schema(value_type = Option<schema::Identifier>, required = true)]
    pub key_id: Option<Uuid>,
    /// Name of the key; null if the request uses no known key.
    #[schema(required = true)]
    pub key_name: Option<String>,
    /// Version of the key; null if the request uses no known key.
    #[schema(required = true)]
    pub version_id: Option<u16>,
    /// Path template of the route; null if no route matches.
    #[schema(required = true)]
    pub endpoint: Option<String>,
    /// Scope that the route requires; null if there is none.
    #[schema(value_type = Option<schema::Scope>, required = true)]
    pub required_scope: Option<String>,
    /// Rate limit that refuses the request; null if none does.
    #[schema(value_type = Option<schema::WindowWord>, required = true)]
    pub limit: Option<Cow<'static, str>>,
    /// Version of the policy; null for a draft.
    #[schema(required = true)]
    pub policy_version: Option<u64>,
    /// Steps of the decision, in order.
    #[schema(value_type = Vec<schema::Step>)]
    pub steps: Vec<Step>,
}

/// Response of `POST /v1/policy/replay`: what a draft would have changed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Replay)]
pub struct ReplayJson {
    /// Version that the draft was compared with.
    pub policy_version: u64,
    /// Conflicts that must be resolved before the draft can be set.
    pub blocked_by: Vec<ObstacleJson>,
    /// When the oldest replayed call began; null if there was none.
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub oldest: Option<Time>,
    /// Whether all selected calls were replayed. If false, the oldest ones were not.
    pub complete: bool,
    /// Number of calls by result.
    #[serde(flatten)]
    #[schema(inline)]
    pub counts: ReplayCountsJson,
    /// The calls that would be decided differently, grouped by key, method, endpoint and reasons.
    pub changes: Vec<ReplayChangeJson>,
    /// Whether there are more groups than are listed.
    pub more_changes: bool,
}

/// Number of calls by result.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ReplayCounts)]
pub struct ReplayCountsJson {
    /// Number of replayed calls.
    pub calls: u64,
    /// Calls that both policies allow.
    pub still_allowed: u64,
    /// Calls that both policies refuse, possibly for different reasons.
    pub still_refused: u64,
    /// Calls that the effective policy allows and the draft refuses.
    pub newly_refused: u64,
    /// Calls that the effective policy refuses and the draft allows. Rate limits are not considered.
    pub newly_allowed: u64,
    /// Calls whose decision does not depend on the policy: calls without a key, with an invalid key, or from an address
    /// from which the key may not be used.
    pub unaffected: u64,
    /// Calls whose record has too little detail: the path was truncated, its route depends on a redacted part, or the key no longer exists.
    pub not_replayable: u64,
    /// Number of keys with calls that would newly be refused.
    pub keys_newly_refused: usize,
    /// Number of keys with calls that would newly be allowed.
    pub keys_newly_allowed: usize,
}

/// Calls with the same key, method and endpoint that would be decided differently.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ReplayChange)]
pub struct ReplayChangeJson {
    /// Identifier of the key.
    #[schema(value_type = schema::Identifier)]
    pub key_id: Uuid,
    /// Name of the key.
    #[schema(required = true)]
    pub key_name: Option<String>,
    /// HTTP method.
    pub method: String,
    /// Path template of the route in the draft, or of the recorded route if the draft has none.
    #[schema(required = true)]
    pub endpoint: Option<String>,
    /// Reason for the decision under the effective policy.
    #[schema(value_type = schema::Reason)]
    pub before: Cow<'static, str>,
    /// Reason for the decision under the draft.
    #[schema(value_type = schema::Reason)]
    pub after: Cow<'static, str>,
    /// Number of calls.
    pub calls: u64,
    /// ID of the newest of these calls in the audit log.
    #[schema(value_type = schema::Number)]
    pub newest_record: String,
    /// Path of the newest of these calls.
    pub newest_path: String,
}

impl From<Explanation> for ExplanationJson {
    fn from(explanation: Explanation) -> Self {
        let Explanation { outcome, key, endpoint, required_scope, exhausted, policy_version, steps } =
            explanation;
        let (key_id, version_id) = (key.as_ref().map(|key| key.id), key.as_ref().map(|key| key.version));
        Self {
            decision: outcome.decision().into(),
            reason: outcome.reason().into(),
            status: match outcome {
                Outcome::Denied(denial) => Some(denial.status()),
                Outcome::Allowed | Outcome::PassedThrough => None,
            },
            key_id,
            key_name: key.map(|key| key.name),
            version_id,
            endpoint,
            required_scope,
            limit: exhausted.map(Into::into),
            policy_version,
            steps,
        }
    }
}

impl From<PolicyComparison> for PolicyDiffJson {
    fn from(comparison: PolicyComparison) -> Self {
        let PolicyComparison { from, to, blocked_by, diff } = comparison;
        let PolicyDiff { key_prefix, imported_keys, payloads, scopes, routes } = diff;
        let blocked_by = blocked_by.into_iter().map(ObstacleJson::from).collect();
        Self { from, to, blocked_by, key_prefix, imported_keys, payloads, scopes, routes }
    }
}

impl From<ReplayReport> for ReplayJson {
    fn from(report: ReplayReport) -> Self {
        let ReplayReport { policy_version, blocked_by, oldest, complete, counts, changes, more_changes } =
            report;
        Self {
            policy_version,
            blocked_by: blocked_by.into_iter().map(ObstacleJson::from).collect(),
            oldest: oldest.map(Time),
            complete,
            counts: counts.into(),
            changes: changes.into_iter().map(ReplayChangeJson::from).collect(),
            more_changes,
        }
    }
}

impl From<ReplayCounts> for ReplayCountsJson {
    fn from(counts: ReplayCounts) -> Self {
        Self {
            calls: counts.calls,
            still_allowed: counts.still_allowed,
            still_refused: counts.still_refused,
            newly_refused: counts.newly_refused,
            newly_allowed: counts.newly_allowed,
            unaffected: counts.unaffected,
            not_replayable: counts.not_replayable,
            keys_newly_refused: counts.keys_newly_refused,
            keys_newly_allowed: counts.keys_newly_allowed,
        }
    }
}

impl From<ReplayChange> for ReplayChangeJson {
    fn from(change: ReplayChange) -> Self {
        let ReplayChange {
            key_id,
            key_name,
            method,
            endpoint,
            before,
            after,
            calls,
            newest_record,
            newest_path,
        } = change;
        let newest_record = newest_record.to_string();
        let (before, after) = (before.reason().into(), after.reason().into());
        Self { key_id, key_name, method, endpoint, before, after, calls, newest_record, newest_path }
    }
}

impl From<Error> for ObstacleJson {
    fn from(error: Error) -> Self {
        Self { code: error.code().as_str().into(), detail: error.detail().to_owned() }
    }
}

impl From<PolicyVersion> for PolicyVersionJson {
    fn from(stored: PolicyVersion) -> Self {
        let PolicyVersion { version, created_by, created_at } = stored;
        Self { version, created_by, created_at: Time(created_at) }
    }
}

impl From<StoredPolicy> for StoredPolicyJson {
    fn from(stored: StoredPolicy) -> Self {
        let StoredPolicy { version, document, created_by, created_at } = stored;
        Self { version, document, created_by, created_at: Time(created_at) }
    }
}
