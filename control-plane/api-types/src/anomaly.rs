//! Anomalies in JSON.

use std::borrow::Cow;

use omniflow_policy::time::UnixMillis;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::schema;
use super::time::Time;
use omniflow_domain::anomaly::{Anomaly, AnomalyKind, Detection, Evidence, GRPC_ERROR, Network};
use omniflow_domain::time::format_time;

/// An anomaly in the usage of a key. While it continues, its end time moves forward.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Anomaly)]
pub struct AnomalyJson {
    /// Anomaly number.
    #[schema(value_type = schema::Number)]
    pub id: String,
    /// Kind of anomaly.
    #[schema(value_type = schema::AnomalyKind)]
    pub kind: Cow<'static, str>,
    /// Identifier of the key.
    #[schema(value_type = schema::Identifier)]
    pub key_id: Uuid,
    /// Name of the key.
    pub key_name: String,
    /// When the anomaly began.
    #[schema(value_type = schema::Instant)]
    pub first_seen: Time,
    /// When the anomaly was last observed.
    #[schema(value_type = schema::Instant)]
    pub last_seen: Time,
    /// One-sentence summary.
    pub summary: String,
    /// Measurements that the anomaly is based on.
    pub evidence: EvidenceJson,
    /// API path that lists the calls. It may include other calls of the key in the same period.
    pub query: String,
}

/// Measurements of the peak hour, and the values they were compared with.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = AnomalyEvidence)]
pub struct EvidenceJson {
    /// Number of calls, or number of networks if the anomaly concerns networks.
    pub observed: u64,
    /// Expected number of calls or networks; null if any number is an anomaly.
    #[schema(required = true)]
    pub expected: Option<f64>,
    /// Lowest number that counts as an anomaly.
    pub bound: u64,
    /// Days of history that the measurements were compared with; null if none are needed.
    #[schema(required = true)]
    pub history_days: Option<u64>,
    /// Networks that the calls came from, if the anomaly concerns networks.
    #[schema(value_type = Vec<schema::Network>)]
    pub networks: Vec<Network>,
    /// Status, or status class, of the responses; `grpc_error` for gRPC errors; null if the anomaly does not concern statuses.
    #[schema(required = true)]
    pub status: Option<String>,
    /// Version of the key; null if the anomaly does not concern one version.
    #[schema(required = true)]
    pub version_id: Option<u16>,
    /// Reason for the refusals; null if the anomaly does not concern refusals.
    #[schema(value_type = Option<schema::Reason>, required = true)]
    pub reason: Option<String>,
}

impl From<Anomaly> for AnomalyJson {
    fn from(Anomaly { id, detection }: Anomaly) -> Self {
        Self {
            id: id.to_string(),
            kind: detection.kind.as_str().into(),
            key_id: detection.key_id,
            first_seen: Time(detection.first),
            last_seen: Time(detection.last),
            summary: detection.summary(),
            query: calls_path(&detection),
            key_name: detection.key_name,
            evidence: detection.evidence.into(),
        }
    }
}

/// The path that lists the key's calls from the first to the last call of the anomaly, as narrow as the log's filters
/// allow: for `new_network`, calls from the network if there is only one; for `error_run`, calls with the status; for
/// `used_after_end`, calls that were refused for the reason, with any version; for other kinds, all calls of the key.
fn calls_path(detection: &Detection) -> String {
    let Detection { kind, key_id, first, last, evidence, .. } = detection;
    let mut path = format!("/v1/audit?key={key_id}");
    if let ([network], AnomalyKind::NewNetwork) = (evidence.networks.as_slice(), kind) {
        path.push_str(&format!("&ip={}", network.net()));
    }
    let (status, grpc_status) = match evidence.status.as_deref() {
        Some(GRPC_ERROR) => (None, Some("error")),
        status => (status, None),
    };
    for (name, value) in
        [("status", status), ("grpc_status", grpc_status), ("reason", evidence.reason.as_deref())]
    {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={value}"));
        }
    }
    // `to` is exclusive.
    let end = UnixMillis(last.0.saturating_add(1));
    path.push_str(&format!("&from={}&to={}", format_time(*first), format_time(end)));
    path
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
