//! Revocations made in the console, watched until they are enforced: the page that shows one is loaded after the form that
//! made it, perhaps several times, and its times are right only if the watch began with the commit.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use omniflow_domain::gateway::{Enforcement, MAX_WAIT};
use omniflow_service::fleet::Fleet;
use omniflow_service::notifications::Notifications;
use omniflow_service::publisher::Publisher;

/// The maximum number of watched versions. The oldest is evicted first.
const MAX_WATCHED: usize = 64;

/// How far a version is enforced, as it progresses.
pub(super) type Progress = watch::Receiver<Option<Enforcement>>;

/// How far the last revocations are enforced, by the version of the snapshot that has them.
pub struct EnforcementWatch {
    fleet: Arc<Fleet>,
    publisher: Arc<Publisher>,
    notifications: Notifications,
    watched: Mutex<BTreeMap<u64, Progress>>,
}

// === impl EnforcementWatch ===

impl EnforcementWatch {
    /// Watches nothing yet.
    pub fn new(fleet: &Arc<Fleet>, publisher: &Arc<Publisher>, notifications: &Notifications) -> Self {
        Self {
            fleet: Arc::clone(fleet),
            publisher: Arc::clone(publisher),
            notifications: notifications.clone(),
            watched: Mutex::default(),
        }
    }

    /// Watches a version until it is enforced, at most as long as the API would wait.
    pub(super) fn watch(&self, version: u64, committed: Option<Instant>) {
        let (sender, receiver) = watch::channel(None);
        {
            let mut watched = self.lock();
            // A second revocation of the same has the version of the first, which is watched already.
            if committed.is_none() && watched.contains_key(&version) {
                return;
            }
            watched.insert(version, receiver);
            while watched.len() > MAX_WATCHED {
                watched.pop_first();
            }
        }
        let (fleet, publisher) = (Arc::clone(&self.fleet), Arc::clone(&self.publisher));
        let notifications = self.notifications.clone();
        tokio::spawn(async move {
            let deadline = Instant::now() + MAX_WAIT;
            let progress = |enforcement: &Enforcement| {
                sender.send_replace(Some(enforcement.clone()));
            };
            let last = tokio::select! {
                last = fleet.follow(version, &publisher.publication, committed, deadline, progress) => last,
                () = notifications.stopped() => return,
            };
            sender.send_replace(Some(last));
        });
    }

    /// How far a version is enforced, as it progresses; `None` for one that is not watched any more.
    pub(super) fn progress(&self, version: u64) -> Option<Progress> {
        self.lock().get(&version).cloned()
    }

    /// How far a version is enforced now: by the watch, or by what gateways last reported.
    pub(super) async fn enforcement_status(&self, version: u64) -> Enforcement {
        let last = self.progress(version).and_then(|progress| progress.borrow().clone());
        match last {
            Some(enforcement) => enforcement,
            None => self.fleet.enforced(version, &self.publisher.publication, None, Instant::now()).await,
        }
    }

    /// Waits until a watched version is enforced everywhere, at most for `wait`.
    pub(super) async fn until_complete(&self, version: u64, wait: Duration) {
        let Some(mut progress) = self.progress(version) else { return };
        let complete = |progress: &Option<Enforcement>| progress.as_ref().is_some_and(|last| last.complete);
        let waiting = timeout(wait.min(MAX_WAIT), progress.wait_for(complete));
        tokio::select! {
            _ = waiting => {}
            () = self.notifications.stopped() => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Progress>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for EnforcementWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnforcementWatch")
    }
}
