//! Gateways, and how far a version is in force, in JSON.

use omniflow_domain::gateway::{Enforcement, GatewayStatus};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;
use super::time::Time;

/// A gateway.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Gateway)]
pub struct GatewayJson {
    pub id: String,
    pub gateway: String,
    #[schema(value_type = schema::Incarnation)]
    pub incarnation: String,
    #[schema(required = true)]
    pub filter_version: Option<String>,
    pub connected: bool,
    pub version: u64,
    pub in_step: bool,
    pub workers: Vec<WorkerJson>,
    #[schema(value_type = schema::Instant)]
    pub first_seen_at: Time,
    #[schema(value_type = schema::Instant)]
    pub last_seen_at: Time,
    #[schema(required = true)]
    pub clock_skew_ms: Option<i64>,
}

/// One VM of a gateway.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Worker)]
pub struct WorkerJson {
    #[schema(value_type = schema::Incarnation)]
    pub id: String,
    pub version: u64,
}

/// The gateways, and the version that all should enforce.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct GatewayList {
    /// The gateways of this page.
    pub items: Vec<GatewayJson>,
    /// What to send as `cursor` to get those that follow.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
    /// The published version.
    pub version: u64,
}

/// How far a version is in force.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Enforcement)]
pub struct EnforcementJson {
    pub complete: bool,
    pub version: u64,
    pub gateways: Vec<GatewayEnforcementJson>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<SilentGatewayJson>,
}

/// A gateway that nothing waits for, because it is silent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = SilentGateway)]
pub struct SilentGatewayJson {
    pub id: String,
    #[schema(value_type = schema::Instant)]
    pub last_seen_at: Time,
}

/// How far a version is in force in one gateway.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = GatewayEnforcement)]
pub struct GatewayEnforcementJson {
    pub id: String,
    pub workers: usize,
    pub enforced: bool,
    pub enforced_workers: usize,
    #[schema(value_type = Option<u64>, required = true)]
    pub ms: Option<u128>,
    #[schema(value_type = schema::Instant)]
    pub last_seen_at: Time,
}

// === impl GatewayJson ===

impl From<GatewayStatus> for GatewayJson {
    fn from(gateway: GatewayStatus) -> Self {
        Self {
            id: gateway.id.to_string(),
            gateway: gateway.id.gateway,
            incarnation: gateway.id.incarnation.into(),
            filter_version: gateway.filter_version,
            connected: gateway.connected,
            version: gateway.version,
            in_step: gateway.in_step,
            workers: gateway
                .workers
                .into_iter()
                .map(|(id, version)| WorkerJson { id: id.into(), version })
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
