//! Browsers that are signed in with a token.

use std::time::Duration;

use omniflow_policy::digest::Digest;
use omniflow_policy::time::UnixMillis;
use uuid::Uuid;

/// How long a session lasts without requests. OWASP's Session Management Cheat Sheet recommends 15 to 30 minutes for
/// low-risk applications and less for others; reading a long audit log also takes time.
pub const IDLE_TIME: Duration = Duration::from_secs(30 * 60);
/// Maximum duration of a session: a working day.
pub const WHOLE_TIME: Duration = Duration::from_secs(12 * 3_600);
/// Precision of the recorded time of the last request. Not every page is worth a write.
pub const SEEN_STEP: Duration = Duration::from_secs(60);
/// Maximum number of sessions per token. One more ends the session that has been unused for the longest time.
pub const MAX_SESSIONS: usize = 32;

/// A browser that is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The SHA-256 of its identifier, which is in the browser's cookie and nowhere else.
    pub digest: Digest,
    /// The token with which it was started.
    pub token_id: Uuid,
    /// When it was started.
    pub created_at: UnixMillis,
    /// When the last request was made, to within [`SEEN_STEP`].
    pub seen_at: UnixMillis,
}

// === impl Session ===

impl Session {
    /// Whether it is still valid at `now`. A clock that is set back also ends it, because its age is then unknown.
    pub fn is_valid(&self, now: UnixMillis) -> bool {
        let within = |since: UnixMillis, time: Duration| {
            now.0.checked_sub(since.0).is_some_and(|passed| u128::from(passed) < time.as_millis())
        };
        within(self.created_at, WHOLE_TIME) && within(self.seen_at, IDLE_TIME)
    }

    /// Whether a request at `now` has to be recorded.
    pub fn is_to_be_noted(&self, now: UnixMillis) -> bool {
        u128::from(now.0.abs_diff(self.seen_at.0)) >= SEEN_STEP.as_millis()
    }

    /// The latest start and the latest last request of sessions that are over at `now`.
    pub fn over_since(now: UnixMillis) -> (UnixMillis, UnixMillis) {
        let before = |time: Duration| {
            UnixMillis(now.0.saturating_sub(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)))
        };
        (before(WHOLE_TIME), before(IDLE_TIME))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn session(created_at: u64, seen_at: u64) -> Session {
        Session {
            digest: Digest::of(b"a session"),
            token_id: Uuid::from_u128(1),
            created_at: UnixMillis(created_at),
            seen_at: UnixMillis(seen_at),
        }
    }

    #[test]
    fn it_ends_when_it_is_idle_or_old_or_time_goes_back() {
        for (created, seen, now, valid) in [
            (0, 0, 0, true),
            (0, 0, HOUR / 2 - 1, true),
            (0, 0, HOUR / 2, false),
            (0, 11 * HOUR, 11 * HOUR + 1, true),
            (0, 12 * HOUR - 1, 12 * HOUR - 1, true),
            (0, 12 * HOUR - 1, 12 * HOUR, false),
            (HOUR, HOUR, HOUR - 1, false),
        ] {
            assert_eq!(session(created, seen).is_valid(UnixMillis(now)), valid, "{created} {seen} {now}");
        }
    }

    #[test]
    fn what_is_purged_is_over() {
        for now in [0, HOUR, 12 * HOUR, 40 * HOUR] {
            let (created, seen) = Session::over_since(UnixMillis(now));
            if now >= 12 * HOUR {
                assert!(!session(created.0, now).is_valid(UnixMillis(now)));
                assert!(session(created.0 + 1, now).is_valid(UnixMillis(now)));
            }
            if now >= HOUR {
                assert!(!session(now, seen.0).is_valid(UnixMillis(now)));
                assert!(session(now, seen.0 + 1).is_valid(UnixMillis(now)));
            }
        }
    }
}
