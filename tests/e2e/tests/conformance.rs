//! Every eleventh attack of `make conformance`, on each configuration of Envoy.

use omniflow_conformance::local::{Configuration, attack};

/// A prime: neighbouring variants differ in one encoding, and each of them is to have its turn.
const EVERY: usize = 11;

async fn all_hold(configuration: Configuration) {
    let anomalies = attack(configuration, EVERY).await.unwrap();
    let (cases, variants) = anomalies.totals();
    println!("{}: {cases} cases, {variants} variants", configuration.name());
    assert!(variants > 500, "{}", anomalies.table());
    let shown: Vec<String> =
        anomalies.violations.iter().take(20).map(|(attack, what)| format!("{what}: {attack}")).collect();
    assert!(shown.is_empty(), "{} violations\n{}", anomalies.violations.len(), shown.join("\n"));
}

#[tokio::test]
async fn no_attack_gets_through_as_shipped() {
    all_hold(Configuration::AsShipped).await;
}

#[tokio::test]
async fn no_attack_gets_through_where_envoy_normalises_paths() {
    all_hold(Configuration::Normalising).await;
}

#[tokio::test]
async fn no_attack_gets_through_where_envoy_lets_more_pass() {
    all_hold(Configuration::Lenient).await;
}
