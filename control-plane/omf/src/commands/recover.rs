//! `omf token recover`. It works on the data directory itself, because there is no token with which to call the API.

use anyhow::{anyhow, bail};
use clap::Args;
use omniflow_api_types::token::{CreatedToken, TokenJson};
use omniflow_cli::{Answer, Output, SecretArgs, whereabouts};
use omniflow_domain::clock::{Clock, Entropy};
use omniflow_store::Store;
use omniflow_store_sqlite::SqliteStore;

use super::db::DataDir;
use crate::bootstrap;

/// Create an owner token when all owner tokens are lost. omf serve must be stopped.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    omf token recover --data-dir /var/lib/omniflow --output-file owner-token\n\n\
    It needs write access to the data directory instead of a token. Existing tokens stay valid: list them with omf token\n\
    list, and revoke those that are lost. The admin log names \"omf token recover\" as the principal.")]
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
    // Opening creates what is missing, and a wrong folder must stay as it is.
    if !SqliteStore::exists(&data_dir) {
        bail!("{} has no databases of Omniflow Keys: state the --data-dir of omf serve", data_dir.display());
    }
    let store = SqliteStore::open(&data_dir).await.map_err(|error| anyhow!("{error}"))?;
    let place = args.secret.open(output)?;
    let recovered = bootstrap::recover_owner(&store, &Clock::system(), &Entropy::system()).await;
    store.close().await;
    let (token, secret) = recovered.map_err(|error| anyhow!("{error}"))?;
    let name = token.name.clone();
    let created = CreatedToken { token: TokenJson::from(token), secret: secret.expose().to_owned() };
    let answer = Answer::new(&created)?;
    let file = place.deliver(&created.secret, answer.json(), output)?;
    if !output.json {
        eprintln!("This is the owner token {name}. {}", whereabouts(file.as_deref()));
    }
    Ok(())
}
