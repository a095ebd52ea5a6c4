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
            // Another plugin may have written an earlier segment back, which must not become the base of a new one.
            let changed =
                work.head.recent.iter().find(|(changed, _)| *changed == index).map_or(0, |(_, at)| *at);
            if segment.version() < changed {
                shared_data::reject(name.name());
                return Err(SnapshotError::Mismatch);
            }
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

#[cfg(test)]
mod tests {
    use omniflow_policy::address::Allowlist;
    use omniflow_policy::digest::Digest;
    use omniflow_policy::gateway::Incarnation;
    use omniflow_policy::key::Environment;
    use omniflow_policy::limit::RateLimit;
    use omniflow_policy::policy::PolicyDocument;
    use omniflow_policy::scope::ScopeSet;
    use omniflow_policy::snapshot::{Credential, Image};
    use omniflow_policy::time::MonotonicNanos;
    use uuid::Uuid;

    use super::*;
    use crate::workers::shared_data::{Entry, Names};

    const INSTALLATION: Uuid = Uuid::from_u128(1);

    fn credential(number: u8) -> Credential {
        Credential {
            digest: Digest::of(&[number]),
            key_id: Uuid::from_u128(number.into()),
            version: 1,
            environment: Environment::Live,
            revoked: false,
            not_after: None,
            name: format!("key-{number}"),
            scopes: ScopeSet::default(),
            rate_limit: RateLimit::default(),
            allowlist: Allowlist::default(),
        }
    }

    fn revocation(number: u8, from: u64) -> Delta {
        let changes = vec![Change::Revoke(credential(number).digest)];
        Delta { installation: INSTALLATION, from, to: from + 1, policy: None, changes }
    }

    fn write(entry: &Entry, value: &[u8]) {
        assert_eq!(shared_data::swap(entry, &shared_data::get(entry), value), Ok(()));
    }

    /// Applies a delta to its only segment, of which this is the content in shared data.
    fn apply_to(names: &Names, index: u32, content: &[u8], delta: &Delta) -> Result<(), SnapshotError> {
        write(&names.segment(0, index), content);
        let mut leader = Leader::new(names.clone());
        leader.begin_delta(&delta.encode())?;
        let State::Applying { delta: mut work } =
            std::mem::replace(&mut leader.state, State::Resting { until: MonotonicNanos(0) })
        else {
            panic!("no delta is being applied");
        };
        let (index, changes) = work.remaining.pop_front().unwrap_or_default();
        leader.apply_to_segment(&work, index, &changes)
    }

    #[test]
    fn earlier_segment_is_not_the_base_of_a_new_one() {
        let names = Names::for_test("base");
        let document = PolicyDocument::default();
        let Ok(first) = Image::build(INSTALLATION, 10, &document, vec![credential(1), credential(2)]) else {
            panic!("no image");
        };
        let Ok(second) = first.apply(&revocation(1, 10)) else { panic!("no second image") };
        let index = first.manifest().segment_of(&credential(1).digest);
        assert_eq!(index, first.manifest().segment_of(&credential(2).digest));
        let content = |image: &Image| image.segments().nth(index as usize).unwrap_or_default().to_vec();
        write(&names.manifest(0), &first.manifest().encode());
        let head = Head {
            process: Incarnation(1),
            slot: 0,
            version: 11,
            manifest_version: 10,
            confirmed: 0,
            serves_from: 0,
            recent: vec![(index, 11)],
        };
        let read = shared_data::get_as(&names.head());
        assert_eq!(shared_data::swap_as(&names.head(), &read, &head), Ok(()));
        let delta = revocation(2, 11);
        let rejected = || shared_data::take_rejected().map_or(0, |rejected| rejected.number);
        assert!(matches!(apply_to(&names, index, &content(&first), &delta), Err(SnapshotError::Mismatch)));
        assert_eq!(rejected(), 1);
        assert!(apply_to(&names, index, &content(&second), &delta).is_ok());
        assert_eq!(rejected(), 0);
    }
}
