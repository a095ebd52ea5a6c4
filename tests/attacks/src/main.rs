//! `make attacks`: attacks by volume on a real Envoy and a real control plane. Meanwhile an admin revokes keys, signs in and
//! opens pages, and another client makes calls. The table of docs/operations/attacks.md shows what they notice.
//!
//! `SECONDS=10` sets the duration of each attack. `ATTACKS=1,4` runs only these and leaves the table as it is. The exit code
//! is 1 if an action of the admin fails, a revocation is not enforced, or the other client loses a record.

mod admin;
mod attack;
mod client;
mod flood;
mod report;
mod usage;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::attack::Attack;

/// The duration of an attack, in seconds.
const SECONDS: u64 = 10;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("attacks: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let seconds = match variable("SECONDS") {
        Some(text) => text.parse().with_context(|| format!("SECONDS is not a number: {text}"))?,
        None => SECONDS,
    };
    let only = variable("ATTACKS");
    let is_selected = |attack: &Attack| {
        let number = attack.number().to_string();
        only.as_ref().is_none_or(|only| only.split(',').any(|one| one == number))
    };
    let mut rows = Vec::new();
    for attack in Attack::ALL.into_iter().filter(is_selected) {
        eprintln!("attack {}: {}", attack.number(), attack.title());
        let row = report::measure(attack, Duration::from_secs(seconds)).await?;
        println!("{}", row.line());
        rows.push(row);
    }
    if only.is_none() {
        report::write(&rows, seconds)?;
    }
    let failed: Vec<String> =
        rows.iter().flat_map(|row| row.failures().map(|failure| format!("attack {failure}"))).collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// An environment variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
