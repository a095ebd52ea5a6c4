//! What is printed: tables for people, JSON for programs.

use std::io::{ErrorKind, Write, stdout};

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;

/// How results are printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    /// JSON instead of tables.
    pub(super) json: bool,
}

/// A column: its heading, and where its value is found.
pub(super) type Column = (&'static str, fn(&Value) -> String);

const ENFORCEMENT_COLUMNS: &[Column] = &[
    ("GATEWAY", |gateway| field(gateway, "id")),
    ("ENFORCED", |gateway| field(gateway, "enforced")),
    ("WORKERS", |gateway| format!("{}/{}", field(gateway, "enforced_workers"), field(gateway, "workers"))),
    ("MS", |gateway| field(gateway, "ms")),
    ("LAST SEEN", |gateway| field(gateway, "last_seen_at")),
];

impl Output {
    /// Prints one answer whole as JSON, or by `for_people`; and a warning if it tells of gateways that are silent.
    pub(super) fn print(
        self,
        value: &Value,
        for_people: impl FnOnce(&Value) -> String,
    ) -> anyhow::Result<()> {
        let text = if self.json { escaped(&serde_json::to_string_pretty(value)?) } else { for_people(value) };
        self.text(&text)?;
        if let Some(warning) = silence(value) {
            eprintln!("{warning}");
        }
        Ok(())
    }

    /// Prints text that ends with one end of line.
    pub(super) fn text(self, text: &str) -> anyhow::Result<()> {
        match writeln!(stdout(), "{}", text.trim_end()) {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result?),
        }
    }

    /// Prints a list of `what`, and for people how to see more of it.
    pub(super) fn list(self, value: &Value, what: &str, columns: &[Column]) -> anyhow::Result<()> {
        self.print(value, |value| table(items(value), columns))?;
        if self.json {
            return Ok(());
        }
        if items(value).is_empty() {
            eprintln!("no {what}");
        }
        if let Some(cursor) = value.get("next_cursor").and_then(Value::as_str) {
            eprintln!("There is more: --cursor {cursor}");
        }
        Ok(())
    }
}

/// A change that is made, and that some gateways do not enforce yet.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("done, but not every gateway enforces it yet")]
pub(super) struct NotEnforced;

/// Whether all gateways enforce the change that an answer tells of, where that was waited for.
pub(super) fn check_enforced(answer: &Value) -> anyhow::Result<()> {
    match answer.pointer("/enforcement/complete") {
        Some(Value::Bool(false)) => Err(NotEnforced.into()),
        _ => Ok(()),
    }
}

/// The gateways and what each enforces, where that was waited for.
pub(super) fn enforcement_table(answer: &Value) -> Option<String> {
    let gateways = answer.pointer("/enforcement/gateways")?.as_array()?;
    Some(format!("\n{}", table(gateways, ENFORCEMENT_COLUMNS)))
}

/// What there is to know of gateways for which an enforcement did not wait.
fn silence(answer: &Value) -> Option<String> {
    let silent = answer.pointer("/enforcement/silent")?.as_array().filter(|silent| !silent.is_empty())?;
    let named =
        silent.iter().map(|one| format!("{} (last seen {})", field(one, "id"), field(one, "last_seen_at")));
    let named = named.collect::<Vec<_>>().join(", ");
    Some(format!("warning: silent, so not waited for; if cut off, they do not enforce this: {named}"))
}

/// The items of a list.
pub(super) fn items(value: &Value) -> &[Value] {
    value.get("items").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A table with a heading, one row for each item.
pub(super) fn table(items: &[Value], columns: &[Column]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|(heading, _)| *heading));
    for item in items {
        table.add_row(columns.iter().map(|(_, read)| read(item)));
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// A field as text: lists with commas, nothing as a dash.
pub(super) fn field(value: &Value, name: &str) -> String {
    plain(value.get(name).unwrap_or(&Value::Null))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Text from callers must not steer the terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// Whether a character moves the cursor, ends the line or turns the direction of what follows (Unicode, UAX 9).
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON in which such characters are escaped, which they need not be.
pub(super) fn escaped(json: &str) -> String {
    json.chars().fold(String::with_capacity(json.len()), |mut text, c| {
        if c != '\n' && steers(c) {
            // All of them lie in the first plane, so one escape is enough.
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
    fn no_text_steers_the_terminal() {
        let hostile = "a\u{1b}[31mb\u{9b}c\u{202e}d\u{2028}e\u{2066}f";
        assert_eq!(printable(hostile), "a\u{fffd}[31mb\u{fffd}c\u{fffd}d\u{fffd}e\u{fffd}f");
        let json = serde_json::to_string_pretty(&json!({"é": hostile})).unwrap();
        let escaped = escaped(&json);
        assert!(escaped.chars().all(|c| c == '\n' || !steers(c)), "{escaped:?}");
        assert_eq!(
            serde_json::from_str::<Value>(&escaped).unwrap(),
            json!({"é": hostile}),
            "it says the same"
        );
    }

    #[test]
    fn silent_gateways_are_named() {
        let answer = json!({"enforcement": {"complete": true, "silent": [
            {"id": "edge/000000000000000a", "last_seen_at": "2027-01-15T08:00:00.000Z"}]}});
        let warning = silence(&answer).unwrap();
        assert!(warning.contains("edge/000000000000000a (last seen 2027-01-15T08:00:00.000Z)"), "{warning}");
        assert_eq!(silence(&json!({"enforcement": {"complete": true, "silent": []}})), None);
        assert_eq!(silence(&json!({"key": {}})), None);
    }

    #[test]
    fn a_table_lines_up_and_holds_no_control_characters() {
        let items = [json!({"name": "ci", "tags": ["a", "b"]}), json!({"name": "x\u{1b}[2J", "tags": []})];
        let columns: [Column; 2] = [("NAME", |v| field(v, "name")), ("TAGS", |v| field(v, "tags"))];
        assert_eq!(table(&items, &columns), " NAME   TAGS\n ci     a, b\n x\u{fffd}[2J  -\n");
    }
}
