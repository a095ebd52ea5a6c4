//! The versions that gateways confirm, to measure how long enforcement takes.

use omniflow_domain::gateway::GatewayId;

use super::Fleet;

impl Fleet {
    /// Advances the version that a gateway has confirmed to the one that all its VMs enforce. Returns the previously
    /// confirmed version and the new one; `None` if the new one is not later, or is the first of this gateway, because
    /// a gateway that has just started does not enforce a change.
    pub fn advance_confirmed(&self, id: &GatewayId, published: u64) -> Option<(u64, u64)> {
        let mut gateways = self.lock();
        let gateway = gateways.get_mut(id)?;
        // A version above the published one is from elsewhere, and a VM without one has not loaded its snapshot yet.
        let enforced =
            gateway.vms.values().copied().min().filter(|version| (1..=published).contains(version))?;
        let before = gateway.confirmed;
        gateway.confirmed = before.max(enforced);
        (before > 0 && enforced > before).then_some((before, enforced))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use omniflow_domain::clock::Clock;
    use omniflow_policy::gateway::{EnforcedReport, Incarnation, VmStatus};
    use omniflow_policy::time::UnixMillis;

    use super::*;
    use crate::fleet::VersionBounds;

    #[test]
    fn confirmation_needs_all_vms_and_a_later_version() {
        let fleet = Fleet::new(Clock::from_fn(|| UnixMillis(1_000)), Duration::from_secs(60));
        let id = GatewayId { gateway: "edge".to_owned(), incarnation: Incarnation(1) };
        let confirmed = |versions: &[u64], published| {
            let vms =
                (1..).zip(versions).map(|(id, version)| VmStatus { id: Incarnation(id), version: *version });
            let report = EnforcedReport {
                gateway: id.gateway.clone(),
                incarnation: id.incarnation,
                installation: None,
                vms: vms.collect(),
            };
            fleet.reported(&report, VersionBounds::ALL);
            fleet.advance_confirmed(&id, published)
        };
        assert_eq!(confirmed(&[], 10), None, "no VM");
        assert_eq!(confirmed(&[10, 0], 10), None, "a VM without a snapshot");
        assert_eq!(confirmed(&[10, 10], 10), None, "the first version of this gateway");
        assert_eq!(confirmed(&[10, 10], 10), None, "the same version");
        assert_eq!(confirmed(&[12, 10], 12), None, "one of two VMs");
        assert_eq!(confirmed(&[12, 12], 12), Some((10, 12)));
        assert_eq!(confirmed(&[12, 12, 0], 12), None, "a VM that starts");
        assert_eq!(confirmed(&[12, 12, 12], 12), None, "confirmed before that VM started");
        assert_eq!(confirmed(&[99, 99, 99], 14), None, "never published");
    }
}
