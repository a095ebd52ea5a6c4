//! When recent versions were published, to measure how long they take to reach the gateways.

use std::collections::VecDeque;

use tokio::time::Instant;

/// Maximum number of remembered versions. A gateway that is further behind is measured from the oldest of them.
const MAX_REMEMBERED: usize = 4_096;

/// Versions with the instants of their publication, in ascending order.
#[derive(Debug, Default)]
pub(super) struct PublicationTimes {
    /// The version with which the process started, whose time is unknown.
    first: Option<u64>,
    published: VecDeque<(u64, Instant)>,
}

// === impl PublicationTimes ===

impl PublicationTimes {
    /// Only the version with which the process starts.
    pub(super) fn starting_at(version: u64) -> Self {
        Self { first: Some(version), published: VecDeque::new() }
    }

    /// Adds a version that is later than all others.
    pub(super) fn push(&mut self, version: u64, at: Instant) {
        if self.published.len() >= MAX_REMEMBERED {
            self.published.pop_front();
            self.first = None;
        }
        self.published.push_back((version, at));
    }

    /// When the first version above `held` was published, if that version is at most `last`.
    pub(super) fn first_between(&self, held: u64, last: u64) -> Option<Instant> {
        let first = self.published.partition_point(|(version, _)| *version <= held);
        self.published.get(first).filter(|(version, _)| *version <= last).map(|(_, at)| *at)
    }

    /// When the version after `held` was published, if `held` is known here. A gateway may hold a version of another database.
    pub(super) fn superseded_at(&self, held: u64) -> Option<Instant> {
        let next = match self.published.binary_search_by_key(&held, |(version, _)| *version) {
            Ok(place) => place + 1,
            Err(_) if self.first == Some(held) => 0,
            Err(_) => return None,
        };
        self.published.get(next).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn first_version_above_the_held_one_counts() {
        let (mut times, start) = (PublicationTimes::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for version in [10, 20, 30] {
            times.push(version, at(version));
        }
        assert_eq!(times.first_between(5, 30), Some(at(10)));
        assert_eq!(times.first_between(10, 30), Some(at(20)));
        assert_eq!(times.first_between(15, 20), Some(at(20)));
        assert_eq!(times.first_between(15, 19), None, "only a part of the change that leads to 20");
        assert_eq!(times.first_between(30, u64::MAX), None);
    }

    #[test]
    fn only_a_version_that_is_remembered_is_superseded() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut times = PublicationTimes::starting_at(10);
        assert_eq!(times.superseded_at(10), None);
        times.push(20, at(20));
        times.push(30, at(30));
        assert_eq!(times.superseded_at(10), Some(at(20)));
        assert_eq!(times.superseded_at(20), Some(at(30)));
        assert_eq!(times.superseded_at(30), None, "it is the published one");
        assert_eq!(times.superseded_at(9), None, "of before this process, or of before a restore");
    }

    #[test]
    fn oldest_versions_are_forgotten() {
        let (mut times, start) = (PublicationTimes::default(), Instant::now());
        for version in 1..=MAX_REMEMBERED as u64 + 10 {
            times.push(version, start + Duration::from_millis(version));
        }
        assert_eq!(times.published.len(), MAX_REMEMBERED);
        assert_eq!(times.first_between(0, u64::MAX), Some(start + Duration::from_millis(11)));
    }
}
