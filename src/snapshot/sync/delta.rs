//! Applying a delta: the segments that it touches, a few at a time, then the head.

use std::collections::VecDeque;

use omniflow_policy::snapshot::{Change, Delta, Manifest, Segment, SnapshotError};

use super::state::{DeltaWork, NextVersion, State};
use super::{Leader, Step, SyncContext, SyncOutcome};
use crate::workers::shared_data::{self, Head, MAX_RECENT};

impl Leader {
    pub(super) fn begin_delta(&mut self, body: &[u8]) -> Result<(), SnapshotError> {
        let delta = Delta::decode(body)?;
        let head = self.head().filter(|head| head.version == delta.from).ok_or(SnapshotError::Mismatch)?;
        let bytes = shared_data::get(&self.names.manifest(head.slot)).value.ok_or(SnapshotError::Mismatch)?;
        let manifest = Manifest::decode(&bytes)?;
        if manifest.installation != delta.installation {
            return Err(SnapshotError::OtherInstallation);
        }
        if let Some(policy) = &delta.policy {
            Manifest { policy: policy.clone(), ..manifest.clone() }
                .policy()
                .map_err(|_| SnapshotError::Policy)?;
        }
        let remaining: VecDeque<(u32, Vec<Change>)> = delta
            .by_segment(manifest.segment_bits)
            .into_iter()
            .map(|(segment, changes)| (segment, changes.into_iter().cloned().collect()))
            .collect();
        let touched = remaining.iter().map(|(segment, _)| *segment).collect();
        self.state = State::Applying { delta: DeltaWork { manifest, head, delta, remaining, touched } };
        Ok(())
    }

    pub(super) fn apply(&mut self, context: &SyncContext<'_>, mut work: DeltaWork) -> SyncOutcome {
        let mut step = Step::begin();
        while step.has_time()
            && let Some((index, changes)) = work.remaining.pop_front()
        {
            if let Err(error) = self.apply_to_segment(&work, index, &changes) {
                return self.reject_delta(context, error);
            }
        }
        if !work.remaining.is_empty() {
            self.state = State::Applying { delta: work };
            return SyncOutcome { has_more: true, ..SyncOutcome::default() };
        }
        let to = work.delta.to;
        let mut head = Head { version: to, confirmed: context.now.0, ..work.head };
        head.recent.retain(|(index, _)| !work.touched.contains(index));
        head.recent.extend(work.touched.iter().map(|index| (*index, to)));
        let excess = head.recent.len().saturating_sub(MAX_RECENT);
        head.recent.drain(..excess);
        let manifest = work.delta.policy.map(|policy| Manifest { version: to, policy, ..work.manifest });
        if manifest.is_some() {
            head.manifest_version = to;
        }
        let segments = Some((work.delta.from, work.touched));
        self.take_over(context, NextVersion { head, manifest, segments })
    }

    fn apply_to_segment(
        &self,
        work: &DeltaWork,
        index: u32,
        changes: &[Change],
    ) -> Result<(), SnapshotError> {
        let name = self.names.segment(work.head.slot, index);
        loop {
            let mut read = shared_data::get(&name);
            let bytes = read.value.take().ok_or(SnapshotError::Mismatch)?;
            let segment = Segment::parse(bytes, work.manifest.segment_id(index))?;
            // A newer segment was written by another leader and already contains these changes.
            if segment.version() >= work.delta.to {
                return Ok(());
            }
            if shared_data::swap(&name, &read, segment.apply(work.delta.to, changes)?.bytes()).is_ok() {
                return Ok(());
            }
        }
    }
}
