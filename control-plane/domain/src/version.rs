//! Bounds of snapshot versions.

/// The highest version that a gateway may report, and that is published. It is half the largest integer that a JSON
/// number represents exactly. Versions follow the clock in milliseconds and reach it in the year 144,000.
pub const MAX_REPORTED_VERSION: u64 = 1 << 52;
/// How far ahead of the clock a version reported by a gateway may be for the control plane to publish a later one, in
/// milliseconds. Any holder of a gateway token can report any version.
pub const MAX_LEAD_MS: u64 = 24 * 3_600_000;
