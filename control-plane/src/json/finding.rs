//! Findings in JSON.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::schema;
use super::time::{Time, format_time};
use crate::model::finding::{Evidence, Finding, Network};

/// A pattern that was found in the use of a key. It grows for as long as it goes on.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Finding)]
pub(crate) struct FindingJson {
    #[schema(value_type = schema::Number)]
    pub(crate) id: String,
    #[schema(value_type = schema::FindingKind)]
    pub(crate) kind: &'static str,
    #[schema(value_type = schema::Identifier)]
    pub(crate) key_id: Uuid,
    pub(crate) key_name: String,
    #[schema(value_type = schema::Instant)]
    pub(crate) first_seen: Time,
    #[schema(value_type = schema::Instant)]
    pub(crate) last_seen: Time,
    /// One plain sentence.
    pub(crate) summary: String,
    pub(crate) evidence: EvidenceJson,
    /// The path that lists the calls, perhaps among others of the key in that time.
    pub(crate) query: String,
}

/// What was seen in the strongest hour, and what it was held against.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FindingEvidence)]
pub(crate) struct EvidenceJson {
    /// Calls, or networks where the pattern is about them.
    pub(crate) observed: u64,
    #[schema(required = true)]
    pub(crate) expected: Option<f64>,
    /// From how many on it is a finding.
    pub(crate) bound: u64,
    #[schema(required = true)]
    pub(crate) history_days: Option<u64>,
    #[schema(value_type = Vec<schema::Network>)]
    pub(crate) networks: Vec<Network>,
    #[schema(required = true)]
    pub(crate) status: Option<String>,
    #[schema(required = true)]
    pub(crate) version_id: Option<u16>,
    #[schema(value_type = Option<schema::Reason>, required = true)]
    pub(crate) reason: Option<String>,
}

impl From<Finding> for FindingJson {
    fn from(Finding { id, signal }: Finding) -> Self {
        Self {
            id: id.to_string(),
            kind: signal.kind.as_str(),
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
