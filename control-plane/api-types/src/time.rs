//! Instants in JSON.

use omniflow_domain::time::format_time;
use omniflow_policy::time::UnixMillis;
use serde::{Serialize, Serializer};

/// An instant in JSON: RFC 3339, UTC, milliseconds, such as `2026-03-01T12:00:00.000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub UnixMillis);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_time(self.0))
    }
}
