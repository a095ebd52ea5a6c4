//! A complete installation for tests in other languages: starts it on free ports, prints one line of JSON with its
//! addresses and the owner's token, and stops it when standard input is closed. With an origin as its argument, Envoy has the
//! CORS configuration of `envoy/operator.yaml` for that origin.

use std::process::ExitCode;
use std::{io, thread};

use anyhow::Result;
use omniflow_harness::stack::{Stack, StackOptions};
use omniflow_harness::{bootstrap, paths};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("omniflow-stack: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Dropping these values, even half started, ends their processes.
    tokio::select! {
        result = serve() => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

async fn serve() -> Result<()> {
    let mut options = StackOptions::workers(2);
    if let Some(origin) = std::env::args().nth(1) {
        let operator = std::fs::read_to_string(paths::configuration("operator.yaml"))?;
        options.edits.push(Box::new(move |config| bootstrap::allow_origin(config, &operator, &origin)));
    }
    let stack = Stack::start(options).await?;
    println!(
        "{}",
        json!({
            "control_plane": format!("http://127.0.0.1:{}", stack.control_plane.port()),
            "gateway": format!("http://127.0.0.1:{}", stack.envoy.port()),
            "owner": stack.control_plane.admin_token(),
            "folder": stack.folder(),
        })
    );
    // The parent process has the other end of the pipe, which is closed when the parent ends for any reason.
    // Reading takes place on a separate thread, for which the end of this process does not wait.
    let (sender, ended) = oneshot::channel();
    thread::spawn(move || sender.send(io::copy(&mut io::stdin(), &mut io::sink())));
    ended.await??;
    Ok(())
}
