//! The Envoy configuration that istiod generates from the objects of the chart, read from its source (Istio 1.30,
//! `pilot/pkg/model/extensions.go`, `pilot/pkg/networking/core`, `pkg/wasm/convert.go`).

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

/// The class of a listener, which decides what the `match` of a plugin and the context of a patch apply to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Of a gateway.
    Gateway,
    /// For requests to a workload with a sidecar, or through a waypoint.
    Inbound,
}

/// The name of the ECDS resource, which is also that of the HTTP filter.
pub fn resource_name(plugin: &Value) -> String {
    let metadata = &plugin["metadata"];
    let suffix = if plugin["kind"] == "WasmPlugin" { "~istio-translated-wasmplugin" } else { "" };
    format!("extensions.istio.io/trafficextension/{}{suffix}", plugin_name(metadata))
}

fn plugin_name(metadata: &Value) -> String {
    let part = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
    format!("{}.{}", part("namespace"), part("name"))
}

/// Whether istiod adds the plugin to listeners of this class.
pub fn matches(plugin: &Value, listener: Listener) -> bool {
    let Some(selectors) = plugin["spec"]["match"].as_array() else { return true };
    let mode = match listener {
        Listener::Gateway => "CLIENT",
        Listener::Inbound => "SERVER",
    };
    selectors.iter().any(|selector| [mode, "CLIENT_AND_SERVER"].iter().any(|one| selector["mode"] == *one))
}

/// The HTTP filter in the connection manager: its configuration comes from a file instead of from istiod.
pub fn filter(plugin: &Value, file: &Path) -> Value {
    json!({
        "name": resource_name(plugin),
        "config_discovery": {
            "config_source": {
                "path_config_source": {"path": file},
                "resource_api_version": "V3",
                "initial_fetch_timeout": "0s",
            },
            "type_urls": [WASM, RBAC],
        },
    })
}

/// The resource of a plugin, as the agent hands it to Envoy after it has fetched the module into this file. It has no `vm_id`, so
/// all plugins of the proxy share one space of shared data.
///
/// # Errors
/// If the plugin has no field that istiod requires.
pub fn resource(plugin: &Value, wasm: &Path) -> Result<Value> {
    let spec = &plugin["spec"];
    let spec = if spec["wasm"].is_object() { &spec["wasm"] } else { spec };
    let policy = match spec["failStrategy"].as_str() {
        Some("FAIL_RELOAD") => "FAIL_RELOAD",
        Some("FAIL_OPEN") => "FAIL_OPEN",
        None | Some("FAIL_CLOSE") => "FAIL_CLOSED",
        Some(other) => bail!("unknown failStrategy {other}"),
    };
    let variables = spec["vmConfig"]["env"].as_array().into_iter().flatten();
    let host: Vec<&Value> =
        variables.filter(|one| one["valueFrom"] == "HOST").map(|one| &one["name"]).collect();
    Ok(json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": resource_name(plugin),
        "typed_config": {
            "@type": WASM,
            "config": {
                "name": plugin_name(&plugin["metadata"]),
                "root_id": spec["pluginName"].as_str().context("no pluginName")?,
                "failure_policy": policy,
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": wasm}},
                    "environment_variables": {"host_env_keys": host},
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": spec["pluginConfig"].to_string(),
                },
            },
        },
    }))
}

/// What the agent hands to Envoy instead if it cannot fetch the module: a filter that denies every request.
pub fn failed_pull(plugin: &Value) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": resource_name(plugin),
        "typed_config": {"@type": RBAC, "rules": {}, "rules_stat_prefix": "wasm-default-deny"},
    })
}

/// Delivers this resource through the file. Envoy reads files that are moved into place.
///
/// # Errors
/// If the file cannot be written.
pub fn deliver(file: &Path, resource: &Value) -> Result<()> {
    let next = file.with_extension("next");
    fs::write(&next, json!({"version_info": "1", "resources": [resource]}).to_string())?;
    Ok(fs::rename(next, file)?)
}

/// Applies the patches of an EnvoyFilter to a connection manager.
///
/// # Errors
/// If a patch has a form that the chart does not use.
pub fn patch(envoy_filter: &Value, listener: Listener, manager: &mut Value) -> Result<()> {
    let context = match listener {
        Listener::Gateway => "GATEWAY",
        Listener::Inbound => "SIDECAR_INBOUND",
    };
    for patch in envoy_filter["spec"]["configPatches"].as_array().into_iter().flatten() {
        if patch["match"]["context"] != context {
            continue;
        }
        let operation = (patch["applyTo"].as_str(), patch["patch"]["operation"].as_str());
        let value = &patch["patch"]["value"];
        match operation {
            (Some("HTTP_FILTER"), Some("INSERT_BEFORE")) => {
                let name = &patch["match"]["listener"]["filterChain"]["filter"]["subFilter"]["name"];
                let filters = manager["http_filters"].as_array_mut().context("no http_filters")?;
                // istiod ignores a patch whose filter is not there.
                if let Some(at) = filters.iter().position(|filter| filter["name"] == *name) {
                    filters.insert(at, value.clone());
                }
            }
            (Some("NETWORK_FILTER"), Some("MERGE")) => merge(manager, &value["typed_config"]),
            other => bail!("unexpected patch {other:?}"),
        }
    }
    Ok(())
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
