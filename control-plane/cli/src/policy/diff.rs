//! `omf policy diff`.

use std::fmt::Display;

use anyhow::Context;
use clap::Args;
use omniflow_api_types::policy::PolicyDiffJson;
use omniflow_api_types::values::{Change, ChangedRoute};

use super::document::{DocumentArgs, json_text, obstacles};
use crate::client::{Client, Method};
use crate::output::{Answer, Output, cell, cell_of_list};

/// Arguments of `omf policy diff`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf policy diff policy.toml         # changes in a draft, which is also validated\n  \
    omf policy diff --from 3            # changes since version 3\n  \
    omf policy diff --from 2 --to 3")]
pub struct Diff {
    #[command(flatten)]
    draft: Option<DocumentArgs>,
    /// Older version [default: the effective version].
    #[arg(long, value_name = "VERSION", conflicts_with = "file")]
    from: Option<u64>,
    /// Newer version [default: the effective version].
    #[arg(long, value_name = "VERSION", conflicts_with = "file")]
    to: Option<u64>,
}

pub(super) fn run(args: Diff, client: &Client, output: Output) -> anyhow::Result<()> {
    let diff: Answer<PolicyDiffJson> = match args.draft {
        Some(draft) => {
            let call = draft.read()?.call(Method::POST, "/v1/policy/diff");
            client.send(call).context(draft.name())?
        }
        None => {
            let number = |version: Option<u64>| version.map(|version| version.to_string());
            let query = [("from", number(args.from)), ("to", number(args.to))];
            client.get("/v1/policy/diff", &query)?
        }
    };
    output.print(&diff, describe)
}

/// One line per difference: `+` added, `-` removed, `~` changed.
fn describe(diff: &PolicyDiffJson) -> String {
    let PolicyDiffJson { imported_keys, payloads, scopes, routes, blocked_by, .. } = diff;
    let mut lines = Vec::new();
    if let Some(imported_keys) = imported_keys {
        lines.push(format!("~ imported_keys: {}", change(imported_keys)));
    }
    if let Some(Change { before, after }) = payloads {
        lines.push(format!("~ payloads: {} -> {}", json_text(before), json_text(after)));
    }
    for (sign, list) in [('-', &scopes.removed), ('+', &scopes.added)] {
        lines.extend(list.iter().map(|scope| format!("{sign} scope {}", cell(&scope.name))));
    }
    for scope in &scopes.changed {
        lines.push(format!("~ scope {}: {}", cell(&scope.name), change(&scope.description)));
    }
    for (sign, list) in [('-', &routes.removed), ('+', &routes.added)] {
        lines.extend(list.iter().map(|one| {
            let redacted = match one.redact.as_slice() {
                [] => String::new(),
                names => format!(", redact {}", cell_of_list(names)),
            };
            format!("{sign} route {} {} ({}{redacted})", cell(&one.method), cell(&one.path), cell(&one.scope))
        }));
    }
    lines.extend(routes.changed.iter().flat_map(describe_route));
    if lines.is_empty() {
        lines.push("No differences.".to_owned());
    }
    lines.join("\n") + "\n" + &obstacles(blocked_by)
}

fn describe_route(changed: &ChangedRoute) -> impl Iterator<Item = String> {
    let route = format!("route {} {}", cell(&changed.method), cell(&changed.path));
    let scope = changed.scope.as_ref().map(|scope| format!("~ {route}: {}", change(scope)));
    let payload = changed.payload.as_ref().map(|payload| format!("~ {route}: payload {}", change(payload)));
    let redact = changed.redact.as_ref().map(|Change { before, after }| {
        format!("~ {route}: redact {} -> {}", json_text(before), json_text(after))
    });
    scope.into_iter().chain(payload).chain(redact)
}

fn change(change: &Change<impl Display>) -> String {
    format!("{} -> {}", cell(&change.before), cell(&change.after))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_difference_is_a_line() {
        let route = |path: &str, scope: Value| json!({"path": path, "method": "read", "scope": scope});
        let diff = json!({
            "from": 1, "to": null, "blocked_by": [],
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
                    {"path": "/u/{x}", "method": "read", "redact": {"before": [], "after": ["x"]}},
                ],
            },
            "payloads": {"before": {"max_bytes": 65_536}, "after": {"max_bytes": 0}},
        });
        let expected = "~ imported_keys: false -> true\n~ payloads: {\"max_bytes\":65536} -> {\"max_bytes\":0}\n\
                        + scope a:b\n~ scope c:d: x -> y\n- route read /x (a:b)\n\
                        ~ route read /y: a:b -> c:d\n~ route read /z: payload true -> false\n\
                        ~ route read /u/{x}: redact [] -> [\"x\"]\n";
        let read = |diff: Value| serde_json::from_value::<PolicyDiffJson>(diff).unwrap();
        assert_eq!(describe(&read(diff)), expected);
        let none = json!({"added": [], "removed": [], "changed": []});
        let none = json!({"from": 1, "to": 2, "blocked_by": [], "scopes": none, "routes": none});
        assert_eq!(describe(&read(none)), "No differences.\n");
    }
}
