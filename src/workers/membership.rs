//! The membership of this VM among the VMs of its Envoy.
//!
//! Each VM writes a heartbeat into one table in shared data at every tick, with the snapshot version that it enforces
//! and the progress of its audit records, so that the others can report what a crashed VM had not delivered. A VM that
//! shuts down in an orderly way hands its records over through a queue that outlives it.

use omniflow_policy::audit::{DeliveryReport, MAX_REPORTED_VMS, VmDelivery};
use omniflow_policy::gateway::{Incarnation, VmStatus};
use omniflow_policy::time::MonotonicNanos;

use super::lease;
use super::member_table::{CallProgress, DepartedMember, Member, MemberTable, RETURN_PERIOD, SECOND};
use super::message::{self, Message};
use super::shared_data::{self, Head, Names};
use crate::audit::undelivered::Handover;
use crate::clock;
use crate::host::{self, LogLevel};

const MILLISECOND: u64 = SECOND / 1_000;
/// What handovers are sealed for.
const HANDOVER: &str = "handover";
/// A VM whose last heartbeat is older than this (several ticks) may have begun calls that are not in the table.
const FRESHNESS: u64 = SECOND / 2;

/// This VM's membership, with its last reading of the table.
pub(crate) struct Membership {
    names: Names,
    id: Incarnation,
    process: Incarnation,
    queue: u32,
    /// The queue of handovers. It belongs to no VM and outlives all of them.
    handover_queue: u32,
    table: MemberTable,
}

impl Membership {
    /// Joins the VMs of this Envoy. Only in a tick: a canary VM, which must not join, has none.
    pub(crate) fn join(names: &Names) -> Option<Self> {
        let id = Incarnation(host::random_u64());
        let queue = host::register_queue(&names.queue(id))?;
        let handover_queue = host::register_queue(&names.handovers())?;
        let first_head = Head {
            process: Incarnation(host::random_u64()),
            slot: 0,
            version: 0,
            manifest_version: 0,
            confirmed: 0,
            serves_from: 0,
            recent: Vec::new(),
        };
        // An existing head is not written: that would conflict with a leader that changes it.
        let process = match shared_data::get_as::<Head>(&names.head()).value {
            Some(head) => head.process,
            None => {
                let change = |head: Option<Head>| Some(head.unwrap_or(first_head.clone()));
                shared_data::update(&names.head(), change)?.process
            }
        };
        let table = MemberTable::default();
        Some(Self { names: names.clone(), id, process, queue, handover_queue, table })
    }

    /// Identifies this run of the VM.
    pub(crate) fn id(&self) -> Incarnation {
        self.id
    }

    /// Identifies this run of the Envoy process.
    pub(crate) fn process(&self) -> Incarnation {
        self.process
    }

    /// Writes a heartbeat and reads the table. Returns the number of calls that no VM can report anymore.
    pub(crate) fn heartbeat(
        &mut self,
        now: MonotonicNanos,
        version: u64,
        needs_image: bool,
        progress: CallProgress,
    ) -> u64 {
        let member = Member { id: self.id, queue: self.queue, seen: now.0, version, needs_image, progress };
        let mut dropped = 0;
        self.table = self.update(|table| dropped = table.heartbeat(member.clone(), now.0));
        dropped
    }

    /// Reads the table without a heartbeat.
    pub(crate) fn refresh(&mut self) {
        self.table = shared_data::get_as(&self.names.members()).value.unwrap_or_default();
    }

    /// Removes this VM from the table. Returns whether it was the last one.
    pub(crate) fn leave(&mut self) -> bool {
        self.table = self.update(|table| table.present.retain(|vm| vm.id != self.id));
        self.table.present.is_empty()
    }

    fn update(&self, mut change: impl FnMut(&mut MemberTable)) -> MemberTable {
        let updated = shared_data::update(&self.names.members(), |table: Option<MemberTable>| {
            let mut table = table.unwrap_or_default();
            change(&mut table);
            Some(table)
        });
        updated.unwrap_or_default()
    }

    /// Acquires or renews the lease. Returns whether this VM is the leader.
    pub(crate) fn acquire_lease(&self, now: MonotonicNanos) -> bool {
        lease::acquire(&self.names, self.id, now)
    }
}

