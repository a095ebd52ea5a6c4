//! `omf policy diff`.

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use super::{DocumentArgs, obstacles};
use crate::cli::client::{Client, Method};
use crate::cli::output::{Output, field};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf policy diff policy.toml         # what it would change; it is checked as if it were set\n  \
    omf policy diff --from 3            # what has changed since version 3\n  \
    omf policy diff --from 2 --to 3")]
pub(in crate::cli) struct Diff {
    #[command(flatten)]
    draft: Option<DocumentArgs>,
    /// The version before [default: the one in force].
    #[arg(long, conflicts_with = "file")]
    from: Option<u64>,
    /// The version after [default: the one in force].
    #[arg(long, conflicts_with = "file")]
    to: Option<u64>,
}

pub(super) fn run(args: Diff, client: &Client, output: Output) -> anyhow::Result<()> {
    let diff = match args.draft {
        Some(draft) => {
            let call = draft.read()?.call(Method::POST, "/v1/policy/diff");
            client.send(call, "scopes").context(draft.name())?
        }
        None => {
            let number = |version: Option<u64>| version.map(|version| version.to_string());
            let query = [("from", number(args.from)), ("to", number(args.to))];
            client.get("/v1/policy/diff", &query, "scopes")?
        }
    };
    output.print(&diff, describe)
}

/// One line for each difference: `+` for what is new, `-` for what is gone, `~` for what is otherwise.
fn describe(diff: &Value) -> String {
    let list = |pointer: &str| diff.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default();
    let change = |value: &Value, name: &str| {
        let change = value.get(name).unwrap_or(&Value::Null);
        format!("{} -> {}", field(change, "before"), field(change, "after"))
    };
    let route = |route: &Value| format!("route {} {}", field(route, "method"), field(route, "path"));
    let mut lines = Vec::new();
    if diff.get("imported_keys").is_some() {
        lines.push(format!("~ imported_keys: {}", change(diff, "imported_keys")));
    }
    if let Some(payloads) = diff.get("payloads") {
        let told = |name: &str| payloads.get(name).map(ToString::to_string).unwrap_or_default();
        lines.push(format!("~ payloads: {} -> {}", told("before"), told("after")));
    }
    for (sign, list) in [('-', list("/scopes/removed")), ('+', list("/scopes/added"))] {
        lines.extend(list.iter().map(|scope| format!("{sign} scope {}", field(scope, "name"))));
    }
    for scope in list("/scopes/changed") {
        lines.push(format!("~ scope {}: {}", field(&scope, "name"), change(&scope, "description")));
    }
    for (sign, list) in [('-', list("/routes/removed")), ('+', list("/routes/added"))] {
        lines.extend(list.iter().map(|one| format!("{sign} {} ({})", route(one), field(one, "scope"))));
    }
    for one in list("/routes/changed") {
        if one.get("scope").is_some() {
            lines.push(format!("~ {}: {}", route(&one), change(&one, "scope")));
        }
        if one.get("payload").is_some() {
            lines.push(format!("~ {}: payload {}", route(&one), change(&one, "payload")));
        }
    }
    if lines.is_empty() {
        lines.push("No difference.".to_owned());
    }
    lines.join("\n") + "\n" + &obstacles(diff)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_difference_is_a_line() {
        let route = |path: &str, scope: Value| json!({"path": path, "method": "read", "scope": scope});
        let diff = json!({
            "imported_keys": {"before": false, "after": true},
            "scopes": {
                "added": [{"name": "a:b", "description": ""}], "removed": [],
                "changed": [{"name": "c:d", "description": {"before": "x", "after": "y"}}],
            },
            "routes": {
                "added": [], "removed": [route("/x", json!("a:b"))],
                "changed": [
                    route("/y", json!({"before": "a:b", "after": "c:d"})),
                    {"path": "/z", "method": "read", "payload": {"before": true, "after": false}},
                ],
            },
            "payloads": {"before": {"max_bytes": 65_536}, "after": {"max_bytes": 0}},
        });
        let expected = "~ imported_keys: false -> true\n~ payloads: {\"max_bytes\":65536} -> {\"max_bytes\":0}\n\
                        + scope a:b\n~ scope c:d: x -> y\n- route read /x (a:b)\n\
                        ~ route read /y: a:b -> c:d\n~ route read /z: payload true -> false\n";
        assert_eq!(describe(&diff), expected);
        assert_eq!(describe(&json!({"scopes": {}, "routes": {}})), "No difference.\n");
    }
}
