//! `omf policy explain`.

use anyhow::{Context, bail};
use clap::{ArgGroup, Args};
use omniflow_api_types::policy::{ExplainRequest, ExplanationJson};
use omniflow_api_types::values::Step;
use serde_json::Value;

use crate::client::{Call, Client, Method};
use crate::input;
use crate::output::{Column, Output, cell, cell_or_none, table};

/// Arguments of `omf policy explain`.
#[derive(Debug, Args)]
#[command(
    group(ArgGroup::new("client").args(["key", "secret_file", "headers"])),
    after_help = "Examples:\n  \
    omf policy explain --key ci GET /api/v1/contacts --source-ip 203.0.113.7\n  \
    omf policy explain --key ci POST /api/v1/tickets --draft policy.toml\n  \
    omf policy explain --key ci GET /api/v1/contacts --calls-before 60\n  \
    omf policy explain --secret-file - GET /api/v1/contacts < key\n\n\
    It is decided by the code that gateways run, as by one whose operator has changed no setting of the filter.\n\
    Ends with 0 whether the call would be allowed or refused."
)]
pub struct Explain {
    /// The method, in upper case.
    method: String,
    /// The path, with its query string.
    path: String,
    /// Name or identifier of the key that calls.
    #[arg(long)]
    key: Option<String>,
    /// Which version of it [default: the newest that is accepted].
    #[arg(long, requires = "key")]
    version: Option<u16>,
    /// A file with the credential, - for standard input: sent as X-API-Key.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<String>,
    /// A header of the call, such as 'Authorization: Basic …'; repeat it for more. Others see the command line: give
    /// keys by --secret-file.
    #[arg(long = "header")]
    headers: Vec<String>,
    /// The client's address [default: unknown].
    #[arg(long)]
    source_ip: Option<String>,
    /// When the call is made, such as 2027-01-31T00:00:00Z [default: now].
    #[arg(long)]
    at: Option<String>,
    /// How many calls the key has made at that moment; limits are left out without it.
    #[arg(long)]
    calls_before: Option<u32>,
    /// A document in place of the effective policy: *.toml in TOML, anything else in JSON.
    #[arg(long, value_name = "FILE")]
    draft: Option<String>,
}

const STEP_COLUMNS: &[Column<Step>] = &[
    ("STEP", |step| cell(step.name.as_str())),
    ("VERDICT", |step| cell(step.verdict.as_str())),
    ("DETAIL", |step| cell(&step.detail)),
];

pub(super) fn run(args: Explain, client: &Client, output: Output) -> anyhow::Result<()> {
    let headers = args.headers()?;
    let draft = args.draft.as_deref().map(draft).transpose()?;
    let request = ExplainRequest {
        key: args.key,
        version: args.version,
        headers,
        method: args.method,
        path: args.path,
        source_ip: args.source_ip,
        at: args.at,
        calls_before: args.calls_before,
        policy: None,
    };
    let mut request = serde_json::to_value(request)?;
    if let (Some(draft), Some(request)) = (draft, request.as_object_mut()) {
        // As it was written: the control plane names the place of an error.
        request.insert("policy".to_owned(), draft);
    }
    let call = Call::new(Method::POST, "/v1/policy/explain").json(&request)?;
    output.print(&client.send(call)?, describe)
}

/// A document as a part of a request. Syntax errors are reported here, since the control plane does not see its lines.
fn draft(file: &str) -> anyhow::Result<Value> {
    let bytes = input::bytes(file)?;
    let named = || input::name(file).to_owned();
    if file.ends_with(".toml") {
        let text = String::from_utf8(bytes).with_context(named)?;
        return toml::from_str(&text).with_context(named);
    }
    serde_json::from_slice(&bytes).with_context(named)
}

fn describe(explanation: &ExplanationJson) -> String {
    let ExplanationJson { decision, reason, status, steps, .. } = explanation;
    let outcome = match decision.as_ref() {
        "allowed" => cell(reason),
        denied => format!("{}: {}, status {}", cell(denied), cell(reason), cell_or_none(status.as_ref())),
    };
    format!("{outcome}\n\n{}", table(steps, STEP_COLUMNS))
}

// === impl Explain ===

impl Explain {
    fn headers(&self) -> anyhow::Result<Option<Vec<(String, String)>>> {
        if self.key.is_some() {
            return Ok(None);
        }
        if let Some(file) = &self.secret_file {
            return Ok(Some(vec![("x-api-key".to_owned(), input::secret(file)?.to_string())]));
        }
        let split = |header: &String| match header.split_once(':') {
            Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
            None => bail!("a header has a name, a colon and a value"),
        };
        self.headers.iter().map(split).collect::<anyhow::Result<_>>().map(Some)
    }
}
