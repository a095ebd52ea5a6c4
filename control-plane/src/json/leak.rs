//! Leaked keys in JSON.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::finding::FindingJson;
use super::gateway::EnforcementJson;
use super::key::{CreatedKey, KeyJson};
use super::schema;
use super::time::Time;
use crate::model::finding::Finding;
use crate::model::key::KeyStatus;
use crate::model::key_use::{AddressUse, KeyUse};

/// `POST /v1/leaks`. Exactly one of `secret`, `digest` and `text` is sent. It holds secrets: no Debug.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"text": "GET /api/v1/contacts HTTP/1.1\nx-api-key: omf_live_…", "replacement": true}))]
pub(crate) struct ReportLeak {
    /// The secret that was found.
    #[serde(default)]
    pub(crate) secret: Option<String>,
    /// Its SHA-256 in hexadecimal digits.
    #[serde(default)]
    #[schema(value_type = Option<schema::Sha256>)]
    pub(crate) digest: Option<String>,
    /// A text in which secrets may stand: a log, a commit, a message.
    #[serde(default)]
    pub(crate) text: Option<String>,
    /// Whether what leaked is revoked at once; true if not stated.
    #[serde(default = "yes")]
    #[schema(required = false, default = true)]
    pub(crate) revoke: bool,
    /// Whether only the versions that leaked are revoked and not the whole key; false if not stated.
    #[serde(default)]
    pub(crate) version_only: bool,
    /// Whether each key that leaked gets a successor with the same settings; false if not stated.
    #[serde(default)]
    pub(crate) replacement: bool,
}

/// What became of a report.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeakReport {
    /// The keys that leaked.
    pub(crate) keys: Vec<LeakedKey>,
    /// Secrets that no key of this installation has, though their form is right.
    pub(crate) unknown: usize,
    /// What has not the form of a key of this installation, and is none.
    pub(crate) malformed: usize,
    /// How far all that was changed is in force, where the caller waited for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = EnforcementJson)]
    pub(crate) enforcement: Option<EnforcementJson>,
}

/// A key that leaked.
#[derive(Serialize, ToSchema)]
pub(crate) struct LeakedKey {
    /// The key as it is now.
    pub(crate) key: KeyJson,
    /// The versions whose secrets leaked.
    pub(crate) versions: Vec<LeakedVersion>,
    /// Whether this call revoked it, or versions of it.
    pub(crate) revoked: bool,
    /// How it was used; null where the audit log cannot be read.
    #[schema(required = true)]
    pub(crate) usage: Option<KeyUseJson>,
    /// Its successor with the secret, which is shown this once; null where none was asked for, or the key has expired.
    #[schema(required = true)]
    pub(crate) replacement: Option<CreatedKey>,
}

/// A version whose secret leaked.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LeakedVersion {
    #[schema(minimum = 1)]
    pub(crate) id: u16,
    #[schema(value_type = schema::VersionStatus)]
    pub(crate) was: KeyStatus,
}

/// How a key was used in the 30 days before.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeyUse)]
pub(crate) struct KeyUseJson {
    #[schema(value_type = schema::Instant)]
    pub(crate) from: Time,
    #[schema(value_type = schema::Instant)]
    pub(crate) to: Time,
    pub(crate) complete: bool,
    pub(crate) calls: u64,
    pub(crate) refused: u64,
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub(crate) last_call_at: Option<Time>,
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub(crate) last_allowed_at: Option<Time>,
    pub(crate) refusals: Vec<RefusalCount>,
    pub(crate) endpoints: Vec<EndpointUseJson>,
    pub(crate) more_endpoints: usize,
    pub(crate) addresses: Vec<AddressUseJson>,
    pub(crate) more_addresses: usize,
    pub(crate) new_addresses: usize,
    pub(crate) calls_after_revocation: u64,
    /// What was found unusual in it, the newest first, at most 10.
    #[schema(max_items = 10)]
    pub(crate) findings: Vec<FindingJson>,
}

/// Calls that were refused for one reason.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RefusalCount {
    #[schema(value_type = schema::Reason)]
    pub(crate) reason: &'static str,
    pub(crate) calls: u64,
}

/// Calls of one method and endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EndpointUse)]
pub(crate) struct EndpointUseJson {
    pub(crate) method: String,
    #[schema(required = true)]
    pub(crate) endpoint: Option<String>,
    pub(crate) calls: u64,
    pub(crate) refused: u64,
    #[schema(value_type = schema::Instant)]
    pub(crate) first_call_at: Time,
    #[schema(value_type = schema::Instant)]
    pub(crate) last_call_at: Time,
}

/// Calls from one address.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AddressUse)]
pub(crate) struct AddressUseJson {
    #[schema(value_type = schema::Address)]
    pub(crate) address: IpAddr,
    pub(crate) new: bool,
    pub(crate) calls: u64,
    pub(crate) refused: u64,
    #[schema(value_type = schema::Instant)]
    pub(crate) first_call_at: Time,
    #[schema(value_type = schema::Instant)]
    pub(crate) last_call_at: Time,
}

const fn yes() -> bool {
    true
}

impl KeyUseJson {
    /// How a key was used, with what was found unusual in it.
    pub(crate) fn new(used: KeyUse, findings: Vec<Finding>) -> Self {
        let endpoints = used.endpoints.into_iter().map(|((method, endpoint), tally)| EndpointUseJson {
            method,
            endpoint,
            calls: tally.calls,
            refused: tally.refused,
            first_call_at: Time(tally.first),
            last_call_at: Time(tally.last),
        });
        let refusals = used.refusals.into_iter().map(|(reason, calls)| RefusalCount { reason, calls });
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
