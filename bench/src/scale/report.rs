//! The report: `docs/BENCHMARKS-scale.md`, a section for each part. A part that is measured anew replaces its section.

use std::fmt::Write as _;

use anyhow::Result;

use super::Section;
use crate::report::machine;

const HEADING: &str = "\n## ";
const HEAD: &str = "# Benchmarks: many keys, many gateways

Made by `make bench`, or by `make bench BENCH=scale` alone; each section in one run. What a request costs beside other filters
is in [BENCHMARKS.md](BENCHMARKS.md). Everything runs on one machine at once: Envoy, control plane and clients.
";

/// One section, measured on a machine that had this load when it began.
pub(super) fn section(load: &str, section: &Section) -> Result<String> {
    let Section { title, method, rows } = section;
    let mut text = format!("{HEADING}{title}\n\n{method}\n\n");
    writeln!(
        text,
        "Machine: {}. When it began, {load} threads of others ran or wanted to run (load of the last minute); what they took \
         makes times longer, those at 99 % most of all.\n",
        machine()
    )?;
    writeln!(text, "| | measured | asked for |\n|---|---|---|")?;
    for row in rows {
        writeln!(text, "| {} | {} | {} |", row.what, row.measured, row.bound)?;
    }
    Ok(text)
}

/// The report with this section in place of the one with the same heading, or behind all others.
pub(super) fn with_section(report: &str, section: &str) -> String {
    let heading = |text: &str| text.trim_start().lines().next().unwrap_or_default().to_owned();
    let mut sections: Vec<String> =
        report.split(HEADING).skip(1).map(|section| format!("{HEADING}{section}")).collect();
    match sections.iter_mut().find(|known| heading(known) == heading(section)) {
        Some(known) => section.clone_into(known),
        None => sections.push(section.to_owned()),
    }
    format!("{HEAD}{}", sections.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_its_own_place() {
        let mut report = String::new();
        for section in ["\n## One\n\n1\n", "\n## Two\n\n2\n", "\n## One\n\n3\n"] {
            report = with_section(&report, section);
        }
        assert_eq!(report, format!("{HEAD}\n## One\n\n3\n\n## Two\n\n2\n"));
    }
}
