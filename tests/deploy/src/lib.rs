//! What the tests of `deploy/` share: the chart as `helm` renders it, validators of Kubernetes objects, the Envoy
//! configuration that istiod and Envoy Gateway generate from them, and the OCI images in a registry.
//!
//! `scripts/setup-deploy.sh`, part of `make setup`, installs the programs.

pub mod cel;
pub mod chart;
pub mod debian;
pub mod envoy_gateway;
pub mod istio;
pub mod oci;
pub mod prometheus;
pub mod validators;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use omniflow_harness::paths;

/// A folder or file below `deploy/`.
pub fn deploy(path: &str) -> PathBuf {
    paths::root().join("deploy").join(path)
}

/// A program that `make setup` installs.
///
/// # Errors
/// If it is missing.
pub fn tool(name: &str) -> Result<Command> {
    let path = paths::root().join(".tools/bin").join(name);
    ensure!(path.is_file(), "{} is missing: run `make setup`", path.display());
    Ok(Command::new(path))
}
