//! A running Envoy.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};

use crate::bootstrap::{self, Values};
use crate::client::{self, Call, Response};
use crate::deadline::eventually;
use crate::paths;
use crate::process::Process;

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(5);

/// A change to the configuration, made before Envoy reads it.
pub type Edit = Box<dyn FnOnce(&mut Value) -> Result<()> + Send>;

/// Options of an Envoy.
pub struct EnvoyOptions {
    /// The configuration's template.
    pub template: PathBuf,
    /// The folder for its files: the filled-in configuration, `envoy.log`, `access.log`.
    pub folder: PathBuf,
    /// Its node ID, which is the gateway's name in the control plane.
    pub gateway: String,
    /// Worker threads.
    pub workers: u32,
    /// The listener's port.
    pub port: u16,
    /// The port of its admin interface.
    pub admin_port: u16,
    /// The port of the control plane.
    pub control_plane_port: u16,
    /// The port of the upstream for live keys.
    pub live_port: u16,
    /// The port of the upstream for test keys.
    pub test_port: u16,
    /// The filter's token for the control plane; without it the variable is not set.
    pub gateway_token: Option<String>,
    /// Number of proxies in front of it that are trusted to provide the client's address.
    pub trusted_hops: u32,
    /// Whether the Omniflow filter and its guard are in the chain.
    pub with_filter: bool,
    /// Fields added to the filter's configuration.
    pub plugin: Map<String, Value>,
    /// Envoy's log level, `component:level` lists included.
    pub log_level: String,
    /// Further changes to the configuration, in order.
    pub edits: Vec<Edit>,
    /// Further environment variables.
    pub environment: Vec<(String, String)>,
    /// Whether it can be restarted hot: [`Envoy::hot_restart`].
    pub hot_restart: bool,
}

/// A running Envoy. Dropping it stops it.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    epoch: u32,
    options: EnvoyOptions,
    config: PathBuf,
}

// === impl EnvoyOptions ===

impl EnvoyOptions {
    /// The demo's configuration, one worker, in this folder and on these ports.
    pub fn new(folder: &Path, port: u16, admin_port: u16) -> Self {
        Self {
            template: paths::configuration("demo.yaml"),
            folder: folder.to_owned(),
            gateway: "test".to_owned(),
            workers: 1,
            port,
            admin_port,
            // Port 1 (tcpmux) is never open, so that unset addresses are unreachable.
            control_plane_port: 1,
            live_port: 1,
            test_port: 1,
            gateway_token: None,
            trusted_hops: 0,
            with_filter: true,
            plugin: Map::new(),
            log_level: "info".to_owned(),
            edits: Vec::new(),
            environment: Vec::new(),
            hot_restart: false,
        }
    }

    /// Adds a change to the configuration.
    pub fn edit(mut self, edit: impl FnOnce(&mut Value) -> Result<()> + Send + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    fn values(&self) -> Values {
        Values::from([
            ("OMF_GATEWAY", self.gateway.clone()),
            ("OMF_ENVOY_PORT", self.port.to_string()),
            ("OMF_ENVOY_ADMIN_PORT", self.admin_port.to_string()),
            ("OMF_PORT", self.control_plane_port.to_string()),
            ("OMF_UPSTREAM_LIVE_PORT", self.live_port.to_string()),
            ("OMF_UPSTREAM_TEST_PORT", self.test_port.to_string()),
            ("OMF_ACCESS_LOG", self.access_log().display().to_string()),
        ])
    }

    fn access_log(&self) -> PathBuf {
        self.folder.join("access.log")
    }

    /// Writes the configuration and returns its path.
    fn write(&mut self) -> Result<PathBuf> {
        let template = fs::read_to_string(&self.template)
            .with_context(|| format!("cannot read {}", self.template.display()))?;
        let mut config = bootstrap::parse(&bootstrap::fill(&template, &self.values())?)
            .with_context(|| self.template.display().to_string())?;
        if self.with_filter {
            bootstrap::set_filter_code(&mut config, &paths::filter_wasm()?)?;
            if self.trusted_hops > 0 {
                let hops = Map::from_iter([("trusted_hops".to_owned(), Value::from(self.trusted_hops))]);
                bootstrap::merge_plugin_configuration(&mut config, &hops)?;
            }
            bootstrap::merge_plugin_configuration(&mut config, &self.plugin)?;
        } else {
            bootstrap::remove_filter(&mut config)?;
        }
        let hops = Value::from(self.trusted_hops);
        bootstrap::connection_manager(&mut config)?.insert("xff_num_trusted_hops".to_owned(), hops);
        for edit in std::mem::take(&mut self.edits) {
            edit(&mut config)?;
        }
        let path = self.folder.join("envoy.json");
        fs::write(&path, serde_json::to_string_pretty(&config)?)?;
        Ok(path)
    }

    fn command(&self, config: &Path) -> Result<Command> {
        let mut command = Command::new(paths::envoy()?);
        command
            .current_dir(&self.folder)
            .arg("--config-path")
            .arg(config)
            .args(["--concurrency", &self.workers.to_string()])
            .args(["--log-level", &self.log_level])
            .args(["--file-flush-interval-msec", "100"])
            .args(["--drain-time-s", "1"])
            .envs(self.environment.iter().cloned())
            .env_remove("OMF_GATEWAY_TOKEN");
        if let Some(token) = &self.gateway_token {
            command.env("OMF_GATEWAY_TOKEN", token);
        }
        Ok(command)
    }

    fn spawn(&self, config: &Path, epoch: u32) -> Result<Process> {
        let mut command = self.command(config)?;
        if self.hot_restart {
            // The port is reserved on this machine, so the base ID derived from it is unique.
            command.args(["--base-id", &self.port.to_string(), "--restart-epoch", &epoch.to_string()]);
            command.args(["--parent-shutdown-time-s", "3"]);
        } else {
            // Without it Envoy shares memory with every other Envoy of the same base id on this machine.
            command.arg("--disable-hot-restart");
        }
        Process::spawn("Envoy", &mut command, &self.folder.join("envoy.log"))
    }

    /// Validates the configuration with Envoy, without running it.
    pub fn validate(mut self) -> Result<()> {
        let config = self.write()?;
        let output = self.command(&config)?.args(["--disable-hot-restart", "--mode", "validate"]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "Envoy refuses {}:\n{said}", self.template.display());
        Ok(())
    }
}

impl fmt::Debug for EnvoyOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EnvoyOptions")
            .field("template", &self.template)
            .field("folder", &self.folder)
            .field("workers", &self.workers)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

// === impl Envoy ===

impl Envoy {
    /// Starts an Envoy and waits until it serves.
    pub async fn start(mut options: EnvoyOptions) -> Result<Self> {
        let config = options.write()?;
        let process = options.spawn(&config, 0)?;
        let envoy = Self { process, epoch: 0, options, config };
        envoy.wait_ready().await?;
        Ok(envoy)
    }

