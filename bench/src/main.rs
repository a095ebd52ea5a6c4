//! `make bench`: what a request costs in each subject, measured in pairs in one run, so that what disturbs the machine
//! disturbs all of them alike.

mod authorizer;
mod cpu;
mod load;
mod measure;
mod picture;
mod report;
mod scale;
mod statistics;
mod subjects;

use std::fs;

use anyhow::{Context as _, Result, bail};
use omniflow_harness::paths;

use crate::measure::Plan;
use crate::subjects::Subject;

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match words.next().as_deref() {
        Some("authorizer") => {
            let port = words.next().context("no port")?.parse()?;
            runtime.block_on(authorizer::serve(port, words.next().context("no key")?))
        }
        Some("scale") => runtime.block_on(scale::run(words.next().as_deref())),
        None => runtime.block_on(async {
            run(Plan::full()).await?;
            scale::run(None).await
        }),
        Some("--quick") => runtime.block_on(run(Plan::quick())),
        Some(other) => {
            bail!(
                "{other:?} is no argument: there is --quick, which measures less and writes nothing, and scale, which \
                 measures many keys and gateways alone"
            )
        }
    }
}

async fn run(plan: Plan) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("omniflow-bench-").tempdir()?;
    let of = |name: &str| -> Result<std::path::PathBuf> {
        let path = folder.path().join(name);
        fs::create_dir(&path)?;
        Ok(path)
    };
    let bare = Subject::bare(&of("bare")?).await?;
    let (product, key) = Subject::product(&of("product")?).await?;
    let others = vec![
        Subject::empty(&of("empty")?).await?,
        Subject::native(&of("native")?, &key).await?,
        product,
        Subject::ext_authz(&of("ext_authz")?, &key).await?,
    ];
    let results = measure::run(&plan, &bare, &others).await?;
    let text = report::text(&plan, &results)?;
    println!("{text}");
    if plan.is_published {
        let docs = paths::root().join("docs");
        fs::write(docs.join("BENCHMARKS.md"), text)?;
        fs::write(docs.join("benchmarks.svg"), picture::svg(&results))?;
    }
    Ok(())
}
