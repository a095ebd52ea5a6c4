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

/// `GET` and `PUT /v1/policy`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Policy)]
pub struct PolicyJson {
    /// The number of this version of the policy.
    #[schema(minimum = 1)]
    pub version: u64,
    /// What it says.
    #[schema(value_type = schema::PolicyDocument)]
    pub document: PolicyDocument,
    /// How far it is enforced, where the client waited for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = EnforcementJson)]
    pub enforcement: Option<EnforcementJson>,
}

/// A version of the policy, without what it says.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = PolicyVersion)]
pub struct PolicyVersionJson {
    /// Number of the version.
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
    /// Number of the version.
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

/// For what a policy would be refused if it were set now.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Obstacle)]
pub struct ObstacleJson {
    /// The code of the refusal.
    #[schema(value_type = String)]
    pub code: Cow<'static, str>,
    /// What to do.
    pub detail: String,
}

/// What differs between two policies.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = PolicyDiff)]
pub struct PolicyDiffJson {
    /// The version before.
    pub from: u64,
    /// The version after; null for a draft.
    #[schema(required = true)]
    pub to: Option<u64>,
    /// What stands in a draft's way: until it is gone, the draft cannot be set. Empty between two versions.
    pub blocked_by: Vec<ObstacleJson>,
    /// How all keys begin, where it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::ChangedText)]
    pub key_prefix: Option<Change<KeyPrefix>>,
    /// Whether gateways take keys of another form as well, where it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::ChangedFlag)]
    pub imported_keys: Option<Change<bool>>,
    /// What is kept of the arguments of calls, where it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::ChangedPayloads)]
    pub payloads: Option<Change<PayloadPolicy>>,
    /// The scopes that differ, by name.
    #[schema(value_type = schema::ScopeDiff)]
    pub scopes: ScopeDiff,
    /// The routes that differ, by path and method.
    #[schema(value_type = schema::RouteDiff)]
    pub routes: RouteDiff,
}

/// `POST /v1/policy/rollback`.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"version": 1}))]
pub struct RollBack {
    /// The version whose document is to become effective again.
    #[schema(minimum = 1, maximum = 9_223_372_036_854_775_807_i64)]
    pub version: u64,
}

/// `PUT /v1/policy`: the document. A key prefix that is not stated is the one that there is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "scopes": [{"name": "orders:read", "description": "Read orders"}],
    "routes": [{"path": "/shop/orders/{id}", "methods": ["read"], "scope": "orders:read"}],
}))]
pub struct SetPolicy {
    /// How all keys begin.
    #[schema(value_type = Option<schema::Prefix>)]
    pub key_prefix: Option<KeyPrefix>,
    /// Whether credentials of another form may be imported keys.
    #[serde(default)]
    pub imported_keys: bool,
    /// What is kept of the arguments of calls.
    #[schema(value_type = Option<schema::PayloadPolicy>)]
    pub payloads: Option<PayloadPolicy>,
    /// The scopes that a key may be given.
    #[schema(value_type = Vec<schema::ScopeDefinition>, max_items = 500)]
    pub scopes: Vec<ScopeDefinition>,
    /// The routes that keys may call.
    #[schema(value_type = Vec<schema::RouteDefinition>, max_items = 2_000)]
    pub routes: Vec<RouteDefinition>,
}

/// `POST /v1/policy/explain`: one request, of a key by name or with the headers that carry its credential.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "key": "crm-sync", "method": "GET", "path": "/api/v1/contacts", "source_ip": "203.0.113.7",
}))]
pub struct ExplainRequest {
    /// Name or identifier of a key.
    pub key: Option<String>,
    /// Which version of it; the newest that is accepted if not stated.
    #[schema(minimum = 1, maximum = 65_535)]
    pub version: Option<u16>,
    /// Name and value of each header, in place of a key. Never logged or stored.
    #[schema(value_type = Option<Vec<schema::Header>>)]
    pub headers: Option<Vec<(String, String)>>,
    /// The method.
    pub method: String,
    /// The path, with its query string if it has one.
    pub path: String,
    /// The client's address; not known if not stated.
    #[schema(value_type = Option<schema::Address>)]
    pub source_ip: Option<String>,
    /// When the call is made; now if not stated.
    #[schema(value_type = Option<schema::Instant>)]
    pub at: Option<String>,
    /// How many calls the key has made at that moment; limits are left out if not stated.
    #[schema(maximum = 100_000)]
    pub calls_before: Option<u32>,
    /// A draft, in place of the effective policy.
    pub policy: Option<SetPolicy>,
}

/// What becomes of a request, and why.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Explanation)]
pub struct ExplanationJson {
    /// Whether the request would be allowed or denied.
    #[schema(value_type = schema::Decision)]
    pub decision: Cow<'static, str>,
    /// Reason of the decision.
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

/// `POST /v1/policy/replay`: what a draft would have changed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Replay)]
pub struct ReplayJson {
    /// The version that the draft was compared with.
    pub policy_version: u64,
    /// What stands in the draft's way: until it is gone, the draft cannot be set.
    pub blocked_by: Vec<ObstacleJson>,
    /// When the oldest call was made that was replayed.
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub oldest: Option<Time>,
    /// Whether that is all there is; otherwise older calls were left out.
    pub complete: bool,
    /// How many calls there are of each kind.
    #[serde(flatten)]
    #[schema(inline)]
    pub counts: ReplayCountsJson,
    /// The calls that would be decided otherwise, those of one kind as one.
    pub changes: Vec<ReplayChangeJson>,
    /// Whether there are more kinds than are listed.
    pub more_changes: bool,
}

/// How many calls there are of each kind.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ReplayCounts)]
pub struct ReplayCountsJson {
    /// All of them.
    pub calls: u64,
    /// Allowed by both policies.
    pub still_allowed: u64,
    /// Refused by both, perhaps for another reason.
    pub still_refused: u64,
    /// Allowed by the effective policy, refused by the draft.
    pub newly_refused: u64,
    /// Refused by the effective policy, allowed by the draft; their limits aside.
    pub newly_allowed: u64,
    /// Decided before any policy counts: no key, one that is not valid, or not from there.
    pub unaffected: u64,
    /// Of which the record does not tell enough: its path was cut or redacted.
    pub not_replayable: u64,
    /// The keys whose calls would be refused.
    pub keys_newly_refused: usize,
    /// The keys whose calls would be allowed.
    pub keys_newly_allowed: usize,
}

/// Calls of one key, method and endpoint that would be decided otherwise.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = ReplayChange)]
pub struct ReplayChangeJson {
    /// The key.
    #[schema(value_type = schema::Identifier)]
    pub key_id: Uuid,
    /// Its name.
    #[schema(required = true)]
    pub key_name: Option<String>,
    /// The method.
    pub method: String,
    /// The route that the draft has for it, or else the one that was recorded.
    #[schema(required = true)]
    pub endpoint: Option<String>,
    /// The reason code by the effective policy.
    #[schema(value_type = schema::Reason)]
    pub before: Cow<'static, str>,
    /// The reason code by the draft.
    #[schema(value_type = schema::Reason)]
    pub after: Cow<'static, str>,
    /// How many calls.
    pub calls: u64,
    /// The newest of them in the audit log.
    #[schema(value_type = schema::Number)]
    pub newest_record: String,
    /// Its path.
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
