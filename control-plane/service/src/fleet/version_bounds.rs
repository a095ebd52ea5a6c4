//! Which versions of a snapshot a gateway can hold. Anyone with a gateway token can report any version.

use omniflow_policy::gateway::VmStatus;

/// The bounds against which the versions that a gateway reports are checked.
#[derive(Clone, Copy, Debug)]
pub struct VersionBounds {
    /// Whether the gateway has a snapshot of this installation. Versions of another installation are not comparable.
    pub is_own: bool,
    /// The published version.
    pub published: u64,
    /// The highest version that an earlier process may have published, in a database that this process does not have.
    pub plausible: u64,
}

// === impl VersionBounds ===

impl VersionBounds {
    /// Every version of this installation, for tests.
    pub const ALL: Self = Self { is_own: true, published: u64::MAX, plausible: u64::MAX };
    /// No version, because the snapshot is another installation's.
    pub const FOREIGN: Self = Self { is_own: false, ..Self::ALL };

    /// The version that a gateway holds; 0 for a snapshot of another installation.
    pub(super) fn held(self, version: u64) -> u64 {
        if self.is_own { version } else { 0 }
    }

    /// Whether a gateway reports a version that was never published.
    pub(super) fn is_ahead(self, version: u64) -> bool {
        self.is_own && version > self.published.max(self.plausible)
    }

    /// The version that a VM enforces after it has reported it, where `known` was known before. A version never falls. One
    /// that this process has not published confirms nothing, now or when a later one is published.
    pub(super) fn enforced(self, vm: &VmStatus, known: u64) -> u64 {
        if self.is_own && vm.version <= self.published { vm.version.max(known) } else { 0 }
    }
}
