//! The gateways, for lists and metrics.

use omniflow_domain::gateway::{GatewayId, GatewayState, GatewayStatus};
use omniflow_domain::time::DAY_MS;
use omniflow_policy::time::UnixMillis;

use super::Fleet;

/// How long before the expiry of its token a gateway counts as expiring, in milliseconds.
const EXPIRES_SOON_MS: u64 = 7 * DAY_MS;

/// Counts of gateway runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayCounts {
    /// Runs in each state, where live ones have one in common: `live`, `ahead`, `silent`, `token_expired`, `token_revoked`,
    /// `ended`.
    pub by_state: [(&'static str, u64); 6],
    /// Live runs whose token expires within 7 days.
    pub expiring_tokens: u64,
}

// === impl Fleet ===

impl Fleet {
    /// All gateways with regard to the published version, in the order of their identifiers, starting after `after`.
    pub(crate) fn status(
        &self,
        after: Option<&GatewayId>,
        limit: usize,
        published: u64,
    ) -> Vec<GatewayStatus> {
        let now = self.clock.now();
        let runs = self.lock();
        let status = |(id, run)| {
            let run: &super::Gateway = run;
            let state = self.state(&runs, (id, run), now, run.enforces(published, published))?;
            Some(GatewayStatus {
                id: GatewayId::clone(id),
                connected: run.is_connected(),
                state,
                filter_version: run.filter_version.clone(),
                version: run.version,
                workers: run.vms.clone(),
                first_seen_at: run.first_seen_at,
                last_seen_at: run.last_seen_at,
                clock_skew_ms: run.clock_skew_ms,
                token_expires_at: run.token_expires_at(),
            })
        };
        let listed = runs.iter().filter(|(id, _)| after.is_none_or(|after| *id > after));
        listed.filter_map(status).take(limit).collect()
    }

    /// Counts of runs.
    pub(crate) fn counts(&self) -> GatewayCounts {
        let now = self.clock.now();
        let soon = UnixMillis(now.0.saturating_add(EXPIRES_SOON_MS));
        let runs = self.lock();
        let states =
            runs.iter().filter_map(|(id, run)| Some((self.state(&runs, (id, run), now, true)?, run)));
        let (mut live, mut others, mut expiring_tokens) = (0, [0u64; 5], 0);
        for (state, run) in states {
            match state {
                GatewayState::InStep | GatewayState::Behind => {
                    live += 1;
                    expiring_tokens += u64::from(run.token_expires_at().is_some_and(|end| end <= soon));
                }
                GatewayState::Silent => others[0] += 1,
                GatewayState::TokenExpired => others[1] += 1,
                GatewayState::TokenRevoked => others[2] += 1,
                GatewayState::Ended => others[3] += 1,
                GatewayState::Ahead => others[4] += 1,
            }
        }
        let [silent, expired, revoked, ended, ahead] = others;
        let by_state = [
            ("live", live),
            (GatewayState::Ahead.as_str(), ahead),
            (GatewayState::Silent.as_str(), silent),
            (GatewayState::TokenExpired.as_str(), expired),
            (GatewayState::TokenRevoked.as_str(), revoked),
            (GatewayState::Ended.as_str(), ended),
        ];
        GatewayCounts { by_state, expiring_tokens }
    }
}
