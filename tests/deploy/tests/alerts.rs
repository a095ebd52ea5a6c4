//! The alerts: each fires and resolves, has a section in the documentation, and uses metrics that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Output;

use omniflow_deploy_tests::prometheus::{alerts, metrics, queries};
use omniflow_deploy_tests::{deploy, tool};
use omniflow_harness::paths;

/// Metrics of Envoy itself that rules and dashboards use.
const ENVOY: [&str; 9] = [
    "envoy_server_days_until_first_cert_expiring",
    "envoy_http_downstream_rq_time_bucket",
    "envoy_http_downstream_rq_time_sum",
    "envoy_http_downstream_rq_time_count",
    "envoy_cluster_upstream_rq_time_bucket",
    "envoy_cluster_upstream_rq_time_sum",
    "envoy_cluster_upstream_rq_time_count",
    "envoy_http_conn_manager_prefix",
    "envoy_cluster_name",
];

fn promtool(arguments: &[&str], file: &Path) -> Output {
    tool("promtool").unwrap().args(arguments).arg(file).output().unwrap()
}

#[test]
fn promtool_accepts_the_rules() {
    let output = promtool(&["check", "rules"], &deploy("prometheus/rules.yaml"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_alert_fires_and_resolves() {
    let output = promtool(&["test", "rules"], &deploy("prometheus/rules.test.yaml"));
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

/// The unit tests fail for each alert that never fires, and for each that never resolves.
#[test]
fn the_unit_tests_find_an_alert_that_does_not_work() {
    let rules = fs::read_to_string(deploy("prometheus/rules.yaml")).unwrap();
    let tests = fs::read_to_string(deploy("prometheus/rules.test.yaml")).unwrap();
    let alerts = alerts().unwrap();
    assert!(alerts.len() >= 20, "{}", alerts.len());
    for alert in &alerts {
        // The expression of an alert is the line or block after its name.
        let start = rules.find(&format!("- alert: {}\n", alert.name)).unwrap();
        let end = start + rules[start..].find("        labels:").unwrap();
        let of_alert = format!("  - name: {}\n", alert.name);
        let case =
            tests[tests.find(&of_alert).unwrap() + of_alert.len()..].split("\n  - name: ").next().unwrap();
        for expression in ["vector(1) > 2", "vector(1)"] {
            let folder = tempfile::tempdir().unwrap();
            let head = format!("- alert: {}\n        expr: {expression}\n", alert.name);
            let broken = format!("{}{head}{}", &rules[..start], &rules[end..]);
            fs::write(folder.path().join("rules.yaml"), broken).unwrap();
            let test = folder.path().join("rules.test.yaml");
            let case =
                format!("rule_files: [rules.yaml]\nevaluation_interval: 1m\ntests:\n{of_alert}{case}\n");
            fs::write(&test, case).unwrap();
            let output = promtool(&["test", "rules"], &test);
            let text = String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr);
            assert!(
                !output.status.success() && text.contains("exp:["),
                "{} as {expression}: {text}",
                alert.name
            );
        }
    }
}

#[test]
fn every_alert_has_its_section_in_the_documentation() {
    let alerts = alerts().unwrap();
    for alert in &alerts {
        let (page, anchor) = alert.runbook.split_once('#').unwrap();
        assert_eq!(anchor, alert.name.to_ascii_lowercase());
        let text = fs::read_to_string(paths::root().join("docs").join(page)).unwrap();
        assert!(text.contains(&format!("\n### {}\n", alert.name)), "{page} has no section {}", alert.name);
    }
    let page = fs::read_to_string(paths::root().join("docs/operations/alerts.md")).unwrap();
    let sections = page.lines().filter_map(|line| line.strip_prefix("### ")).collect::<BTreeSet<_>>();
    assert_eq!(sections, alerts.iter().map(|alert| alert.name.as_str()).collect());
}

/// Names without the suffixes of histograms.
fn base(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

#[test]
fn rules_and_dashboards_use_documented_metrics() {
    let reference = fs::read_to_string(paths::root().join("docs/reference/metrics.md")).unwrap();
    let rows = reference.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: BTreeSet<&str> = rows.collect();
    let codes = fs::read_to_string(paths::root().join("docs/reference/error-codes.md")).unwrap();
    let rules = alerts().unwrap().into_iter().map(|alert| (alert.name, alert.expression));
    let panels = queries().unwrap().into_iter().map(|query| (query.place, query.expression));
    for (place, expression) in rules.chain(panels) {
        for name in metrics(&expression) {
            let is_decision = name.strip_prefix("omniflow_decisions_").is_some_and(|reason| {
                ["allowed", "non_key_credential"].contains(&reason)
                    || codes.contains(&format!("| `{reason}` | "))
            });
            let known = documented.contains(name) || documented.contains(base(name)) || ENVOY.contains(&name);
            assert!(known || is_decision, "{place}: {name} does not exist");
        }
    }
}

#[test]
fn names_of_metrics_are_found_in_expressions() {
    let found = |expression| metrics(expression).into_iter().collect::<Vec<_>>();
    assert_eq!(
        found(r#"sum by (omf) (rate(omf_a_total{x="omf_b", y=~"envoy_c"}[5m])) > omniflow_d"#),
        ["omf_a_total", "omniflow_d"]
    );
    assert_eq!(found(r#"envoy_e{envoy_f!="a"} / 2"#), ["envoy_e"]);
}
