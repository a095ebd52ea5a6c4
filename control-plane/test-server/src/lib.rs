//! A control plane for tests and benchmarks: in a temporary directory, called without a network, with a clock that the test
//! sets. It starts no background jobs; a test runs them.
//!
//! Only dev-dependencies may point to this crate. Unit tests of a crate below `omf` see two builds of it: theirs, and the one
//! in the server. They call the server over HTTP and never pass it a value of a type from their own crate.
//!
//! | module | content |
//! |---|---|
//! | `server` | [`TestServer`] and its settings |
//! | `http` | requests to a router, and [`Answer`] |
//! | `log` | what a test logs |
#![allow(clippy::disallowed_methods, reason = "tests prepare files and measure time")]

mod http;
mod log;
mod server;

pub use omf::EffectiveSetting;
pub use omf::composition::ControlPlane;
pub use omniflow_store::contract::fixtures::record;

pub use self::http::{Answer, request, send};
pub use self::log::{Warnings, log_to};
pub use self::server::{TestServer, settings};

/// The time at which a [`TestServer`] starts: 2027-01-15T08:00:00Z.
pub const START: u64 = 1_800_000_000_000;
