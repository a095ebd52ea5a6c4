//! The control plane of Omniflow Keys, behind the `omf` command. Outside this crate only the command line is used,
//! and [`storage`] by tests that fill a database.
//!
//! | module | idea |
//! |---|---|
//! | `publication` | the image of all keys that gateways take, and the deltas to it |
//! | `fleet` | the gateways that call, and what each enforces |
//! | `app` | what every handler works with; a change is committed and published here |
//! | `http` | the API and the pages: who may call what, and every answer |
//! | `bootstrap`, `server` | the first start, and a process that serves |
//! | `vault` | the arguments of calls at rest: redacted, packed, sealed |
//! | `detection` | the task that judges the use of keys |
//! | `webhook` | new findings, sent to where an operator wants them |
//! | `known_tokens` | the digests of all tokens, so that others never reach a database |
//! | `checkpoints` | the write-ahead log, folded beside the changes |
//! | `retention` | what is purged when it is old enough |
//! | `connections`, `admission`, `idle`, `tls` | how connections are accepted, and ended when idle or too many; certificate and key, and their renewal |
//! | `configuration` | the settings of `omf serve`: flags, environment, file, defaults |
//! | [`commands`] | the command line: `serve`, `config`, `db`, and the commands of `omniflow-cli` |
//! | `golden`, `fuzzing` | texts under review, for tests; the API as fuzz targets call it |
//! | `process` | no core dumps, and files that are private to begin with |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod bootstrap;
pub mod commands;
mod configuration;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod golden;
mod http;
mod outbound;
mod process;
mod server;
pub mod service;
