//! `omf policy set` and `omf policy rollback`.

use anyhow::Context;
use clap::Args;
use omniflow_api_types::policy::{PolicyJson, RollBack as RollBackRequest};

use super::document::DocumentArgs;
use crate::args::Wait;
use crate::client::{Call, Client, Method};
use crate::output::{Answer, Output, check_enforced, enforcement_table};

/// Arguments of `omf policy set`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf policy show --toml > policy.toml    # start from the effective policy\n  \
    omf policy set policy.toml --wait 5s\n  \
    generate-policy | omf policy set - --toml\n\n\
    In a document, paths are templates, and methods are names such as GET, or read, write or any:\n  \
    [[scopes]]\n  \
    name = \"orders:read\"\n  \
    description = \"Read orders\"\n  \
    [[routes]]\n  \
    path = \"/shop/orders/{id}\"\n  \
    methods = [\"read\"]\n  \
    scope = \"orders:read\"\n\n\
    The same in JSON: {\"scopes\": [{\"name\": …}], \"routes\": [{\"path\": …}]}.\n\
    Requests without a matching route are refused. A scope cannot be removed while an unrevoked key has it.")]
pub struct Set {
    #[command(flatten)]
    document: DocumentArgs,
    #[command(flatten)]
    how: How,
}

/// Arguments of `omf policy rollback`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf policy versions\n  \
    omf policy diff --to 3\n  \
    omf policy rollback 3 --wait 5s")]
pub struct RollBack {
    /// Version to publish again.
    version: u64,
    #[command(flatten)]
    how: How,
}

/// Options of publishing a policy.
#[derive(Debug, Args)]
struct How {
    #[command(flatten)]
    wait: Wait,
    /// Publish only if this version is still effective.
    ///
    /// This prevents overwriting a concurrent change by another admin.
    #[arg(long, value_name = "VERSION")]
    if_match: Option<u64>,
}

pub(super) fn run(args: Set, client: &Client, output: Output) -> anyhow::Result<()> {
    let name = args.document.name();
    let call = args.document.read()?.call(Method::PUT, "/v1/policy");
    print_outcome(&client.send(args.how.apply(call)).context(name)?, output)
}

pub(super) fn roll_back(args: RollBack, client: &Client, output: Output) -> anyhow::Result<()> {
    let call =
        Call::new(Method::POST, "/v1/policy/rollback").json(&RollBackRequest { version: args.version })?;
    print_outcome(&client.send(args.how.apply(call))?, output)
}

fn print_outcome(answer: &Answer<PolicyJson>, output: Output) -> anyhow::Result<()> {
    let enforcement = answer.body.enforcement.as_ref();
    output.print_change(answer, enforcement, |policy| {
        let table = enforcement.map(enforcement_table).unwrap_or_default();
        format!("Version {} is effective.\n{table}", policy.version)
    })?;
    Ok(check_enforced(enforcement)?)
}

// === impl How ===

impl How {
    /// Adds its parameters to a call.
    fn apply(self, call: Call) -> Call {
        call.query(&[self.wait.parameter()]).if_match(self.if_match)
    }
}
