//! `omf token recover`. It works on the data directory, because no token is left to call the API with.

use anyhow::{anyhow, bail};
use clap::Args;
use omniflow_api_types::token::{CreatedToken, TokenJson};
use omniflow_cli::{Answer, Output, SecretArgs, secret_location};
use omniflow_domain::clock::{Clock, Entropy};
use omniflow_store::Store;
use omniflow_store_sqlite::SqliteStore;

use super::db::DataDir;
use crate::bootstrap;
use crate::error::describe_store_error;

/// Create an owner token if all owner tokens are lost. Stop `omf serve` first.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf token recover --data-dir /var/lib/omniflow --output-file owner-token\n\n\
    The command requires write access to the data directory, but no token. Existing tokens stay valid: list them with omf\n\
    token list, and revoke the lost ones. The principal in the admin log is \"omf token recover\".")]
pub(super) struct Recover {
    #[command(flatten)]
    data: DataDir,
    #[command(flatten)]
    secret: SecretArgs,
}

pub(super) fn run(args: Recover, output: Output) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(recover(args, output))
}

async fn recover(args: Recover, output: Output) -> anyhow::Result<()> {
    let data_dir = args.data.path()?;
    // Opening creates missing databases, and a wrong directory must not be changed.
    if !SqliteStore::exists(&data_dir) {
        bail!(
            "{} contains no Omniflow Keys databases: set --data-dir to the data directory of omf serve",
            data_dir.display()
        );
    }
    let store = SqliteStore::open(&data_dir).await.map_err(|error| anyhow!(describe_store_error(&error)))?;
    let place = args.secret.open(output)?;
    let recovered = bootstrap::recover_owner(&store, &Clock::system(), &Entropy::system()).await;
    store.close().await;
    let (token, secret) = recovered.map_err(|error| anyhow!("{error}"))?;
    let name = token.name.clone();
    let created = CreatedToken { token: TokenJson::from(token), secret: secret.expose().to_owned() };
    let answer = Answer::new(&created)?;
    let file = place.deliver(&created.secret, answer.json(), output)?;
    if !output.json {
        eprintln!("Created owner token {name}. {}", secret_location(file.as_deref()));
    }
    Ok(())
}
