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

/// Length from which four known characters do not help to guess the rest of a key.
const MIN_LENGTH_FOR_HINT: usize = 20;

/// Arguments of `omf key import`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source").args(["digest", "secret_file"]).required(true)), after_help = "Examples:\n  \
    omf key import --name ci --environment live --scope contacts:read --digest $(printf %s \"$KEY\" | sha256sum | cut -c-64)\n  \
    vault kv get -field=key secret/ci | omf key import --name ci --environment live --scope contacts:read --secret-file -\n\n\
    Clients keep using the key they have. A key of any format is accepted, up to 512 bytes and without a comma, if the\n\
    policy contains \"imported_keys\": true. Otherwise, gateways accept only keys of this installation. To set it, run\n\
    omf policy show --toml > policy.toml, add imported_keys = true as the first line of the file, and run\n\
    omf policy set policy.toml --wait 5s. After a rotation, the new secret has the format of this installation.")]
pub struct Import {
    #[command(flatten)]
    settings: Settings,
    /// SHA-256 of the whole key, in 64 hexadecimal digits.
    #[arg(long, value_name = "SHA256")]
    digest: Option<String>,
    /// File with the key, or - for standard input.
    ///
    /// Its SHA-256 is computed locally; the key does not leave this machine.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<String>,
    /// Up to four characters of the key, to help recognize it.
    ///
    /// With --secret-file, defaults to the last four characters of the key, if the key is long enough.
    #[arg(long, value_name = "TEXT")]
    hint: Option<String>,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    idempotency: IdempotencyArgs,
}

/// The last characters of a key, if it is long enough.
fn hint(secret: &str) -> Option<String> {
    let start = secret.len().checked_sub(MAX_HINT_LENGTH).filter(|_| secret.len() >= MIN_LENGTH_FOR_HINT)?;
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