// === enforcement ===

impl Membership {
    /// The snapshot version that each VM enforces.
    pub(crate) fn statuses(&self) -> Vec<VmStatus> {
        self.table.present.iter().map(|vm| VmStatus { id: vm.id, version: vm.version }).collect()
    }

    /// Whether a VM has found that parts of the image in shared data are not valid.
    pub(crate) fn any_needs_image(&self) -> bool {
        self.table.present.iter().any(|vm| vm.needs_image)
    }

    /// Whether every VM enforces at least `version`.
    pub(crate) fn all_enforce(&self, version: u64) -> bool {
        self.table.present.iter().all(|vm| vm.version >= version)
    }
}

// === audit records ===

impl Membership {
    /// Lists this VM as departed. To be called before [`Membership::hand_over`]: the VM that delivers the handover looks it up.
    pub(crate) fn announce_departure(&self, now: MonotonicNanos, progress: CallProgress) {
        let departed = DepartedMember { id: self.id, progress, since: now.0, handed_over: true };
        self.update(|table| table.announce_departure(departed.clone()));
    }

    /// Puts a handover into the queue. To be called before [`Membership::leave`], so that the last VM finds all of them. If too
    /// much is waiting already, the VM counts as crashed.
    pub(crate) fn hand_over(&self, handover: &Handover) {
        let Ok(bytes) = postcard::to_allocvec(handover) else { return };
        let mut fits = false;
        self.update(|table| fits = table.reserve_handover(handover.source.vm, bytes.len()));
        if fits {
            host::enqueue(self.handover_queue, &self.names.key().seal(HANDOVER, bytes));
        } else {
            let calls = handover.records.calls();
            host::log(
                LogLevel::Error,
                &format!("{calls} audit records lost: too many handovers are pending"),
            );
        }
    }

    /// Takes the next handover from the queue. No other VM gets it.
    pub(crate) fn take_handover(&self) -> Option<Handover> {
        loop {
            let bytes = host::dequeue(self.handover_queue)?;
            let Some(bytes) = self.names.key().open(HANDOVER, bytes) else {
                shared_data::reject(HANDOVER);
                continue;
            };
            self.update(|table| table.handover_bytes = table.handover_bytes.saturating_sub(bytes.len()));
            match postcard::from_bytes(&bytes) {
                Ok(handover) => return Some(handover),
                Err(_) => host::log(LogLevel::Error, "malformed handover; its audit records are lost"),
            }
        }
    }

    /// Records how many calls of a handover were acknowledged, and that this VM still delivers the rest.
    pub(crate) fn record_delivery(&self, vm: Incarnation, acknowledged: u64, now: MonotonicNanos) {
        self.update(|table| table.delivered(vm, acknowledged, now.0));
    }

    /// A crashed VM that has not been reported yet.
    pub(crate) fn next_crashed(&self, now: MonotonicNanos) -> Option<&DepartedMember> {
        self.table.departed.iter().find(|departed| now.0.saturating_sub(departed.since) >= RETURN_PERIOD)
    }

    /// Removes a crashed VM that was reported.
    pub(crate) fn remove_crashed(&self, vm: Incarnation) {
        shared_data::update(&self.names.members(), |table: Option<MemberTable>| {
            let mut table = table?;
            table.departed.retain(|departed| departed.id != vm);
            Some(table)
        });
    }

    /// Calls whose records were not acknowledged, over all VMs.
    pub(crate) fn waiting(&self) -> u64 {
        self.table.progress().map(|(_, progress)| progress.waiting()).sum()
    }

    /// Calls that were begun, over all VMs.
    pub(crate) fn begun(&self) -> u64 {
        self.table.progress().fold(0, |sum, (_, progress)| sum.wrapping_add(progress.begun))
    }

    /// Whether the heartbeats of all VMs are recent.
    pub(crate) fn all_are_fresh(&self, now: MonotonicNanos) -> bool {
        self.table.present.iter().all(|vm| now.0.saturating_sub(vm.seen) <= FRESHNESS)
    }

    /// Whether any VM is present. After [`Membership::leave`] this VM is not.
    pub(crate) fn any_present(&self) -> bool {
        !self.table.present.is_empty()
    }

