//! `omf policy set` and `omf policy rollback`.

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use super::DocumentArgs;
use crate::cli::args::Wait;
use crate::cli::client::{Call, Client, Method};
use crate::cli::output::{Output, check_enforced, enforcement_table, field};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf policy show --toml > policy.toml    # to begin with the one in force\n  \
    omf policy set policy.toml --wait 5s\n  \
    generate-policy | omf policy set - --toml\n\n\
    A document, in which each path is a template and methods are names such as GET, or read, write or any:\n  \
    [[scopes]]\n  \
    name = \"orders:read\"\n  \
    description = \"Read orders\"\n  \
    [[routes]]\n  \
    path = \"/shop/orders/{id}\"\n  \
    methods = [\"read\"]\n  \
    scope = \"orders:read\"\n\n\
    The same in JSON: {\"scopes\": [{\"name\": …}], \"routes\": [{\"path\": …}]}.\n\
    What no route has is refused. A scope stays as long as a key has it that is not revoked.")]
pub(in crate::cli) struct Set {
    #[command(flatten)]
    document: DocumentArgs,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf policy versions\n  \
    omf policy diff --to 3\n  \
    omf policy rollback 3 --wait 5s")]
pub(in crate::cli) struct RollBack {
    /// The version whose document is to be in force again.
    version: u64,
    #[command(flatten)]
    how: How,
}

/// How a policy is put in force.
#[derive(Debug, Args)]
struct How {
    #[command(flatten)]
    wait: Wait,
    /// Only if this version is still in force, so that you do not overwrite what another admin has set in between.
    #[arg(long, value_name = "VERSION")]
    if_match: Option<u64>,
}

pub(super) fn run(args: Set, client: &Client, output: Output) -> anyhow::Result<()> {
    let name = args.document.name();
    let call = args.document.read()?.call(Method::PUT, "/v1/policy");
    told(&client.send(args.how.of(call), "version").context(name)?, output)
}

pub(super) fn roll_back(args: RollBack, client: &Client, output: Output) -> anyhow::Result<()> {
    let call = Call::new(Method::POST, "/v1/policy/rollback").json(&json!({"version": args.version}));
    told(&client.send(args.how.of(call), "version")?, output)
}

fn told(answer: &Value, output: Output) -> anyhow::Result<()> {
    output.print(answer, |answer| {
        format!("Version {} is in force.\n", field(answer, "version"))
            + &enforcement_table(answer).unwrap_or_default()
    })?;
    check_enforced(answer)
}

// === impl How ===

impl How {
    fn of(self, call: Call) -> Call {
        call.query(&[self.wait.parameter()]).if_match(self.if_match)
    }
}
