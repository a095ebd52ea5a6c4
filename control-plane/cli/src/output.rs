//! Output: tables for people, JSON for programs.

use std::fmt::Display;
use std::io::{ErrorKind, Write, stdout};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use omniflow_api_types::gateway::{EnforcementJson, GatewayEnforcementJson};
use omniflow_api_types::page::Page;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Output format.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// JSON instead of tables.
    pub json: bool,
}

/// A result: typed for tables, and as the JSON that `--json` prints.
#[derive(Debug)]
pub struct Answer<T> {
    /// The JSON, as the control plane sent it.
    pub(crate) json: Value,
    /// The typed result.
    pub(crate) body: T,
}

/// A column of a table: its heading, and the cell of a row.
pub type Column<T> = (&'static str, fn(&T) -> String);

/// Placeholder for a missing value.
pub(crate) const NONE: &str = "-";

const ENFORCEMENT_COLUMNS: &[Column<GatewayEnforcementJson>] = &[
    ("GATEWAY", |gateway| cell(&gateway.id)),
    ("ENFORCED", |gateway| cell(gateway.enforced)),
    ("WORKERS", |gateway| format!("{}/{}", gateway.enforced_workers, gateway.workers)),
    ("MS", |gateway| cell_or_none(gateway.ms)),
    ("LAST SEEN", |gateway| cell(gateway.last_seen_at)),
];

// === impl Answer ===

impl<T: DeserializeOwned> Answer<T> {
    /// Parses a response of the control plane.
    pub(crate) fn read(json: Value) -> serde_json::Result<Self> {
        Ok(Self { body: T::deserialize(&json)?, json })
    }
}

impl<T: Serialize> Answer<T> {
    /// A result computed by this process.
    ///
    /// # Errors
    ///
    /// Fails if the result cannot be serialized.
    pub fn new(body: T) -> serde_json::Result<Self> {
        Ok(Self { json: serde_json::to_value(&body)?, body })
    }
}

impl<T> Answer<T> {
    /// The typed result.
    pub fn body(&self) -> &T {
        &self.body
    }

    /// The result as JSON.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The same JSON with a converted body.
    pub(crate) fn map<U>(self, convert: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { json: self.json, body: convert(self.body) }
    }
}

// === impl Output ===

impl Output {
    /// Prints a result as JSON, or as text by `for_people`.
    ///
    /// # Errors
    ///
    /// Fails if standard output cannot be written; a closed pipe is not an error.
    pub fn print<T>(self, answer: &Answer<T>, for_people: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        if self.json { self.print_json(&answer.json) } else { self.print_text(&for_people(&answer.body)) }
    }

    /// Prints the result of a change like [`Output::print`], with a warning about gateways that cannot confirm it.
    pub(crate) fn print_change<T>(
        self,
        answer: &Answer<T>,
        enforcement: Option<&EnforcementJson>,
        for_people: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        self.print(answer, for_people)?;
        if let Some(warning) = enforcement.and_then(silence_warning) {
            eprintln!("{warning}");
        }
        Ok(())
    }

    /// Prints indented JSON.
    pub(crate) fn print_json(self, json: &Value) -> anyhow::Result<()> {
        self.print_text(&escape_json(&serde_json::to_string_pretty(json)?))
    }

    /// Prints text with exactly one line end at its end.
    pub(crate) fn print_text(self, text: &str) -> anyhow::Result<()> {
        match writeln!(stdout(), "{}", text.trim_end()) {
            // The reader closed the pipe.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result?),
        }
    }

    /// Prints a list of `what`. The text form includes how to get the next page.
    pub(crate) fn list<T>(
        self,
        answer: &Answer<Page<T>>,
        what: &str,
        columns: &[Column<T>],
    ) -> anyhow::Result<()> {
        self.print(answer, |page| table(&page.items, columns))?;
        if self.json {
            return Ok(());
        }
        if answer.body.items.is_empty() {
            eprintln!("no {what}");
        }
        if let Some(cursor) = &answer.body.next_cursor {
            eprintln!("More results: --cursor {cursor}");
        }
        Ok(())
    }
}

/// A committed change that some gateways do not enforce yet.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the change is saved, but not every gateway enforces it yet")]
pub(crate) struct NotEnforced;

/// Fails if some gateways do not enforce a change that was waited for.
pub(crate) fn check_enforced(enforcement: Option<&EnforcementJson>) -> Result<(), NotEnforced> {
    if enforcement.is_some_and(|enforcement| !enforcement.complete) { Err(NotEnforced) } else { Ok(()) }
}

/// Reports on standard error which gateways enforce a change, if it was waited for. Standard output is for the result.
///
/// # Errors
///
/// Fails with [`NotEnforced`] if some gateways do not enforce the change.
pub(crate) fn report_enforcement(
    enforcement: Option<&EnforcementJson>,
    output: Output,
) -> anyhow::Result<()> {
    if let Some(enforcement) = enforcement.filter(|_| !output.json) {
        let enforcing = enforcement.gateways.iter().filter(|gateway| gateway.enforced).count();
        let all = enforcement.gateways.len();
        if all == 0 {
            eprintln!("No gateways are known.");
        } else {
            eprintln!("Enforced by {enforcing} of {}{}.", counted(all, "gateway"), slowest(enforcement));
        }
        if !enforcement.complete {
            eprintln!("{}", enforcement_table(enforcement).trim());
        }
    }
    if let Some(warning) = enforcement.and_then(silence_warning) {
        eprintln!("{warning}");
    }
    Ok(check_enforced(enforcement)?)
}

/// A number with its noun in the singular or plural, such as `1 call` or `2 calls`.
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let ending = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// A table of gateways and whether each enforces the change.
pub(crate) fn enforcement_table(enforcement: &EnforcementJson) -> String {
    format!("\n{}", table(&enforcement.gateways, ENFORCEMENT_COLUMNS))
}

/// The time until the slowest gateway enforced a change, such as ` after 3 ms`. Empty if it is unknown, as for an earlier
/// revocation.
pub(crate) fn slowest(enforcement: &EnforcementJson) -> String {
    let enforcing = enforcement.gateways.iter().filter(|gateway| gateway.enforced);
    enforcing.filter_map(|gateway| gateway.ms).max().map(|ms| format!(" after {ms} ms")).unwrap_or_default()
}

/// The warning about gateways that may serve and cannot confirm the change.
fn silence_warning(enforcement: &EnforcementJson) -> Option<String> {
    let cannot = enforcement.gateways.iter().filter(|one| !one.enforced && !one.state.is_live());
    let named: Vec<String> = cannot
        .map(|one| format!("{} ({}, last seen {})", cell(&one.id), one.state.describe(), one.last_seen_at))
        .collect();
    if named.is_empty() {
        return None;
    }
    Some(format!(
        "warning: if these gateways are still serving, they do not enforce the change: {}. Repair them, or use omf gateway remove to remove those that have ended.",
        named.join(", ")
    ))
}

/// Formats a table with a heading and one row per item.
pub fn table<T>(items: &[T], columns: &[Column<T>]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(heading, _)| *heading));
    for item in items {
        table.add_row(columns.iter().map(|(_, read)| read(item)));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Formats a table cell, without terminal control characters.
pub fn cell(value: impl Display) -> String {
    printable(&value.to_string())
}

/// Formats a table cell, or a dash for none.
pub(crate) fn cell_or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| NONE.to_owned(), cell)
}

