//! `omf key import`.

use clap::{ArgGroup, Args};
use omniflow_api_types::key::{CreateKey, CreatedKey};
use omniflow_api_types::values::{Digest, MAX_HINT_LENGTH};

use super::create::{IdempotencyArgs, Settings};
use super::resource::describe;
use crate::args::Wait;
use crate::client::{Call, Client, Method};
use crate::input;
use crate::output::{Answer, Output, report_enforcement};

/// Of a key with so many characters, four that are known do not help anybody to guess the others.
const LONG_ENOUGH: usize = 20;

/// Arguments of `omf key import`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source").args(["digest", "secret_file"]).required(true)), after_help = "Examples:\n  \
    omf key import --name ci --environment live --scope contacts:read --digest $(printf %s \"$KEY\" | sha256sum | cut -c-64)\n  \
    vault kv get -field=key secret/ci | omf key import --name ci --environment live --scope contacts:read --secret-file -\n\n\
    Clients keep using the key they have. It may have any form of up to 512 bytes without a comma, provided that\n\
    the policy has \"imported_keys\": true: omf policy show --toml > policy.toml, write imported_keys = true as its first line,\n\
    omf policy set policy.toml --wait 5s. Otherwise gateways look up keys of this installation only. Rotate it, and the\n\
    new secret has the form of this installation.")]
pub struct Import {
    #[command(flatten)]
    settings: Settings,
    /// The SHA-256 of the whole key in 64 hexadecimal digits.
    #[arg(long)]
    digest: Option<String>,
    /// A file with the key itself, - for standard input. Its digest is computed here; the key does not leave this
    /// machine.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<String>,
    /// Up to four characters of the key, by which a person tells it from others [default with --secret-file: the last
    /// four].
    #[arg(long)]
    hint: Option<String>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    idempotency: IdempotencyArgs,
}

/// The last characters of a key that is long enough to spare them.
fn hint(secret: &str) -> Option<String> {
    let start = secret.len().checked_sub(MAX_HINT_LENGTH).filter(|_| secret.len() >= LONG_ENOUGH)?;
    secret.get(start..).map(str::to_owned)
}

pub(super) fn run(args: Import, client: &Client, output: Output) -> anyhow::Result<()> {
    let (digest, own_hint) = match args.secret_file {
        Some(file) => {
            let secret = input::secret(&file)?;
            (Some(Digest::of(secret.as_bytes()).to_hex()), hint(&secret))
        }
        None => (args.digest, None),
    };
    let request = CreateKey { digest, hint: args.hint.or(own_hint), ..args.settings.request() };
    let call = Call::new(Method::POST, "/v1/keys").query(&[args.wait.parameter()]).json(&request)?;
    let answer: Answer<CreatedKey> = client.send(args.idempotency.apply(call))?;
    output.print(&answer, |answer| describe(&answer.key))?;
    report_enforcement(answer.body.enforcement.as_ref(), output)
}
