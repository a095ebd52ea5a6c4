//! `omf key create`.

use clap::Args;
use omniflow_api_types::key::CreateKey;
use omniflow_api_types::values::{DEFAULT_PER_MINUTE, Environment, RateLimit};

use crate::args::{Wait, one_of};
use crate::client::{Call, Client, Method};
use crate::output::{Output, report_enforcement};
use crate::secret_output::{SecretArgs, secret_location};

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

/// The settings of a key.
#[derive(Debug, Args)]
pub(super) struct Settings {
    /// Unique name of the key.
    #[arg(long)]
    name: String,
    /// Environment in which the key is used.
    #[arg(long, value_parser = one_of(Environment::ALL.map(Environment::as_str)))]
    environment: String,
    /// Scope of the key, such as contacts:read; can be repeated.
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    scopes: Vec<String>,
    #[arg(
        long,
        value_name = "CALLS",
        help = format!("Sustained calls per minute [default: {DEFAULT_PER_MINUTE}, unless --per-hour is set]")
    )]
    per_minute: Option<u32>,
    /// Sustained calls per hour.
    #[arg(long, value_name = "CALLS")]
    per_hour: Option<u32>,
    /// Burst size in calls [default: the limit].
    #[arg(long, value_name = "CALLS")]
    burst: Option<u32>,
    /// IP address or network that may use the key; can be repeated [default: any].
    #[arg(long = "allow", value_name = "NETWORK")]
    ip_allowlist: Vec<String>,
    /// Time when the key expires, such as 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    /// Description of the key.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

/// Identifies a request, so that a retry does not repeat its effect.
#[derive(Debug, Args)]
pub(crate) struct IdempotencyArgs {
    /// Idempotency key for safe retries, such as a UUID.
    ///
    /// For 10 minutes, a retry with the same idempotency key returns the original response. After that, for the rest of
    /// 24 hours, a retry fails because the request has already succeeded.
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
        eprintln!("Created key {}. {}", request.name, secret_location(file.as_deref()));
    }
    report_enforcement(created.enforcement.as_ref(), output)
}

/// The limits of a request; `None` without any.
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
