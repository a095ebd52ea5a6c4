//! `make run`: the complete Omniflow Keys on this machine, until Ctrl-C.

mod demo_key;
mod settings;

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use omniflow_harness::control_plane::{ControlPlaneOptions, NewKey};
use omniflow_harness::process::Process;
use omniflow_harness::{ControlPlane, Envoy, EnvoyOptions, Response, Upstream, paths};
use tokio::signal::unix::{SignalKind, signal};

use crate::settings::Settings;

/// The gateway's name in the control plane.
const GATEWAY: &str = "demo";
const IN_STEP: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(200);

/// The running processes, dropped in this order.
struct Demo {
    envoy: Envoy,
    control_plane: ControlPlane,
    _live: Upstream,
    _test: Upstream,
    _lock: File,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("omniflow-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    // Dropping these values, even half started, ends their processes.
    tokio::select! {
        result = start_and_watch() => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = hang_up.recv() => Ok(()),
    }?;
    println!("\nStopped.");
    Ok(())
}

async fn start_and_watch() -> Result<()> {
    let settings = Settings::from_env(&paths::root())?;
    let demo = Demo::start(&settings).await?;
    let key = demo_key::renew(&demo.control_plane).await?;
    let response = demo_key::first_call(&demo.envoy, &key).await?;
    report(&settings, &key, &response);
    demo.watch().await
}

impl Demo {
    async fn start(settings: &Settings) -> Result<Self> {
        let folder = &settings.folder;
        make_private_folder(folder)?;
        // This comes before any file is changed, because another demo may be running here.
        let lock = lock(folder)?;
        for log in ["envoy.log", "access.log", "control-plane.log"] {
            remove_old(&folder.join(log))?;
        }
        let live = Upstream::start("live", settings.live.number)?;
        let test = Upstream::start("test", settings.test.number)?;
        let gateway = format!("http://127.0.0.1:{}", settings.envoy.number);
        let options = ControlPlaneOptions {
            arguments: vec!["--gateway-url".to_owned(), gateway],
            ..ControlPlaneOptions::new(folder, settings.control_plane.number)
        };
        let control_plane = ControlPlane::start(options).await?;
        let token = renew_gateway_token(&control_plane).await?;
        let envoy = Envoy::start(EnvoyOptions {
            gateway: GATEWAY.to_owned(),
            workers: settings.workers,
            control_plane_port: settings.control_plane.number,
            live_port: settings.live.number,
            test_port: settings.test.number,
            gateway_token: Some(token),
            ..EnvoyOptions::new(folder, settings.envoy.number, settings.envoy_admin.number)
        })
        .await?;
        // Every worker has a VM, and so has the main thread.
        let vms = usize::try_from(settings.workers)? + 1;
        control_plane.wait_in_step(GATEWAY, vms, IN_STEP).await?;
        Ok(Self { envoy, control_plane, _live: live, _test: test, _lock: lock })
    }

    /// Returns only when a process has ended that should be running.
    async fn watch(&self) -> Result<()> {
        loop {
            for process in [self.envoy.process(), self.control_plane.process()] {
                if let Some(status) = process.exit_status() {
                    bail!("{}", obituary(process, status));
                }
            }
            // The interval between checks for an ended child; nothing waits for this.
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Tokens of earlier runs are useless: their secrets were never stored.
async fn renew_gateway_token(control_plane: &ControlPlane) -> Result<String> {
    const NAME: &str = "demo gateway";
    for token in control_plane.list("/v1/tokens").await? {
        if let (true, Some(id)) = (token["name"] == NAME, token["id"].as_str()) {
            control_plane.delete_token(id).await?;
        }
    }
    control_plane.create_token(NAME, "gateway").await
}

fn obituary(process: &Process, status: std::process::ExitStatus) -> String {
    format!(
        "{} has ended ({status}). The end of {}:\n{}",
        process.name(),
        process.log_path().display(),
        process.log_end(20)
    )
}

fn report(settings: &Settings, key: &NewKey, response: &Response) {
    let (envoy, control_plane) = (settings.envoy.number, settings.control_plane.number);
    let folder = settings.folder.display();
    let limits: Vec<String> = ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]
        .iter()
        .map(|name| format!("{name}: {}", response.header(name).unwrap_or("missing")))
        .collect();
    println!(
        "Omniflow Keys is running.

  gateway         http://127.0.0.1:{envoy}
  control plane   http://127.0.0.1:{control_plane}
  owner's token   {folder}/admin-token
  logs            {folder}/*.log

A call with the key {name} was just answered with {status}.
  {limits}

Try it yourself:
  curl -i -w '\\n' -H 'Authorization: Bearer {secret}' http://127.0.0.1:{envoy}{path}

Manage keys in a browser: open http://127.0.0.1:{control_plane}, and sign in with the token that is in
  {folder}/admin-token
or in another terminal:
  export PATH={bin}:$PATH OMF_URL=http://127.0.0.1:{control_plane} OMF_TOKEN_FILE={folder}/admin-token
  omf key list

Ctrl-C stops everything. State is kept in {folder}.",
        name = key.key["name"].as_str().unwrap_or_default(),
        status = response.status,
        limits = limits.join(", "),
        secret = key.secret,
        path = demo_key::PATH,
        bin = paths::omf().ok().and_then(|omf| Some(omf.parent()?.display().to_string())).unwrap_or_default(),
    );
}

/// The folder contains the owner's token.
fn make_private_folder(folder: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Prevents a second demo from using the folder. The lock is released when the process ends, for whatever reason.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join("demo.lock");
    let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "make run already runs in {}: stop it, or set OMF_RUN_DIR to another folder",
                folder.display()
            )
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn remove_old(log: &Path) -> Result<()> {
    match fs::remove_file(log) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", log.display()))
        }
        _ => Ok(()),
    }
}
