//! What the rendered manifests promise. Each test states one property.

mod control_plane;
mod gateways;
mod jobs;
mod network;

use std::sync::LazyLock;

use omniflow_deploy_tests::chart::{Manifests, containers, render};
use serde_json::Value;

static MINIMAL: LazyLock<Manifests> = LazyLock::new(|| render(&["minimal"], &[]).unwrap());
static PLAIN: LazyLock<Manifests> = LazyLock::new(|| render(&["plain"], &[]).unwrap());
static FULL: LazyLock<Manifests> = LazyLock::new(|| render(&["full"], &[]).unwrap());

/// The StatefulSet of the control plane.
fn stateful_set(set: &'static Manifests) -> &'static Value {
    set.of_kind("StatefulSet").next().unwrap()
}

/// The pod of the control plane.
fn pod(set: &'static Manifests) -> &'static Value {
    &stateful_set(set)["spec"]["template"]["spec"]
}

/// The container of the control plane.
fn omf(set: &'static Manifests) -> &'static Value {
    containers(pod(set)).find(|container| container["name"] == "omf").unwrap()
}

/// The volume with this name.
fn volume<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    pod["volumes"].as_array()?.iter().find(|volume| volume["name"] == name)
}