    /// Restarts it with the same configuration, after a graceful stop unless it has already ended.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.process = self.options.spawn(&self.config, self.epoch)?;
        self.wait_ready().await
    }

    /// Restarts it with another gateway token.
    pub async fn restart_with_token(&mut self, token: String) -> Result<()> {
        self.options.gateway_token = Some(token);
        self.restart().await
    }

    /// Starts another process with the same configuration, which takes over the ports, and waits until the previous one
    /// has ended.
    pub async fn hot_restart(&mut self) -> Result<()> {
        ensure!(self.options.hot_restart, "this Envoy was started without hot restart");
        self.epoch += 1;
        let next = self.options.spawn(&self.config, self.epoch)?;
        let before = std::mem::replace(&mut self.process, next);
        eventually(START, || async {
            ensure!(before.exit_status().is_some(), "the process before is still there");
            Ok(())
        })
        .await?;
        self.wait_ready().await
    }

    async fn wait_ready(&self) -> Result<()> {
        eventually(START, || async {
            if let Some(status) = self.process.exit_status() {
                return Ok(Err(status));
            }
            let response = self.admin(Call::get("/ready")).await?;
            ensure!(response.status == 200, "it says {}", response.text().trim());
            Ok(Ok(()))
        })
        .await
        .and_then(|ended| ended.map_err(|status| anyhow::anyhow!("it ended with {status}")))
        .with_context(|| format!("Envoy is not ready. The end of its log:\n{}", self.process.log_end(20)))
    }

    /// The listener's port.
    pub fn port(&self) -> u16 {
        self.options.port
    }

    /// The port of the admin interface.
    pub fn admin_port(&self) -> u16 {
        self.options.admin_port
    }

    /// The process, for pausing or killing it or reading its log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// One call to the listener, over a separate connection.
    pub async fn call(&self, call: Call) -> Result<Response> {
        client::call(self.options.port, call).await
    }

    /// One call to the admin interface.
    pub async fn admin(&self, call: Call) -> Result<Response> {
        client::call(self.options.admin_port, call).await
    }

    /// All counters and gauges.
    pub async fn stats(&self) -> Result<BTreeMap<String, u64>> {
        let response = self.admin(Call::get("/stats")).await?;
        ensure!(response.status == 200, "/stats: {}", response.status);
        let text = response.text();
        // Histograms are listed as well; their values are not numbers.
        let numbers = text.lines().filter_map(|line| line.rsplit_once(": "));
        Ok(numbers.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// One counter or gauge; 0 if it has not been used yet.
    pub async fn stat(&self, name: &str) -> Result<u64> {
        Ok(self.stats().await?.get(name).copied().unwrap_or(0))
    }

    /// Closes the listeners gracefully; open requests may finish.
    pub async fn drain_listeners(&self) -> Result<()> {
        self.command("/drain_listeners?graceful").await
    }

    /// Requests a graceful shutdown through the admin interface.
    pub async fn quit(&self) -> Result<()> {
        self.command("/quitquitquit").await
    }

    /// Sends a SIGTERM, then kills it if necessary.
    pub fn stop(&self) -> Result<ExitStatus> {
        self.process.stop(STOP)
    }

    /// The content of the access log: one object per request.
    pub fn access_log(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.options.access_log()).unwrap_or_default();
        // Envoy may be in the middle of the last line.
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    async fn command(&self, path: &str) -> Result<()> {
        let response = self.admin(Call::new("POST", path)).await?;
        if response.status != 200 {
            bail!("{path}: {} {}", response.status, response.text());
        }
        Ok(())
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        if self.options.hot_restart {
            // Envoy leaves it behind (source/server/hot_restart_impl.cc: ten ids for each base id).
            let name = format!("/dev/shm/envoy_shared_memory_{}", u32::from(self.options.port) * 10);
            let _ = fs::remove_file(name);
        }
    }
}
