//! End-to-end tests: one file in `tests/` for each subject, all in one binary. This library contains the code that they
//! share with the benchmark.
//!
//! They start real processes with `omniflow-harness`. `make test` builds what they need; a single one runs with
//! `make setup wasm faulty && cargo build -p omf && cargo test -p omniflow-tests NAME`.

pub mod seed;
