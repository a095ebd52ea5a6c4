//! Runs all attacks on one edge, one after the other, and counts the results.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use omniflow_harness::upstream::Received;

use crate::edge::Edge;
use crate::exchange::{Exchange, Version, exchange};
use crate::limits;
use crate::property::{Violation, echoed, violations};
use crate::request::Request;
use crate::variants::{self, Variant};

/// Attempts of a valid call that gets 429.
const TRIES: usize = 5;

/// The results.
#[derive(Debug, Default)]
pub struct Anomalies {
    families: BTreeMap<(&'static str, &'static str), Count>,
    /// Violations, with their attacks.
    pub violations: Vec<(String, Violation)>,
}

#[derive(Debug, Default)]
struct Count {
    cases: BTreeSet<&'static str>,
    variants: usize,
    passed: usize,
    refused: usize,
    closed: usize,
}

/// Sends every `every`th attack in both versions of HTTP.
pub async fn run(edge: &Edge<'_>, every: usize) -> Result<Anomalies> {
    let mut anomalies = Anomalies::default();
    let all = variants::all(edge);
    for (name, version) in [("HTTP/1.1", Version::Http1), ("HTTP/2", Version::Http2)] {
        check(edge, version).await.with_context(|| format!("before the attacks over {name}"))?;
        let mut family = "";
        for variant in all.iter().step_by(every.max(1)) {
            if family != variant.family {
                check(edge, version)
                    .await
                    .with_context(|| format!("behind the attacks on {family} over {name}"))?;
                family = variant.family;
            }
            if let Some((bytes, ending)) = variant.bytes(version) {
                let exchange = exchange(edge.address, version, &bytes, ending).await?;
                anomalies.add(edge, variant, name, &exchange);
            }
        }
        check(edge, version).await.with_context(|| format!("after the attacks over {name}"))?;
    }
    Ok(anomalies)
}

/// Checks that a valid call succeeds: the edge works, and the key is as required.
async fn check(edge: &Edge<'_>, version: Version) -> Result<()> {
    let request = Request::get(edge.allowed.as_str()).header("x-api-key", edge.key.as_str());
    let (bytes, ending) =
        Variant::good(request).bytes(version).context("a request that both versions carry")?;
    for _ in 0..TRIES {
        let exchange = exchange(edge.address, version, &bytes, ending).await?;
        match exchange.answers.as_slice() {
            [(200, body)] => {
                ensure!(echoed(body).is_some(), "the upstream does not echo what it received");
                edge.upstreams.iter().for_each(|upstream| upstream.clear());
                return Ok(());
            }
            // Previous attacks have used up the key's limit, which refills with time.
            [(429, _)] => tokio::time::sleep(Duration::from_secs(15)).await,
            other => bail!(
                "a valid call was refused: {:?}",
                other
                    .iter()
                    .map(|(status, body)| (status, String::from_utf8_lossy(body)))
                    .collect::<Vec<_>>()
            ),
        }
    }
    bail!("the key's limit is too low for this many requests: set it to 10,000 per minute")
}

// === impl Anomalies ===

impl Anomalies {
    fn add(&mut self, edge: &Edge<'_>, variant: &Variant, version: &'static str, exchange: &Exchange) {
        let echoes: Vec<Received> = exchange.answers.iter().filter_map(|(_, body)| echoed(body)).collect();
        // If the upstreams are available, their requests are more reliable than the responses.
        let received: Vec<Received> = if edge.upstreams.is_empty() {
            echoes
        } else {
            edge.upstreams.iter().flat_map(|upstream| upstream.take()).collect()
        };
        let count = self.families.entry((variant.family, version)).or_default();
        count.cases.insert(variant.case);
        count.variants += 1;
        match () {
            () if !received.is_empty() => count.passed += 1,
            () if !exchange.answers.is_empty() => count.refused += 1,
            () => count.closed += 1,
        }
        for violation in violations(edge, variant, exchange, &received) {
            let what = format!("{version}, {}, {}: {}", variant.family, variant.case, variant.name);
            self.violations.push((what, violation));
        }
    }

    /// Adds the results of the attacks on limits.
    pub fn add_limits(&mut self, cases: Vec<limits::Case>) {
        let count = self.families.entry(("limits", "both")).or_default();
        for (case, variants, wrong) in cases {
            count.cases.insert(case);
            count.variants += variants;
            if let Some(wrong) = wrong {
                self.violations.push((format!("limits, {case}"), Violation::Limit(wrong)));
            }
        }
    }

    /// The number of cases and variants.
    pub fn totals(&self) -> (usize, usize) {
        let cases: BTreeSet<(&str, &str)> = self
            .families
            .iter()
            .flat_map(|((family, _), count)| count.cases.iter().map(move |case| (*family, *case)))
            .collect();
        (cases.len(), self.families.values().map(|count| count.variants).sum())
    }

    /// The results as a Markdown table.
    pub fn table(&self) -> String {
        let mut text = String::from(
            "| attacks on | over | cases | variants | allowed | refused | closed |\n|---|---|---|---|---|---|---|\n",
        );
        for ((family, version), count) in &self.families {
            let Count { cases, variants, passed, refused, closed } = count;
            let cases = cases.len();
            let _ = writeln!(
                text,
                "| {family} | {version} | {cases} | {variants} | {passed} | {refused} | {closed} |"
            );
        }
        text
    }
}
