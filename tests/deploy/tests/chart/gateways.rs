//! The objects that load the filter into gateways.

use std::collections::BTreeSet;
use std::fs;

use omniflow_deploy_tests::chart::render;
use omniflow_harness::paths;
use serde_json::{Value, json};

use super::{FULL, MINIMAL, PLAIN};

const HOST: &str = "omniflow.omniflow.svc.cluster.local";

fn plugin(name: &str) -> &'static Value {
    &FULL.find("WasmPlugin", name).unwrap()["spec"]
}

fn guard(name: &str) -> &'static Value {
    &FULL.find("EnvoyFilter", name).unwrap()["spec"]
}

/// Listeners of gateways have the mode CLIENT: `match` with SERVER would install no filter.
#[test]
fn plugins_of_gateways_and_waypoints_match_every_listener() {
    for name in ["omniflow-public", "omniflow-internal", "omniflow-mesh"] {
        assert!(plugin(name)["match"].is_null(), "{name}");
    }
}

/// Without it, the filter would also check what the workload calls.
#[test]
fn plugins_of_sidecars_match_incoming_requests_only() {
    assert_eq!(plugin("omniflow-billing")["match"], json!([{"mode": "SERVER"}]));
}

#[test]
fn plugins_select_their_proxies() {
    assert_eq!(plugin("omniflow-public")["selector"]["matchLabels"], json!({"istio": "ingressgateway"}));
    for name in ["internal", "mesh"] {
        let plugin = plugin(&format!("omniflow-{name}"));
        assert!(plugin["selector"].is_null());
        let target = &plugin["targetRefs"][0];
        assert_eq!(
            (target["kind"].as_str(), target["group"].as_str()),
            (Some("Gateway"), Some("gateway.networking.k8s.io"))
        );
    }
    assert_eq!(plugin("omniflow-mesh")["targetRefs"][0]["name"], "waypoint");
}

#[test]
fn guards_select_the_same_proxies_as_their_plugins() {
    for name in ["public", "internal", "billing", "mesh"] {
        let (plugin, guard) = (plugin(&format!("omniflow-{name}")), guard(&format!("omniflow-{name}-guard")));
        assert_eq!(plugin["selector"]["matchLabels"], guard["workloadSelector"]["labels"], "{name}");
        assert_eq!(plugin["targetRefs"], guard["targetRefs"], "{name}");
    }
}

#[test]
fn guards_patch_the_listeners_of_their_kind() {
    for (name, context) in [
        ("public", "GATEWAY"),
        ("internal", "GATEWAY"),
        ("billing", "SIDECAR_INBOUND"),
        ("mesh", "SIDECAR_INBOUND"),
    ] {
        let patches = guard(&format!("omniflow-{name}-guard"))["configPatches"].as_array().unwrap();
        assert!(patches.iter().all(|patch| patch["match"]["context"] == context), "{name}");
    }
}

/// The router is the last filter in every version of Istio. The name of the Wasm filter differs between versions, and Istio ignores
/// a patch whose name does not match.
#[test]
fn guards_are_inserted_before_the_router() {
    for object in FULL.of_kind("EnvoyFilter").chain(PLAIN.of_kind("EnvoyFilter")) {
        let patch = &object["spec"]["configPatches"][0];
        let filter = &patch["match"]["listener"]["filterChain"]["filter"];
        assert_eq!(filter["subFilter"]["name"], "envoy.filters.http.router");
        assert_eq!(patch["patch"]["operation"], "INSERT_BEFORE");
        let principals = &patch["patch"]["value"]["typed_config"]["rules"]["policies"]["checked-by-omniflow"]
            ["principals"];
        assert_eq!(
            *principals,
            json!([{"filter_state": {"key": "wasm.omf_ok", "string_match": {"exact": "1"}}}])
        );
    }
}

#[test]
fn header_names_with_underscores_are_rejected() {
    for object in FULL.of_kind("EnvoyFilter") {
        let config = &object["spec"]["configPatches"][1]["patch"]["value"]["typed_config"];
        let action = &config["common_http_protocol_options"]["headers_with_underscores_action"];
        assert_eq!(action, "REJECT_REQUEST");
    }
}

/// Istio removes unused clusters from gateways and waypoints. The annotation keeps that of the control plane.
#[test]
fn the_cluster_of_the_control_plane_is_kept() {
    for object in FULL.of_kind("EnvoyFilter") {
        let annotations = &object["metadata"]["annotations"];
        assert_eq!(annotations["envoyfilter.istio.io/referenced-services"], format!("omniflow/{HOST}"));
    }
}

