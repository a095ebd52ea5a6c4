//! `make conformance`: attacks edges that it starts, or the one at `GATEWAY`, and reports violations.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use omniflow_conformance::campaign::{self, Anomalies};
use omniflow_conformance::edge::Edge;
use omniflow_conformance::local::{Configuration, attack};

/// The number of violations that are printed.
const SHOWN: usize = 50;

#[tokio::main]
async fn main() -> ExitCode {
    match conformance().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn conformance() -> Result<bool> {
    let every: usize =
        setting("EVERY").map_or(Ok(1), |text| text.parse().context("EVERY must be a whole number"))?;
    let mut all_hold = true;
    if let Some(gateway) = setting("GATEWAY") {
        all_hold &= report(&gateway, &campaign::run(&edge(&gateway).await?, every).await?);
    } else {
        for configuration in Configuration::ALL {
            all_hold &= report(configuration.name(), &attack(configuration, every).await?);
        }
    }
    Ok(all_hold)
}

fn setting(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

/// The operator's own edge.
async fn edge(gateway: &str) -> Result<Edge<'static>> {
    let Some(file) = setting("KEY_FILE") else {
        bail!(
            "set KEY_FILE to a file with a key that may GET {{ALLOWED}} and the paths below it, and nothing else"
        );
    };
    let key = std::fs::read_to_string(&file).with_context(|| format!("KEY_FILE: {file}"))?.trim().to_owned();
    ensure!(!key.is_empty(), "KEY_FILE: {file} is empty");
    let address = tokio::net::lookup_host(gateway)
        .await
        .with_context(|| format!("GATEWAY: {gateway} is not a host and port such as edge.internal:10000"))?
        .next()
        .with_context(|| format!("GATEWAY: {gateway} has no address"))?;
    let allowed = setting("ALLOWED").unwrap_or_else(|| "/api/v1/contacts".to_owned());
    let forbidden = setting("FORBIDDEN").unwrap_or_else(|| "/api/v1/tickets".to_owned());
    let forbidden = forbidden.split(',').map(str::to_owned).collect();
    Ok(Edge { address, key, allowed, forbidden, upstreams: Vec::new() })
}

fn report(what: &str, anomalies: &Anomalies) -> bool {
    let (cases, variants) = anomalies.totals();
    println!("\n{what}\n\n{}", anomalies.table());
    for (attack, violation) in anomalies.violations.iter().take(SHOWN) {
        println!("VIOLATION: {violation}\n    {attack}");
    }
    println!("{cases} cases, {variants} variants, {} violations", anomalies.violations.len());
    anomalies.violations.is_empty()
}
