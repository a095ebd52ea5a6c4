//! Leaked keys in JSON.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::finding::FindingJson;
use super::gateway::EnforcementJson;
use super::key::{CreatedKey, KeyJson};
use super::schema;
use super::time::Time;
use omniflow_domain::finding::Finding;
use omniflow_domain::key::KeyStatus;
use omniflow_domain::key_use::{AddressUse, KeyUse};

/// `POST /v1/leaks`. Exactly one of `secret`, `digest` and `text` is sent. It holds secrets: no Debug.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "GET /api/v1/contacts HTTP/1.1\nx-api-key: omf_live_…", "replacement": true}))]
pub struct ReportLeak {
    /// The secret that was found.
    #[serde(default)]
    pub secret: Option<String>,
    /// Its SHA-256 in hexadecimal digits.
    #[serde(default)]
    #[schema(value_type = Option<schema::Sha256>)]
    pub digest: Option<String>,
    /// A text in which secrets may stand: a log, a commit, a message.
    #[serde(default)]
    pub text: Option<String>,
    /// Whether what leaked is revoked at once; true if not stated.
    #[serde(default = "yes")]
    #[schema(required = false, default = true)]
    pub revoke: bool,
    /// Whether only the versions that leaked are revoked and not the whole key; false if not stated.
    #[serde(default)]
    pub version_only: bool,
    /// Whether each key that leaked gets a successor with the same settings; false if not stated.
    #[serde(default)]
    pub replacement: bool,
}

/// What became of a report.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct LeakReport {
    /// The keys that leaked.
    pub keys: Vec<LeakedKey>,
    /// Secrets that no key of this installation has, though their form is right.
    pub unknown: usize,
    /// What has not the form of a key of this installation, and is none.
    pub malformed: usize,
    /// How far all that was changed is in force, where the caller waited for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = EnforcementJson)]
    pub enforcement: Option<EnforcementJson>,
}

/// A key that leaked.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct LeakedKey {
    /// The key as it is now.
    pub key: KeyJson,
    /// The versions whose secrets leaked.
    pub versions: Vec<LeakedVersion>,
    /// Whether this call revoked it, or versions of it.
    pub revoked: bool,
    /// How it was used; null where the audit log cannot be read.
    #[schema(required = true)]
    pub usage: Option<KeyUseJson>,
    /// Its successor with the secret, which is shown this once; null where none was asked for, or the key has expired.
    #[schema(required = true)]
    pub replacement: Option<CreatedKey>,
}

/// A version whose secret leaked.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LeakedVersion {
    #[schema(minimum = 1)]
    pub id: u16,
    #[schema(value_type = schema::VersionStatus)]
    pub was: KeyStatus,
}

/// How a key was used in the 30 days before.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = KeyUse)]
pub struct KeyUseJson {
    #[schema(value_type = schema::Instant)]
    pub from: Time,
    #[schema(value_type = schema::Instant)]
    pub to: Time,
    pub complete: bool,
    pub calls: u64,
    pub refused: u64,
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub last_call_at: Option<Time>,
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub last_allowed_at: Option<Time>,
    pub refusals: Vec<RefusalCount>,
    pub endpoints: Vec<EndpointUseJson>,
    pub more_endpoints: usize,
    pub addresses: Vec<AddressUseJson>,
    pub more_addresses: usize,
    pub new_addresses: usize,
    pub calls_after_revocation: u64,
    /// What was found unusual in it, the newest first, at most 10.
    #[schema(max_items = 10)]
    pub findings: Vec<FindingJson>,
}

/// Calls that were refused for one reason.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RefusalCount {
    #[schema(value_type = schema::Reason)]
    pub reason: Cow<'static, str>,
    pub calls: u64,
}

/// Calls of one method and endpoint.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = EndpointUse)]
pub struct EndpointUseJson {
    pub method: String,
    #[schema(required = true)]
    pub endpoint: Option<String>,
    pub calls: u64,
    pub refused: u64,
    #[schema(value_type = schema::Instant)]
    pub first_call_at: Time,
    #[schema(value_type = schema::Instant)]
    pub last_call_at: Time,
}

/// Calls from one address.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AddressUse)]
pub struct AddressUseJson {
    #[schema(value_type = schema::Address)]
    pub address: IpAddr,
    pub new: bool,
    pub calls: u64,
    pub refused: u64,
    #[schema(value_type = schema::Instant)]
    pub first_call_at: Time,
    #[schema(value_type = schema::Instant)]
    pub last_call_at: Time,
}

const fn yes() -> bool {
    true
}

impl KeyUseJson {
    /// How a key was used, with what was found unusual in it.
    pub fn new(used: KeyUse, findings: Vec<Finding>) -> Self {
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
            findings: findings.into_iter().map(FindingJson::from).collect(),
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
