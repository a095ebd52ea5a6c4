//! The recent changes, with which a gateway that is slightly behind is brought up to date.

use std::collections::VecDeque;

use omniflow_policy::snapshot::{Delta, MAX_CHANGES_PER_DELTA};

/// Minimum number of changes that are kept. A gateway that is further behind fetches a full image.
const MIN_KEPT_CHANGES: usize = 1_024;
/// Maximum number of changes that are kept. Between the two bounds, one is kept per credential: a log longer than the
/// image would not save anything.
const MAX_KEPT_CHANGES: usize = 16_384;
/// This many bytes of a policy count as one change.
const POLICY_BYTES_PER_CHANGE: usize = 256;

/// Deltas in the order of their versions, each beginning where the previous one ends. They are kept in encoded form:
/// decoded into strings and lists, this many would take tens of megabytes.
#[derive(Debug, Default)]
pub(super) struct DeltaLog {
    deltas: VecDeque<Kept>,
    weight: usize,
}

/// An encoded delta, with the facts that are needed without decoding it.
#[derive(Debug)]
struct Kept {
    from: u64,
    changes: usize,
    has_policy: bool,
    weight: usize,
    encoded: Box<[u8]>,
}

impl DeltaLog {
    /// Appends the delta that was just published with an image of this many credentials, and removes the oldest ones if
    /// there are more changes than are worth keeping. The last one is always kept.
    pub(super) fn push(&mut self, delta: &Delta, credentials: usize) {
        let most = credentials.clamp(MIN_KEPT_CHANGES, MAX_KEPT_CHANGES);
        let kept = Kept::of(delta);
        self.weight += kept.weight;
        self.deltas.push_back(kept);
        while self.weight > most && self.deltas.len() > 1 {
            self.weight -= self.deltas.pop_front().map_or(0, |oldest| oldest.weight);
        }
    }

    /// Whether the log has a delta that begins at this version.
    pub(super) fn leads_on_from(&self, version: u64) -> bool {
        self.place_of(version).is_some()
    }

    /// The changes after `version`, in one delta up to the maximum size. `None` if no delta begins there.
    pub(super) fn since(&self, version: u64) -> Option<Delta> {
        let mut following = self.deltas.range(self.place_of(version)?..);
        let first = following.next()?;
        let mut merged = first.delta()?;
        for kept in following {
            // Gateways apply changes to keys before the policy: changes made in another order must not be merged.
            let policies = first.has_policy || kept.has_policy;
            if policies || merged.changes.len() + kept.changes > MAX_CHANGES_PER_DELTA {
                break;
            }
            let delta = kept.delta()?;
            merged.to = delta.to;
            merged.changes.extend(delta.changes);
        }
        Some(merged)
    }

    fn place_of(&self, version: u64) -> Option<usize> {
        self.deltas.binary_search_by_key(&version, |kept| kept.from).ok()
    }
}

impl Kept {
    fn of(delta: &Delta) -> Self {
        let policy = delta.policy.as_ref().map_or(0, |policy| policy.len() / POLICY_BYTES_PER_CHANGE);
        Self {
            from: delta.from,
            changes: delta.changes.len(),
            has_policy: delta.policy.is_some(),
            // A delta without changes also counts.
            weight: (delta.changes.len() + policy).max(1),
            encoded: delta.encode().into(),
        }
    }

    /// It was encoded here, so it can be decoded. Otherwise, gateways fetch the whole image.
    fn delta(&self) -> Option<Delta> {
        Delta::decode(&self.encoded).ok()
    }
}

#[cfg(test)]
mod tests {
    use omniflow_policy::address::Allowlist;
    use omniflow_policy::digest::Digest;
    use omniflow_policy::key::Environment;
    use omniflow_policy::limit::RateLimit;
    use omniflow_policy::scope::ScopeSet;
    use omniflow_policy::snapshot::{Change, Credential};
    use omniflow_policy::time::UnixMillis;
    use uuid::Uuid;

    use super::*;

    fn delta(from: u64, changes: usize) -> Delta {
        let changes = (0..changes).map(|n| Change::Revoke(Digest::of(format!("{from}/{n}").as_bytes())));
        Delta { installation: Uuid::nil(), from, to: from + 10, policy: None, changes: changes.collect() }
    }

