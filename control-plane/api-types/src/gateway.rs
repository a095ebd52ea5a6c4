//! Gateways, and how far a version is enforced, in JSON.

use omniflow_domain::gateway::{Enforcement, GatewayState, GatewayStatus};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema;
use super::time::Time;

/// A gateway.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Gateway)]
pub struct GatewayJson {
    /// Name of the gateway and ID of its process, separated by `/`.
    pub id: String,
    /// Name of the gateway.
    pub gateway: String,
    /// ID of the gateway's process, new at each start.
    #[schema(value_type = schema::Incarnation)]
    pub incarnation: String,
    /// Version of the filter; null until the gateway has polled the control plane.
    #[schema(required = true)]
    pub filter_version: Option<String>,
    /// Whether the gateway has an open poll.
    pub connected: bool,
    /// Version of the gateway's snapshot; 0 if it has none.
    pub version: u64,
    /// Whether the gateway is live and all its workers enforce the published version.
    pub in_step: bool,
    /// State of the gateway.
    #[schema(value_type = schema::GatewayState)]
    pub state: GatewayState,
    /// Workers of the gateway.
    pub workers: Vec<WorkerJson>,
    /// When the gateway's first request arrived.
    #[schema(value_type = schema::Instant)]
    pub first_seen_at: Time,
    /// When the gateway's latest request arrived.
    #[schema(value_type = schema::Instant)]
    pub last_seen_at: Time,
    /// How far the gateway's clock is ahead of the control plane's, in milliseconds; negative if behind, null if unknown.
    #[schema(required = true)]
    pub clock_skew_ms: Option<i64>,
    /// When the gateway's token expires; null if it never expires, was revoked or is unknown.
    #[schema(value_type = Option<schema::Instant>, required = true)]
    pub token_expires_at: Option<Time>,
}

/// A worker VM of a gateway.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Worker)]
pub struct WorkerJson {
    /// ID of the worker's VM.
    #[schema(value_type = schema::Incarnation)]
    pub id: String,
    /// Version that the worker enforces; 0 if none.
    pub version: u64,
}

/// A page of gateways, and the published version.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct GatewayList {
    /// The gateways on this page.
    pub items: Vec<GatewayJson>,
    /// The `cursor` of the next page; null on the last page.
    #[schema(required = true)]
    pub next_cursor: Option<String>,
    /// The published version.
    pub version: u64,
}

/// Enforcement status of a version.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Enforcement)]
pub struct EnforcementJson {
    /// Whether all gateways that may still be serving requests enforce the version.
    pub complete: bool,
    /// Version of the snapshot.
    pub version: u64,
    /// The gateways that may still be serving requests. `?wait=` does not wait for those whose state is `ahead`, `silent`,
    /// `token_expired` or `token_revoked`.
    pub gateways: Vec<GatewayEnforcementJson>,
}

/// Enforcement status of a version at one gateway.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = GatewayEnforcement)]
pub struct GatewayEnforcementJson {
    /// Name of the gateway and ID of its process, separated by `/`.
    pub id: String,
    /// State of the gateway; `in_step` and `behind` refer to this version.
    #[schema(value_type = schema::GatewayState)]
    pub state: GatewayState,
    /// Number of workers.
    pub workers: usize,
    /// Whether all workers enforce the version.
    pub enforced: bool,
    /// Number of workers that enforce the version.
    pub enforced_workers: usize,
    /// Time from the change until the last worker acknowledged it, in milliseconds; null if some workers have not, or if the time was not measured.
    #[schema(value_type = Option<u64>, required = true)]
    pub ms: Option<u128>,
    /// When the gateway's latest request arrived.
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
            in_step: gateway.state == GatewayState::InStep,
            state: gateway.state,
            workers: gateway
                .workers
                .into_iter()
                .map(|(id, version)| WorkerJson { id: id.into(), version })
                .collect(),
            first_seen_at: Time(gateway.first_seen_at),
            last_seen_at: Time(gateway.last_seen_at),
            clock_skew_ms: gateway.clock_skew_ms,
            token_expires_at: gateway.token_expires_at.map(Time),
        }
    }
}

// === impl EnforcementJson ===

impl From<Enforcement> for EnforcementJson {
    fn from(enforcement: Enforcement) -> Self {
        let gateways = enforcement.gateways.into_iter().map(|gateway| GatewayEnforcementJson {
            id: gateway.id.to_string(),
            state: gateway.state,
            workers: gateway.workers,
            enforced: gateway.enforced,
            enforced_workers: gateway.enforced_workers,
            ms: gateway.after.map(|after| after.as_millis()),
            last_seen_at: Time(gateway.last_seen_at),
        });
        Self { complete: enforcement.complete, version: enforcement.version, gateways: gateways.collect() }
    }
}
