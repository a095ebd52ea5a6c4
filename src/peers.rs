//! The VMs of this Envoy: who lives, who leads, who enforces what.
//!
//! Each VM writes itself into one list in shared data at every tick; who has not for three seconds is gone. One of
//! them holds a lease of one second and does the work that one must do. Messages travel through one queue a VM.

use omniflow_policy::gateway::{Incarnation, VmStatus};
use omniflow_policy::time::MonotonicNanos;
use proxy_wasm::hostcalls;
use serde::{Deserialize, Serialize};

use crate::host;
use crate::shared::{self, Head, Names};

const SECOND: u64 = 1_000_000_000;
/// Without a tick for so long, a VM counts as gone. Ticks come every [`crate::root::TICK`].
const SILENCE: u64 = 3 * SECOND;
/// How long the lead lasts without being renewed.
const LEASE: u64 = SECOND;

/// A VM as it stands in the shared list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Peer {
    id: Incarnation,
    queue: u32,
    seen: u64,
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct Lease {
    holder: Incarnation,
    until: u64,
}

/// What VMs tell each other.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// A new version is in shared data; `None` means that all pages may differ.
    Changed { from: u64, to: u64, pages: Option<Vec<u32>> },
    /// To the leader: some VM enforces another version now.
    Enforced,
    /// To itself: go on with work that was cut into pieces.
    Continue,
    /// To itself: enough audit records for a batch are there.
    Flush,
}

/// This VM among the others.
pub(crate) struct Peers {
    names: Names,
    me: Incarnation,
    process: Incarnation,
    queue: u32,
    peers: Vec<Peer>,
}

impl Peers {
    /// Makes this VM known to the others. To be called in a tick, never by a canary VM, which has none.
    pub(crate) fn join(names: &Names) -> Option<Self> {
        let me = Incarnation(host::random_u64());
        let queue = hostcalls::register_shared_queue(&names.queue(me)).ok()?;
        let fresh = Head {
            process: Incarnation(host::random_u64()),
            slot: 0,
            version: 0,
            manifest_version: 0,
            confirmed: 0,
        };
        // A head that is there is not written again: that would get in the way of a leader that changes it.
        let process = match shared::get_as::<Head>(&names.head()).value {
            Some(head) => head.process,
            None => shared::update(&names.head(), |head: Option<Head>| Some(head.unwrap_or(fresh)))?.process,
        };
        Some(Self { names: names.clone(), me, process, queue, peers: Vec::new() })
    }

    /// This run of the VM.
    pub(crate) fn me(&self) -> Incarnation {
        self.me
    }

    /// This run of Envoy's process.
    pub(crate) fn process(&self) -> Incarnation {
        self.process
    }

    /// Tells the others that this VM lives and what it enforces, and reads the same of them.
    pub(crate) fn beat(&mut self, now: MonotonicNanos, version: u64) {
        let me = Peer { id: self.me, queue: self.queue, seen: now.0, version };
        let list = shared::update(&self.names.vms(), |vms: Option<Vec<Peer>>| {
            let mut vms = vms.unwrap_or_default();
            vms.retain(|vm| vm.id != me.id && now.0.saturating_sub(vm.seen) < SILENCE);
            vms.push(me.clone());
            vms.sort_by_key(|vm| vm.id);
            Some(vms)
        });
        self.peers = list.unwrap_or_default();
    }

    /// Reads the list without changing it.
    pub(crate) fn look(&mut self) {
        self.peers = shared::get_as(&self.names.vms()).value.unwrap_or_default();
    }

    /// Takes or renews the lead; tells whether this VM has it.
    pub(crate) fn lead(&self, now: MonotonicNanos) -> bool {
        let read = shared::get_as::<Lease>(&self.names.lease());
        let free = read.value.as_ref().is_none_or(|lease| lease.holder == self.me || lease.until <= now.0);
        let lease = Lease { holder: self.me, until: now.0.saturating_add(LEASE) };
        free && shared::swap_as(&self.names.lease(), &read, &lease).is_ok()
    }

    /// What each VM enforces.
    pub(crate) fn statuses(&self) -> Vec<VmStatus> {
        self.peers.iter().map(|vm| VmStatus { id: vm.id, version: vm.version }).collect()
    }

    /// Whether every VM enforces at least `version`.
    pub(crate) fn all_enforce(&self, version: u64) -> bool {
        self.peers.iter().all(|vm| vm.version >= version)
    }

    /// Sends to all others.
    pub(crate) fn tell_others(&self, message: &Message) {
        for vm in self.peers.iter().filter(|vm| vm.id != self.me) {
            send(vm.queue, message);
        }
    }

    /// Sends to the VM that has the lead, if another.
    pub(crate) fn tell_leader(&self, message: &Message) {
        let holder = shared::get_as::<Lease>(&self.names.lease()).value.map(|lease| lease.holder);
        if let Some(leader) = self.peers.iter().find(|vm| Some(vm.id) == holder && vm.id != self.me) {
            send(leader.queue, message);
        }
    }

    /// Sends to this VM itself: it arrives after whatever the thread has to do first.
    pub(crate) fn tell_self(&self, message: &Message) {
        send(self.queue, message);
    }

    /// The messages that have come.
    pub(crate) fn receive(&self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Ok(Some(bytes)) = hostcalls::dequeue_shared_queue(self.queue) {
            messages.extend(postcard::from_bytes(&bytes));
        }
        messages
    }
}

fn send(queue: u32, message: &Message) {
    if let Ok(bytes) = postcard::to_allocvec(message) {
        // A VM that has gone in the meantime has no queue any more; its successor starts from shared data.
        let _ = hostcalls::enqueue_shared_queue(queue, Some(&bytes));
    }
}
