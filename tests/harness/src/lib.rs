//! The real parts of Omniflow Keys, started and stopped from Rust: Envoy with the filter, the control plane
//! `omf`, and echo upstreams. The end-to-end tests and `make run` are built from the same pieces.
//!
//! Everything is started on ports of its own and in a folder of its own, so any number of stacks can run side
//! by side, and nothing started here outlives the process that started it, even if that process is killed.

pub mod bootstrap;
pub mod client;
pub mod control_plane;
pub mod deadline;
pub mod envoy;
pub mod paths;
pub mod ports;
pub mod process;
pub mod stack;
pub mod upstream;
mod watchdog;

pub use client::{Call, Connection, RawConnection, Response};
pub use control_plane::{ControlPlane, omf_command};
pub use deadline::eventually;
pub use envoy::{Envoy, EnvoyOptions};
pub use stack::{Stack, StackOptions};
pub use upstream::Upstream;
