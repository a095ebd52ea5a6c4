//! `omf token`.

use anyhow::bail;
use clap::{Args, Subcommand};
use omniflow_api_types::page::{MAX_LIMIT, Page};
use omniflow_api_types::token::{CreateToken, TokenJson};
use omniflow_api_types::values::Role;
use uuid::Uuid;

use super::args::{PageArgs, one_of};
use super::client::{Call, Client, Method, segment};
use super::key::IdempotencyArgs;
use super::output::{Column, Output, cell, cell_of_list, cell_or_none};
use super::secret_output::{SecretArgs, secret_location};

/// Commands of `omf token`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a token and print it once.
    Create(Create),
    /// List tokens, newest first.
    List(PageArgs),
    /// Revoke a token immediately.
    Revoke {
        /// Name or ID of the token.
        #[arg(value_name = "TOKEN")]
        revoked: String,
    },
}

/// Arguments of `omf token create`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf token create --name edge --role gateway --gateway edge --output-file gateway-token\n  \
    omf token create --name review --role auditor --expires-at 2027-01-31T00:00:00Z")]
pub struct Create {
    /// Unique name of the token.
    #[arg(long)]
    name: String,
    /// Role of the token.
    #[arg(long, value_parser = one_of(Role::ALL.map(Role::as_str)))]
    role: String,
    /// Gateway that may use the token, such as edge-1 or edge-*; can be repeated.
    ///
    /// Only for the gateway role. If omitted, any gateway may use the token.
    #[arg(long = "gateway", value_name = "NAME")]
    gateways: Vec<String>,
    /// Time when the token expires, such as 2027-01-31T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<String>,
    #[command(flatten)]
    secret: SecretArgs,
    #[command(flatten)]
    idempotency: IdempotencyArgs,
}

const COLUMNS: &[Column<TokenJson>] = &[
    ("NAME", |token| cell(&token.name)),
    ("ROLE", |token| cell(token.role)),
    ("GATEWAYS", |token| cell_of_list(&token.gateways)),
    ("CREATED", |token| cell(token.created_at)),
    ("BY", |token| cell(&token.created_by)),
    ("EXPIRES", |token| cell_or_none(token.expires_at)),
    ("POLLS", |token| cell_or_none(token.gateway_requests.map(|requests| requests.polls))),
    ("REFUSED", |token| cell_or_none(token.gateway_requests.map(|requests| requests.refused))),
    ("ID", |token| cell(token.id)),
];

pub(crate) fn run(command: Command, client: &Client, output: Output) -> anyhow::Result<()> {
    match command {
        Command::Create(args) => create(args, client, output),
        Command::List(page) => {
            output.list(&client.list("/v1/tokens", &[page.limit(), page.cursor()])?, "tokens", COLUMNS)
        }
        Command::Revoke { revoked } => {
            let id = match Uuid::parse_str(&revoked) {
                Ok(_) => revoked.clone(),
                Err(_) => id_of(&revoked, client)?.to_string(),
            };
            client.delete(&format!("/v1/tokens/{}", segment(&id)))?;
            if !output.json {
                eprintln!("Token {revoked} is revoked.");
            }
            Ok(())
        }
    }
}

fn create(args: Create, client: &Client, output: Output) -> anyhow::Result<()> {
    let Create { name, role, gateways, expires_at, secret, idempotency } = args;
    let place = secret.open(output)?;
    let request = CreateToken { name, role, gateways, expires_at };
    let call = Call::new(Method::POST, "/v1/tokens").json(&request)?;
    let created = client.send_for_secret(idempotency.apply(call))?;
    let file = place.deliver(&created.secret, &created.json, output)?;
    if !output.json {
        eprintln!("Created token {}. {}", request.name, secret_location(file.as_deref()));
    }
    Ok(())
}

/// The ID of the token with this name. Names are unique and never look like an ID.
fn id_of(name: &str, client: &Client) -> anyhow::Result<Uuid> {
    let mut cursor = None;
    loop {
        let query = [("limit", Some(MAX_LIMIT.to_string())), ("cursor", cursor)];
        let page: Page<TokenJson> = client.list("/v1/tokens", &query)?.body;
        if let Some(token) = page.items.iter().find(|token| token.name.as_str() == name) {
            return Ok(token.id);
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            bail!("no token is named {name}: run omf token list");
        }
    }
}
