//! `make bench`: the cost of a request for each subject, measured in pairs within one run, so that load from other
//! programs affects all subjects alike.

mod authorizer;
mod body;
mod cpu;
mod host_calls;
mod load;
mod measure;
mod picture;
mod report;
mod report_body;
mod report_calls;
mod scale;
mod statistics;
mod subjects;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use omniflow_counting_host::scenario;
use omniflow_harness::paths;

use crate::measure::Plan;
use crate::subjects::{Installation, Subject};

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match words.next().as_deref() {
        Some("authorizer") => {
            let port = words.next().context("the port is missing")?.parse()?;
            runtime.block_on(authorizer::serve(port, words.next().context("the key is missing")?))
        }
        Some("scale") => runtime.block_on(scale::run(words.next().as_deref())),
        None => runtime.block_on(async {
            run(Plan::full(), Vec::new()).await?;
            scale::run(None).await
        }),
        Some("--quick") => runtime.block_on(run(Plan::quick(), Vec::new())),
        Some("--compare") => runtime.block_on(run(Plan::quick(), words.map(PathBuf::from).collect())),
        Some(other) => {
            bail!(
                "unknown argument {other:?}. Use --quick to measure less and write nothing, --compare FILTER... to compare \
                 other builds of the filter with this one, or scale to measure only many keys and gateways"
            )
        }
    }
}

async fn run(plan: Plan, other_builds: Vec<PathBuf>) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("omniflow-bench-").tempdir()?;
    let of = |name: &str| -> Result<PathBuf> {
        let path = folder.path().join(name);
        fs::create_dir(&path)?;
        Ok(path)
    };
    let installation = Installation::start(&of("installation")?).await?;
    let bare = Subject::bare(&of("bare")?).await?;
    let native = Subject::native(&of("native")?, &installation.key).await?;
    let product = Subject::product(&of("product")?, &installation).await?;
    let mut others = vec![native, product];
    for (number, filter) in other_builds.iter().enumerate() {
        let folder = of(&format!("other-{number}"))?;
        others.push(Subject::other_build(&folder, &installation, filter).await?);
    }
    if other_builds.is_empty() {
        others.push(Subject::empty(&of("empty")?).await?);
        others.push(Subject::ext_authz(&of("ext_authz")?, &installation.key).await?);
    }
    let results = measure::run(&plan, &bare, &others).await?;
    let mut parts = vec![report::text(&plan, &results)?];
    if other_builds.is_empty() {
        drop((bare, others));
        let costs = host_calls::measure(&of("host-calls")?, plan.pairs / 3, plan.requests / 2).await?;
        let request = scenario::request("GET", scenario::PATH, scenario::key(0).expose());
        let counted = scenario::steady_cost(&paths::filter_wasm()?, 1_000_000, &request)?;
        let product = results.iter().find(|outcome| outcome.name == "Omniflow Keys");
        let added = product.and_then(|outcome| outcome.added).context("the product is missing")?;
        parts.push(report_calls::text(&costs, &counted, added.median)?);
        let streamed = body::measure(&of("body")?, &installation, plan.pairs / 2).await?;
        parts.push(report_body::text(&streamed)?);
    }
    let text = parts.join("\n");
    println!("{text}");
    if plan.is_published {
        let docs = paths::root().join("docs");
        fs::write(docs.join("operations/benchmarks.md"), text)?;
        fs::write(docs.join("benchmarks.svg"), picture::svg(&results))?;
    }
    Ok(())
}
