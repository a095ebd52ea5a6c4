//! The gateways as lists show them: whether each is live, and whether it enforces the published version.

use std::time::Duration;

use omniflow_domain::gateway::{GatewayId, GatewayState, GatewayStatus};
use omniflow_policy::time::UnixMillis;

use super::{Fleet, Gateway};

impl Fleet {
    /// All gateways beside the published version, in the order of their identifiers, beginning after `after`.
    pub(crate) fn status(
        &self,
        after: Option<&GatewayId>,
        limit: usize,
        published: u64,
    ) -> Vec<GatewayStatus> {
        let now = self.clock.now();
        let status = |(id, gateway): (GatewayId, Gateway)| GatewayStatus {
            id,
            connected: gateway.is_connected(),
            state: gateway.state(now, self.lease, published),
            filter_version: gateway.filter_version,
            version: gateway.version,
            workers: gateway.vms,
            first_seen_at: gateway.first_seen_at,
            last_seen_at: gateway.last_seen_at,
            clock_skew_ms: gateway.clock_skew_ms,
        };
        self.list(after, limit).into_iter().map(status).collect()
    }
}

impl Gateway {
    /// Its state beside the published version.
    fn state(&self, now: UnixMillis, lease: Duration, published: u64) -> GatewayState {
        if !self.is_live(now, lease) {
            GatewayState::Silent
        } else if self.enforces(published, published) {
            GatewayState::InStep
        } else {
            GatewayState::Behind
        }
    }
}
