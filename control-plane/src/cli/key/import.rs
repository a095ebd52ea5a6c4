//! `omf key import`.

use clap::{ArgGroup, Args};
use omniflow_policy::digest::Digest;
use serde_json::{Value, json};

use super::create::{Attempt, Settings};
use super::describe;
use crate::cli::client::{Call, Client, Method};
use crate::cli::input;
use crate::cli::output::Output;

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source").args(["digest", "secret_file"]).required(true)), after_help = "Examples:\n  \
    omf key import --name ci --environment live --scope contacts:read --digest $(printf %s \"$KEY\" | sha256sum | cut -c-64)\n  \
    vault kv get -field=key secret/ci | omf key import --name ci --environment live --scope contacts:read --secret-file -\n\n\
    The caller goes on with the key that it has. It may have any form of up to 512 bytes without a comma, provided that\n\
    the policy has \"imported_keys\": true; otherwise gateways look up keys of this installation only. Rotate it, and the\n\
    new secret has the form of this installation.")]
pub(in crate::cli) struct Import {
    #[command(flatten)]
    settings: Settings,
    /// The SHA-256 of the whole key in 64 hexadecimal digits.
    #[arg(long)]
    digest: Option<String>,
    /// A file with the key itself, - for standard input. Its digest is computed here; the key does not leave this
    /// machine.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<String>,
    /// Up to four characters of the key, by which a person tells it from others.
    #[arg(long)]
    hint: Option<String>,
    #[command(flatten)]
    attempt: Attempt,
}

pub(super) fn run(args: Import, client: &Client, output: Output) -> anyhow::Result<()> {
    let digest = match args.secret_file {
        Some(file) => Some(Digest::of(input::secret(&file)?.as_bytes()).to_hex()),
        None => args.digest,
    };
    let mut request = args.settings.request();
    if let Some(request) = request.as_object_mut() {
        request.insert("digest".to_owned(), json!(digest));
        request.insert("hint".to_owned(), json!(args.hint));
    }
    let call = Call::new(Method::POST, "/v1/keys").json(&request);
    let answer = client.send(args.attempt.of(call), "key")?;
    output.print(&answer, |answer| describe(answer.get("key").unwrap_or(&Value::Null)))
}
