//! Bounds of snapshot versions.

/// The highest version that a gateway may claim to hold, and that is published. Half of what a JSON number keeps
/// exactly; versions follow the clock in milliseconds and get there in the year 144,000.
pub const MAX_REPORTED_VERSION: u64 = 1 << 52;
/// How far ahead of the clock a version may be that a gateway claims to hold and that is passed for it, in
/// milliseconds. Whoever holds a gateway token can claim any.
pub const MAX_LEAD_MS: u64 = 24 * 3_600_000;
