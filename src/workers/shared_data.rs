//! Names and layouts of the entries in Envoy's shared data.
//!
//! Shared data has no delete and no expiry, so all names are fixed: one head, one table of VMs, one lease, two slots of
//! segments, one entry per key for its counters, and one for its introspection counter. Queues are the exception: one per run of a VM. Shared data outlives VMs and
//! configurations, so neither a reload nor an update refills a limit or loses the snapshot. Under Istio all plugins share one
//! name space: names begin with `omniflow/` and the cluster of the control plane.

use omniflow_policy::gateway::Incarnation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::host::{self, Bytes};

/// The number of an absent entry in a compare-and-swap. With 0 the host writes unconditionally, and two workers could
/// overwrite each other's first write. With a number that no entry has, the write becomes an insert, which can fail.
const ABSENT: u32 = u32::MAX;

/// A value and its number for a compare-and-swap.
pub(crate) struct Versioned<T> {
    pub(crate) value: Option<T>,
    cas: u32,
}

/// The entry was not written, most likely because another VM wrote it in the meantime.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conflict;

/// The names of all entries of one installation.
#[derive(Clone)]
pub(crate) struct Names {
    prefix: String,
}

/// The slot and version of the current snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Identifies the run of this Envoy process.
    pub(crate) process: Incarnation,
    /// The slot that holds the segments, 0 or 1. The other one is for the next full image.
    pub(crate) slot: u8,
    /// The version, or 0 before the first snapshot.
    pub(crate) version: u64,
    /// The version at which the manifest was last written. The policy is compiled again when this changes.
    pub(crate) manifest_version: u64,
    /// The time of the control plane's last confirmation that this is current, in nanoseconds of the monotonic clock.
    pub(crate) confirmed: u64,
}

impl Names {
    /// Names for the installation behind this cluster.
    pub(crate) fn new(cluster: &str) -> Self {
        Self { prefix: format!("omniflow/{cluster}") }
    }

    pub(crate) fn head(&self) -> String {
        format!("{}/head", self.prefix)
    }

    pub(crate) fn lease(&self) -> String {
        format!("{}/lease", self.prefix)
    }

    pub(crate) fn members(&self) -> String {
        format!("{}/vms/2", self.prefix)
    }

    pub(crate) fn queue(&self, vm: Incarnation) -> String {
        format!("{}/queue/{:016x}", self.prefix, vm.0)
    }

    pub(crate) fn handovers(&self) -> String {
        format!("{}/handovers/1", self.prefix)
    }

    pub(crate) fn manifest(&self, slot: u8) -> String {
        format!("{}/{slot}/manifest", self.prefix)
    }

    pub(crate) fn segment(&self, slot: u8, index: u32) -> String {
        format!("{}/{slot}/segment/{index}", self.prefix)
    }

    pub(crate) fn limit(&self, key: Uuid) -> String {
        self.of_key("/limit/", key)
    }

    pub(crate) fn introspection_limit(&self, key: Uuid) -> String {
        self.of_key("/introspection/", key)
    }

    /// Built for every call, so without `format!`.
    fn of_key(&self, kind: &str, key: Uuid) -> String {
        let mut digits = Uuid::encode_buffer();
        let digits = key.simple().encode_lower(&mut digits);
        let mut name = String::with_capacity(self.prefix.len() + kind.len() + digits.len());
        name.push_str(&self.prefix);
        name.push_str(kind);
        name.push_str(digits);
        name
    }
}

/// Reads an entry. An empty one counts as absent.
pub(crate) fn get(name: &str) -> Versioned<Bytes> {
    let (value, cas) = host::shared_data(name);
    Versioned { value: value.filter(|bytes| !bytes.is_empty()), cas: cas.unwrap_or(ABSENT) }
}

/// Writes an entry if it has not changed since it was read.
pub(crate) fn swap<T>(name: &str, read: &Versioned<T>, value: &[u8]) -> Result<(), Conflict> {
    if host::set_shared_data(name, value, read.cas) { Ok(()) } else { Err(Conflict) }
}

/// Reads and decodes an entry.
pub(crate) fn get_as<T: DeserializeOwned>(name: &str) -> Versioned<T> {
    let raw = get(name);
    Versioned { value: raw.value.and_then(|bytes| postcard::from_bytes(&bytes).ok()), cas: raw.cas }
}

/// Encodes and writes an entry if it has not changed since it was read.
pub(crate) fn swap_as<T: Serialize>(name: &str, read: &Versioned<T>, value: &T) -> Result<(), Conflict> {
    let bytes = postcard::to_allocvec(value).map_err(|_| Conflict)?;
    swap(name, read, &bytes)
}

/// Changes an entry and returns the new value. `change` is called again when another VM wrote in the meantime; if it returns
/// `None`, the entry stays unchanged.
pub(crate) fn update<T: Serialize + DeserializeOwned>(
    name: &str,
    mut change: impl FnMut(Option<T>) -> Option<T>,
) -> Option<T> {
    // Each failed round means that another VM succeeded; 1,000 in a row are not expected.
    for _ in 0..1_000 {
        let mut read: Versioned<T> = get_as(name);
        let next = change(read.value.take())?;
        if swap_as(name, &read, &next).is_ok() {
            return Some(next);
        }
    }
    None
}
