//! Gateways, and how far a version is in force, in JSON.

use serde::Serialize;
use utoipa::ToSchema;

use super::schema;
use super::time::Time;
use crate::fleet::{Enforcement, Gateway, GatewayId};

/// A gateway.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Gateway)]
pub(crate) struct GatewayJson {
    pub(crate) id: String,
    pub(crate) gateway: String,
    #[schema(value_type = schema::Incarnation)]
    pub(crate) incarnation: String,
    #[schema(required = true)]
    pub(crate) filter_version: Option<String>,
    pub(crate) connected: bool,
    pub(crate) version: u64,
    pub(crate) in_step: bool,
    pub(crate) workers: Vec<WorkerJson>,
    #[schema(value_type = schema::Instant)]
    pub(crate) first_seen_at: Time,
    #[schema(value_type = schema::Instant)]
    pub(crate) last_seen_at: Time,
    #[schema(required = true)]
    pub(crate) clock_skew_ms: Option<i64>,
}

/// One VM of a gateway.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Worker)]
pub(crate) struct WorkerJson {
    #[schema(value_type = schema::Incarnation)]
    pub(crate) id: String,
    pub(crate) version: u64,
}

/// The gateways, and the version that all should enforce.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GatewayList {
    /// The gateways of this page.
    pub(crate) items: Vec<GatewayJson>,
    /// What to send as `cursor` to get those that follow.
    #[schema(required = true)]
    pub(crate) next_cursor: Option<String>,
    /// The published version.
    pub(crate) version: u64,
}

/// How far a version is in force.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Enforcement)]
pub(crate) struct EnforcementJson {
    pub(crate) complete: bool,
    pub(crate) version: u64,
    pub(crate) gateways: Vec<GatewayEnforcementJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) silent: Vec<SilentGatewayJson>,
}

/// A gateway that nothing waits for, because it is silent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SilentGateway)]
pub(crate) struct SilentGatewayJson {
    pub(crate) id: String,
    #[schema(value_type = schema::Instant)]
    pub(crate) last_seen_at: Time,
}

/// How far a version is in force in one gateway.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayEnforcement)]
pub(crate) struct GatewayEnforcementJson {
    pub(crate) id: String,
    pub(crate) workers: usize,
    pub(crate) enforced: bool,
    pub(crate) enforced_workers: usize,
    #[schema(value_type = Option<u64>, required = true)]
    pub(crate) ms: Option<u128>,
    #[schema(value_type = schema::Instant)]
    pub(crate) last_seen_at: Time,
}

// === impl GatewayJson ===

impl GatewayJson {
    /// The gateway beside the published version. One that is not live is in step with nothing.
    pub(crate) fn new(id: &GatewayId, gateway: &Gateway, live: bool, published: u64) -> Self {
        Self {
            id: id.to_string(),
            gateway: id.gateway.clone(),
            incarnation: id.incarnation.into(),
            filter_version: gateway.filter_version.clone(),
            connected: gateway.is_connected(),
            version: gateway.version,
            in_step: live && gateway.enforces(published, published),
            workers: gateway
                .vms
                .iter()
                .map(|(id, version)| WorkerJson { id: (*id).into(), version: *version })
                .collect(),
            first_seen_at: Time(gateway.first_seen_at),
            last_seen_at: Time(gateway.last_seen_at),
            clock_skew_ms: gateway.clock_skew_ms,
        }
    }
}

// === impl EnforcementJson ===

impl From<Enforcement> for EnforcementJson {
    fn from(enforcement: Enforcement) -> Self {
        let gateways = enforcement.gateways.into_iter().map(|gateway| GatewayEnforcementJson {
            id: gateway.id.to_string(),
            workers: gateway.workers,
            enforced: gateway.enforced,
            enforced_workers: gateway.enforced_workers,
            ms: gateway.after.map(|after| after.as_millis()),
            last_seen_at: Time(gateway.last_seen_at),
        });
        let silent = enforcement.silent.into_iter().map(|gateway| SilentGatewayJson {
            id: gateway.id.to_string(),
            last_seen_at: Time(gateway.last_seen_at),
        });
        Self {
            complete: enforcement.complete,
            version: enforcement.version,
            gateways: gateways.collect(),
            silent: silent.collect(),
        }
    }
}
