//! Records of calls.

use omniflow_policy::audit::{AuditKey, AuditRecord};
use omniflow_policy::denial::Outcome;
use omniflow_policy::digest::Digest;
use omniflow_policy::key::Environment;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

/// An allowed call with a key.
pub fn record(sequence: u64, time: u64, key: Option<(Uuid, &str)>) -> AuditRecord {
    AuditRecord {
        sequence,
        time: UnixMillis(time),
        key: key.map(|(id, name)| AuditKey {
            id,
            name: name.to_owned(),
            version: 1,
            environment: Environment::Live,
        }),
        method: "GET".to_owned(),
        endpoint: Some("/api/v1/contacts".to_owned()),
        path: "/api/v1/contacts".to_owned(),
        status: 200,
        grpc_status: None,
        interruption: None,
        outcome: Outcome::Allowed,
        latency_us: 900,
        source_ip: Some("203.0.113.7".parse().unwrap()),
        request_id: format!("request-{sequence}"),
        request_bytes: 120,
        response_bytes: 340,
        argument_hash: Digest::of(b"\n"),
        argument_hash_partial: false,
    }
}
