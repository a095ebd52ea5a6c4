//! Runs an attack, and the table of docs/operations/attacks.md.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use omniflow_harness::{Stack, paths};
use tokio::time::Instant;

use crate::admin::{self, Administration};
use crate::attack::Attack;
use crate::client::{self, Served};
use crate::usage::{Usage, peak};

const PAGE: &str = "docs/operations/attacks.md";
const START: &str = "<!-- attacks: made by `make attacks` -->\n";
const END: &str = "<!-- end of attacks -->\n";

/// What was noticed of an attack.
pub(crate) struct Row {
    attack: Attack,
    reached: String,
    administration: Administration,
    served: Served,
    before: Usage,
    peak: Usage,
}

/// Runs an attack on an installation of its own.
pub(crate) async fn measure(attack: Attack, duration: Duration) -> Result<Row> {
    let mut stack = Stack::start(attack.options()).await?;
    let prepared = attack.prepare(&mut stack).await?;
    let keys = admin::keys(&stack).await?;
    let other = admin::other_key(&stack).await?;
    let before = Usage::of(&stack)?;
    let until = Instant::now() + duration;
    let (reached, administration, mut served, peak) = tokio::join!(
        attack.run(&stack, &prepared, until),
        admin::administer(&stack, keys, until),
        client::call_steadily(stack.envoy.port(), &other, until),
        peak(&stack, until),
    );
    client::examine(&stack, &other, &mut served).await?;
    Ok(Row { attack, reached: reached?, administration, served, before, peak: peak? })
}

/// Writes the table.
pub(crate) fn write(rows: &[Row], seconds: u64) -> Result<()> {
    let path = paths::root().join(PAGE);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (head, rest) = text.split_once(START).context("no start of the table")?;
    let (_, tail) = rest.split_once(END).context("no end of the table")?;
    let lines: String = rows.iter().map(|row| format!("{}\n", row.line())).collect();
    let table = format!(
        "Each attack took {seconds} s.\n\n\
         | | attack | reached | slowest revocation, sign-in, page | failed actions of the admin | failed calls, lost records and \
         dropped arguments of the other client | memory of Envoy | memory of `omf` | growth of the data directory |\n\
         |---|---|---|---|---|---|---|---|---|\n{lines}"
    );
    fs::write(&path, format!("{head}{START}{table}{END}{tail}"))?;
    Ok(())
}

// === impl Row ===

impl Row {
    /// The row of the table.
    pub(crate) fn line(&self) -> String {
        let Self { attack, reached, administration, served, before, peak } = self;
        let [revocation, sign_in, page] = administration.slowest.map(|slowest| slowest.as_millis());
        let mib = |bytes: u64| bytes >> 20;
        format!(
            "| {} | {} | {reached} | {revocation} ms ({} revocations), {sign_in} ms, {page} ms | {} | {} of {}, {}, {} | \
             {} → {} MiB | {} → {} MiB | {:.1} MiB |",
            attack.number(),
            attack.title(),
            administration.revocations,
            administration.failures.len(),
            served.failed,
            served.calls,
            served.lost_records,
            served.dropped_arguments,
            mib(before.envoy),
            mib(peak.envoy),
            mib(before.control_plane),
            mib(peak.control_plane),
            peak.disk.saturating_sub(before.disk) as f64 / f64::from(1 << 20),
        )
    }

    /// What must not happen.
    pub(crate) fn failures(&self) -> impl Iterator<Item = String> {
        let number = self.attack.number();
        let lost = (self.served.lost_records > 0)
            .then(|| format!("{number}: {} records of another key are lost", self.served.lost_records));
        let failures = self.administration.failures.iter().map(move |failure| format!("{number}: {failure}"));
        failures.collect::<Vec<_>>().into_iter().chain(lost)
    }
}
