//! How long polls are held.
//!
//! A proxy between gateway and control plane may have its own timeout and end a held poll, although the control plane
//! is healthy. A poll that was cut is followed immediately by one that is not held: it confirms the snapshot, and it
//! distinguishes the proxy's timeout from a control plane that has stopped. If it succeeds, the next polls end before
//! the proxy ends them.

use std::time::Duration;

/// How long the control plane may hold a poll.
const LONGEST: Duration = Duration::from_secs(20);
/// A poll that ends in an error sooner was refused rather than cut.
const SHORTEST_CUT: Duration = Duration::from_secs(2);
/// Number of polls that end in time before a longer one is tried, in case the proxy's timeout has changed. With a
/// timeout of 15 s, one poll is cut every 20 minutes.
const POLLS_BEFORE_LONGER: u32 = 100;

/// The wait of the next poll.
pub(super) struct PollWait {
    limit: Duration,
    /// When the last poll was cut, if no response has arrived since.
    unconfirmed: Option<Duration>,
    /// The time after which polls were cut, if they are held for less time because of that.
    cut_after: Option<Duration>,
    in_time: u32,
}

impl PollWait {
    pub(super) fn new() -> Self {
        Self { limit: LONGEST, unconfirmed: None, cut_after: None, in_time: 0 }
    }

    /// The maximum time for which the next poll is held; `age` is the maximum age of the snapshot.
    pub(super) fn next(&self, age: Option<Duration>) -> Duration {
        if self.unconfirmed.is_some() {
            return Duration::ZERO;
        }
        // An age limit needs several confirmations within it.
        age.map_or(self.limit, |age| self.limit.min(age / 3))
    }

    /// The time after which polls were cut, if they are held for less time because of that.
    pub(super) fn cut_after(&self) -> Option<Duration> {
        self.cut_after
    }

    /// Handles a poll that ended after `held` without a response from the control plane. Returns whether it was cut:
    /// then the next one follows immediately.
    pub(super) fn was_cut(&mut self, held: Duration) -> bool {
        let is_cut = self.unconfirmed.is_none() && held >= SHORTEST_CUT;
        self.unconfirmed = is_cut.then_some(held);
        is_cut
    }

    /// Handles a response of the control plane. Returns the time after which polls are cut, if that only became known
    /// now.
    pub(super) fn succeeded(&mut self) -> Option<Duration> {
        if let Some(held) = self.unconfirmed.take() {
            self.in_time = 0;
            self.limit = LONGEST.min(held * 3 / 4);
            let is_new = self.cut_after.is_none();
            self.cut_after = Some(held);
            return Some(held).filter(|_| is_new);
        }
        self.in_time = self.in_time.saturating_add(1);
        if self.in_time >= POLLS_BEFORE_LONGER && self.cut_after.is_some() {
            if self.limit >= LONGEST {
                // This many of the longest polls ended in time.
                self.cut_after = None;
            }
            (self.in_time, self.limit) = (0, LONGEST);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUT: Duration = Duration::from_secs(15);

    #[test]
    fn polls_end_before_they_are_cut() {
        let mut wait = PollWait::new();
        assert_eq!(wait.next(None), LONGEST);
        assert_eq!(wait.next(Some(Duration::from_secs(30))), Duration::from_secs(10));
        assert!(wait.was_cut(CUT));
        assert_eq!((wait.next(None), wait.cut_after()), (Duration::ZERO, None), "a request that is not held");
        assert_eq!(wait.succeeded(), Some(CUT));
        assert_eq!((wait.next(None), wait.cut_after()), (CUT * 3 / 4, Some(CUT)));
        for _ in 1..POLLS_BEFORE_LONGER {
            assert_eq!(wait.succeeded(), None);
        }
        assert_eq!(wait.next(None), CUT * 3 / 4);
        wait.succeeded();
        assert_eq!(wait.next(None), LONGEST, "a longer one is tried");
        assert!(wait.was_cut(CUT));
        assert_eq!(wait.succeeded(), None, "reported once");
        for _ in 0..2 * POLLS_BEFORE_LONGER {
            wait.succeeded();
        }
        assert_eq!((wait.next(None), wait.cut_after()), (LONGEST, None), "nothing cuts them any more");
    }

    #[test]
    fn control_plane_that_has_ended_cuts_nothing() {
        let mut wait = PollWait::new();
        assert!(!wait.was_cut(Duration::from_millis(3)), "refused");
        assert!(wait.was_cut(CUT));
        assert!(!wait.was_cut(CUT), "the request that is not held failed too");
        assert_eq!((wait.next(None), wait.cut_after()), (LONGEST, None));
    }
}
