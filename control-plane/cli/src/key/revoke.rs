//! `omf key revoke`.

use clap::Args;
use omniflow_api_types::key::RevokedKey;
use omniflow_api_types::values::UnixMillis;

use super::resource::{describe, path};
use crate::args::Wait;
use crate::client::{Call, Client, Method};
use crate::clock;
use crate::output::{Answer, Output, cell, check_enforced, counted, enforcement_table, slowest};

/// Arguments of `omf key revoke`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  omf key revoke ci --wait 5s\n  omf key revoke ci --version 1")]
pub struct Revoke {
    /// Name or ID of the key.
    key: String,
    /// Revoke only this version.
    #[arg(long)]
    version: Option<u16>,
    #[command(flatten)]
    wait: Wait,
    /// Revoke only if the key still has this revision.
    #[arg(long, value_name = "REVISION")]
    if_match: Option<u64>,
}

pub(super) fn run(args: Revoke, client: &Client, output: Output) -> anyhow::Result<()> {
    let key = path(&args.key);
    let path = match args.version {
        Some(version) => format!("{key}/versions/{version}/revoke"),
        None => format!("{key}/revoke"),
    };
    let call = Call::new(Method::POST, &path).query(&[args.wait.parameter()]).if_match(args.if_match);
    let answer: Answer<RevokedKey> = client.send(call)?;
    let enforcement = answer.body.enforcement.as_ref();
    output.print_change(&answer, enforcement, |revoked| {
        let mut text = describe_outcome(revoked, args.version, clock::now()) + "\n";
        text.push_str(&describe(&revoked.key));
        text.push_str(&enforcement.map(enforcement_table).unwrap_or_default());
        text
    })?;
    Ok(check_enforced(enforcement)?)
}

/// The outcome of a revocation, and the gateways that do not enforce it yet.
fn describe_outcome(revoked: &RevokedKey, version: Option<u16>, now: UnixMillis) -> String {
    let name = cell(&revoked.key.name);
    let outcome = match version {
        Some(version) => format!("Version {version} of {name} is revoked"),
        None => format!("{name} is revoked"),
    };
    let Some(enforcement) = &revoked.enforcement else { return outcome + ".\n" };
    if enforcement.gateways.is_empty() {
        return outcome + "; no gateways are known.\n";
    }
    let (enforcing, others): (Vec<_>, Vec<_>) =
        enforcement.gateways.iter().partition(|gateway| gateway.enforced);
    let (number, all, after) =
        (enforcing.len(), counted(enforcement.gateways.len(), "gateway"), slowest(enforcement));
    let mut text = format!("{outcome}; enforced by {number} of {all}{after}.\n");
    for gateway in others {
        let seconds = now.0.saturating_sub(gateway.last_seen_at.0.0) / 1_000;
        let (id, state) = (cell(&gateway.id), gateway.state.describe());
        text.push_str(&format!("{id} is {state}, last seen {seconds} s ago\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use omniflow_api_types::values::parse_time;
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::key;

    #[test]
    fn a_revocation_begins_with_its_outcome() {
        let gateway = |id: &str, enforced: bool, ms: Option<u64>| json!({"id": id, "state": if enforced { "in_step" } else { "behind" }, "enforced": enforced, "ms": ms, "workers": 1, "enforced_workers": u8::from(enforced), "last_seen_at": "2027-01-15T07:59:58.000Z"});
        let now = parse_time("2027-01-15T08:00:00.500Z").unwrap();
        let said = |version, gateways: Value| {
            let enforcement = json!({"complete": false, "version": 7, "gateways": gateways});
            let answer = json!({"key": key(json!({"name": "crm-sync"})), "enforcement": enforcement});
            describe_outcome(&serde_json::from_value(answer).unwrap(), version, now)
        };
        assert_eq!(
            said(None, json!([gateway("edge-1/a", true, Some(1))])),
            "crm-sync is revoked; enforced by 1 of 1 gateway after 1 ms.\n"
        );
        let three = json!([
            gateway("a", true, Some(3)),
            gateway("edge-1/7d6e", false, None),
            gateway("b", true, Some(9))
        ]);
        assert_eq!(
            said(Some(2), three),
            "Version 2 of crm-sync is revoked; enforced by 2 of 3 gateways after 9 ms.\n\
             edge-1/7d6e is behind, last seen 2 s ago\n"
        );
        let again = said(None, json!([gateway("a", true, None), gateway("b", true, None)]));
        assert_eq!(again, "crm-sync is revoked; enforced by 2 of 2 gateways.\n");
        assert_eq!(said(None, json!([])), "crm-sync is revoked; no gateways are known.\n");
        let without = serde_json::from_value(json!({"key": key(json!({"name": "crm-sync"}))})).unwrap();
        assert_eq!(describe_outcome(&without, None, now), "crm-sync is revoked.\n");
    }
}