/// Formats a comma-separated list, or a dash for none.
pub(crate) fn cell_of_list(values: impl IntoIterator<Item: Display>) -> String {
    let cells: Vec<String> = values.into_iter().map(cell).collect();
    if cells.is_empty() { NONE.to_owned() } else { cells.join(", ") }
}

/// Formats any JSON as a table cell: lists with commas, null as a dash.
pub(crate) fn cell_of_json(value: &Value) -> String {
    match value {
        Value::Null => NONE.to_owned(),
        Value::String(text) => printable(text),
        Value::Array(items) if items.is_empty() => NONE.to_owned(),
        Value::Array(items) => items.iter().map(cell_of_json).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Replaces control characters, so that text from clients cannot control the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if is_control(c) { '\u{fffd}' } else { c }).collect()
}

/// Replaces control characters in each line of a text, except tabs.
pub(crate) fn printable_lines(text: &str) -> String {
    let line = |line: &str| line.split('\t').map(printable).collect::<Vec<_>>().join("\t");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Whether a character moves the cursor, ends the line or changes the text direction (Unicode, UAX 9).
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes control characters in JSON that JSON itself does not require to escape.
pub(crate) fn escape_json(json: &str) -> String {
    json.chars().fold(String::with_capacity(json.len()), |mut text, c| {
        if c != '\n' && is_control(c) {
            // All of them are in the basic multilingual plane, so one escape is enough.
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_cannot_control_the_terminal() {
        let hostile = "a\u{1b}[31mb\u{9b}c\u{202e}d\u{2028}e\u{2066}f";
        assert_eq!(printable(hostile), "a\u{fffd}[31mb\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}f");
        let json = serde_json::to_string_pretty(&json!({"é": hostile})).unwrap();
        let escaped = escape_json(&json);
        assert!(escaped.chars().all(|c| c == '\n' || !is_control(c)), "{escaped:?}");
        assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap(), json!({"é": hostile}), "same content");
    }

    #[test]
    fn a_noun_agrees_with_its_number() {
        let counts = [0, 1, 2, 21].map(|number: u64| counted(number, "call"));
        assert_eq!(counts, ["0 calls", "1 call", "2 calls", "21 calls"]);
    }

    #[test]
    fn gateways_that_cannot_confirm_are_named_with_their_state() {
        let warning = |state: &str, enforced: bool| {
            let gateway = json!({"id": "edge/000000000000000a", "state": state, "enforced": enforced, "workers": 1,
                "enforced_workers": 0, "ms": null, "last_seen_at": "2027-01-15T08:00:00.000Z"});
            let json = json!({"complete": enforced, "version": 7, "gateways": [gateway]});
            silence_warning(&serde_json::from_value::<EnforcementJson>(json).unwrap())
        };
        for (state, expected) in [
            ("silent", "edge/000000000000000a (silent, last seen 2027-01-15T08:00:00.000Z)"),
            ("token_expired", "edge/000000000000000a (rejected: token expired, last seen"),
            ("token_revoked", "edge/000000000000000a (rejected: token revoked, last seen"),
        ] {
            let text = warning(state, false).unwrap();
            assert!(text.contains(expected), "{text}");
        }
        assert_eq!((warning("behind", false), warning("silent", true)), (None, None));
    }

    #[test]
    fn a_table_lines_up_and_holds_no_control_characters() {
        let items = [("ci", vec!["a", "b"]), ("x\u{1b}[2J", vec![])];
        let columns: [Column<(&str, Vec<&str>)>; 2] =
            [("NAME", |row| cell(row.0)), ("TAGS", |row| cell_of_list(&row.1))];
        assert_eq!(table(&items, &columns), " NAME   TAGS\n ci     a, b\n x\u{fffd}[2J  -\n");
    }
}
