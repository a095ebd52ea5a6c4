//! Bounds of snapshot versions.

/// The highest version that a gateway may report, and that is published. It is half the largest integer that a JSON
/// number represents exactly. Versions follow the clock in milliseconds and reach it in the year 144,000.
pub const MAX_REPORTED_VERSION: u64 = 1 << 52;
/// How far above this machine's clock the versions of another control plane of the installation may be, in milliseconds: a
/// restored database continues above them.
pub const RESTORE_LEAD_MS: u64 = 24 * 3_600_000;
/// How far the clocks of two machines that run the control plane one after the other may differ, in milliseconds. A version
/// above this process's start by more was never published.
pub const MAX_CLOCK_DIFFERENCE_MS: u64 = 60_000;
