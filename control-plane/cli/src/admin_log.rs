//! `omf admin-log`.

use clap::Args;
use omniflow_api_types::admin_event::AdminEventJson;
use serde_json::Value;

use super::args::PageArgs;
use super::client::Client;
use super::output::{Column, NONE, Output, cell, cell_of_json};

/// Arguments of `omf admin-log`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf admin-log --subject ci\n  \
    omf admin-log --action key.revoked --from 2026-03-01T00:00:00Z\n  \
    omf admin-log --principal review --json")]
pub struct AdminLog {
    /// Only events with this action, such as key.rotated.
    #[arg(long)]
    action: Option<String>,
    /// Only events caused by the token with this name.
    #[arg(long, value_name = "TOKEN")]
    principal: Option<String>,
    /// Only events for this subject: a key, a token or a policy version.
    #[arg(long)]
    subject: Option<String>,
    /// Only events at or after this time, such as 2026-03-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only events before this time.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    #[command(flatten)]
    page: PageArgs,
}

const COLUMNS: &[Column<AdminEventJson>] = &[
    ("TIME", |event| cell(event.time)),
    ("PRINCIPAL", |event| cell(&event.principal.name)),
    ("ACTION", |event| cell(&event.action)),
    ("SUBJECT", |event| cell(&event.subject.name)),
    ("BEFORE", |event| state(event.before.as_ref())),
    ("AFTER", |event| state(event.after.as_ref())),
];

pub(crate) fn run(args: AdminLog, client: &Client, output: Output) -> anyhow::Result<()> {
    let query = [
        ("action", args.action),
        ("principal", args.principal),
        ("subject", args.subject),
        ("from", args.from),
        ("to", args.to),
        args.page.limit(),
        args.page.cursor(),
    ];
    output.list(&client.list("/v1/admin-log", &query)?, "events", COLUMNS)
}

/// Formats a state on one line, with versions shortened. A state is a free-form object whose fields depend on the action.
fn state(state: Option<&Value>) -> String {
    let fields = state.and_then(Value::as_object).into_iter().flatten();
    let fields = fields.map(|(name, value)| match name.as_str() {
        "versions" => versions(value),
        "rate_limit" => format!("rate_limit={}", limits(value)),
        _ => format!("{name}={}", cell_of_json(value)),
    });
    let fields: Vec<String> = fields.collect();
    if fields.is_empty() { NONE.to_owned() } else { fields.join(" ") }
}

fn versions(versions: &Value) -> String {
    let version = |version: &Value| {
        let end = match (version.get("revoked_at"), version.get("expires_at")) {
            (Some(Value::String(_)), _) => " revoked".to_owned(),
            (_, Some(Value::String(end))) => format!(" until {}", cell(end)),
            _ => String::new(),
        };
        format!("version {}{end}", version.get("id").map(cell_of_json).unwrap_or_default())
    };
    versions.as_array().into_iter().flatten().map(version).collect::<Vec<_>>().join(", ")
}

fn limits(limits: &Value) -> String {
    let stated = limits.as_object().into_iter().flatten().filter(|(_, limit)| !limit.is_null());
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
        assert_eq!(state(event.get("before")), "-");
        assert_eq!(
            state(event.get("after")),
            "rate_limit=burst:9,per_minute:5 version 1 until T, version 2 revoked, version 3"
        );
    }
}
