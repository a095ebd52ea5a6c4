//! How far a version is enforced, and waiting for it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use omniflow_domain::gateway::{Enforcement, GatewayEnforcement, GatewayId, SilentGateway};

use super::Fleet;
use crate::notifications::Notifications;
use crate::publication::Publication;

/// How often a wait looks whether a silent gateway's lease has ended.
const LEASE_CHECK: Duration = Duration::from_millis(500);

impl Fleet {
    /// Waits until every live gateway enforces `version`, at most for `wait` and never longer than the process runs.
    /// `None` if there is nothing to wait for.
    pub(crate) async fn enforcement_after(
        &self,
        version: u64,
        publication: &Publication,
        notifications: &Notifications,
        committed: Option<Instant>,
        wait: Option<Duration>,
    ) -> Option<Enforcement> {
        let wait = wait?;
        let enforced = |deadline| self.enforced(version, publication, committed, deadline);
        Some(tokio::select! {
            enforcement = enforced(Instant::now() + wait) => enforcement,
            () = notifications.stopped() => enforced(Instant::now()).await,
        })
    }

    /// Waits until `version` is effective everywhere or `deadline` has come, and returns how far it is.
    ///
    /// `committed` is when the change was committed; without it, no times are reported.
    pub(crate) async fn enforced(
        &self,
        version: u64,
        publication: &Publication,
        committed: Option<Instant>,
        deadline: Instant,
    ) -> Enforcement {
        self.follow(version, publication, committed, deadline, |_| {}).await
    }

    /// The same, and tells on the way how far it is each time that something was heard.
    pub(crate) async fn follow(
        &self,
        version: u64,
        publication: &Publication,
        committed: Option<Instant>,
        deadline: Instant,
        mut tell: impl FnMut(&Enforcement),
    ) -> Enforcement {
        let mut heard = self.heard.subscribe();
        let mut reached: BTreeMap<GatewayId, Duration> = BTreeMap::new();
        loop {
            heard.mark_unchanged();
            let mut enforcement = self.enforcement(version, publication.version().unwrap_or_default());
            for gateway in enforcement.gateways.iter_mut().filter(|gateway| gateway.enforced) {
                if let Some(committed) = committed {
                    gateway.after =
                        Some(*reached.entry(gateway.id.clone()).or_insert_with(|| committed.elapsed()));
                }
            }
            if enforcement.complete || Instant::now() >= deadline {
                return enforcement;
            }
            tell(&enforcement);
            let next_check = deadline.min(Instant::now() + LEASE_CHECK);
            // Both outcomes lead to another look: something was heard, or time has passed.
            let _ = timeout_at(next_check, heard.changed()).await;
        }
    }

    fn enforcement(&self, version: u64, published: u64) -> Enforcement {
        let now = self.clock.now();
        let (mut gateways, mut silent) = (Vec::new(), Vec::new());
        for (id, gateway) in self.lock().iter().filter(|(_, gateway)| gateway.is_remembered(now)) {
            let (id, last_seen_at) = (id.clone(), gateway.last_seen_at);
            if gateway.is_live(now, self.lease) {
                gateways.push(GatewayEnforcement {
                    id,
                    enforced: gateway.enforces(version, published),
                    workers: gateway.vms.len(),
                    enforced_workers: gateway.enforcing(version, published),
                    after: None,
                    last_seen_at,
                });
            } else {
                silent.push(SilentGateway { id, last_seen_at });
            }
        }
        Enforcement { complete: gateways.iter().all(|gateway| gateway.enforced), version, gateways, silent }
    }
}
