//! Paths of the built and installed components. Each can be changed with an environment variable.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// The repository: `OMF_ROOT`, or where this crate was built.
pub fn root() -> PathBuf {
    from_env("OMF_ROOT").unwrap_or_else(|| {
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_path_buf()
    })
}

/// The Envoy binary: `OMF_ENVOY`, or the one that `make setup` installs.
pub fn envoy() -> Result<PathBuf> {
    existing("OMF_ENVOY", root().join(".tools/bin/envoy"), "make setup")
}

/// The control plane's binary: `OMF_BIN`, or the one built with the same profile as the running program.
pub fn omf() -> Result<PathBuf> {
    existing(
        "OMF_BIN",
        own_profile()?.join("omf"),
        "cargo build -p omf` with this program's profile, or `make build",
    )
}

/// The filter: `OMF_FILTER_WASM`, or the build with the profile `wasm`.
pub fn filter_wasm() -> Result<PathBuf> {
    existing("OMF_FILTER_WASM", target().join("wasm32-wasip1/wasm/omniflow_filter.wasm"), "make build")
}

/// The filter whose VM a request can crash with `x-fault: trap`: `OMF_FAULTY_FILTER_WASM`, or the build for tests.
pub fn faulty_filter_wasm() -> Result<PathBuf> {
    let default = target().join("fault-injection/wasm32-wasip1/wasm/omniflow_filter.wasm");
    existing("OMF_FAULTY_FILTER_WASM", default, "make faulty")
}

/// A plugin that writes to shared data, as a hostile one would.
pub fn probe_filter_wasm() -> Result<PathBuf> {
    let default = target().join("wasm32-wasip1/wasm/omniflow_probe_filter.wasm");
    existing("OMF_PROBE_FILTER_WASM", default, "make faulty")
}

/// A shipped Envoy configuration.
pub fn configuration(name: &str) -> PathBuf {
    root().join("envoy").join(name)
}

/// The directory of the running program's profile, such as `target/debug`. Test programs are in its `deps`.
fn own_profile() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let directory = program.ancestors().skip(1).find(|directory| !directory.ends_with("deps"));
    Ok(directory.unwrap_or(Path::new(".")).to_path_buf())
}

fn target() -> PathBuf {
    from_env("CARGO_TARGET_DIR").unwrap_or_else(|| root().join("target"))
}

fn from_env(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn existing(variable: &str, default: PathBuf, remedy: &str) -> Result<PathBuf> {
    let path = from_env(variable).unwrap_or(default);
    ensure!(path.is_file(), "{} is not there: run `{remedy}`, or set {variable}", path.display());
    // Envoy and omf run in separate folders, so a relative path would not resolve.
    Ok(std::path::absolute(path)?)
}
