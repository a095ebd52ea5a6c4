//! The report: `docs/operations/benchmarks-scale.md`, with a section for each part. A new measurement of a part replaces
//! its section.

use std::fmt::Write as _;

use anyhow::Result;

use super::Section;
use crate::report::machine;

const HEADING: &str = "\n## ";
const HEAD: &str = "# Benchmarks at scale

This page shows the cost of many keys and many gateways. `make bench` and `make bench BENCH=scale` write it. Each section
is the result of one run. [Benchmarks](benchmarks.md) compares the cost of a request with that of other filters. Envoy,
the control plane and the clients run on the same machine.
";

/// One section, and the load average of the machine when the measurement began.
pub(super) fn section(load: &str, section: &Section) -> Result<String> {
    let Section { title, method, rows } = section;
    let mut text = format!("{HEADING}{title}\n\n{method}\n\n");
    writeln!(
        text,
        "Machine: {}. Other programs were running: when the measurement began, the load average over the last minute was \
         {load}. This load increases the times, most of all the p99.\n",
        machine()
    )?;
    writeln!(text, "| | measured | target |\n|---|---|---|")?;
    for row in rows {
        writeln!(text, "| {} | {} | {} |", row.what, row.measured, row.bound)?;
    }
    Ok(text)
}

/// The report with this section in place of the one with the same heading, or at the end.
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
    use super::super::{changes, control_plane, flat, fleet};
    use super::*;

    /// The published page was written by earlier runs. Its text must be the text that the next run writes.
    #[test]
    fn published_page_has_the_text_of_this_program() {
        let path = omniflow_harness::paths::root().join("docs/operations/benchmarks-scale.md");
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page.starts_with(HEAD), "the introduction differs");
        for (title, method) in [
            (flat::TITLE, flat::method()),
            (changes::TITLE, changes::method()),
            (fleet::TITLE, fleet::method()),
            (control_plane::TITLE, control_plane::method()),
        ] {
            assert!(page.contains(&format!("{HEADING}{title}\n\n{method}\n\n")), "{title} differs");
        }
    }

    #[test]
    fn a_section_takes_its_own_place() {
        let mut report = String::new();
        for section in ["\n## One\n\n1\n", "\n## Two\n\n2\n", "\n## One\n\n3\n"] {
            report = with_section(&report, section);
        }
        assert_eq!(report, format!("{HEAD}\n## One\n\n3\n\n## Two\n\n2\n"));
    }
}