#[test]
fn plugins_call_the_cluster_that_istiod_generates() {
    let config = &plugin("omniflow-public")["pluginConfig"];
    assert_eq!(config["cluster"], format!("outbound|8443||{HOST}"));
    assert_eq!(config["authority"], HOST);
    assert_eq!(
        (&config["max_snapshot_age_seconds"], &config["credential_header"]),
        (&json!(3600), &json!("x-api-key"))
    );
}

/// The number of proxies that Envoy trusts is a setting of each gateway.
#[test]
fn the_filter_knows_how_many_proxies_its_gateway_trusts() {
    assert_eq!(plugin("omniflow-public")["pluginConfig"]["trusted_hops"], 2);
    assert!(plugin("omniflow-internal")["pluginConfig"]["trusted_hops"].is_null());
    let policy = FULL.find("EnvoyExtensionPolicy", "omniflow-edge").unwrap();
    assert_eq!(policy["spec"]["wasm"][0]["config"]["trusted_hops"], 1);
}

#[test]
fn the_values_accept_every_setting_of_the_filter_that_the_chart_does_not_set() {
    let reference = fs::read_to_string(paths::root().join("docs/reference/filter-settings.md")).unwrap();
    let rows = reference.lines().skip_while(|line| *line != "| field | default | meaning |").skip(2);
    let rows = rows.map_while(|line| line.strip_prefix("| `")?.split('`').next());
    let own = ["cluster", "authority", "gateway_token", "trusted_hops"];
    let documented: BTreeSet<&str> = rows.filter(|name| !own.contains(name)).collect();
    let schema = fs::read(paths::root().join("deploy/helm/omniflow/values.schema.json")).unwrap();
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    let accepted = &schema["properties"]["filter"]["properties"]["config"]["properties"];
    let accepted: BTreeSet<&str> = accepted.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(accepted, documented);
}

