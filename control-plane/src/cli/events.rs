//! `omf events`.

use clap::Args;
use serde_json::Value;

use super::args::Page;
use super::client::Client;
use super::output::{Column, Output, field};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf events --subject ci\n  \
    omf events --action key.revoked --from 2026-03-01T00:00:00Z\n  \
    omf events --actor review --json")]
pub(super) struct Events {
    /// What was done, such as key.rotated.
    #[arg(long)]
    action: Option<String>,
    /// The name of the token with which it was done.
    #[arg(long)]
    actor: Option<String>,
    /// Name or identifier of the key or token, or the number of the policy, that it was done to.
    #[arg(long)]
    subject: Option<String>,
    /// The earliest time, such as 2026-03-01T00:00:00Z.
    #[arg(long)]
    from: Option<String>,
    /// The time before which it was done.
    #[arg(long)]
    to: Option<String>,
    #[command(flatten)]
    page: Page,
}

const COLUMNS: &[Column] = &[
    ("TIME", |event| field(event, "time")),
    ("ACTOR", |event| of(event, "actor")),
    ("ACTION", |event| field(event, "action")),
    ("SUBJECT", |event| of(event, "subject")),
    ("BEFORE", |event| state(event, "before")),
    ("AFTER", |event| state(event, "after")),
];

pub(super) fn run(args: Events, client: &Client, output: Output) -> anyhow::Result<()> {
    let query = [
        ("action", args.action),
        ("actor", args.actor),
        ("subject", args.subject),
        ("from", args.from),
        ("to", args.to),
        args.page.limit(),
        args.page.cursor(),
    ];
    output.list(&client.list("/v1/events", &query)?, "events", COLUMNS)
}

fn of(event: &Value, name: &str) -> String {
    field(event.get(name).unwrap_or(&Value::Null), "name")
}

/// The fields of a state on one line; of versions only what distinguishes them.
fn state(event: &Value, name: &str) -> String {
    let Some(state) = event.get(name) else { return "-".to_owned() };
    let names =
        state.as_object().map(|fields| fields.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let text = |name: &String| match name.as_str() {
        "versions" => versions(state),
        "rate_limit" => format!("rate_limit={}", limits(state)),
        _ => format!("{name}={}", field(state, name)),
    };
    if names.is_empty() { "-".to_owned() } else { names.iter().map(text).collect::<Vec<_>>().join(" ") }
}

fn versions(state: &Value) -> String {
    let versions = state.get("versions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let version = |version: &Value| {
        let end = match (version.get("revoked_at"), version.get("expires_at")) {
            (Some(Value::String(_)), _) => " revoked".to_owned(),
            (_, Some(Value::String(end))) => format!(" until {end}"),
            _ => String::new(),
        };
        format!("version {}{end}", field(version, "id"))
    };
    versions.iter().map(version).collect::<Vec<_>>().join(", ")
}

fn limits(state: &Value) -> String {
    let limits = state.get("rate_limit").and_then(Value::as_object).cloned().unwrap_or_default();
    let stated = limits.iter().filter(|(_, limit)| !limit.is_null());
    stated.map(|(name, limit)| format!("{name}:{limit}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_state_is_one_short_line() {
        let version = |id: u16, end: Value, revoked: Value| json!({"id": id, "hint": "abcd", "expires_at": end, "revoked_at": revoked});
        let event = json!({
            "before": null,
            "after": {"rate_limit": {"per_minute": 5, "per_hour": null, "burst": 9},
                      "versions": [version(1, json!("T"), json!(null)), version(2, json!(null), json!("T")), version(3, json!(null), json!(null))]},
        });
        assert_eq!(state(&event, "before"), "-");
        assert_eq!(
            state(&event, "after"),
            "rate_limit=burst:9,per_minute:5 version 1 until T, version 2 revoked, version 3"
        );
    }
}
