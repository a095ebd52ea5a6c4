//! Watches revocations until they are enforced. The page that shows one is loaded after the form is submitted, perhaps
//! several times, and its times are correct only if the watch began with the commit.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Fleet;
use crate::notifications::Notifications;
use crate::publisher::Publisher;
use omniflow_domain::gateway::{Enforcement, MAX_WAIT};

/// The maximum number of watched versions. The oldest is evicted first.
const MAX_WATCHED: usize = 64;

/// The enforcement status of a version, as it progresses.
pub type Progress = watch::Receiver<Option<Enforcement>>;

/// The enforcement status of the last revocations, by the snapshot version that contains them.
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
    pub fn watch(&self, version: u64, committed: Option<Instant>) {
        let (sender, receiver) = watch::channel(None);
        {
            let mut watched = self.lock();
            // A second revocation of the same key has the version of the first one, which is already being watched.
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

    /// The enforcement status of a version, as it progresses; `None` for one that is no longer watched.
    pub fn progress(&self, version: u64) -> Option<Progress> {
        self.lock().get(&version).cloned()
    }

    /// The current enforcement status of a version: from the watch, or from what gateways last reported.
    pub async fn enforcement_status(&self, version: u64) -> Enforcement {
        let last = self.progress(version).and_then(|progress| progress.borrow().clone());
        match last {
            Some(enforcement) => enforcement,
            None => self.fleet.enforced(version, &self.publisher.publication, None, Instant::now()).await,
        }
    }

    /// Waits until a watched version is enforced everywhere, at most for `wait`.
    pub async fn until_complete(&self, version: u64, wait: Duration) {
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
