//! The Service, the network policy and what Prometheus gets.

use std::fs;

use omniflow_deploy_tests::deploy;
use serde_json::{Value, json};

use super::{FULL, MINIMAL, PLAIN, stateful_set};

#[test]
fn the_service_selects_the_control_plane() {
    let service = &FULL.find("Service", "omniflow").unwrap()["spec"];
    let labels = &stateful_set(&FULL)["spec"]["template"]["metadata"]["labels"];
    for (label, value) in service["selector"].as_object().unwrap() {
        assert_eq!(&labels[label], value, "{label}");
    }
    assert_eq!(service["ports"][0]["port"], 8443);
    assert_eq!(service["ports"][0]["targetPort"], "https");
    assert_eq!(service["type"], "ClusterIP");
}

#[test]
fn the_service_does_not_select_jobs() {
    let selector = &FULL.find("Service", "omniflow").unwrap()["spec"]["selector"];
    assert_eq!(selector["app.kubernetes.io/component"], "control-plane");
    let backup = FULL.find("CronJob", "omniflow-backup").unwrap();
    let labels = &backup["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["app.kubernetes.io/component"], "backup");
}

fn policy() -> &'static Value {
    &FULL.find("NetworkPolicy", "omniflow").unwrap()["spec"]
}

#[test]
fn only_the_namespaces_of_clients_may_connect() {
    let from = policy()["ingress"][0]["from"].as_array().unwrap();
    let names: Vec<_> = from
        .iter()
        .map(|peer| peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"].as_str().unwrap())
        .collect();
    let expected =
        ["billing", "envoy-gateway-system", "internal", "istio-ingress", "monitoring", "omniflow", "shop"];
    assert_eq!(names, expected);
    assert_eq!(policy()["ingress"][0]["ports"], json!([{"protocol": "TCP", "port": 8443}]));
    assert_eq!(policy()["ingress"].as_array().unwrap().len(), 1);
}

#[test]
fn outgoing_connections_are_limited_to_dns_itself_and_the_values() {
    assert_eq!(policy()["policyTypes"], json!(["Ingress", "Egress"]));
    let egress = policy()["egress"].as_array().unwrap();
    assert_eq!(egress.len(), 3);
    assert_eq!(
        egress[0],
        json!({"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]})
    );
    assert_eq!(egress[1]["to"][0]["podSelector"]["matchLabels"], policy()["podSelector"]["matchLabels"]);
    assert_eq!(egress[2]["to"][0]["ipBlock"]["cidr"], "203.0.113.0/24");
}

#[test]
fn the_network_policy_applies_by_default_and_can_be_disabled() {
    assert_eq!(MINIMAL.of_kind("NetworkPolicy").count(), 1);
    assert_eq!(PLAIN.of_kind("NetworkPolicy").count(), 0);
}

#[test]
fn prometheus_scrapes_the_metrics_over_verified_tls() {
    let monitor = &FULL.find("ServiceMonitor", "omniflow").unwrap()["spec"];
    let endpoint = &monitor["endpoints"][0];
    assert_eq!((endpoint["port"].as_str(), endpoint["path"].as_str()), (Some("https"), Some("/metrics")));
    assert_eq!(endpoint["scheme"], "https");
    assert_eq!(endpoint["tlsConfig"]["ca"]["secret"], json!({"name": "omniflow-tls", "key": "ca.crt"}));
    assert_eq!(endpoint["tlsConfig"]["serverName"], "omniflow.omniflow.svc.cluster.local");
    assert!(endpoint["tlsConfig"]["insecureSkipVerify"].is_null());
    assert_eq!(endpoint["relabelings"], json!([{"targetLabel": "job", "replacement": "omniflow"}]));
}

#[test]
fn the_labels_of_the_operator_are_those_of_the_values() {
    for kind in ["ServiceMonitor", "PrometheusRule"] {
        assert_eq!(FULL.find(kind, "omniflow").unwrap()["metadata"]["labels"]["release"], "prometheus");
    }
}

/// The chart renders the same rules and dashboards as those in `deploy/`, byte for byte where text matters.
#[test]
fn rules_and_dashboards_are_those_of_the_repository() {
    let rules = fs::read_to_string(deploy("prometheus/rules.yaml")).unwrap();
    let rules = omniflow_harness::bootstrap::parse(&rules).unwrap();
    assert_eq!(FULL.find("PrometheusRule", "omniflow").unwrap()["spec"], rules);
    let data = FULL.find("ConfigMap", "omniflow-dashboards").unwrap()["data"].as_object().unwrap();
    assert_eq!(data.len(), 2);
    for (name, text) in data {
        let file = deploy("grafana").join(name.strip_prefix("omniflow-").unwrap());
        assert_eq!(text.as_str().unwrap().trim_end(), fs::read_to_string(file).unwrap().trim_end(), "{name}");
    }
}

#[test]
fn the_sidecar_of_grafana_finds_the_dashboards() {
    let labels = &FULL.find("ConfigMap", "omniflow-dashboards").unwrap()["metadata"]["labels"];
    assert_eq!(labels["grafana_dashboard"], "1");
}

#[test]
fn monitoring_is_opt_in() {
    for kind in ["ServiceMonitor", "PrometheusRule", "ConfigMap"] {
        assert_eq!(MINIMAL.of_kind(kind).count(), 0, "{kind}");
    }
}
