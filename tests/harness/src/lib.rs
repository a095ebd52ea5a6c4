//! Starts and stops the real components of Omniflow Keys from Rust: Envoy with the filter, the control plane `omf`, and
//! echo upstreams. The end-to-end tests and `make run` are built from the same pieces.
//!
//! Everything is started on separate ports and in a separate folder, so any number of stacks can run side by side, and
//! no process started here outlives its parent, even if the parent is killed.

pub mod bootstrap;
pub mod client;
pub mod control_plane;
pub mod deadline;
pub mod envoy;
pub mod paths;
pub mod ports;
pub mod process;
pub mod small_volume;
pub mod stack;
pub mod upstream;
mod watchdog;

pub use client::{Call, Connection, RawConnection, Response};
pub use control_plane::{ControlPlane, omf_command};
pub use deadline::eventually;
pub use envoy::{Envoy, EnvoyOptions};
pub use small_volume::{SmallVolume, small_volume_wrapper};
pub use stack::{Stack, StackOptions};
pub use upstream::Upstream;
