//! Gateways, and how far a version is in force, in JSON.

use serde::Serialize;

use super::time::Time;
use crate::fleet::{Enforcement, Gateway, GatewayId};

/// A gateway.
#[derive(Debug, Serialize)]
pub struct GatewayJson {
    id: String,
    gateway: String,
    incarnation: String,
    filter_version: Option<String>,
    connected: bool,
    version: u64,
    in_step: bool,
    workers: Vec<WorkerJson>,
    first_seen_at: Time,
    last_seen_at: Time,
}

/// One VM of a gateway.
#[derive(Debug, Serialize)]
pub struct WorkerJson {
    id: String,
    version: u64,
}

/// The gateways, and the version that all should enforce.
#[derive(Debug, Serialize)]
pub struct GatewayList {
    /// The gateways.
    pub items: Vec<GatewayJson>,
    /// What to send as `cursor` to get those that follow.
    pub next_cursor: Option<String>,
    /// The published version.
    pub version: u64,
}

/// How far a version is in force.
#[derive(Debug, Serialize)]
pub struct EnforcementJson {
    complete: bool,
    version: u64,
    gateways: Vec<GatewayEnforcementJson>,
}

/// How far a version is in force in one gateway.
#[derive(Debug, Serialize)]
pub struct GatewayEnforcementJson {
    id: String,
    workers: usize,
    enforced: bool,
    enforced_workers: usize,
    ms: Option<u128>,
    last_seen_at: Time,
}

// === impl GatewayJson ===

impl GatewayJson {
    /// The gateway beside the published version.
    pub fn new(id: &GatewayId, gateway: &Gateway, published: u64) -> Self {
        Self {
            id: id.to_string(),
            gateway: id.gateway.clone(),
            incarnation: id.incarnation.into(),
            filter_version: gateway.filter_version.clone(),
            connected: gateway.open_polls > 0,
            version: gateway.version,
            in_step: !gateway.vms.is_empty() && gateway.vms.values().all(|version| *version == published),
            workers: gateway
                .vms
                .iter()
                .map(|(id, version)| WorkerJson { id: (*id).into(), version: *version })
                .collect(),
            first_seen_at: Time(gateway.first_seen_at),
            last_seen_at: Time(gateway.last_seen_at),
        }
    }
}

// === impl EnforcementJson ===

impl From<Enforcement> for EnforcementJson {
    fn from(enforcement: Enforcement) -> Self {
        let gateways = enforcement.gateways.into_iter().map(|gateway| GatewayEnforcementJson {
            id: gateway.id.to_string(),
            workers: gateway.workers,
            enforced: gateway.is_enforced(),
            enforced_workers: gateway.enforced_workers,
            ms: gateway.after.map(|after| after.as_millis()),
            last_seen_at: Time(gateway.last_seen_at),
        });
        Self { complete: enforcement.complete, version: enforcement.version, gateways: gateways.collect() }
    }
}
