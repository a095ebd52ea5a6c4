//! The VMs of this Envoy: who lives, who leads, who enforces what.
//!
//! Each VM writes itself into one list in shared data at every tick; who has not for three seconds is gone. One of
//! them holds a lease of one second and does the work that one must do. Messages travel through one queue a VM.
//!
//! With itself a VM writes how many calls it has begun and how many records of them were acknowledged, so that the
//! others know what it takes along when it ends. One that ends in an orderly way leaves its records in a queue that
//! outlives it.

use omniflow_policy::audit::{DeliveryReport, MAX_REPORTED_VMS, VmDelivery};
use omniflow_policy::gateway::{Incarnation, VmStatus};
use omniflow_policy::time::{MonotonicNanos, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::abi::{self, LogLevel};
use crate::clock;
use crate::host;
use crate::legacy::Legacy;
use crate::shared::{self, Head, Names};

const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = SECOND / 1_000;
/// Without a tick for so long, a VM counts as gone. Ticks come every [`crate::root::TICK`].
const SILENCE: u64 = 3 * SECOND;
/// For so long a VM that is gone may still come back. After that its records are given up: a thread that was held up
/// for longer would lose those that it delivers after all.
const RETURN: u64 = 7 * SECOND;
/// Whoever has not been heard of for longer may have begun calls that nobody knows of: several ticks.
const FRESH: u64 = SECOND / 2;
/// The most VMs that are gone and not yet reported. Where more crash while the control plane is away, the oldest are
/// counted in the metric alone.
const MOST_GONE: usize = 64;
/// The most VMs whose records wait to be delivered in their name.
const MOST_LEFT: usize = 1_024;
/// The most bytes of such records, in the memory of Envoy: those of eight VMs with buffers of 8 MiB that are full.
const MOST_LEFT_BYTES: usize = 64 * 1024 * 1024;
/// How long the lead lasts without being renewed.
const LEASE: u64 = SECOND;

/// A VM as it stands in the shared list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Peer {
    id: Incarnation,
    queue: u32,
    seen: u64,
    version: u64,
    progress: Progress,
}

/// How far a VM has come with its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Calls that it has begun.
    pub(crate) begun: u64,
    /// Calls whose records were acknowledged.
    pub(crate) acknowledged: u64,
    /// When this was so.
    pub(crate) at: UnixMillis,
}

/// A VM that is gone, with records that nobody has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gone {
    pub(crate) id: Incarnation,
    pub(crate) progress: Progress,
    since: u64,
    /// Its records were left to the others, and are lost only if whoever took them is gone as well.
    left: bool,
}

/// The list in shared data. Another layout of it needs another name: an older filter may read it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Roll {
    present: Vec<Peer>,
    gone: Vec<Gone>,
    /// Bytes that wait in the queue of what VMs have left.
    left_bytes: usize,
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
    /// The queue of what VMs have left to the others. It is nobody's own, and outlives all of them.
    legacies: u32,
    roll: Roll,
}

// === impl Peers ===

impl Peers {
    /// Makes this VM known to the others. To be called in a tick, never by a canary VM, which has none.
    pub(crate) fn join(names: &Names) -> Option<Self> {
        let me = Incarnation(host::random_u64());
        let queue = abi::register_queue(&names.queue(me)).ok()?;
        let legacies = abi::register_queue(&names.legacies()).ok()?;
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
        Some(Self { names: names.clone(), me, process, queue, legacies, roll: Roll::default() })
    }

    /// This run of the VM.
    pub(crate) fn me(&self) -> Incarnation {
        self.me
    }

    /// This run of Envoy's process.
    pub(crate) fn process(&self) -> Incarnation {
        self.process
    }

    /// Tells the others that this VM lives, what it enforces and how far it has come, and reads the same of them. Gives
    /// the number of calls that nobody can report any more.
    pub(crate) fn beat(&mut self, now: MonotonicNanos, version: u64, progress: Progress) -> u64 {
        let me = Peer { id: self.me, queue: self.queue, seen: now.0, version, progress };
        let mut forgotten = 0;
        self.roll = self.change(|roll| forgotten = roll.beat(me.clone(), now.0));
        forgotten
    }

    /// Notes that this VM ends, with what it leaves to the others. To be called before [`Peers::bequeath`]: who delivers
    /// it has to find it here.
    pub(crate) fn announce_end(&self, now: MonotonicNanos, progress: Progress) {
        let gone = Gone { id: self.me, progress, since: now.0, left: true };
        self.change(|roll| roll.announce_end(gone.clone()));
    }

    /// Takes this VM out of the list, for good. Tells whether it was the last.
    pub(crate) fn leave(&mut self) -> bool {
        self.roll = self.change(|roll| roll.present.retain(|vm| vm.id != self.me));
        self.roll.present.is_empty()
    }

