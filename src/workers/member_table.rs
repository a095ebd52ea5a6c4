//! The table of VMs in shared data: which are present, which have departed with audit records that are not delivered.

use omniflow_policy::gateway::Incarnation;
use omniflow_policy::time::UnixMillis;
use serde::{Deserialize, Serialize};

/// One second in nanoseconds.
pub(super) const SECOND: u64 = 1_000_000_000;
/// A VM without a heartbeat for this long has departed. VMs send one every [`crate::root::TICK`].
const HEARTBEAT_TIMEOUT: u64 = 3 * SECOND;
/// How long a departed VM may take to come back before it counts as crashed: its thread may have been blocked. Records
/// that it delivers later are dropped.
pub(super) const RETURN_PERIOD: u64 = 7 * SECOND;
/// Maximum number of crashed VMs waiting to be reported. Beyond it, the oldest appear only in the metric.
const MAX_CRASHED: usize = 64;
/// Maximum number of VMs with pending handovers.
const MAX_HANDOVERS: usize = 1_024;
/// Maximum number of bytes of pending handovers in Envoy's memory: eight VMs with full buffers of 8 MiB.
const MAX_HANDOVER_BYTES: usize = 64 * 1024 * 1024;

/// A VM that is present.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Member {
    pub(super) id: Incarnation,
    pub(super) queue: u32,
    /// The time of the last heartbeat, in nanoseconds of the monotonic clock.
    pub(super) seen: u64,
    /// The snapshot version that it enforces.
    pub(super) version: u64,
    /// Whether it has found that parts of the image in shared data are not valid.
    pub(super) needs_image: bool,
    pub(super) progress: CallProgress,
}

/// How many calls a VM has begun, and how many of their records were acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallProgress {
    pub(crate) begun: u64,
    pub(crate) acknowledged: u64,
    /// The time of this state.
    pub(crate) at: UnixMillis,
}

/// A VM that is gone and has calls whose records were not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DepartedMember {
    pub(crate) id: Incarnation,
    pub(crate) progress: CallProgress,
    pub(super) since: u64,
    /// Its records were handed over. They are lost only if the VM that took them crashes too.
    pub(super) handed_over: bool,
}

/// The table. A different layout needs a different entry name: an older filter may read this one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct MemberTable {
    pub(super) present: Vec<Member>,
    pub(super) departed: Vec<DepartedMember>,
    /// Bytes in the queue of handovers.
    pub(super) handover_bytes: usize,
}

// === impl CallProgress ===

impl CallProgress {
    /// Calls that were begun and whose records were not acknowledged.
    pub(crate) fn waiting(self) -> u64 {
        self.begun.saturating_sub(self.acknowledged)
    }
}

// === impl MemberTable ===

impl MemberTable {
    /// The progress of each VM, present or departed.
    pub(super) fn progress(&self) -> impl Iterator<Item = (Incarnation, CallProgress)> {
        // A VM that is handing over is briefly in both lists.
        let has_departed = |id| self.departed.iter().any(|departed| departed.id == id);
        let present =
            self.present.iter().filter(move |vm| !has_departed(vm.id)).map(|vm| (vm.id, vm.progress));
        present.chain(self.departed.iter().map(|departed| (departed.id, departed.progress)))
    }

    /// Records a heartbeat and moves silent VMs to the departed. Returns the number of calls that drop out of the table
    /// because too many VMs have crashed.
    pub(super) fn heartbeat(&mut self, member: Member, now: u64) -> u64 {
        self.departed.retain(|departed| departed.id != member.id);
        self.present.retain(|vm| vm.id != member.id);
        let is_silent = |vm: &mut Member| now.saturating_sub(vm.seen) >= HEARTBEAT_TIMEOUT;
        for vm in self.present.extract_if(.., is_silent).filter(|vm| vm.progress.waiting() > 0) {
            let departed =
                DepartedMember { id: vm.id, progress: vm.progress, since: now, handed_over: false };
            self.departed.push(departed);
        }
        self.present.push(member);
        self.present.sort_by_key(|vm| vm.id);
        let crashed = self.departed.iter().filter(|departed| !departed.handed_over).count();
        let excess = crashed.saturating_sub(MAX_CRASHED);
        let dropped = self.departed.extract_if(.., |departed| !departed.handed_over).take(excess);
        dropped.map(|departed| departed.progress.waiting()).sum()
    }

    /// Lists a VM as departed before its handover, while it is still present.
    pub(super) fn announce_departure(&mut self, departed: DepartedMember) {
        self.departed.retain(|known| known.id != departed.id);
        if departed.progress.waiting() > 0 {
            self.departed.push(departed);
        }
    }

