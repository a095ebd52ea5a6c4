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
    The decision comes from the code that gateways run, with the default settings of the filter. The exit code is 0 whether\n\
    the call would be allowed or refused."
)]
pub struct Explain {
    /// Method of the request, in upper case.
    method: String,
    /// Path of the request, with its query string.
    path: String,
    /// Name or ID of the key used for the call.
    #[arg(long)]
    key: Option<String>,
    /// Version of the key [default: the newest valid one].
    #[arg(long, requires = "key")]
    version: Option<u16>,
    /// File with the credential, or - for standard input; sent as X-API-Key.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<String>,
    /// Header of the call, such as 'Authorization: Basic …'; can be repeated.
    ///
    /// Other users of this machine can see command-line arguments: pass keys with --secret-file instead.
    #[arg(long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// IP address of the client [default: unknown].
    #[arg(long, value_name = "ADDRESS")]
    source_ip: Option<String>,
    /// Time of the call, such as 2027-01-31T00:00:00Z [default: now].
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Number of earlier calls with the key; if omitted, limits are not checked.
    #[arg(long, value_name = "COUNT")]
    calls_before: Option<u32>,
    /// File with a policy to use instead; JSON unless its name ends in .toml.
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
        // Unparsed, because the control plane reports the place of an error.
        request.insert("policy".to_owned(), draft);
    }
    let call = Call::new(Method::POST, "/v1/policy/explain").json(&request)?;
    output.print(&client.send(call)?, describe)
}

/// Parses a document that is sent as part of a request. Syntax errors are reported here, because the control plane does not
/// receive the lines of the file.
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
            None => bail!("--header must have the form 'NAME: VALUE'"),
        };
        self.headers.iter().map(split).collect::<anyhow::Result<_>>().map(Some)
    }
}
