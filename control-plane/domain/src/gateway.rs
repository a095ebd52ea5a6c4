//! Gateways from the control plane's point of view: the runs of each Envoy, and how far each enforces a version.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use omniflow_policy::digest::Digest;
use omniflow_policy::gateway::Incarnation;
use omniflow_policy::time::UnixMillis;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Maximum time for which a change waits for its enforcement.
pub const MAX_WAIT: Duration = Duration::from_secs(30);

/// One run of one gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatewayId {
    /// The gateway's name.
    pub gateway: String,
    /// The run of its process.
    pub incarnation: Incarnation,
}

/// The text is not the identifier of a run of a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidGatewayId;

/// The facts about one run of a gateway that are kept across restarts of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The run.
    pub id: GatewayId,
    /// When its first request arrived.
    pub first_seen_at: UnixMillis,
    /// When its latest request arrived.
    pub last_seen_at: UnixMillis,
    /// The token that it uses, if it has authenticated.
    pub token: Option<GatewayToken>,
    /// When its connection ended during a poll, if it has sent nothing since.
    pub hung_up_at: Option<UnixMillis>,
    /// Whether it had undelivered audit records according to its latest report.
    pub is_busy: bool,
}

/// The token that a run of a gateway uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayToken {
    /// The token's identifier.
    pub id: Uuid,
    /// The SHA-256 of the token, which recognizes it after it was revoked.
    pub digest: Digest,
}

/// Requests with one gateway token since the control plane started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    /// Polls.
    pub polls: u64,
    /// Polls, reports and batches that were refused because of the token, the number of runs or the version.
    pub refused: u64,
}

/// The known facts about one run of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayStatus {
    /// The run.
    pub id: GatewayId,
    /// Version of the filter. Unknown until the gateway polls.
    pub filter_version: Option<String>,
    /// Whether one of its polls is waiting for a response.
    pub connected: bool,
    /// The version of its snapshot, 0 for none.
    pub version: u64,
    /// Whether it is live, and enforces the published version.
    pub state: GatewayState,
    /// The version that each VM enforces, 0 for none.
    pub workers: BTreeMap<Incarnation, u64>,
    /// When its first request arrived.
    pub first_seen_at: UnixMillis,
    /// When its latest request arrived.
    pub last_seen_at: UnixMillis,
    /// How far its clock was ahead at its latest poll, in milliseconds; negative if it was behind.
    pub clock_skew_ms: Option<i64>,
    /// When its token expires; `None` for never, or if the token was revoked or is not known.
    pub token_expires_at: Option<UnixMillis>,
}

/// Whether a gateway can confirm a version, and whether it enforces the published one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GatewayState {
    /// Live, and all its workers, of which there is at least one, enforce the published version.
    InStep,
    /// Live, but not all its workers enforce the published version, or it has not reported any workers.
    Behind,
    /// It holds a version that this control plane has not published, so its polls are refused. It may still serve.
    Ahead,
    /// No request for longer than the lease. It may still serve.
    Silent,
    /// Its token has expired, so its requests are rejected. It may still serve.
    TokenExpired,
    /// Its token was revoked, so its requests are rejected. It may still serve.
    TokenRevoked,
    /// Its connection ended when it had no audit records left to send, and nothing has arrived for longer than the
    /// lease.
    Ended,
}

/// The enforcement status of one version.
#[derive(Clone, Debug)]
pub struct Enforcement {
    /// Whether every gateway that may be serving requests enforces it in all its VMs.
    pub complete: bool,
    /// The version.
    pub version: u64,
    /// The gateways that may be serving requests.
    pub gateways: Vec<GatewayEnforcement>,
}

/// The enforcement status of a version at one gateway.
#[derive(Clone, Debug)]
pub struct GatewayEnforcement {
    /// The gateway.
    pub id: GatewayId,
    /// Whether it enforces the version in all its VMs.
    pub enforced: bool,
    /// Its state with regard to this version.
    pub state: GatewayState,
    /// Number of its VMs.
    pub workers: usize,
    /// Number of VMs that enforce the version.
    pub enforced_workers: usize,
    /// Time from the commit to the acknowledgement of the last VM, if observed.
    pub after: Option<Duration>,
    /// When its latest request arrived.
    pub last_seen_at: UnixMillis,
}

// === impl GatewayState ===

impl GatewayState {
    /// All states.
    pub const ALL: [Self; 7] = [
        Self::InStep,
        Self::Behind,
        Self::Ahead,
        Self::Silent,
        Self::TokenExpired,
        Self::TokenRevoked,
        Self::Ended,
    ];

    /// The stable code, such as `in_step`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InStep => "in_step",
            Self::Behind => "behind",
            Self::Ahead => "ahead",
            Self::Silent => "silent",
            Self::TokenExpired => "token_expired",
            Self::TokenRevoked => "token_revoked",
            Self::Ended => "ended",
        }
    }

    /// The state as a phrase for people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::InStep => "in step",
            Self::Behind => "behind",
            Self::Ahead => "rejected: version not published",
            Self::Silent => "silent",
            Self::TokenExpired => "rejected: token expired",
            Self::TokenRevoked => "rejected: token revoked",
            Self::Ended => "ended",
        }
    }

    /// Whether changes wait for the gateway: it is connected or within its lease, and its token is valid.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::InStep | Self::Behind)
    }

    /// Whether the gateway may serve requests.
    pub const fn may_serve(self) -> bool {
        !matches!(self, Self::Ended)
    }
}

impl Enforcement {
    /// Whether the gateway has not confirmed the version but still can.
    pub fn is_pending(&self) -> bool {
        self.gateways.iter().any(|gateway| !gateway.enforced && gateway.state.is_live())
    }
}

// === impl GatewayId ===

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016x}", self.gateway, self.incarnation.0)
    }
}

impl FromStr for GatewayId {
    type Err = InvalidGatewayId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (gateway, incarnation) = text.rsplit_once('/').ok_or(InvalidGatewayId)?;
        let incarnation = Incarnation::try_from(incarnation.to_owned()).map_err(|_| InvalidGatewayId)?;
        Ok(Self { gateway: gateway.to_owned(), incarnation })
    }
}
