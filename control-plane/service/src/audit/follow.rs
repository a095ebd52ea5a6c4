//! New calls as they are committed.
//!
//! Record numbers increase in the order of commits, because the store runs one request-log transaction at a time. A
//! reader that continues after the last number it received neither misses nor repeats a record.

use std::sync::Arc;
use std::time::Duration;

use omniflow_domain::audit::AuditEntry;
use omniflow_domain::error::Error;
use omniflow_domain::principal::Principal;
use tokio::sync::watch;
use tokio::time::sleep;

use super::RequestLog;
use crate::authentication::TokenGuard;
use crate::notifications::Notifications;
use omniflow_domain::audit_query::AuditFilter;
use omniflow_store::Store;

/// Number of record numbers that are searched at once.
const NUMBERS_AT_ONCE: i64 = 500;

/// A reader of the log that waits for new records.
pub struct Follower {
    store: Arc<dyn Store>,
    notifications: Notifications,
    guard: TokenGuard,
    filter: AuditFilter,
    committed: watch::Receiver<()>,
    /// The number of the last record that was searched.
    position: i64,
    /// The newest record when it was last queried.
    newest: i64,
    /// Whether `newest` is from after the last wait.
    is_newest_read: bool,
}

/// The next result of a [`Follower`].
pub enum FollowItem {
    /// The records that the filter selects among those up to the new position, in the order of their numbers.
    Records(Vec<AuditEntry>),
    /// Nothing was committed for the stated time.
    Idle,
    /// The token is no longer valid.
    Ended,
}

// === impl RequestLog ===

impl RequestLog {
    /// Follows the calls that a filter selects: those after the record `after`, or from now on.
    pub async fn follow(
        &self,
        principal: &Principal,
        filter: AuditFilter,
        after: Option<i64>,
    ) -> Result<Follower, Error> {
        // This must precede reading the newest number, so that no commit falls in between.
        let committed = self.notifications.audit_committed.subscribe();
        let position = match after {
            Some(id) => id,
            None => self.store.newest_record().await?,
        };
        Ok(Follower {
            store: Arc::clone(&self.store),
            notifications: self.notifications.clone(),
            guard: self.guard(principal),
            filter,
            committed,
            position,
            newest: position,
            is_newest_read: false,
        })
    }
}

// === impl Follower ===

impl Follower {
    /// The number of the record from which to continue later.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Continues reading, and waits at most `idle` for new records if there are none. The result may contain no
    /// records: then only the position has moved.
    pub async fn next(&mut self, idle: Duration) -> Result<FollowItem, Error> {
        loop {
            if !self.guard.is_valid().await? {
                return Ok(FollowItem::Ended);
            }
            if self.position >= self.newest && !self.is_newest_read {
                self.committed.mark_unchanged();
                self.newest = self.store.newest_record().await?;
                self.is_newest_read = true;
            }
            if self.position < self.newest {
                let last = self.newest.min(self.position.saturating_add(NUMBERS_AT_ONCE));
                let store = &*self.store;
                let records = store.audit_entries_between(&self.filter, self.position, last).await?;
                self.position = last;
                return Ok(FollowItem::Records(records));
            }
            self.is_newest_read = false;
            tokio::select! {
                // An error would mean that the sender was dropped, but it lives as long as the process.
                _ = self.committed.changed() => {}
                () = self.guard.revoked() => {}
                () = sleep(idle) => return Ok(FollowItem::Idle),
            }
        }
    }

    /// Waits until the process is asked to end.
    pub fn stopped(&self) -> impl Future<Output = ()> + Send + use<> {
        let notifications = self.notifications.clone();
        async move { notifications.stopped().await }
    }
}
