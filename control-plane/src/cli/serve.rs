//! `omf serve`.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use anyhow::anyhow;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::args::Serve;
use crate::clock::{Clock, Entropy};
use crate::server::{Server, ServerSettings};

pub(super) fn run(args: Serve) -> anyhow::Result<()> {
    tracing_subscriber::registry()
        .with(args.log)
        .with(tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal()))
        .init();
    let settings = ServerSettings {
        listen: args.listen,
        data_dir: args.data_dir,
        admin_token_file: args.admin_token_file,
        key_prefix: args.key_prefix,
        gateway_lease: Duration::from_secs(args.gateway_lease),
        rotation_after: (args.rotation_days > 0).then(|| Duration::from_secs(args.rotation_days * 86_400)),
        clock: Clock::system(),
        entropy: Entropy::system(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let stop = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        let served = async {
            let server = Server::start(settings).await?;
            tracing::info!(address = %server.address(), "listening");
            server.run_until(stop).await
        };
        // The message names its cause already.
        served.await.map_err(|error| anyhow!("{error}"))
    })
}
