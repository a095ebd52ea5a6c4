//! How far a version is in force, and waiting for it.

use std::collections::BTreeMap;
use std::time::Duration;

use omniflow_policy::time::UnixMillis;
use tokio::time::{Instant, timeout_at};

use super::{Fleet, GatewayId};
use crate::publication::Publication;

/// How often a wait looks whether a silent gateway's lease has ended.
const LEASE_CHECK: Duration = Duration::from_millis(500);

/// How far one version is in force.
#[derive(Clone, Debug)]
pub struct Enforcement {
    /// Whether every live gateway enforces it in all its VMs.
    pub complete: bool,
    /// The version.
    pub version: u64,
    /// The live gateways.
    pub gateways: Vec<GatewayEnforcement>,
}

/// How far one gateway enforces a version.
#[derive(Clone, Debug)]
pub struct GatewayEnforcement {
    /// Which gateway.
    pub id: GatewayId,
    /// Its VMs.
    pub workers: usize,
    /// Those of them that enforce the version.
    pub enforced_workers: usize,
    /// From the commit to the moment when the last VM had acknowledged, where that was seen.
    pub after: Option<Duration>,
    /// When it was last heard of.
    pub last_seen_at: UnixMillis,
}

impl Fleet {
    /// Waits until `version` is in force everywhere or `deadline` has come, and tells how far it is.
    ///
    /// A VM that claims a version above the published one enforces something else.
    /// `committed` is when the change was committed; without it, no times are told.
    pub async fn enforced(
        &self,
        version: u64,
        publication: &Publication,
        committed: Option<Instant>,
        deadline: Instant,
    ) -> Enforcement {
        let mut heard = self.heard.subscribe();
        let mut reached: BTreeMap<GatewayId, Duration> = BTreeMap::new();
        loop {
            heard.mark_unchanged();
            let mut enforcement = self.enforcement(version, publication.version().unwrap_or_default());
            for gateway in enforcement.gateways.iter_mut().filter(|gateway| gateway.is_enforced()) {
                if let Some(committed) = committed {
                    gateway.after =
                        Some(*reached.entry(gateway.id.clone()).or_insert_with(|| committed.elapsed()));
                }
            }
            if enforcement.complete || Instant::now() >= deadline {
                return enforcement;
            }
            let next_look = deadline.min(Instant::now() + LEASE_CHECK);
            // Both outcomes lead to another look: something was heard, or time has passed.
            let _ = timeout_at(next_look, heard.changed()).await;
        }
    }

    fn enforcement(&self, version: u64, published: u64) -> Enforcement {
        let now = self.clock.now();
        let lease = u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX);
        let gateways: Vec<GatewayEnforcement> = self
            .lock()
            .iter()
            .filter(|(_, gateway)| {
                gateway.open_polls > 0 || now.0.saturating_sub(gateway.last_seen_at.0) <= lease
            })
            .map(|(id, gateway)| GatewayEnforcement {
                id: id.clone(),
                workers: gateway.vms.len(),
                enforced_workers: gateway
                    .vms
                    .values()
                    .filter(|enforced| (version..=published).contains(*enforced))
                    .count(),
                after: None,
                last_seen_at: gateway.last_seen_at,
            })
            .collect();
        Enforcement { complete: gateways.iter().all(GatewayEnforcement::is_enforced), version, gateways }
    }
}

// === impl GatewayEnforcement ===

impl GatewayEnforcement {
    /// Whether all VMs enforce the version. A gateway that named no VM has proved nothing.
    pub fn is_enforced(&self) -> bool {
        self.workers > 0 && self.enforced_workers == self.workers
    }
}
