//! Every query of the dashboards returns data, and no alert fires without a reason, in a Prometheus that scrapes a real control plane
//! and a real Envoy under traffic.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::ensure;
use omniflow_deploy_tests::deploy;
use omniflow_deploy_tests::prometheus::{Prometheus, queries};
use omniflow_harness::{Call, Stack, StackOptions, eventually};
use omniflow_policy::denial::Outcome;
use serde_json::{Value, json};

/// Prometheus scrapes once a second.
const DEADLINE: Duration = Duration::from_secs(60);
const CONTACTS: &str = "/api/v1/contacts";

/// Calls of every kind, and changes to keys, until the deadline.
async fn traffic(stack: &Stack) -> anyhow::Result<()> {
    let key = stack.live_key("valid", &["contacts:read"]).await?;
    let limited = stack
        .key(json!({"name": "limited", "environment": "live", "scopes": ["contacts:read"], "rate_limit": {"per_minute": 1}}))
        .await?;
    for round in 0_u32.. {
        for secret in [&key.secret, &limited.secret] {
            stack.call(Call::get(CONTACTS).bearer(secret)).await?;
        }
        stack.call(Call::get("/nowhere").bearer(&key.secret)).await?;
        stack.call(Call::get(CONTACTS)).await?;
        // Gateways receive a change of limits. The limit is above what this loop calls.
        let limit = json!({"rate_limit": {"per_minute": 6_000 + round}});
        stack.control_plane.change_key(&key.id, &limit).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test]
async fn every_query_returns_data_under_traffic() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let targets = [
        ("omniflow", stack.control_plane.port(), "/metrics"),
        ("envoy", stack.envoy.admin_port(), "/stats/prometheus"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(folder.path(), &targets).await.unwrap();
    let all = queries().unwrap();
    assert!(all.len() > 50, "only {} queries", all.len());
    let check = async {
        for query in &all {
            let expression = query.expression.replace("$__rate_interval", "10s");
            eventually(DEADLINE, || async {
                let values = prometheus.query(&expression).await?;
                ensure!(values.iter().any(|value| value.is_finite()), "{}: {values:?}", query.expression);
                Ok(())
            })
            .await
            .unwrap_or_else(|error| panic!("{}: {error:#}", query.place));
        }
        let value = |expression: &'static str| {
            let prometheus = &prometheus;
            async move { prometheus.query(expression).await.unwrap().into_iter().sum::<f64>() }
        };
        assert!(value("sum(omniflow_decisions_allowed)").await > 0.0);
        assert!(value("sum(omniflow_decisions_rate_limited)").await > 0.0);
        assert!(value("sum(omniflow_decisions_route_not_mapped)").await > 0.0);
        assert!(value("sum(omf_enforcement_delay_seconds_count)").await > 0.0);
        assert_eq!(
            prometheus.firing().await.unwrap(),
            BTreeSet::new(),
            "a healthy installation has no alerts"
        );
        assert!(prometheus.query("no_such_metric").await.unwrap().is_empty());
        assert!(prometheus.query("sum(").await.is_err());
    };
    tokio::select! {
        result = traffic(&stack) => panic!("the traffic ended: {result:?}"),
        () = check => {}
    }
}

#[test]
fn dashboards_have_unique_names_and_a_data_source_to_choose() {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(deploy("grafana")).unwrap() {
        let dashboard: Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        assert!(names.insert(dashboard["uid"].to_string()), "{}", dashboard["uid"]);
        assert_eq!(dashboard["templating"]["list"][0]["type"], "datasource");
        let mut ids = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            assert!(ids.insert(panel["id"].to_string()), "{}", panel["title"]);
            assert!(!panel["description"].as_str().unwrap().is_empty(), "{}", panel["title"]);
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
    assert_eq!(names.len(), 2);
}

/// A new reason needs a query: its counter is a metric of its own.
#[test]
fn the_refusals_by_reason_have_every_reason() {
    let found: BTreeSet<String> = queries()
        .unwrap()
        .into_iter()
        .filter(|query| query.place.starts_with("admin.json: \"Refusals by reason\""))
        .map(|query| query.expression)
        .collect();
    let reasons = Outcome::all().map(|outcome| outcome.reason()).filter(|reason| *reason != "allowed");
    let expected: BTreeSet<String> =
        reasons.map(|reason| format!("sum(rate(omniflow_decisions_{reason}[$__rate_interval]))")).collect();
    assert_eq!(found, expected);
}
