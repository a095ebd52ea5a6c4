//! `omf token`.

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use uuid::Uuid;

use super::args::{Page, one_of};
use super::client::{Call, Client, Method, segment};
use super::key::Attempt;
use super::output::{Column, Output, field, items};
use super::secret_output::{SecretArgs, whereabouts};
use omniflow_api_types::page::MAX_LIMIT;
use omniflow_domain::token::Role;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a token. It is printed once, to standard output.
    Create(Create),
    /// List tokens, newest first.
    List(Page),
    /// Revoke a token at once.
    Revoke {
        /// Name or identifier.
        #[arg(value_name = "TOKEN")]
        revoked: String,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf token create --name edge --role gateway --output-file gateway-token\n  \
    omf token create --name review --role auditor --expires-at 2027-01-31T00:00:00Z")]
pub(super) struct Create {
    /// A name that no other token has.
    #[arg(long)]
    name: String,
    /// What its bearer may do.
    #[arg(long, value_parser = one_of(Role::ALL.map(Role::as_str)))]
    role: String,
    /// When the token ends, such as 2027-01-31T00:00:00Z.
    #[arg(long)]
    expires_at: Option<String>,
    #[command(flatten)]
    secret: SecretArgs,
    #[command(flatten)]
    attempt: Attempt,
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
            let place = args.secret.open(output)?;
            let request = json!({"name": args.name, "role": args.role, "expires_at": args.expires_at});
            let call = Call::new(Method::POST, "/v1/tokens").json(&request);
            let created = client.send(args.attempt.of(call), "secret")?;
            let file = place.deliver(created, output)?;
            if !output.json {
                eprintln!("This is the token {}. {}", args.name, whereabouts(file.as_deref()));
            }
            Ok(())
        }
        Command::List(page) => {
            output.list(&client.list("/v1/tokens", &[page.limit(), page.cursor()])?, "tokens", COLUMNS)
        }
        Command::Revoke { revoked } => {
            let id =
                if Uuid::parse_str(&revoked).is_ok() { revoked.clone() } else { id_of(&revoked, client)? };
            client.delete(&format!("/v1/tokens/{}", segment(&id)))?;
            if !output.json {
                eprintln!("The token {revoked} is revoked.");
            }
            Ok(())
        }
    }
}

/// The identifier of the token with this name. No name has the form of an identifier, and no two tokens have one name.
fn id_of(name: &str, client: &Client) -> anyhow::Result<String> {
    let mut cursor = None;
    loop {
        let page =
            client.list("/v1/tokens", &[("limit", Some(MAX_LIMIT.to_string())), ("cursor", cursor)])?;
        if let Some(token) = items(&page).iter().find(|token| field(token, "name") == name) {
            return Ok(field(token, "id"));
        }
        cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            bail!("no token is called {name}: list them with omf token list");
        }
    }
}