    /// The progress of this Envoy as of the last reading of the table.
    pub(crate) fn progress_report(&self, now: MonotonicNanos, is_quiescent: bool) -> DeliveryReport {
        let vms = self.table.progress().take(MAX_REPORTED_VMS);
        let vms = vms.map(|(id, CallProgress { begun, acknowledged, at })| VmDelivery {
            id,
            begun,
            acknowledged,
            at,
        });
        DeliveryReport {
            clock: now.0 / MILLISECOND,
            at: clock::now(),
            quiescent: is_quiescent,
            vms: vms.collect(),
        }
    }
}

// === messages ===

impl Membership {
    /// Sends to all other VMs.
    pub(crate) fn send_to_others(&self, message: &Message) {
        for vm in self.table.present.iter().filter(|vm| vm.id != self.id) {
            message::send(vm.queue, message, self.names.key());
        }
    }

    /// Sends to the leader, unless that is this VM.
    pub(crate) fn send_to_leader(&self, message: &Message) {
        let leader = lease::holder(&self.names);
        if let Some(vm) = self.table.present.iter().find(|vm| Some(vm.id) == leader && vm.id != self.id) {
            message::send(vm.queue, message, self.names.key());
        }
    }

    /// Sends to this VM itself. The message arrives after all events that the thread has to handle first.
    pub(crate) fn send_to_self(&self, message: &Message) {
        message::send(self.queue, message, self.names.key());
    }

    /// The messages that have arrived.
    pub(crate) fn receive(&self) -> Vec<Message> {
        message::receive(self.queue, self.names.key())
    }
}

#[cfg(test)]
impl Membership {
    /// A VM without queues.
    pub(crate) fn for_test(cluster: &str, id: u64) -> Self {
        Self {
            names: Names::for_test(cluster),
            id: Incarnation(id),
            process: Incarnation(8),
            queue: 0,
            handover_queue: 0,
            table: MemberTable::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::time::UnixMillis;

    use super::*;

    fn member(id: u64, seen: u64, begun: u64) -> Member {
        let progress = CallProgress { begun, acknowledged: 10, at: UnixMillis(5) };
        Member { id: Incarnation(id), queue: 0, seen, version: 0, needs_image: false, progress }
    }

    fn departed(id: u64, begun: u64) -> DepartedMember {
        DepartedMember {
            id: Incarnation(id),
            progress: member(id, 0, begun).progress,
            since: 0,
            handed_over: true,
        }
    }

    #[test]
    fn progress_report_lists_each_vm_once() {
        let mut membership = Membership::for_test("report", 1);
        membership.table.heartbeat(member(1, 0, 15), 0);
        membership.table.heartbeat(member(2, 0, 10), 0);
        // One that is handing over, and one that has departed.
        membership.table.announce_departure(departed(1, 16));
        membership.table.announce_departure(departed(3, 12));
        let report = membership.progress_report(MonotonicNanos(7 * SECOND), false);
        let vms: Vec<_> = report.vms.iter().map(|vm| (vm.id.0, vm.begun, vm.acknowledged)).collect();
        assert_eq!((report.clock, vms), (7_000, vec![(2, 10, 10), (1, 16, 10), (3, 12, 10)]));
        assert_eq!((membership.begun(), membership.waiting()), (38, 8));
    }

    #[test]
    fn handover_under_delivery_is_never_reported_as_lost() {
        let mut membership = Membership::for_test("control", 9);
        let crashed = |membership: &Membership, now| {
            membership.next_crashed(MonotonicNanos(now)).map(|departed| departed.id.0)
        };
        membership.table.announce_departure(departed(1, 15));
        let last_attempt = 60 * SECOND;
        for now in (0..=last_attempt).step_by(SECOND as usize / 10) {
            membership.table.delivered(Incarnation(1), 10, now);
            assert_eq!(crashed(&membership, now), None);
        }
        assert_eq!(crashed(&membership, last_attempt + RETURN_PERIOD - 1), None);
        assert_eq!(
            crashed(&membership, last_attempt + RETURN_PERIOD),
            Some(1),
            "the VM that delivered it has crashed too"
        );
    }
}
