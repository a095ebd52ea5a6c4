//! The control plane of Omniflow Keys, behind the `omf` command: configuration, composition, lifecycle.
//!
//! | module | content |
//! |---|---|
//! | [`commands`] | the command line: `serve`, `config`, `db`, and the commands of `omniflow-cli` |
//! | `configuration` | the settings of `omf serve`: flags, environment, file, defaults |
//! | [`server`], [`composition`], `router` | the running server, the composition of its components, and the router of API and console |
//! | `metrics` | the registry of metrics, and the middleware that measures requests |
//! | `jobs` | the background jobs, under one supervisor |
//! | [`settings`], [`error`] | the settings of a server, and why it cannot start |
//! | [`bootstrap`] | initialisation at the first start |
//! | `process` | process-wide protection: no core dumps, and private file permissions by default |
//! | `testing`, `golden`, `fuzzing` | for tests: a control plane in a temporary folder; golden files; the API as fuzz targets call it |
#![cfg_attr(
    not(any(test, feature = "testing")),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod bootstrap;
pub mod commands;
pub mod composition;
mod configuration;
pub mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(any(test, feature = "testing"))]
pub mod golden;
mod jobs;
mod metrics;
mod process;
mod router;
pub mod server;
pub mod settings;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use omniflow_console::state::EffectiveSetting;
