//! `omf key rotate`.

use clap::Args;
use omniflow_api_types::key::{CreatedKey, KeyJson, RotateKey};
use omniflow_api_types::values::{DEFAULT_OVERLAP, KeyStatus, MAX_OVERLAP};

use super::create::IdempotencyArgs;
use super::resource::path;
use crate::args::Wait;
use crate::client::{Call, Client, Method};
use crate::output::{Output, cell, cell_or_none, report_enforcement};
use crate::secret_output::{SecretArgs, whereabouts};
use serde::Deserialize as _;

/// Arguments of `omf key rotate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    SECRET=$(omf key rotate ci)\n  \
    omf key rotate ci --overlap 7d\n  \
    omf key rotate ci --overlap 0s\n  \
    omf key rotate ci --output-file - | gh secret set CI_KEY\n\n\
    An overlap prolongs nothing: a version that would have ended sooner still does. To end an older secret before\n\
    its overlap is over: omf key revoke ci --version 1 --wait 5s")]
pub struct Rotate {
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
    wait: Wait,
    #[command(flatten)]
    idempotency: IdempotencyArgs,
    /// Only if the key is still at this revision.
    #[arg(long)]
    if_match: Option<u64>,
}

pub(super) fn run(args: Rotate, client: &Client, output: Output) -> anyhow::Result<()> {
    let place = args.secret.open(output)?;
    let call = Call::new(Method::POST, &format!("{}/rotate", path(&args.key))).if_match(args.if_match);
    let call = call.query(&[args.wait.parameter()]);
    let call = args.idempotency.apply(call.json(&RotateKey { overlap: args.overlap })?);
    let rotated = client.send_for_secret(call)?;
    let file = place.deliver(&rotated.secret, &rotated.json, output)?;
    if !output.json {
        let whereabouts = whereabouts(file.as_deref());
        match CreatedKey::deserialize(&rotated.json) {
            Ok(answer) => eprintln!("{}", rotation_note(&answer.key, &whereabouts)),
            Err(error) => eprintln!("{whereabouts} The rest of the answer cannot be read ({error})."),
        }
    }
    report_enforcement(rotated.enforcement.as_ref(), output)
}

/// What a person has to know who holds a new secret.
fn rotation_note(key: &KeyJson, whereabouts: &str) -> String {
    let Some((newest, older)) = key.versions.split_last() else { return String::new() };
    let until = match older.iter().filter(|version| version.revoked_at.is_none()) {
        older if key.status == KeyStatus::Rotating => {
            let end = cell_or_none(older.filter_map(|version| version.expires_at).max());
            format!("The secrets before it are accepted until {end} at the latest.")
        }
        _ => "No secret before it is accepted any more.".to_owned(),
    };
    let (name, number) = (cell(&key.name), newest.id);
    format!("This is the secret of version {number} of {name}. {whereabouts} {until}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::key::resource::describe;
    use crate::testing::key;

    #[test]
    fn a_rotation_is_explained() {
        let version = |id: u16, ends: Option<&str>, revoked: Option<&str>| {
            json!({"id": id, "hint": "ab6M", "created_at": "2027-01-15T08:00:00.000Z", "expires_at": ends,
                   "revoked_at": revoked, "last_used_at": null})
        };
        let (soon, late) = (Some("2027-01-16T08:00:00.000Z"), Some("2027-01-17T08:00:00.000Z"));
        let versions =
            [version(1, soon, None), version(2, late, soon), version(3, soon, None), version(4, None, None)];
        let mut key: KeyJson =
            serde_json::from_value(key(json!({"status": "rotating", "versions": versions}))).unwrap();
        let note = rotation_note(&key, "");
        assert!(note.starts_with("This is the secret of version 4 of ci."), "{note}");
        assert!(note.contains("accepted until 2027-01-16T08:00:00.000Z at the latest"), "{note}");
        key.status = KeyStatus::Active;
        assert!(rotation_note(&key, "").contains("No secret before it"));
        for expected in ["Rotation due", "ENDS", "LAST USED", "HINT", "ab6M", "2027-01-17T08:00:00.000Z"] {
            assert!(describe(&key).contains(expected), "{}", describe(&key));
        }
    }
}
