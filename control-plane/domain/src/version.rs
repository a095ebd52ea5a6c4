//! Bounds of snapshot versions.

/// The highest version that a gateway may claim to hold, and that is published. Half of what a JSON number keeps
/// exactly; versions follow the clock in milliseconds and get there in the year 144,000.
pub const MAX_REPORTED_VERSION: u64 = 1 << 52;
/// How far ahead of the clock a version reported by a gateway may be for the control plane to publish a later one, in
/// milliseconds. Any holder of a gateway token can report any version.
pub const MAX_LEAD_MS: u64 = 24 * 3_600_000;