    #[test]
    fn deltas_merge_until_they_are_full() {
        let mut log = DeltaLog::default();
        for from in [10, 20, 30] {
            log.push(&delta(from, 100), 0);
        }
        let first = log.since(10).unwrap();
        assert_eq!((first.from, first.to, first.changes.len()), (10, 30, 200));
        let second = log.since(30).unwrap();
        assert_eq!((second.from, second.to, second.changes.len()), (30, 40, 100));
        assert_eq!(first.changes[100], second_of(&log, 20));
        for unknown in [0, 15, 40] {
            assert!(log.since(unknown).is_none());
        }
    }

    fn second_of(log: &DeltaLog, version: u64) -> Change {
        log.since(version).unwrap().changes[0].clone()
    }

    #[test]
    fn the_oldest_is_forgotten() {
        for (credentials, kept) in [(0, MIN_KEPT_CHANGES), (5_000, 5_000), (1_000_000, MAX_KEPT_CHANGES)] {
            let mut log = DeltaLog::default();
            for number in 0..=kept as u64 {
                log.push(&delta(number * 10, usize::from(number % 2 == 0)), credentials);
            }
            assert!(log.since(0).is_none() && !log.leads_on_from(0), "{credentials}");
            assert!(log.since(10).is_some() && log.leads_on_from(10), "{credentials}");
        }
    }

    #[test]
    fn fewer_credentials_shorten_it() {
        let mut log = DeltaLog::default();
        for number in 0..2_000 {
            log.push(&delta(number * 10, 1), 2_000);
        }
        assert!(log.leads_on_from(0));
        log.push(&delta(20_000, 1), 1);
        assert_eq!(log.deltas.len(), MIN_KEPT_CHANGES);
        assert_eq!(log.weight, MIN_KEPT_CHANGES);
    }

    #[test]
    fn a_full_log_takes_little_memory() {
        let credential = Credential {
            digest: Digest::of(b"key"),
            key_id: Uuid::from_u128(u128::MAX),
            version: 1,
            environment: Environment::Live,
            revoked: false,
            not_after: Some(UnixMillis(u64::MAX - 1)),
            name: "billing-service-production".to_owned(),
            scopes: ScopeSet::new(["contacts:read", "contacts:write"].map(|name| name.parse().unwrap()))
                .unwrap(),
            rate_limit: RateLimit { per_minute: Some(1_000), per_hour: Some(10_000), burst: None },
            allowlist: Allowlist::default(),
        };
        let mut log = DeltaLog::default();
        for number in 0..2 * MAX_KEPT_CHANGES as u64 {
            let changes = vec![Change::Put(credential.clone())];
            log.push(&Delta { changes, ..delta(number * 10, 0) }, 1_000_000);
        }
        let bytes: usize = log.deltas.iter().map(|kept| size_of::<Kept>() + kept.encoded.len()).sum();
        assert_eq!(log.deltas.len(), MAX_KEPT_CHANGES);
        assert!(bytes < 5 << 20, "{bytes} bytes for {MAX_KEPT_CHANGES} changes");
    }

    #[test]
    fn policies_are_reported_one_by_one_and_take_their_place() {
        let mut log = DeltaLog::default();
        let with = |from, policy: &str| Delta { policy: Some(policy.to_owned()), ..delta(from, 1) };
        log.push(&with(0, "a"), 0);
        log.push(&with(10, "b"), 0);
        log.push(&delta(20, 1), 0);
        // A change to a key must not be reordered across a change of the policy.
        let reported: Vec<_> = [0, 10, 20].map(|from| log.since(from).unwrap()).into();
        assert_eq!(reported.iter().map(|delta| delta.to).collect::<Vec<_>>(), [10, 20, 30]);
        assert_eq!(
            reported.iter().map(|d| d.policy.as_deref()).collect::<Vec<_>>(),
            [Some("a"), Some("b"), None]
        );
        let long = "x".repeat(MIN_KEPT_CHANGES / 2 * POLICY_BYTES_PER_CHANGE);
        log.push(&with(30, &long), 0);
        assert!(log.since(0).is_some());
        log.push(&with(40, &long), 0);
        assert!(log.since(30).is_none() && log.since(40).is_some());
        log.push(&with(50, &long.repeat(3)), 0);
        assert!(log.since(40).is_none() && log.since(50).is_some(), "the last is kept, whatever it weighs");
    }
}