    /// Leaves something to the others. To be called before [`Peers::leave`], so that the last finds all of it. Where too
    /// much is waiting already, the VM is one that has taken its records along.
    pub(crate) fn bequeath(&self, legacy: &Legacy) {
        let Ok(bytes) = postcard::to_allocvec(legacy) else { return };
        let mut fits = false;
        self.change(|roll| fits = roll.admit(legacy.source.vm, bytes.len()));
        if fits {
            abi::enqueue(self.legacies, &bytes);
        } else {
            let calls = legacy.records.calls();
            host::log(LogLevel::Error, &format!("{calls} audit records are lost: too many wait already"));
        }
    }

    /// Takes what another VM has left, if there is any: nobody else will get it.
    pub(crate) fn inherit(&self) -> Option<Legacy> {
        loop {
            let bytes = abi::dequeue(self.legacies)?;
            self.change(|roll| roll.left_bytes = roll.left_bytes.saturating_sub(bytes.len()));
            match postcard::from_bytes(&bytes) {
                Ok(legacy) => return Some(legacy),
                Err(_) => {
                    host::log(LogLevel::Error, "what a VM has left cannot be read; its records are lost")
                }
            }
        }
    }

    /// Tells how much of what a VM had left was acknowledged, and that the rest is in good hands.
    pub(crate) fn delivered(&self, vm: Incarnation, acknowledged: u64, now: MonotonicNanos) {
        self.change(|roll| roll.delivered(vm, acknowledged, now.0));
    }

    fn change(&self, mut change: impl FnMut(&mut Roll)) -> Roll {
        let changed = shared::update(&self.names.vms(), |roll: Option<Roll>| {
            let mut roll = roll.unwrap_or_default();
            change(&mut roll);
            Some(roll)
        });
        changed.unwrap_or_default()
    }

    /// Reads the list without changing it.
    pub(crate) fn look(&mut self) {
        self.roll = shared::get_as(&self.names.vms()).value.unwrap_or_default();
    }

    /// A VM that will not come back, whose calls are to be reported.
    pub(crate) fn lost(&self, now: MonotonicNanos) -> Option<&Gone> {
        self.roll.gone.iter().find(|gone| now.0.saturating_sub(gone.since) >= RETURN)
    }

    /// That VM was reported.
    pub(crate) fn reported(&self, lost: Incarnation) {
        shared::update(&self.names.vms(), |roll: Option<Roll>| {
            let mut roll = roll?;
            roll.gone.retain(|gone| gone.id != lost);
            Some(roll)
        });
    }

    /// Calls that were begun and of whose records nobody has heard yet, over all VMs.
    pub(crate) fn waiting(&self) -> u64 {
        self.roll.progress().map(|(_, progress)| progress.waiting()).sum()
    }

    /// Calls that were begun, by all VMs that are known.
    pub(crate) fn begun(&self) -> u64 {
        self.roll.progress().fold(0, |sum, (_, progress)| sum.wrapping_add(progress.begun))
    }

    /// Whether every VM has told lately how far it is.
    pub(crate) fn all_are_fresh(&self, now: MonotonicNanos) -> bool {
        self.roll.present.iter().all(|vm| now.0.saturating_sub(vm.seen) <= FRESH)
    }

    /// Whether there are others: this VM is none of them once it has left.
    pub(crate) fn are_there(&self) -> bool {
        !self.roll.present.is_empty()
    }

    /// How far this Envoy has come, as far as this VM has heard at its last beat or look.
    pub(crate) fn word(&self, now: MonotonicNanos, settled: bool) -> DeliveryReport {
        let vms = self.roll.progress().take(MAX_REPORTED_VMS);
        let vms =
            vms.map(|(id, Progress { begun, acknowledged, at })| VmDelivery { id, begun, acknowledged, at });
        DeliveryReport {
            clock: now.0 / MILLISECOND,
            at: clock::now(),
            quiescent: settled,
            vms: vms.collect(),
        }
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
        self.roll.present.iter().map(|vm| VmStatus { id: vm.id, version: vm.version }).collect()
    }

    /// Whether every VM enforces at least `version`.
    pub(crate) fn all_enforce(&self, version: u64) -> bool {
        self.roll.present.iter().all(|vm| vm.version >= version)
    }

    /// Sends to all others.
    pub(crate) fn tell_others(&self, message: &Message) {
        for vm in self.roll.present.iter().filter(|vm| vm.id != self.me) {
            send(vm.queue, message);
        }
    }

