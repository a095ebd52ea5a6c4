//! What the VMs of one Envoy share: names and layouts in Envoy's shared data.
//!
//! Shared data has no delete and no expiry, so every name is fixed: one head, one list of VMs, one lease, two slots
//! of pages, one entry a key for its counters. Queues are the exception, one for each run of a VM. It outlives VMs and configurations, so that neither a reload nor an
//! update refills a limit or loses the snapshot. Under Istio all plugins share one space: names begin with
//! `omniflow/`, then the cluster of the control plane.

use omniflow_policy::gateway::Incarnation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::abi::Bytes;
use crate::host;

/// Stands for "no entry yet" in a compare-and-swap. The host writes unconditionally when it is given 0, and two
/// workers would lose each other's first write; any number that no entry has makes it an insert that can fail.
const ABSENT: u32 = u32::MAX;

/// A value with the number that a compare-and-swap needs.
pub(crate) struct Versioned<T> {
    pub(crate) value: Option<T>,
    cas: u32,
}

/// Nothing was written, most likely because another VM has written in between.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conflict;

/// The names.
#[derive(Clone)]
pub(crate) struct Names {
    prefix: String,
}

/// Where the current snapshot lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The run of this Envoy's process.
    pub(crate) process: Incarnation,
    /// Which of the two slots holds the pages; the other is for the next full image.
    pub(crate) slot: u8,
    /// The version; 0 where there is no snapshot yet.
    pub(crate) version: u64,
    /// The version at which the manifest was last written: its policy is compiled anew when this changes.
    pub(crate) manifest_version: u64,
    /// When the control plane last confirmed that this is current, in nanoseconds of the monotonic clock.
    pub(crate) confirmed: u64,
}

impl Names {
    /// Names for one installation in this Envoy.
    pub(crate) fn new(cluster: &str) -> Self {
        Self { prefix: format!("omniflow/{cluster}") }
    }

    pub(crate) fn head(&self) -> String {
        format!("{}/head", self.prefix)
    }

    pub(crate) fn lease(&self) -> String {
        format!("{}/lease", self.prefix)
    }

    pub(crate) fn vms(&self) -> String {
        format!("{}/vms/2", self.prefix)
    }

    pub(crate) fn queue(&self, vm: Incarnation) -> String {
        format!("{}/queue/{:016x}", self.prefix, vm.0)
    }

    pub(crate) fn legacies(&self) -> String {
        format!("{}/legacies/1", self.prefix)
    }

    pub(crate) fn manifest(&self, slot: u8) -> String {
        format!("{}/{slot}/manifest", self.prefix)
    }

    pub(crate) fn page(&self, slot: u8, index: u32) -> String {
        format!("{}/{slot}/page/{index}", self.prefix)
    }

    pub(crate) fn limit(&self, key: Uuid) -> String {
        const LIMIT: &str = "/limit/";
        // Made for every call: without the machinery of formatting.
        let mut digits = Uuid::encode_buffer();
        let digits = key.simple().encode_lower(&mut digits);
        let mut name = String::with_capacity(self.prefix.len() + LIMIT.len() + digits.len());
        name.push_str(&self.prefix);
        name.push_str(LIMIT);
        name.push_str(digits);
        name
    }
}

/// Reads an entry; one that was emptied counts as absent.
pub(crate) fn get(name: &str) -> Versioned<Bytes> {
    let (value, cas) = host::shared_data(name);
    Versioned { value: value.filter(|bytes| !bytes.is_empty()), cas: cas.unwrap_or(ABSENT) }
}

/// Writes an entry if nobody has written it since it was read.
pub(crate) fn swap<T>(name: &str, read: &Versioned<T>, value: &[u8]) -> Result<(), Conflict> {
    if host::set_shared_data(name, value, read.cas) { Ok(()) } else { Err(Conflict) }
}

/// Reads an entry with a layout of its own.
pub(crate) fn get_as<T: DeserializeOwned>(name: &str) -> Versioned<T> {
    let raw = get(name);
    Versioned { value: raw.value.and_then(|bytes| postcard::from_bytes(&bytes).ok()), cas: raw.cas }
}

/// Writes an entry with a layout of its own, if nobody has written it since it was read.
pub(crate) fn swap_as<T: Serialize>(name: &str, read: &Versioned<T>, value: &T) -> Result<(), Conflict> {
    let bytes = postcard::to_allocvec(value).map_err(|_| Conflict)?;
    swap(name, read, &bytes)
}

/// Changes an entry until no other VM gets in between, and gives the new value. `change` may be called again.
/// `None` from it leaves the entry as it is.
pub(crate) fn update<T: Serialize + DeserializeOwned>(
    name: &str,
    mut change: impl FnMut(Option<T>) -> Option<T>,
) -> Option<T> {
    // Each failed round means that another VM has succeeded; so many rounds in a row do not happen.
    for _ in 0..1_000 {
        let mut read: Versioned<T> = get_as(name);
        let next = change(read.value.take())?;
        if swap_as(name, &read, &next).is_ok() {
            return Some(next);
        }
    }
    None
}
