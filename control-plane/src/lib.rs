//! The control plane of Omniflow Keys, behind the `omf` command. Outside this crate only the command line is used,
//! and [`storage`] by tests that fill a database.
//!
//! | module | idea |
//! |---|---|
//! | [`model`] | what is kept: keys with their versions, tokens with their roles, what admins did, audited calls |
//! | [`storage`] | the rows: two SQLite databases, and the only SQL |
//! | `publication` | the image of all keys that gateways take, and the deltas to it |
//! | `fleet` | the gateways that call, and what each enforces |
//! | `app` | what every handler works with; a change is committed and published here |
//! | `http` | the API and the pages: who may call what, and every answer |
//! | `json` | the shapes of the API |
//! | `bootstrap`, `server` | the first start, and a process that serves |
//! | `vault` | the arguments of calls at rest: redacted, packed, sealed |
//! | `patterns`, `detection` | what is unusual in the use of a key, judged by its own history; the task that looks |
//! | `webhook` | new findings, sent to where an operator wants them |
//! | `known_tokens` | the digests of all tokens, so that others never reach a database |
//! | `checkpoints` | the write-ahead log, folded beside the changes |
//! | `retention` | what is purged when it is old enough |
//! | `connections`, `admission`, `idle`, `tls` | how connections are accepted, and ended when idle or too many; certificate and key, and their renewal |
//! | `configuration` | the settings of `omf serve`: flags, environment, file, defaults |
//! | [`cli`] | the command line, over the same API |
//! | `golden`, `fuzzing` | texts under review, for tests; the API as fuzz targets call it |
//! | `clock`, `files`, `secret_file` | time and randomness passed in; files that only their owner reads; secrets that others wrote |
//! | `process` | no core dumps, and files that are private to begin with |
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod admission;
mod app;
mod bootstrap;
mod checkpoints;
pub mod cli;
mod clock;
mod configuration;
mod connections;
mod detection;
mod files;
mod fleet;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gateway_loss;
#[cfg(test)]
mod golden;
mod http;
mod idle;
mod json;
mod known_tokens;
pub mod memory;
pub mod model;
mod otlp;
mod patterns;
mod process;
mod publication;
mod receiver;
mod retention;
mod secret_file;
mod server;
pub mod storage;
mod tls;
mod vault;
mod webhook;
