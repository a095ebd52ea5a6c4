//! Revocations that were made on a page, followed until they are in force: the page that tells of one comes after the
//! form that made it, perhaps several times, and times are right only if somebody has looked from the beginning.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::service::app::App;
use omniflow_domain::gateway::{Enforcement, MAX_WAIT};

/// The most that are known. The oldest goes first.
const MAX_FOLLOWED: usize = 64;

/// How far the last revocations are in force, by the version of the snapshot that has them.
#[derive(Default)]
pub(crate) struct Followed(Mutex<BTreeMap<u64, watch::Receiver<Option<Enforcement>>>>);

/// Follows a version until it is in force, for as long as the API would wait at most.
pub(super) fn follow(app: &Arc<App>, version: u64, committed: Option<Instant>) {
    let (sender, receiver) = watch::channel(None);
    {
        let mut followed = app.followed.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A second revocation of what is revoked has the version of the first, which is followed already.
        if committed.is_none() && followed.contains_key(&version) {
            return;
        }
        followed.insert(version, receiver);
        while followed.len() > MAX_FOLLOWED {
            followed.pop_first();
        }
    }
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let deadline = Instant::now() + MAX_WAIT;
        let told = |enforcement: &Enforcement| {
            sender.send_replace(Some(enforcement.clone()));
        };
        let last = tokio::select! {
            last = app.fleet.follow(version, &app.publisher.publication, committed, deadline, told) => last,
            () = app.signals.stopped() => return,
        };
        sender.send_replace(Some(last));
    });
}

/// How far a version is, as it goes on; `None` for one that is not known any more.
pub(super) fn followed(app: &App, version: u64) -> Option<watch::Receiver<Option<Enforcement>>> {
    app.followed.0.lock().unwrap_or_else(PoisonError::into_inner).get(&version).cloned()
}
