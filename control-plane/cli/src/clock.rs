//! The clock of this machine.

use std::time::{SystemTime, UNIX_EPOCH};

use omniflow_api_types::values::UnixMillis;

/// The current time, used to display ages and clock differences. The control plane uses its own clock for decisions.
#[expect(clippy::disallowed_methods, reason = "the only place in this crate that reads the wall clock")]
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
