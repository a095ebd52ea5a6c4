//! `omf key rotate`.

use clap::Args;
use omniflow_api_types::key::{CreatedKey, KeyJson, RotateKey};
use omniflow_api_types::values::{DEFAULT_OVERLAP, KeyStatus, MAX_OVERLAP};

use super::create::IdempotencyArgs;
use super::resource::path;
use crate::args::Wait;
use crate::client::{Call, Client, Method};
use crate::output::{Output, cell, cell_or_none, report_enforcement};
use crate::secret_output::{SecretArgs, secret_location};
use serde::Deserialize as _;

/// Arguments of `omf key rotate`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    SECRET=$(omf key rotate ci)\n  \
    omf key rotate ci --overlap 7d\n  \
    omf key rotate ci --overlap 0s\n  \
    omf key rotate ci --output-file - | gh secret set CI_KEY\n\n\
    The overlap does not extend a version that expires earlier. To revoke an older secret before its overlap ends:\n\
    omf key revoke ci --version 1 --wait 5s")]
pub struct Rotate {
    /// Name or ID of the key.
    key: String,
    #[arg(
        long,
        value_name = "DURATION",
        help = format!(
            "How long older secrets stay valid, from 0s to {}h [default: {}h]",
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
    /// Rotate only if the key still has this revision.
    #[arg(long, value_name = "REVISION")]
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
        let location = secret_location(file.as_deref());
        match CreatedKey::deserialize(&rotated.json) {
            Ok(answer) => eprintln!("{}", rotation_note(&answer.key, &location)),
            Err(error) => eprintln!("{location} The rest of the response could not be read: {error}."),
        }
    }
    report_enforcement(rotated.enforcement.as_ref(), output)
}

/// A note about the new secret and the older ones.
fn rotation_note(key: &KeyJson, location: &str) -> String {
    let Some((newest, older)) = key.versions.split_last() else { return String::new() };
    let until = match older.iter().filter(|version| version.revoked_at.is_none()) {
        older if key.status == KeyStatus::Rotating => {
            let end = cell_or_none(older.filter_map(|version| version.expires_at).max());
            format!("Older secrets are accepted until {end} at the latest.")
        }
        _ => "Older secrets are no longer accepted.".to_owned(),
    };
    let (name, number) = (cell(&key.name), newest.id);
    format!("Created version {number} of key {name}. {location} {until}")
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
        assert!(note.starts_with("Created version 4 of key ci."), "{note}");
        assert!(note.contains("accepted until 2027-01-16T08:00:00.000Z at the latest"), "{note}");
        key.status = KeyStatus::Active;
        assert!(rotation_note(&key, "").contains("no longer accepted"));
        for expected in ["Rotation due", "EXPIRES", "LAST USED", "HINT", "ab6M", "2027-01-17T08:00:00.000Z"] {
            assert!(describe(&key).contains(expected), "{}", describe(&key));
        }
    }
}