    /// Reserves room for a handover. Returns `false` if there is none: the VM counts as crashed then.
    pub(super) fn reserve_handover(&mut self, vm: Incarnation, bytes: usize) -> bool {
        let waiting = self.departed.iter().filter(|departed| departed.handed_over).count();
        let fits =
            self.handover_bytes.saturating_add(bytes) <= MAX_HANDOVER_BYTES && waiting <= MAX_HANDOVERS;
        if fits {
            self.handover_bytes += bytes;
        } else {
            let of_vm = self.departed.iter_mut().filter(|departed| departed.id == vm);
            of_vm.for_each(|departed| departed.handed_over = false);
        }
        fits
    }

    /// Records how many calls of a handover were acknowledged, and that its delivery continues.
    pub(super) fn delivered(&mut self, vm: Incarnation, acknowledged: u64, now: u64) {
        for departed in self.departed.iter_mut().filter(|departed| departed.id == vm) {
            departed.progress.acknowledged = departed.progress.acknowledged.max(acknowledged);
            departed.since = now;
        }
        self.departed.retain(|departed| departed.id != vm || departed.progress.waiting() > 0);
    }
}

#[cfg(test)]
mod tests {
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

    fn ids(table: &MemberTable) -> (Vec<u64>, Vec<u64>) {
        (
            table.present.iter().map(|vm| vm.id.0).collect(),
            table.departed.iter().map(|departed| departed.id.0).collect(),
        )
    }

    #[test]
    fn silent_vm_departs_with_its_records_and_may_return() {
        let mut table = MemberTable::default();
        for vm in [member(1, 0, 12), member(2, 0, 10), member(3, SECOND, 11)] {
            assert_eq!(table.heartbeat(vm, 0), 0);
        }
        assert_eq!(table.heartbeat(member(3, HEARTBEAT_TIMEOUT, 11), HEARTBEAT_TIMEOUT), 0);
        assert_eq!(ids(&table), (vec![3], vec![1]), "2 had no records to lose");
        assert_eq!(table.departed[0].progress.waiting(), 2);
        table.heartbeat(member(1, HEARTBEAT_TIMEOUT + 1, 12), HEARTBEAT_TIMEOUT + 1);
        assert_eq!(ids(&table), (vec![1, 3], vec![]));
    }

    #[test]
    fn handover_stays_listed_until_it_is_delivered() {
        let mut table = MemberTable::default();
        table.heartbeat(member(1, 0, 15), 0);
        table.heartbeat(member(2, 0, 10), 0);
        table.announce_departure(departed(1, 15));
        table.announce_departure(departed(2, 10));
        assert_eq!(ids(&table), (vec![1, 2], vec![1]), "2 had no records");
        table.delivered(Incarnation(1), 13, HEARTBEAT_TIMEOUT);
        assert_eq!((table.departed[0].progress.waiting(), table.departed[0].since), (2, HEARTBEAT_TIMEOUT));
        table.delivered(Incarnation(1), 15, HEARTBEAT_TIMEOUT);
        assert!(table.departed.is_empty());
    }

    #[test]
    fn handovers_are_never_dropped_from_the_table() {
        let mut table = MemberTable::default();
        for id in 0..100 {
            table.announce_departure(departed(id, 12));
        }
        assert_eq!((table.heartbeat(member(100, 0, 10), 0), table.departed.len()), (0, 100));
    }

    #[test]
    fn handovers_beyond_the_limit_count_as_crashes() {
        let mut table = MemberTable::default();
        table.announce_departure(departed(1, 15));
        table.announce_departure(departed(2, 15));
        assert!(table.reserve_handover(Incarnation(1), MAX_HANDOVER_BYTES));
        assert!(!table.reserve_handover(Incarnation(2), 1));
        assert_eq!(
            table.departed.iter().map(|departed| departed.handed_over).collect::<Vec<_>>(),
            [true, false]
        );
        let mut many = MemberTable::default();
        for id in 0..MAX_HANDOVERS as u64 {
            many.announce_departure(departed(id, 15));
        }
        assert!(many.reserve_handover(Incarnation(0), 1));
        many.announce_departure(departed(5_000, 15));
        assert!(!many.reserve_handover(Incarnation(5_000), 1));
    }

    #[test]
    fn layout_matches_the_entry_name() {
        // Another filter version reads it: a different layout needs a different name in `Names::members`.
        let mut table = MemberTable::default();
        table.heartbeat(member(1, 5, 3), 5);
        table.announce_departure(departed(2, 12));
        let bytes = postcard::to_allocvec(&table).unwrap_or_default();
        assert_eq!(
            hex(&bytes),
            "01103030303030303030303030303030303100050000030a050110303030303030303030303030303030320c0a05000100"
        );
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn table_is_bounded_and_counts_what_it_drops() {
        let mut table = MemberTable::default();
        let mut dropped = 0;
        for id in 0..100 {
            dropped += table.heartbeat(member(id, id * HEARTBEAT_TIMEOUT, 12), id * HEARTBEAT_TIMEOUT);
        }
        assert_eq!((table.departed.len(), dropped), (MAX_CRASHED, 2 * (99 - MAX_CRASHED as u64)));
    }
}
