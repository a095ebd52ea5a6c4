//! Applying a delta: the pages it touches, a few at a time, then the head.

use std::collections::VecDeque;

use omniflow_policy::snapshot::{Change, Delta, Manifest, Segment, SnapshotError};

use super::{Context, Leader, Progress, State, Step, TakeOver};
use crate::shared::{self, Head};

/// A delta that is being applied.
pub(super) struct DeltaWork {
    manifest: Manifest,
    head: Head,
    delta: Delta,
    left: VecDeque<(u32, Vec<Change>)>,
    touched: Vec<u32>,
}

impl Leader {
    pub(super) fn begin_delta(&mut self, body: &[u8]) -> Result<(), SnapshotError> {
        let delta = Delta::decode(body)?;
        let head = self.head().filter(|head| head.version == delta.from).ok_or(SnapshotError::Mismatch)?;
        let bytes = shared::get(&self.names.manifest(head.slot)).value.ok_or(SnapshotError::Mismatch)?;
        let manifest = Manifest::decode(&bytes)?;
        if manifest.installation != delta.installation {
            return Err(SnapshotError::OtherInstallation);
        }
        if let Some(policy) = &delta.policy {
            Manifest { policy: policy.clone(), ..manifest.clone() }
                .policy()
                .map_err(|_| SnapshotError::Policy)?;
        }
        let left: VecDeque<(u32, Vec<Change>)> = delta
            .by_segment(manifest.segment_bits)
            .into_iter()
            .map(|(page, changes)| (page, changes.into_iter().cloned().collect()))
            .collect();
        let touched = left.iter().map(|(page, _)| *page).collect();
        self.state = State::Applying { delta: DeltaWork { manifest, head, delta, left, touched } };
        Ok(())
    }

    pub(super) fn apply(&mut self, context: &Context<'_>, mut work: DeltaWork) -> Progress {
        let mut step = Step::begin();
        while step.goes_on()
            && let Some((index, changes)) = work.left.pop_front()
        {
            if let Err(error) = self.apply_page(&work, index, &changes) {
                return self.reject_delta(context, error);
            }
        }
        if !work.left.is_empty() {
            self.state = State::Applying { delta: work };
            return Progress { more: true, ..Progress::default() };
        }
        let to = work.delta.to;
        let mut next = Head { version: to, confirmed: context.now.0, ..work.head };
        let manifest = work.delta.policy.map(|policy| Manifest { version: to, policy, ..work.manifest });
        if manifest.is_some() {
            next.manifest_version = to;
        }
        self.take_over(context, TakeOver { next, manifest, pages: Some((work.delta.from, work.touched)) })
    }

    fn apply_page(&self, work: &DeltaWork, index: u32, changes: &[Change]) -> Result<(), SnapshotError> {
        let name = self.names.page(work.head.slot, index);
        loop {
            let mut read = shared::get(&name);
            let bytes = read.value.take().ok_or(SnapshotError::Mismatch)?;
            let page = Segment::parse(bytes, work.manifest.segment_id(index))?;
            // A page that is ahead was written by another leader: it has these changes and later ones.
            if page.version() >= work.delta.to {
                return Ok(());
            }
            if shared::swap(&name, &read, page.apply(work.delta.to, changes)?.bytes()).is_ok() {
                return Ok(());
            }
        }
    }
}
