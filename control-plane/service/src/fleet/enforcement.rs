//! The enforcement status of a version, and waiting for it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use omniflow_domain::gateway::{Enforcement, GatewayEnforcement, GatewayId};

use super::{Fleet, Gateway};
use crate::notifications::Notifications;
use crate::publication::Publication;

/// Interval of checks whether the lease or the token of a gateway has ended during a wait.
const LEASE_CHECK: Duration = Duration::from_millis(500);

impl Fleet {
    /// Waits until every live gateway enforces `version`, at most for `wait` and never longer than the process runs. A
    /// gateway that is silent or whose token is rejected is reported as not enforcing, without waiting for it. `None`
    /// if there is nothing to wait for.
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

    /// Waits until no live gateway is behind `version` or `deadline` has passed, and returns the status.
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

    /// Like [`Self::enforced`], but also reports the status each time a gateway has sent something.
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
            if !enforcement.is_pending() || Instant::now() >= deadline {
                return enforcement;
            }
            tell(&enforcement);
            let next_check = deadline.min(Instant::now() + LEASE_CHECK);
            // Both outcomes trigger another check: a gateway has sent something, or time has passed.
            let _ = timeout_at(next_check, heard.changed()).await;
        }
    }

    fn enforcement(&self, version: u64, published: u64) -> Enforcement {
        let now = self.clock.now();
        let runs = self.lock();
        let gateway = |(id, run)| {
            let enforced = Gateway::enforces(run, version, published);
            let state = self.state(&runs, (id, run), now, enforced)?;
            state.may_serve().then(|| GatewayEnforcement {
                id: GatewayId::clone(id),
                enforced,
                state,
                workers: run.vms.len(),
                enforced_workers: run.enforcing(version, published),
                after: None,
                last_seen_at: run.last_seen_at,
            })
        };
        let gateways: Vec<_> = runs.iter().filter_map(gateway).collect();
        Enforcement { complete: gateways.iter().all(|gateway| gateway.enforced), version, gateways }
    }
}
