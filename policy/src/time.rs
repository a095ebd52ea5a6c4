//! Instants. The caller reads the clocks; this crate only compares.

use serde::{Deserialize, Serialize};

/// A wall-clock instant: milliseconds since 1970-01-01T00:00:00Z. Expiries and audit times are of this kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

/// A reading of a clock that never steps back or jumps: nanoseconds since an arbitrary start.
///
/// Rate limits are kept in this clock, so that an adjusted wall clock neither refills nor blocks a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonotonicNanos(pub u64);
