//! Findings in JSON.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::schema;
use super::time::Time;
use omniflow_domain::finding::{Evidence, Finding, Network};
use omniflow_domain::time::format_time;

/// A pattern that was found in the use of a key. It grows for as long as it goes on.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Finding)]
pub struct FindingJson {
    #[schema(value_type = schema::Number)]
    pub id: String,
    #[schema(value_type = schema::FindingKind)]
    pub kind: Cow<'static, str>,
    #[schema(value_type = schema::Identifier)]
    pub key_id: Uuid,
    pub key_name: String,
    #[schema(value_type = schema::Instant)]
    pub first_seen: Time,
    #[schema(value_type = schema::Instant)]
    pub last_seen: Time,
    /// One plain sentence.
    pub summary: String,
    pub evidence: EvidenceJson,
    /// The path that lists the calls, perhaps among others of the key in that time.
    pub query: String,
}

/// What was seen in the strongest hour, and what it was held against.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = FindingEvidence)]
pub struct EvidenceJson {
    /// Calls, or networks where the pattern is about them.
    pub observed: u64,
    #[schema(required = true)]
    pub expected: Option<f64>,
    /// From how many on it is a finding.
    pub bound: u64,
    #[schema(required = true)]
    pub history_days: Option<u64>,
    #[schema(value_type = Vec<schema::Network>)]
    pub networks: Vec<Network>,
    #[schema(required = true)]
    pub status: Option<String>,
    #[schema(required = true)]
    pub version_id: Option<u16>,
    #[schema(value_type = Option<schema::Reason>, required = true)]
    pub reason: Option<String>,
}

impl From<Finding> for FindingJson {
    fn from(Finding { id, signal }: Finding) -> Self {
        Self {
            id: id.to_string(),
            kind: signal.kind.as_str().into(),
            key_id: signal.key_id,
            first_seen: Time(signal.first),
            last_seen: Time(signal.last),
            summary: signal.summary(),
            query: signal.query(format_time),
            key_name: signal.key_name,
            evidence: signal.evidence.into(),
        }
    }
}

impl From<Evidence> for EvidenceJson {
    fn from(evidence: Evidence) -> Self {
        Self {
            observed: evidence.observed,
            expected: evidence.expected,
            bound: evidence.bound,
            history_days: evidence.history_days,
            networks: evidence.networks,
            status: evidence.status,
            version_id: evidence.version,
            reason: evidence.reason,
        }
    }
}
