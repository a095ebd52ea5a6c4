//! `omf token`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::args::Page;
use super::client::{Client, segment};
use super::output::{Column, Output, field};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a token. It is printed once, to standard output.
    Create(Create),
    /// List tokens, newest first.
    List(Page),
    /// Revoke a token at once.
    Revoke {
        /// Its identifier, as in the list.
        id: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf token create --name edge --role gateway > gateway-token\n  \
    omf token create --name review --role auditor --expires-at 2027-01-31T00:00:00Z")]
pub(super) struct Create {
    /// A name that no other token has.
    #[arg(long)]
    name: String,
    /// owner, admin, auditor or gateway.
    #[arg(long)]
    role: String,
    /// When the token ends, such as 2027-01-31T00:00:00Z.
    #[arg(long)]
    expires_at: Option<String>,
}

const COLUMNS: &[Column] = &[
    ("NAME", |token| field(token, "name")),
    ("ROLE", |token| field(token, "role")),
    ("CREATED", |token| field(token, "created_at")),
    ("BY", |token| field(token, "created_by")),
    ("EXPIRES", |token| field(token, "expires_at")),
    ("ID", |token| field(token, "id")),
];

pub(super) fn run(command: Command, client: &Client, output: Output) -> anyhow::Result<()> {
    match command {
        Command::Create(args) => {
            let request = json!({"name": args.name, "role": args.role, "expires_at": args.expires_at});
            let created = client.post("/v1/tokens", &request)?;
            output.print(&created, |created| field(created, "secret"))?;
            if !output.json {
                eprintln!("This is the token {}. It is shown this once and stored nowhere.", args.name);
            }
            Ok(())
        }
        Command::List(page) => {
            output.list(&client.get("/v1/tokens", &[page.limit(), page.cursor()])?, COLUMNS)
        }
        Command::Revoke { id } => {
            client.delete(&format!("/v1/tokens/{}", segment(&id)))?;
            if !output.json {
                eprintln!("The token is revoked.");
            }
            Ok(())
        }
    }
}
