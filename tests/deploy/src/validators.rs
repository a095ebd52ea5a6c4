//! Validation of Kubernetes objects against their schemas.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::paths;
use serde_json::Value;

/// API groups whose schemas are in npm packages: see `tests/deploy/validate/custom.mjs`.
const MODELS: [&str; 5] = [
    "cert-manager.io",
    "extensions.istio.io",
    "gateway.networking.k8s.io",
    "monitoring.coreos.com",
    "networking.istio.io",
];

/// The problem of each object that does not match its schema, with the kind and name of the object.
///
/// # Errors
/// If a validator cannot be run.
pub fn problems(objects: &[Value]) -> Result<Vec<String>> {
    let (models, others): (Vec<&Value>, Vec<&Value>) = objects.iter().partition(|object| uses_models(object));
    let folder = paths::root().join("tests/deploy/validate");
    let mut python = Command::new(paths::root().join(".tools/deploy/bin/python"));
    python.arg(folder.join("core.py"));
    let mut node = Command::new("node");
    node.arg(folder.join("custom.mjs"));
    Ok([run(python, &others)?, run(node, &models)?].concat())
}

/// The models have no TrafficExtension yet: its schema is in `tests/deploy/schemas`.
fn uses_models(object: &Value) -> bool {
    let group = object["apiVersion"].as_str().unwrap_or_default().split('/').next().unwrap_or_default();
    MODELS.contains(&group) && object["kind"] != "TrafficExtension"
}

fn run(mut command: Command, objects: &[&Value]) -> Result<Vec<String>> {
    let program = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program}: run `make setup`"))?;
    child.stdin.take().context("no standard input")?.write_all(&serde_json::to_vec(objects)?)?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{program} failed");
    let problems: Vec<Option<String>> = serde_json::from_slice(&output.stdout)?;
    ensure!(problems.len() == objects.len(), "{program}: {} results", problems.len());
    let named = |(problem, object): (Option<String>, &&Value)| {
        Some(format!("{} {}: {}", object["kind"], object["metadata"]["name"], problem?))
    };
    Ok(problems.into_iter().zip(objects).filter_map(named).collect())
}
