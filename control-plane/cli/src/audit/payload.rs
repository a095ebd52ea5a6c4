//! `omf audit payload` and `omf audit rotate-payload-key`.

use clap::Args;
use omniflow_api_types::payload::{PayloadJson, RotatedPayloadKey};
use omniflow_api_types::values::PayloadState;

use crate::client::{Call, Client, Method};
use crate::output::{Answer, Output, cell, printable_lines};

#[derive(Debug, Args)]
#[command(
    after_help = "Requires a token with the auditor role, which an owner can create. Each read is recorded in the admin log.\n\n\
    Examples:\n  \
    omf audit --key ci --json | jq -r '.items[0].id'\n  \
    omf token create --name compliance --role auditor --output-file auditor-token\n  \
    omf audit payload 1207 --token-file auditor-token\n  \
    omf audit payload 1207 --json | jq -r .body"
)]
pub(super) struct Payload {
    /// ID of the record.
    record: u64,
}

pub(super) fn show(args: &Payload, client: &Client, output: Output) -> anyhow::Result<()> {
    let payload = client.get(&format!("/v1/audit/{}/payload", args.record), &[])?;
    output.print(&payload, describe)
}

pub(super) fn rotate_key(client: &Client, output: Output) -> anyhow::Result<()> {
    let call = Call::new(Method::POST, "/v1/audit/payload-key/rotate");
    let answer: Answer<RotatedPayloadKey> = client.send(call)?;
    output.print(&answer, describe_rotation)
}

fn describe_rotation(rotated: &RotatedPayloadKey) -> String {
    let RotatedPayloadKey { wrapping_key, data_keys, unreadable } = rotated;
    let mut text = format!(
        "Payloads are now encrypted with the key {}. Re-encrypted data keys: {data_keys}.\n",
        cell(wrapping_key)
    );
    text.push_str(&match unreadable {
        0 => "The previous key can no longer decrypt any data key.\n".to_owned(),
        unreadable => format!(
            "Data keys that cannot be decrypted: {unreadable}. Their key is not in the key file; the log of omf serve names \
             it. Add that key to the file on its own line, then restart omf serve.\n"
        ),
    });
    text
}

/// Formats the metadata of a payload, a blank line and the body.
fn describe(payload: &PayloadJson) -> String {
    let known = PayloadState::ALL.into_iter().find(|state| state.as_str() == payload.state);
    let state = match known {
        Some(PayloadState::Whole) => "whole".to_owned(),
        Some(PayloadState::Cut) => "truncated: the end is missing".to_owned(),
        Some(PayloadState::NoRoom) => "missing: the gateway's buffer was full".to_owned(),
        Some(PayloadState::NotRedactable) => {
            "without body: the fields to redact cannot be located in it".to_owned()
        }
        None => cell(&payload.state),
    };
    let mut text = String::new();
    for (name, value) in [
        ("query", cell(&payload.query)),
        ("content-type", cell(&payload.media_type)),
        ("content-encoding", cell(&payload.content_encoding)),
        ("payload", state),
        ("kept until", cell(payload.kept_until)),
    ] {
        text.push_str(&format!("{name:<17} {value}\n"));
    }
    let body = printable_lines(&payload.body);
    let encoding = if payload.body_encoding == "base64" { "(base64)\n" } else { "" };
    if body.is_empty() { text } else { format!("{text}\n{encoding}{body}\n") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rotation_reports_data_keys_that_cannot_be_decrypted() {
        let described = |unreadable: usize| {
            describe_rotation(&RotatedPayloadKey { wrapping_key: "0f".to_owned(), data_keys: 2, unreadable })
        };
        assert!(
            described(0).ends_with("data keys: 2.\nThe previous key can no longer decrypt any data key.\n")
        );
        assert!(described(3).contains("cannot be decrypted: 3."));
    }

    #[test]
    fn a_body_follows_the_metadata() {
        let payload = |body: &str, encoding: &str, state: &str| {
            let json = json!({"record_id": "1", "query": "a=1", "body": body, "body_encoding": encoding,
                "media_type": "text/plain", "content_encoding": "", "state": state,
                "kept_until": "2027-01-22T08:00:00.000Z"});
            serde_json::from_value::<PayloadJson>(json).unwrap()
        };
        let head = "query             a=1\ncontent-type      text/plain\ncontent-encoding  \n";
        let end = "kept until        2027-01-22T08:00:00.000Z\n";
        assert_eq!(
            describe(&payload("hello", "text", "whole")),
            format!("{head}payload           whole\n{end}\nhello\n")
        );
        assert_eq!(
            describe(&payload("/w==", "base64", "cut")),
            format!("{head}payload           truncated: the end is missing\n{end}\n(base64)\n/w==\n")
        );
        assert!(describe(&payload("", "text", "no_room")).ends_with(end));
        let typed = describe(&payload("{\r\n\t\"a\": \"\u{1b}[2J\"\n}\n", "text", "whole"));
        assert!(typed.ends_with("\n\n{\n\t\"a\": \"\u{fffd}[2J\"\n}\n"), "{typed:?}");
    }
}
