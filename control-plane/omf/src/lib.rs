//! The control plane of Omniflow Keys, behind the `omf` command: configuration, composition, lifecycle.
//!
//! | module | content |
//! |---|---|
//! | [`commands`] | the command line: `serve`, `config`, `db`, and the commands of `omniflow-cli` |
//! | `configuration` | the settings of `omf serve`: flags, environment, file, defaults |
//! | [`server`], [`composition`], `router` | the running server, the composition of its components, and the router of API and console |
//! | `starting` | responses until the databases are open |
//! | `metrics` | the registry of metrics, and the middleware that measures requests |
//! | `jobs` | the background jobs, under one supervisor |
//! | [`settings`], [`error`] | the settings of a server, and startup errors |
//! | [`bootstrap`] | initialization at the first start |
//! | `process` | settings of the process: no core dumps, private file permissions by default, and the allocator |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests prepare files and measure time"))]

pub mod bootstrap;
pub mod commands;
pub mod composition;
mod configuration;
pub mod error;
mod jobs;
mod metrics;
mod process;
mod router;
pub mod server;
pub mod settings;
mod starting;

pub use omniflow_console::state::EffectiveSetting;
