//! The admin log: the changes by admins. No use case changes or removes an event.

mod list;

use std::sync::Arc;

use omniflow_store::Store;

/// Reads the admin log.
pub struct AdminLog {
    store: Arc<dyn Store>,
}

// === impl AdminLog ===

impl AdminLog {
    /// The log in this storage.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }
}
