//! `omf key create`.

use clap::Args;
use omniflow_api_types::key::CreateKey;
use omniflow_api_types::values::{DEFAULT_PER_MINUTE, Environment, RateLimit};

use crate::args::{Wait, one_of};
use crate::client::{Call, Client, Method};
use crate::output::{Output, report_enforcement};
use crate::secret_output::{SecretArgs, whereabouts};

/// Arguments of `omf key create`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf key create --name ci --environment live --scope contacts:read --scope tickets:write\n  \
    omf key create --name ci --environment live --scope contacts:read --wait 5s\n  \
    omf key create --name partner --environment test --scope contacts:read --per-minute 600 --allow 203.0.113.0/24\n  \
    SECRET=$(omf key create --name ci --environment live --scope contacts:read)\n  \
    omf key create --name ci --environment live --scope contacts:read --output-file ci-key\n  \
    omf key create --name ci --environment live --scope contacts:read --output-file - | vault kv put secret/ci key=-")]
pub struct Create {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    secret: SecretArgs,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    idempotency: IdempotencyArgs,
}

/// What a key is called and may do.
#[derive(Debug, Args)]
pub(super) struct Settings {
    /// A name that no other key has.
    #[arg(long)]
    name: String,
    /// Where the key is used.
    #[arg(long, value_parser = one_of(Environment::ALL.map(Environment::as_str)))]
    environment: String,
    /// What the key may do, such as contacts:read; repeat it for more.
    #[arg(long = "scope", required = true)]
    scopes: Vec<String>,
    #[arg(
        long,
        help = format!("Calls a minute, sustained [default: {DEFAULT_PER_MINUTE}, unless --per-hour is given]")
    )]
    per_minute: Option<u32>,
    /// Calls an hour, sustained.
    #[arg(long)]
    per_hour: Option<u32>,
    /// Calls at once [default: the limit itself].
    #[arg(long)]
    burst: Option<u32>,
    /// An address or network from which the key may be used; repeat it for more [default: any].
    #[arg(long = "allow")]
    ip_allowlist: Vec<String>,
    /// When the key ends, such as 2027-01-31T00:00:00Z.
    #[arg(long)]
    expires_at: Option<String>,
    /// What the key is for.
    #[arg(long)]
    description: Option<String>,
}

/// Identifies a request, so that retrying it changes nothing twice.
#[derive(Debug, Args)]
pub(crate) struct IdempotencyArgs {
    /// Idempotency key, such as a UUID. Retrying with the same key returns the original response for 10 minutes, and
    /// for a day an error that says the request was already carried out.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
}

pub(super) fn run(args: Create, client: &Client, output: Output) -> anyhow::Result<()> {
    let place = args.secret.open(output)?;
    let request = args.settings.request();
    let call = Call::new(Method::POST, "/v1/keys").query(&[args.wait.parameter()]).json(&request)?;
    let created = client.send_for_secret(args.idempotency.apply(call))?;
    let file = place.deliver(&created.secret, &created.json, output)?;
    if !output.json {
        eprintln!("This is the secret of {}. {}", request.name, whereabouts(file.as_deref()));
    }
    report_enforcement(created.enforcement.as_ref(), output)
}

/// The limits of a request; none where none are given.
fn rate_limit(per_minute: Option<u32>, per_hour: Option<u32>, burst: Option<u32>) -> Option<RateLimit> {
    let stated = per_minute.or(per_hour).or(burst);
    stated.map(|_| RateLimit { per_minute, per_hour, burst })
}

// === impl Settings ===

impl Settings {
    /// The body of the request.
    pub(super) fn request(self) -> CreateKey {
        CreateKey {
            name: self.name,
            environment: self.environment,
            scopes: self.scopes,
            rate_limit: rate_limit(self.per_minute, self.per_hour, self.burst),
            ip_allowlist: Some(self.ip_allowlist),
            expires_at: self.expires_at,
            description: self.description,
            digest: None,
            hint: None,
        }
    }
}

// === impl IdempotencyArgs ===

impl IdempotencyArgs {
    /// Adds the idempotency key to a call.
    pub(crate) fn apply(self, call: Call) -> Call {
        match self.idempotency_key {
            Some(key) => call.header("idempotency-key", key),
            None => call,
        }
    }
}