    /// Sends to the VM that has the lead, if another.
    pub(crate) fn tell_leader(&self, message: &Message) {
        let holder = shared::get_as::<Lease>(&self.names.lease()).value.map(|lease| lease.holder);
        if let Some(leader) = self.roll.present.iter().find(|vm| Some(vm.id) == holder && vm.id != self.me) {
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
        while let Some(bytes) = abi::dequeue(self.queue) {
            messages.extend(postcard::from_bytes(&bytes));
        }
        messages
    }
}

// === impl Roll ===

impl Roll {
    /// How far each VM has come, present or gone.
    fn progress(&self) -> impl Iterator<Item = (Incarnation, Progress)> {
        // One that ends in an orderly way stands in both for a moment.
        let ends = |id| self.gone.iter().any(|gone| gone.id == id);
        let present = self.present.iter().filter(move |vm| !ends(vm.id)).map(|vm| (vm.id, vm.progress));
        present.chain(self.gone.iter().map(|gone| (gone.id, gone.progress)))
    }

    /// Notes that a VM lives, and who does not any more. Gives the number of calls that are reported by nobody, because
    /// too many VMs are gone.
    fn beat(&mut self, me: Peer, now: u64) -> u64 {
        self.gone.retain(|gone| gone.id != me.id);
        self.present.retain(|vm| vm.id != me.id);
        let silent = |vm: &mut Peer| now.saturating_sub(vm.seen) >= SILENCE;
        for vm in self.present.extract_if(.., silent).filter(|vm| vm.progress.waiting() > 0) {
            self.gone.push(Gone { id: vm.id, progress: vm.progress, since: now, left: false });
        }
        self.present.push(me);
        self.present.sort_by_key(|vm| vm.id);
        let crashed = self.gone.iter().filter(|gone| !gone.left).count();
        let too_many = crashed.saturating_sub(MOST_GONE);
        let forgotten = self.gone.extract_if(.., |gone| !gone.left).take(too_many);
        forgotten.map(|gone| gone.progress.waiting()).sum()
    }

    /// Notes that a VM ends in an orderly way. It is still present.
    fn announce_end(&mut self, gone: Gone) {
        self.gone.retain(|known| known.id != gone.id);
        if gone.progress.waiting() > 0 {
            self.gone.push(gone);
        }
    }

    /// Whether so many bytes of a VM may wait. If not, it counts as one whose records are lost.
    fn admit(&mut self, vm: Incarnation, bytes: usize) -> bool {
        let waiting = self.gone.iter().filter(|gone| gone.left).count();
        let fits = self.left_bytes.saturating_add(bytes) <= MOST_LEFT_BYTES && waiting <= MOST_LEFT;
        if fits {
            self.left_bytes += bytes;
        } else {
            self.gone.iter_mut().filter(|gone| gone.id == vm).for_each(|gone| gone.left = false);
        }
        fits
    }