#[test]
fn the_values_cannot_change_the_cluster_of_the_filter() {
    let error = render(&["full"], &[r#"filter.config.cluster="other""#]).unwrap_err();
    assert!(error.to_string().contains("'cluster'"), "{error}");
}

#[test]
fn plugins_reload_after_a_crash_and_never_fail_open() {
    for object in FULL.of_kind("WasmPlugin") {
        assert_eq!(object["spec"]["failStrategy"], "FAIL_RELOAD");
        assert_eq!(object["spec"]["pluginName"], "omniflow");
        assert_eq!(object["spec"]["phase"], "AUTHN");
    }
    for object in FULL.of_kind("EnvoyExtensionPolicy") {
        assert_eq!(object["spec"]["wasm"][0]["failOpen"], false);
        assert_eq!(object["spec"]["wasm"][0]["rootID"], "omniflow");
    }
}

/// In no object that can be read without access to Secrets.
#[test]
fn tokens_come_from_the_environment_of_the_proxy() {
    let expected = json!({"env": [{"name": "OMF_GATEWAY_TOKEN", "valueFrom": "HOST"}]});
    assert!(FULL.of_kind("WasmPlugin").all(|object| object["spec"]["vmConfig"] == expected));
    let policy = FULL.find("EnvoyExtensionPolicy", "omniflow-edge").unwrap();
    assert_eq!(policy["spec"]["wasm"][0]["env"]["hostKeys"], json!(["OMF_GATEWAY_TOKEN"]));
    let proxy = &FULL.find("EnvoyProxy", "omniflow-edge").unwrap()["spec"]["provider"]["kubernetes"];
    let variable = &proxy["envoyDeployment"]["container"]["env"][0];
    assert_eq!(variable["name"], "OMF_GATEWAY_TOKEN");
    assert_eq!(
        variable["valueFrom"]["secretKeyRef"],
        json!({"name": "omniflow-gateway", "key": "OMF_GATEWAY_TOKEN"})
    );
}

#[test]
fn the_digest_and_the_pull_secret_of_the_filter_are_set() {
    assert!(FULL.of_kind("WasmPlugin").all(|object| object["spec"]["sha256"].as_str().unwrap().len() == 64));
    assert_eq!(plugin("omniflow-public")["imagePullSecret"], "registry");
    let code = &FULL.find("EnvoyExtensionPolicy", "omniflow-edge").unwrap()["spec"]["wasm"][0]["code"];
    assert_eq!(code["image"]["url"], "registry.example.com/omniflow/filter:0.1.0", "without a scheme");
    assert_eq!(code["image"]["pullSecretRef"]["name"], "registry");
    let plain = PLAIN.find("EnvoyExtensionPolicy", "keys-edge").unwrap();
    assert_eq!(plain["spec"]["wasm"][0]["code"]["type"], "HTTP");
}

#[test]
fn connections_to_the_control_plane_verify_its_name() {
    for object in FULL.of_kind("DestinationRule") {
        let tls = &object["spec"]["trafficPolicy"]["tls"];
        assert_eq!(
            *tls,
            json!({"mode": "SIMPLE", "sni": HOST, "subjectAltNames": [HOST], "credentialName": "omniflow-ca"})
        );
        assert_eq!(object["spec"]["host"], HOST);
    }
    let plain = PLAIN.find("DestinationRule", "keys-public-control-plane").unwrap();
    assert!(plain["spec"]["trafficPolicy"]["tls"].is_null());
}

/// The rules of two gateways in one namespace would otherwise conflict, and Istio reads `credentialName` for sidecars only with it.
#[test]
fn connections_are_configured_for_the_selected_proxies_only() {
    assert_eq!(FULL.of_kind("DestinationRule").count(), 4);
    for object in FULL.of_kind("DestinationRule") {
        assert!(!object["spec"]["workloadSelector"]["matchLabels"].as_object().unwrap().is_empty());
        assert_eq!(object["spec"]["exportTo"], json!(["."]));
    }
    let labels =
        &FULL.find("DestinationRule", "omniflow-mesh-control-plane").unwrap()["spec"]["workloadSelector"];
    assert_eq!(labels["matchLabels"], json!({"gateway.networking.k8s.io/gateway-name": "waypoint"}));
}

#[test]
fn a_traffic_extension_has_the_fields_of_a_plugin() {
    let set = render(&["full"], &[r#"istio.resource="TrafficExtension""#]).unwrap();
    assert_eq!(set.of_kind("WasmPlugin").count(), 0);
    for plugin in FULL.of_kind("WasmPlugin") {
        let name = plugin["metadata"]["name"].as_str().unwrap();
        let mut extension = set.find("TrafficExtension", name).unwrap()["spec"].as_object().unwrap().clone();
        let wasm = extension.remove("wasm").unwrap();
        extension.extend(wasm.as_object().unwrap().clone());
        assert_eq!(Value::Object(extension), plugin["spec"], "{name}");
    }
}

/// A policy on a route replaces that of the Gateway, and with it the filter. The guard is another policy, so requests are refused.
#[test]
fn the_filter_and_the_guard_of_envoy_gateway_are_at_the_gateway() {
    for kind in ["EnvoyExtensionPolicy", "SecurityPolicy"] {
        let policy = FULL.of_kind(kind).next().unwrap();
        let target = json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"}]);
        assert_eq!(policy["spec"]["targetRefs"], target, "{kind}");
        assert_eq!(policy["metadata"]["namespace"], "web", "{kind}");
    }
}

/// Filter state is bytes in CEL: compared with a string, it is never equal.
#[test]
fn the_guard_of_envoy_gateway_compares_bytes_and_denies_by_default() {
    let authorization = &FULL.find("SecurityPolicy", "omniflow-edge-guard").unwrap()["spec"]["authorization"];
    assert_eq!(authorization["defaultAction"], "Deny");
    assert_eq!(authorization["rules"].as_array().unwrap().len(), 1);
    assert_eq!(authorization["rules"][0]["cel"], "filter_state['wasm.omf_ok'] == b'1'");
}

#[test]
fn the_bootstrap_of_envoy_gateway_has_the_cluster_of_the_filter() {
    let bootstrap = &FULL.find("EnvoyProxy", "omniflow-edge").unwrap()["spec"]["bootstrap"];
    assert_eq!(bootstrap["type"], "Merge");
    let cluster = omniflow_harness::bootstrap::parse(bootstrap["value"].as_str().unwrap()).unwrap();
    let cluster = &cluster["static_resources"]["clusters"][0];
    let policy = FULL.find("EnvoyExtensionPolicy", "omniflow-edge").unwrap();
    assert_eq!(policy["spec"]["wasm"][0]["config"]["cluster"], cluster["name"]);
    let context = &cluster["transport_socket"]["typed_config"];
    assert_eq!(context["sni"], HOST);
    let validation = &context["common_tls_context"]["validation_context"];
    assert_eq!(validation["match_typed_subject_alt_names"][0]["matcher"]["exact"], HOST);
    let trusted = validation["trusted_ca"]["filename"].as_str().unwrap();
    let proxy = &FULL.find("EnvoyProxy", "omniflow-edge").unwrap()["spec"]["provider"]["kubernetes"]["envoyDeployment"];
    let mount = proxy["container"]["volumeMounts"][0]["mountPath"].as_str().unwrap();
    assert!(trusted.starts_with(mount), "{trusted} is not in {mount}");
    assert_eq!(proxy["pod"]["volumes"][0]["secret"]["secretName"], "omniflow-ca");
}

#[test]
fn gateways_are_opt_in() {
    for kind in [
        "WasmPlugin",
        "EnvoyFilter",
        "DestinationRule",
        "EnvoyExtensionPolicy",
        "SecurityPolicy",
        "EnvoyProxy",
    ] {
        assert_eq!(MINIMAL.of_kind(kind).count(), 0, "{kind}");
    }
}
