//! The Envoy configuration that Envoy Gateway generates from the objects of the chart, read from its source (1.9,
//! `internal/xds/translator`).

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::bootstrap;
use serde_json::{Map, Value, json};

use crate::cel;

const RBAC: &str = "envoy.filters.http.rbac";

/// The HTTP filters of the connection manager, without the router, and the configuration of each route.
#[derive(Debug, Default)]
pub struct Generated {
    /// Filters in their order.
    pub filters: Vec<Value>,
    /// `typed_per_filter_config` of every route of the Gateway.
    pub routes: Map<String, Value>,
}

/// Adds the plugins of a policy. They are disabled in the connection manager, and enabled by the routes that the policy
/// applies to.
pub fn add_extensions(policy: &Value, wasm: &[&Path], generated: &mut Generated) {
    let metadata = &policy["metadata"];
    let plugins = policy["spec"]["wasm"].as_array().into_iter().flatten();
    for (index, (plugin, file)) in plugins.zip(wasm).enumerate() {
        let id = format!("envoyextensionpolicy/{}/{}/wasm/{index}", metadata["namespace"], metadata["name"]);
        let id = id.replace('"', "");
        let name = format!("envoy.filters.http.wasm/{id}");
        generated.filters.push(json!({
            "name": name,
            "disabled": true,
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "config": {
                    "name": plugin["name"],
                    "root_id": plugin["rootID"],
                    "fail_open": plugin["failOpen"],
                    "vm_config": {
                        "vm_id": id,
                        "runtime": "envoy.wasm.runtime.v8",
                        // Envoy Gateway serves the module over HTTP.
                        "code": {"local": {"filename": file}},
                        "environment_variables": {"host_env_keys": plugin["env"]["hostKeys"]},
                    },
                    "configuration": {
                        "@type": "type.googleapis.com/google.protobuf.StringValue",
                        "value": plugin["config"].to_string(),
                    },
                },
            },
        }));
        let enabled =
            json!({"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}});
        generated.routes.insert(name, enabled);
    }
}

/// Adds the authorization of a SecurityPolicy: an empty filter after all plugins, and the rules at each route.
///
/// # Errors
/// If the policy has a form that the chart does not use.
pub fn add_authorization(policy: &Value, generated: &mut Generated) -> Result<()> {
    let authorization = &policy["spec"]["authorization"];
    ensure!(authorization["defaultAction"] == "Deny", "another default action");
    let action = |name: &str| {
        let action =
            json!({"@type": "type.googleapis.com/envoy.config.rbac.v3.Action", "name": name, "action": name});
        json!({"action": {"name": "action", "typed_config": action}})
    };
    let mut matchers = Vec::new();
    for rule in authorization["rules"].as_array().into_iter().flatten() {
        ensure!(rule["action"] == "Allow", "another action");
        let expression = cel::parse(rule["cel"].as_str().context("a rule without CEL")?)?;
        let input = json!({"@type": "type.googleapis.com/xds.type.matcher.v3.HttpAttributesCelMatchInput"});
        let matcher = json!({
            "@type": "type.googleapis.com/xds.type.matcher.v3.CelMatcher",
            "expr_match": {"cel_expr_parsed": expression},
        });
        matchers.push(json!({
            "predicate": {"single_predicate": {
                "input": {"name": "cel", "typed_config": input},
                "custom_match": {"name": "cel_matcher", "typed_config": matcher},
            }},
            "on_match": action("ALLOW"),
        }));
    }
    let matcher = json!({"matcher_list": {"matchers": matchers}, "on_no_match": action("DENY")});
    let filter = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"});
    generated.filters.push(json!({"name": RBAC, "typed_config": filter}));
    let per_route = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
        "rbac": {"matcher": matcher},
    });
    generated.routes.insert(RBAC.to_owned(), per_route);
    Ok(())
}

/// The clusters that an EnvoyProxy adds to the bootstrap.
///
/// # Errors
/// If its bootstrap is not YAML, or has no clusters.
pub fn clusters(envoy_proxy: &Value) -> Result<Vec<Value>> {
    let bootstrap = &envoy_proxy["spec"]["bootstrap"];
    ensure!(bootstrap["type"] == "Merge", "another type of bootstrap");
    let added = bootstrap::parse(bootstrap["value"].as_str().context("no bootstrap")?)?;
    added["static_resources"]["clusters"].as_array().cloned().context("no clusters")
}