    /// Notes how much of what a VM had left was acknowledged.
    fn delivered(&mut self, vm: Incarnation, acknowledged: u64, now: u64) {
        for gone in self.gone.iter_mut().filter(|gone| gone.id == vm) {
            gone.progress.acknowledged = gone.progress.acknowledged.max(acknowledged);
            gone.since = now;
        }
        self.gone.retain(|gone| gone.id != vm || gone.progress.waiting() > 0);
    }
}

// === impl Progress ===

impl Progress {
    /// Calls that were begun and of whose records nobody has heard yet.
    pub(crate) fn waiting(self) -> u64 {
        self.begun.saturating_sub(self.acknowledged)
    }
}

fn send(queue: u32, message: &Message) {
    if let Ok(bytes) = postcard::to_allocvec(message) {
        // Nobody reads that of a VM that has gone in the meantime; its successor starts from shared data.
        abi::enqueue(queue, &bytes);
    }
}

#[cfg(test)]
impl Peers {
    /// One VM of an Envoy, where no queue is needed.
    pub(crate) fn alone(cluster: &str, me: u64) -> Self {
        Self {
            names: Names::new(cluster),
            me: Incarnation(me),
            process: Incarnation(8),
            queue: 0,
            legacies: 0,
            roll: Roll::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: u64, seen: u64, begun: u64) -> Peer {
        let progress = Progress { begun, acknowledged: 10, at: UnixMillis(5) };
        Peer { id: Incarnation(id), queue: 0, seen, version: 0, progress }
    }

    fn gone(id: u64, begun: u64) -> Gone {
        Gone { id: Incarnation(id), progress: peer(id, 0, begun).progress, since: 0, left: true }
    }

    fn ids(roll: &Roll) -> (Vec<u64>, Vec<u64>) {
        (roll.present.iter().map(|vm| vm.id.0).collect(), roll.gone.iter().map(|gone| gone.id.0).collect())
    }

    #[test]
    fn who_is_silent_is_gone_with_what_it_had_and_may_come_back() {
        let mut roll = Roll::default();
        for vm in [peer(1, 0, 12), peer(2, 0, 10), peer(3, SECOND, 11)] {
            assert_eq!(roll.beat(vm, 0), 0);
        }
        assert_eq!(roll.beat(peer(3, SILENCE, 11), SILENCE), 0);
        assert_eq!(ids(&roll), (vec![3], vec![1]), "2 had nothing that is lost");
        assert_eq!(roll.gone[0].progress.waiting(), 2);
        roll.beat(peer(1, SILENCE + 1, 12), SILENCE + 1);
        assert_eq!(ids(&roll), (vec![1, 3], vec![]));
    }

    #[test]
    fn what_a_vm_leaves_is_gone_until_it_is_delivered() {
        let mut roll = Roll::default();
        roll.beat(peer(1, 0, 15), 0);
        roll.beat(peer(2, 0, 10), 0);
        roll.announce_end(gone(1, 15));
        roll.announce_end(gone(2, 10));
        assert_eq!(ids(&roll), (vec![1, 2], vec![1]), "2 had nothing to leave");
        roll.delivered(Incarnation(1), 13, SILENCE);
        assert_eq!((roll.gone[0].progress.waiting(), roll.gone[0].since), (2, SILENCE));
        roll.delivered(Incarnation(1), 15, SILENCE);
        assert!(roll.gone.is_empty());
    }

    #[test]
    fn a_word_names_each_vm_once_with_what_it_holds() {
        let mut peers = Peers::alone("word", 1);
        peers.roll.beat(peer(1, 0, 15), 0);
        peers.roll.beat(peer(2, 0, 10), 0);
        // Ending in an orderly way, and gone in another.
        peers.roll.announce_end(gone(1, 16));
        peers.roll.announce_end(gone(3, 12));
        let word = peers.word(MonotonicNanos(7 * SECOND), false);
        let vms: Vec<_> = word.vms.iter().map(|vm| (vm.id.0, vm.begun, vm.acknowledged)).collect();
        assert_eq!((word.clock, vms), (7_000, vec![(2, 10, 10), (1, 16, 10), (3, 12, 10)]));
        assert_eq!((peers.begun(), peers.waiting()), (38, 8));
    }

    #[test]
    fn what_somebody_tries_to_deliver_is_not_lost_however_long_that_takes() {
        let mut peers = Peers::alone("control", 9);
        let lost = |peers: &Peers, now| peers.lost(MonotonicNanos(now)).map(|gone| gone.id.0);
        peers.roll.announce_end(gone(1, 15));
        let tried_last = 60 * SECOND;
        for now in (0..=tried_last).step_by(SECOND as usize / 10) {
            peers.roll.delivered(Incarnation(1), 10, now);
            assert_eq!(lost(&peers, now), None);
        }
        assert_eq!(lost(&peers, tried_last + RETURN - 1), None);
        assert_eq!(lost(&peers, tried_last + RETURN), Some(1), "whoever had it in hand is gone as well");
    }

    #[test]
    fn what_was_left_is_never_forgotten() {
        let mut roll = Roll::default();
        for id in 0..100 {
            roll.announce_end(gone(id, 12));
        }
        assert_eq!((roll.beat(peer(100, 0, 10), 0), roll.gone.len()), (0, 100));
    }

    #[test]
    fn no_more_waits_than_there_is_room_for() {
        let mut roll = Roll::default();
        roll.announce_end(gone(1, 15));
        roll.announce_end(gone(2, 15));
        assert!(roll.admit(Incarnation(1), MOST_LEFT_BYTES));
        assert!(!roll.admit(Incarnation(2), 1));
        assert_eq!(roll.gone.iter().map(|gone| gone.left).collect::<Vec<_>>(), [true, false]);
        let mut many = Roll::default();
        for id in 0..MOST_LEFT as u64 {
            many.announce_end(gone(id, 15));
        }
        assert!(many.admit(Incarnation(0), 1));
        many.announce_end(gone(5_000, 15));
        assert!(!many.admit(Incarnation(5_000), 1));
    }

    #[test]
    fn the_layout_is_the_one_of_its_name() {
        // Another filter reads it: another layout needs another name in `Names::vms`.
        let mut roll = Roll::default();
        roll.beat(peer(1, 5, 3), 5);
        roll.announce_end(gone(2, 12));
        let bytes = postcard::to_allocvec(&roll).unwrap_or_default();
        assert_eq!(
            hex(&bytes),
            "011030303030303030303030303030303031000500030a050110303030303030303030303030303030320c0a05000100"
        );
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_list_is_bounded_and_tells_what_it_forgets() {
        let mut roll = Roll::default();
        let mut forgotten = 0;
        for id in 0..100 {
            forgotten += roll.beat(peer(id, id * SILENCE, 12), id * SILENCE);
        }
        assert_eq!((roll.gone.len(), forgotten), (MOST_GONE, 2 * (99 - MOST_GONE as u64)));
    }
}
