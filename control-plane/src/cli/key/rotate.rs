//! `omf key rotate`.

use clap::Args;
use serde_json::{Value, json};

use super::create::Attempt;
use super::path;
use crate::cli::client::{Call, Client, Method};
use crate::cli::output::{Output, field};
use crate::cli::secret_output::{SecretArgs, whereabouts};
use omniflow_domain::key::{DEFAULT_OVERLAP, MAX_OVERLAP};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    SECRET=$(omf key rotate ci)\n  \
    omf key rotate ci --overlap 7d\n  \
    omf key rotate ci --overlap 0s\n  \
    omf key rotate ci --output-file - | gh secret set CI_KEY\n\n\
    An overlap prolongs nothing: a version that would have ended sooner still does. To end an older secret before\n\
    its overlap is over: omf key revoke ci --version 1 --wait 5s")]
pub(in crate::cli) struct Rotate {
    /// Name or identifier.
    key: String,
    #[arg(
        long,
        help = format!(
            "How long the older secrets are still accepted, from 0s to {}h [default: {}h]",
            MAX_OVERLAP.as_secs() / 3_600,
            DEFAULT_OVERLAP.as_secs() / 3_600
        )
    )]
    overlap: Option<String>,
    #[command(flatten)]
    secret: SecretArgs,
    #[command(flatten)]
    attempt: Attempt,
    /// Only if the key is still at this revision.
    #[arg(long)]
    if_match: Option<u64>,
}

pub(super) fn run(args: Rotate, client: &Client, output: Output) -> anyhow::Result<()> {
    let place = args.secret.open(output)?;
    let call = Call::new(Method::POST, &format!("{}/rotate", path(&args.key))).if_match(args.if_match);
    let call = args.attempt.of(call.json(&json!({"overlap": args.overlap})));
    let rotated = client.send(call, "secret")?;
    let key = rotated.get("key").cloned().unwrap_or_default();
    let file = place.deliver(rotated, output)?;
    if !output.json {
        eprintln!("{}", rotation_note(&key, &whereabouts(file.as_deref())));
    }
    Ok(())
}

/// What a person has to know who holds a new secret.
fn rotation_note(key: &Value, whereabouts: &str) -> String {
    let versions = key.get("versions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let Some((newest, older)) = versions.split_last() else { return String::new() };
    let until = match older.iter().filter(|version| version.get("revoked_at") == Some(&Value::Null)) {
        older if field(key, "status") == "rotating" => {
            // All times have one form, so that they sort as text.
            let end = older.map(|version| field(version, "expires_at")).max().unwrap_or_default();
            format!("The secrets before it are accepted until {end} at the latest.")
        }
        _ => "No secret before it is accepted any more.".to_owned(),
    };
    let (name, number) = (field(key, "name"), field(newest, "id"));
    format!("This is the secret of version {number} of {name}. {whereabouts} {until}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::key::describe;

    #[test]
    fn a_rotation_is_explained() {
        let version = |id: u16, ends: Option<&str>, revoked: Option<&str>| {
            json!({"id": id, "hint": "ab6M", "created_at": "2027-01-15T08:00:00.000Z", "expires_at": ends,
                   "revoked_at": revoked, "last_used_at": null})
        };
        let (soon, late) = (Some("2027-01-16T08:00:00.000Z"), Some("2027-01-17T08:00:00.000Z"));
        let versions =
            [version(1, soon, None), version(2, late, soon), version(3, soon, None), version(4, None, None)];
        let mut key = json!({"name": "ci", "status": "rotating", "versions": versions});
        let note = rotation_note(&key, "");
        assert!(note.starts_with("This is the secret of version 4 of ci."), "{note}");
        assert!(note.contains("accepted until 2027-01-16T08:00:00.000Z at the latest"), "{note}");
        key["status"] = json!("active");
        assert!(rotation_note(&key, "").contains("No secret before it"));
        for expected in ["Rotation due", "ENDS", "LAST USED", "HINT", "ab6M", "2027-01-17T08:00:00.000Z"] {
            assert!(describe(&key).contains(expected), "{}", describe(&key));
        }
    }
}
