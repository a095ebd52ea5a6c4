//! A whole installation for tests that are written in another language: starts it on free ports, prints one line of JSON
//! with its addresses and the owner's token, and ends it when standard input ends.

use std::process::ExitCode;

use anyhow::Result;
use omniflow_harness::stack::{Stack, StackOptions};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, stdin};
use tokio::signal::unix::{SignalKind, signal};

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
    // What is dropped here, started or half started, ends its processes.
    tokio::select! {
        result = serve() => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    }
}

async fn serve() -> Result<()> {
    let stack = Stack::start(StackOptions::workers(2)).await?;
    println!(
        "{}",
        json!({
            "control_plane": format!("http://127.0.0.1:{}", stack.control_plane.port()),
            "gateway": format!("http://127.0.0.1:{}", stack.envoy.port()),
            "owner": stack.control_plane.admin_token(),
            "folder": stack.folder(),
        })
    );
    // Whoever started this holds the other end; that closes with it, however it ends.
    let mut input = stdin();
    let mut buffer = [0; 64];
    while input.read(&mut buffer).await? > 0 {}
    Ok(())
}
