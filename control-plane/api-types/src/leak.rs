//! Leaked keys in JSON.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::anomaly::AnomalyJson;
use super::gateway::EnforcementJson;
use super::key::{CreatedKey, KeyJson};
use super::schema;
use super::time::Time;
use omniflow_domain::key::KeyStatus;
use omniflow_domain::key_use::{AddressUse, KeyUsage};
use omniflow_domain::leak::{LeakReport, LeakedKey, LeakedVersion};

/// Body of `POST /v1/leaks`. Exactly one of `secret`, `digest` and `text` is required.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "GET /api/v1/contacts HTTP/1.1\nx-api-key: omf_live_…", "replacement": true}))]
pub struct ReportLeak {
    /// The leaked secret.
    #[serde(default)]
    pub secret: Option<String>,
    /// SHA-256 of the leaked secret, in hexadecimal.
    #[serde(default)]
    #[schema(value_type = Option<schema::Sha256>)]
    pub digest: Option<String>,
    /// Text that may contain secrets, such as a log, a commit or a message.
    #[serde(default)]
    pub text: Option<String>,
    /// Whether the leaked keys are revoked immediately; true if omitted.
    #[serde(default = "yes")]
    #[schema(required = false, default = true)]
    pub revoke: bool,
    /// Whether only the leaked versions are revoked, instead of the whole key; false if omitted.
    #[serde(default)]
    pub version_only: bool,
    /// Whether each leaked key gets a replacement with the same settings; false if omitted.
    #[serde(default)]
    pub replacement: bool,
}

/// Result of a report.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = LeakReport)]
pub struct LeakReportJson {
    /// The leaked keys.
    pub keys: Vec<LeakedKeyJson>,
    /// Number of secrets in the key format of this installation that match no key.
    pub unknown: usize,
    /// Number of secrets in another format that match no key.
    pub malformed: usize,
    /// Whether the whole text was searched; false if decoding its encoded parts exceeded the limit.
    pub complete: bool,
    /// Enforcement status of the change. Present only with `?wait=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = EnforcementJson)]
    pub enforcement: Option<EnforcementJson>,
}

/// A leaked key.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = LeakedKey)]
pub struct LeakedKeyJson {
    /// The key after the report.
    pub key: KeyJson,
    /// The versions whose secrets leaked.
    pub versions: Vec<LeakedVersionJson>,
    /// Whether this request revoked the key or some of its versions.
    pub revoked: bool,
    /// How the key was used; null if the audit log cannot be read.
    #[schema(required = true)]
    pub usage: Option<KeyUseJson>,
    /// The replacement with its secret, which is shown only once; null if none was requested or the key has expired.
    #[schema(required = true)]
    pub replacement: Option<CreatedKey>,
}

/// A version whose secret leaked.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = LeakedVersion)]
pub struct LeakedVersionJson {
    #[schema(minimum = 1)]
    /// Version number.
    pub id: u16,
    /// Status of the version before the report.
    #[schema(value_type = schema::VersionStatus)]
    pub was: KeyStatus,
}

/// Usage of a key in the 30 days before the report.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = KeyUse)]
pub struct KeyUseJson {
    /// Start of the period.
    #[schema(value_type = schema::Instant)]
    pub from: Time,
    /// End of the period.
    #[schema(value_type = schema::Instant)]
    pub to: Time,
    /// Whether all calls in the period are included; if false, only the newest are.
    pub complete: bool,
    /// Number of calls.
    pub calls: u64,
    /// Number of refused calls.
    pub refused: u64,
    /// When the last call began; null if there were no calls.
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub last_call_at: Option<Time>,
    /// When the last allowed call began; null if none was allowed.
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub last_allowed_at: Option<Time>,
    /// Refused calls by reason, most calls first.
    pub refusals: Vec<RefusalCount>,
    /// Calls by method and endpoint, most calls first.
    pub endpoints: Vec<EndpointUseJson>,
    /// Number of endpoints not listed.
    pub more_endpoints: usize,
    /// Calls by client address: new addresses first, then by number of calls, in descending order.
    pub addresses: Vec<AddressUseJson>,
    /// Number of addresses not listed.
    pub more_addresses: usize,
    /// Number of addresses that were first seen in the last 24 hours.
    pub new_addresses: usize,
    /// Number of calls that were refused because the secret had been revoked.
    pub calls_after_revocation: u64,
    /// Anomalies in the period, newest first, at most 10.
    #[schema(max_items = 10)]
    pub anomalies: Vec<AnomalyJson>,
}

