//! Gateways as the control plane sees them: which run of which Envoy, and how far each enforces a version.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use omniflow_policy::gateway::Incarnation;
use omniflow_policy::time::UnixMillis;

/// The longest that a change waits for its enforcement.
pub const MAX_WAIT: Duration = Duration::from_secs(30);
/// One run of one gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatewayId {
    /// The gateway's name.
    pub gateway: String,
    /// The run of its process.
    pub incarnation: Incarnation,
}

/// That a gateway was heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Which gateway.
    pub id: GatewayId,
    /// When it was first heard of.
    pub first_seen_at: UnixMillis,
    /// When it was last heard of.
    pub last_seen_at: UnixMillis,
}

/// What is known of one run of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayStatus {
    /// Which run.
    pub id: GatewayId,
    /// Version of the filter. Unknown until the gateway polls.
    pub filter_version: Option<String>,
    /// Whether a poll of it waits for an answer.
    pub connected: bool,
    /// The version of the snapshot that it holds, 0 for none.
    pub version: u64,
    /// Whether it is live and all its workers enforce the published version.
    pub in_step: bool,
    /// The version that each VM enforces, 0 for none.
    pub workers: BTreeMap<Incarnation, u64>,
    /// When its first request arrived.
    pub first_seen_at: UnixMillis,
    /// When its latest request arrived.
    pub last_seen_at: UnixMillis,
    /// How far its clock was ahead at its latest poll, in milliseconds; negative where it was behind.
    pub clock_skew_ms: Option<i64>,
}

/// How far one version is enforced.
#[derive(Clone, Debug)]
pub struct Enforcement {
    /// Whether every live gateway enforces it in all its VMs.
    pub complete: bool,
    /// The version.
    pub version: u64,
    /// The live gateways.
    pub gateways: Vec<GatewayEnforcement>,
    /// The gateways that are silent for longer than the lease. Nothing waits for them, but one that is cut off and
    /// not dead admits what it admitted before.
    pub silent: Vec<SilentGateway>,
}

/// A gateway that may serve and was not heard of for longer than the lease.
#[derive(Clone, Debug)]
pub struct SilentGateway {
    /// Which gateway.
    pub id: GatewayId,
    /// When it was last heard of.
    pub last_seen_at: UnixMillis,
}

/// How far one gateway enforces a version.
#[derive(Clone, Debug)]
pub struct GatewayEnforcement {
    /// Which gateway.
    pub id: GatewayId,
    /// Whether it enforces the version in all its VMs.
    pub enforced: bool,
    /// Its VMs.
    pub workers: usize,
    /// Those of them that enforce the version.
    pub enforced_workers: usize,
    /// From the commit to the moment when the last VM had acknowledged, where that was seen.
    pub after: Option<Duration>,
    /// When it was last heard of.
    pub last_seen_at: UnixMillis,
}

// === impl GatewayId ===

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016x}", self.gateway, self.incarnation.0)
    }
}

impl GatewayId {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (gateway, incarnation) = text.rsplit_once('/')?;
        let incarnation = Incarnation::try_from(incarnation.to_owned()).ok()?;
        Some(Self { gateway: gateway.to_owned(), incarnation })
    }
}
