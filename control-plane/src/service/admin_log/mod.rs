//! The admin log: what admins changed. No use case changes or removes an event.

mod list;

use std::sync::Arc;

pub(crate) use self::list::AdminLogQuery;
use crate::storage::Storage;

/// Reads the admin log.
pub(crate) struct AdminLog {
    storage: Arc<Storage>,
}

// === impl AdminLog ===

impl AdminLog {
    /// The log in this storage.
    pub(crate) fn new(storage: Arc<Storage>) -> Self {
        Self { storage }
    }
}