/// Calls that were refused for the same reason.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RefusalCount {
    /// Reason for the refusals.
    #[schema(value_type = schema::Reason)]
    pub reason: Cow<'static, str>,
    /// Number of calls.
    pub calls: u64,
}

/// Calls with one method to one endpoint.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = EndpointUse)]
pub struct EndpointUseJson {
    /// HTTP method.
    pub method: String,
    /// Path template of the route; null if no route matched.
    #[schema(required = true)]
    pub endpoint: Option<String>,
    /// Number of calls.
    pub calls: u64,
    /// Number of refused calls.
    pub refused: u64,
    /// When the first call began.
    #[schema(value_type = schema::Instant)]
    pub first_call_at: Time,
    /// When the last call began.
    #[schema(value_type = schema::Instant)]
    pub last_call_at: Time,
}

/// Calls from one address.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AddressUse)]
pub struct AddressUseJson {
    /// Address of the client.
    #[schema(value_type = schema::Address)]
    pub address: IpAddr,
    /// Whether the address was first seen in the last 24 hours.
    pub new: bool,
    /// Number of calls.
    pub calls: u64,
    /// Number of refused calls.
    pub refused: u64,
    /// When the first call began.
    #[schema(value_type = schema::Instant)]
    pub first_call_at: Time,
    /// When the last call began.
    #[schema(value_type = schema::Instant)]
    pub last_call_at: Time,
}

const fn yes() -> bool {
    true
}

// === impl LeakReportJson ===

impl From<LeakReport> for LeakReportJson {
    fn from(report: LeakReport) -> Self {
        let LeakReport { keys, unknown, malformed, is_complete, enforcement } = report;
        Self {
            keys: keys.into_iter().map(LeakedKeyJson::from).collect(),
            unknown,
            malformed,
            complete: is_complete,
            enforcement: enforcement.map(EnforcementJson::from),
        }
    }
}

// === impl LeakedKeyJson ===

impl From<LeakedKey> for LeakedKeyJson {
    fn from(leaked: LeakedKey) -> Self {
        let LeakedKey { key, versions, revoked, usage, replacement } = leaked;
        let replacement = replacement.map(|made| CreatedKey {
            key: made.key.into(),
            secret: Some(made.secret.expose().to_owned()),
            enforcement: None,
        });
        Self {
            key: key.into(),
            versions: versions.into_iter().map(LeakedVersionJson::from).collect(),
            revoked,
            usage: usage.map(KeyUseJson::from),
            replacement,
        }
    }
}

// === impl LeakedVersionJson ===

impl From<LeakedVersion> for LeakedVersionJson {
    fn from(LeakedVersion { version, was }: LeakedVersion) -> Self {
        Self { id: version, was }
    }
}

// === impl KeyUseJson ===

impl From<KeyUsage> for KeyUseJson {
    fn from(KeyUsage { calls: used, anomalies }: KeyUsage) -> Self {
        let endpoints = used.endpoints.into_iter().map(|((method, endpoint), tally)| EndpointUseJson {
            method,
            endpoint,
            calls: tally.calls,
            refused: tally.refused,
            first_call_at: Time(tally.first),
            last_call_at: Time(tally.last),
        });
        let refusals =
            used.refusals.into_iter().map(|(reason, calls)| RefusalCount { reason: reason.into(), calls });
        Self {
            from: Time(used.from),
            to: Time(used.to),
            complete: used.complete,
            calls: used.total.map_or(0, |total| total.calls),
            refused: used.total.map_or(0, |total| total.refused),
            last_call_at: used.total.map(|total| Time(total.last)),
            last_allowed_at: used.last_allowed.map(Time),
            refusals: refusals.collect(),
            endpoints: endpoints.collect(),
            more_endpoints: used.more_endpoints,
            addresses: used.addresses.into_iter().map(AddressUseJson::from).collect(),
            more_addresses: used.more_addresses,
            new_addresses: used.new_addresses,
            calls_after_revocation: used.after_revocation,
            anomalies: anomalies.into_iter().map(AnomalyJson::from).collect(),
        }
    }
}

impl From<AddressUse> for AddressUseJson {
    fn from(AddressUse { address, tally, is_new }: AddressUse) -> Self {
        Self {
            address,
            new: is_new,
            calls: tally.calls,
            refused: tally.refused,
            first_call_at: Time(tally.first),
            last_call_at: Time(tally.last),
        }
    }
}
