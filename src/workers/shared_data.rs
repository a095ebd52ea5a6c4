//! Names and layouts of the entries in Envoy's shared data.
//!
//! Shared data has no delete and no expiry, so all names are fixed: one head, one table of VMs, one lease, two slots of
//! segments, one entry per key for its counters, and one for its introspection counter. Queues are the exception: one per run
//! of a VM. Shared data outlives VMs and configurations, so neither a reload nor an update refills a limit or loses the snapshot. Under Istio all plugins share one
//! name space: names begin with `omniflow/` and the cluster of the control plane, and every entry except the counters has a tag
//! ([`EntryKey`]). Counters have none: a tag would not prevent a plugin from writing an earlier value back, and their names would
//! depend on the token, so that a new token would refill every limit.

use std::cell::RefCell;
use std::time::Duration;

use omniflow_policy::gateway::Incarnation;
use omniflow_policy::time::MonotonicNanos;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entry_key::EntryKey;
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
    /// What the names of counters begin with.
    counters: String,
    /// What all other names begin with. VMs with another token have entries of their own.
    prefix: String,
    key: EntryKey,
}

/// An entry with a tag.
pub(crate) struct Entry {
    name: String,
    key: EntryKey,
}

/// Entries and messages with a wrong tag, since this was last reported.
#[derive(Default)]
pub(crate) struct Rejected {
    pub(crate) number: u64,
    /// The name of the last one.
    pub(crate) name: String,
}

thread_local! {
    static REJECTED: RefCell<Rejected> = RefCell::default();
}

/// Takes the count of entries and messages that another plugin has written.
pub(crate) fn take_rejected() -> Option<Rejected> {
    let rejected = REJECTED.take();
    (rejected.number > 0).then_some(rejected)
}

/// Counts an entry or a message that another plugin has written, or an earlier one that it has written back.
pub(crate) fn reject(name: &str) {
    REJECTED.with_borrow_mut(|rejected| {
        rejected.number += 1;
        name.clone_into(&mut rejected.name);
    });
}

/// The slot and version of the current snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The first version with which requests are decided. Later than `version` only in a process that is starting and was offered an
    /// image that is not current: keys that it contains may have been revoked since.
    pub(crate) serves_from: u64,
    /// The segments that changed last, each with the version that changed it, at most [`MAX_RECENT`]. An earlier one of these
    /// segments is not valid.
    pub(crate) recent: Vec<(u32, u64)>,
}

impl Head {
    /// Whether requests are decided with this version: it was current when this process started, or later, and the last
    /// confirmation is not older than `max_age`.
    pub(crate) fn is_served(&self, now: MonotonicNanos, max_age: Option<Duration>) -> bool {
        self.version >= self.serves_from
            && max_age.is_none_or(|max| now.since(MonotonicNanos(self.confirmed)) <= max)
    }
}

/// Maximum length of [`Head::recent`]: a delta changes at most as many keys.
pub(crate) const MAX_RECENT: usize = 256;

impl Names {
    /// Names for the installation behind this cluster, and for VMs with this token.
    pub(crate) fn new(cluster: &str, token: &str) -> Self {
        let key = EntryKey::new(token);
        let counters = format!("omniflow/{cluster}");
        Self { prefix: format!("{counters}/{:016x}", key.id()), counters, key }
    }

    #[cfg(test)]
    pub(crate) fn for_test(cluster: &str) -> Self {
        Self::new(cluster, "omf_token_test")
    }

    /// The key of all tags.
    pub(crate) fn key(&self) -> EntryKey {
        self.key
    }

    fn entry(&self, name: String) -> Entry {
        Entry { name, key: self.key }
    }

    pub(crate) fn head(&self) -> Entry {
        self.entry(format!("{}/head", self.prefix))
    }

    pub(crate) fn lease(&self) -> Entry {
        self.entry(format!("{}/lease", self.prefix))
    }

    pub(crate) fn members(&self) -> Entry {
        self.entry(format!("{}/vms/3", self.prefix))
    }

    pub(crate) fn queue(&self, vm: Incarnation) -> String {
        format!("{}/queue/{:016x}", self.prefix, vm.0)
    }

    pub(crate) fn handovers(&self) -> String {
        format!("{}/handovers/1", self.prefix)
    }

    pub(crate) fn manifest(&self, slot: u8) -> Entry {
        self.entry(format!("{}/{slot}/manifest", self.prefix))
    }

    pub(crate) fn segment(&self, slot: u8, index: u32) -> Entry {
        self.entry(format!("{}/{slot}/segment/{index}", self.prefix))
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
        let mut name = String::with_capacity(self.counters.len() + kind.len() + digits.len());
        name.push_str(&self.counters);
        name.push_str(kind);
        name.push_str(digits);
        name
    }
}

// === impl Entry ===

impl Entry {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A cleared entry has no tag, so that it takes no memory.
    fn seal(&self, value: &[u8]) -> Vec<u8> {
        if value.is_empty() { Vec::new() } else { self.key.seal(&self.name, value.to_vec()) }
    }
}

/// Reads an entry. An empty one counts as absent, and so does one with a wrong tag, which is counted.
pub(crate) fn get(entry: &Entry) -> Versioned<Bytes> {
    let sealed = get_counter(&entry.name);
    let value = sealed.value.and_then(|bytes| {
        let value = entry.key.open(&entry.name, bytes);
        if value.is_none() {
            reject(&entry.name);
        }
        value
    });
    Versioned { value, cas: sealed.cas }
}

/// Writes an entry if it has not changed since it was read.
pub(crate) fn swap<T>(entry: &Entry, read: &Versioned<T>, value: &[u8]) -> Result<(), Conflict> {
    swap_counter(&entry.name, read, &entry.seal(value))
}

/// Reads a counter. An empty one counts as absent.
pub(crate) fn get_counter(name: &str) -> Versioned<Bytes> {
    let (value, cas) = host::shared_data(name);
    Versioned { value: value.filter(|bytes| !bytes.is_empty()), cas: cas.unwrap_or(ABSENT) }
}

/// Writes a counter if it has not changed since it was read.
pub(crate) fn swap_counter<T>(name: &str, read: &Versioned<T>, value: &[u8]) -> Result<(), Conflict> {
    if host::set_shared_data(name, value, read.cas) { Ok(()) } else { Err(Conflict) }
}

/// Reads and decodes an entry.
pub(crate) fn get_as<T: DeserializeOwned>(entry: &Entry) -> Versioned<T> {
    let raw = get(entry);
    Versioned { value: raw.value.and_then(|bytes| postcard::from_bytes(&bytes).ok()), cas: raw.cas }
}

/// Encodes and writes an entry if it has not changed since it was read.
pub(crate) fn swap_as<T: Serialize>(entry: &Entry, read: &Versioned<T>, value: &T) -> Result<(), Conflict> {
    let bytes = postcard::to_allocvec(value).map_err(|_| Conflict)?;
    swap(entry, read, &bytes)
}

/// Changes an entry and returns the new value. `change` is called again when another VM wrote in the meantime; if it returns
/// `None`, the entry stays unchanged.
pub(crate) fn update<T: Serialize + DeserializeOwned>(
    entry: &Entry,
    mut change: impl FnMut(Option<T>) -> Option<T>,
) -> Option<T> {
    // Each failed round means that another VM succeeded; 1,000 in a row are not expected.
    for _ in 0..1_000 {
        let mut read: Versioned<T> = get_as(entry);
        let next = change(read.value.take())?;
        if swap_as(entry, &read, &next).is_ok() {
            return Some(next);
        }
    }
    None
}
