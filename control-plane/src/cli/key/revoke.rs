//! `omf key revoke`.

use clap::Args;
use omniflow_policy::time::UnixMillis;
use serde_json::Value;

use super::{describe, path};
use crate::cli::args::Wait;
use crate::cli::client::{Call, Client, Method};
use crate::cli::output::{Output, check_enforced, enforcement_table, field};
use omniflow_domain::clock::Clock;
use omniflow_domain::time::parse_time;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  omf key revoke ci --wait 5s\n  omf key revoke ci --version 1")]
pub(in crate::cli) struct Revoke {
    /// Name or identifier.
    key: String,
    /// Only this version.
    #[arg(long)]
    version: Option<u16>,
    #[command(flatten)]
    wait: Wait,
    /// Only if the key is still at this revision.
    #[arg(long)]
    if_match: Option<u64>,
}

pub(super) fn run(args: Revoke, client: &Client, output: Output) -> anyhow::Result<()> {
    let key = path(&args.key);
    let path = match args.version {
        Some(version) => format!("{key}/versions/{version}/revoke"),
        None => format!("{key}/revoke"),
    };
    let call = Call::new(Method::POST, &path).query(&[args.wait.parameter()]).if_match(args.if_match);
    let answer = client.send(call, "key")?;
    output.print(&answer, |answer| {
        let mut text = revocation_note(answer, args.version, Clock::system().now()) + "\n";
        text.push_str(&describe(answer.get("key").unwrap_or(&Value::Null)));
        text.push_str(&enforcement_table(answer).unwrap_or_default());
        text
    })?;
    check_enforced(&answer)
}

/// What was revoked and who enforces it, the outcome first.
fn revocation_note(answer: &Value, version: Option<u16>, now: UnixMillis) -> String {
    let name = field(answer.get("key").unwrap_or(&Value::Null), "name");
    let revoked = match version {
        Some(version) => format!("Version {version} of {name} is revoked"),
        None => format!("{name} is revoked"),
    };
    let Some(gateways) = answer.pointer("/enforcement/gateways").and_then(Value::as_array) else {
        return revoked + ".\n";
    };
    if gateways.is_empty() {
        return revoked + "; no gateway is live.\n";
    }
    let (enforcing, others): (Vec<_>, Vec<_>) =
        gateways.iter().partition(|gateway| gateway.get("enforced") == Some(&Value::Bool(true)));
    let (number, all) = (enforcing.len(), gateways.len());
    // Not told where it had been revoked before.
    let slowest = enforcing.iter().filter_map(|gateway| gateway.get("ms").and_then(Value::as_u64)).max();
    let after = slowest.map(|ms| format!(" after {ms} ms")).unwrap_or_default();
    let mut text = format!("{revoked}; {number} of {all} gateways enforce it{after}.\n");
    for gateway in others {
        let seen = field(gateway, "last_seen_at");
        let seen = match parse_time(&seen) {
            Some(time) => format!("{} s ago", now.0.saturating_sub(time.0) / 1_000),
            None => seen,
        };
        text.push_str(&format!("{} was last seen {seen}\n", field(gateway, "id")));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_revocation_begins_with_its_outcome() {
        let gateway = |id: &str, enforced: bool, ms: Option<u64>| json!({"id": id, "enforced": enforced, "ms": ms, "last_seen_at": "2027-01-15T07:59:58.000Z"});
        let now = parse_time("2027-01-15T08:00:00.500Z").unwrap();
        let said = |version, gateways: Value| {
            let answer = json!({"key": {"name": "crm-sync"}, "enforcement": {"gateways": gateways}});
            revocation_note(&answer, version, now)
        };
        assert_eq!(
            said(None, json!([gateway("edge-1/a", true, Some(1))])),
            "crm-sync is revoked; 1 of 1 gateways enforce it after 1 ms.\n"
        );
        let three = json!([
            gateway("a", true, Some(3)),
            gateway("edge-1/7d6e", false, None),
            gateway("b", true, Some(9))
        ]);
        assert_eq!(
            said(Some(2), three),
            "Version 2 of crm-sync is revoked; 2 of 3 gateways enforce it after 9 ms.\n\
             edge-1/7d6e was last seen 2 s ago\n"
        );
        let again = said(None, json!([gateway("a", true, None), gateway("b", true, None)]));
        assert_eq!(again, "crm-sync is revoked; 2 of 2 gateways enforce it.\n");
        assert_eq!(said(None, json!([])), "crm-sync is revoked; no gateway is live.\n");
        let without = json!({"key": {"name": "crm-sync"}});
        assert_eq!(revocation_note(&without, None, now), "crm-sync is revoked.\n");
    }
}
