//! Control plane, two upstreams and Envoy together, in one temporary folder.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::client::{Call, Response};
use crate::control_plane::{ControlPlane, ControlPlaneOptions, NewKey};
use crate::envoy::{Edit, Envoy, EnvoyOptions};
use crate::ports::Port;
use crate::upstream::Upstream;

const IN_STEP: Duration = Duration::from_secs(20);

/// The gateway's name in the control plane.
pub const GATEWAY: &str = "test";

/// Options of a stack.
pub struct StackOptions {
    /// Envoy's worker threads.
    pub workers: u32,
    /// Number of proxies in front of Envoy that are trusted to provide the client's address.
    pub trusted_hops: u32,
    /// Fields added to the filter's configuration.
    pub plugin: Map<String, Value>,
    /// Further changes to Envoy's configuration.
    pub edits: Vec<Edit>,
    /// Envoy's log level.
    pub log_level: String,
    /// Further arguments of `omf serve`.
    pub control_plane_arguments: Vec<String>,
    /// Further environment variables of `omf serve`.
    pub control_plane_environment: Vec<(String, String)>,
    /// The command that starts `omf`: see [`ControlPlaneOptions::wrapper`].
    pub control_plane_wrapper: Vec<String>,
    /// Further environment variables of Envoy.
    pub envoy_environment: Vec<(String, String)>,
    /// Whether Envoy can be restarted hot.
    pub hot_restart: bool,
}

/// A complete installation. Dropping it stops all processes and removes its folder; `OMF_KEEP=1` keeps the folder.
#[derive(Debug)]
pub struct Stack {
    // Fields are dropped in this order: first Envoy, then the processes that it calls, and finally files and ports.
    /// The gateway.
    pub envoy: Envoy,
    /// The control plane.
    pub control_plane: ControlPlane,
    /// The upstream for live keys.
    pub live: Upstream,
    /// The upstream for test keys.
    pub test: Upstream,
    vms: usize,
    folder: TempDir,
    _ports: Ports,
}

#[derive(Debug)]
struct Ports {
    envoy: Port,
    admin: Port,
    control_plane: Port,
    live: Port,
    test: Port,
}

// === impl StackOptions ===

impl Default for StackOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            trusted_hops: 0,
            plugin: Map::new(),
            edits: Vec::new(),
            log_level: "info".to_owned(),
            control_plane_arguments: Vec::new(),
            control_plane_environment: Vec::new(),
            control_plane_wrapper: Vec::new(),
            envoy_environment: Vec::new(),
            hot_restart: false,
        }
    }
}

impl StackOptions {
    /// The defaults with this many workers.
    pub fn workers(workers: u32) -> Self {
        Self { workers, ..Self::default() }
    }

    /// Sets a field of the filter's configuration.
    pub fn plugin(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.plugin.insert(field.to_owned(), value.into());
        self
    }

    /// Adds a change to Envoy's configuration.
    pub fn edit(mut self, edit: impl FnOnce(&mut Value) -> Result<()> + Send + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }
}

impl fmt::Debug for StackOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("StackOptions")
            .field("workers", &self.workers)
            .field("plugin", &self.plugin)
            .finish_non_exhaustive()
    }
}

// === impl Stack ===

impl Stack {
    /// Starts everything and waits until every worker enforces the control plane's snapshot.
    pub async fn start(options: StackOptions) -> Result<Self> {
        let mut folder = tempfile::Builder::new().prefix("omniflow-").tempdir()?;
        if std::env::var_os("OMF_KEEP").is_some() {
            folder.disable_cleanup(true);
            eprintln!("the stack's files are in {}", folder.path().display());
        }
        let ports = Ports::reserve()?;
        let live = Upstream::start("live", ports.live.number())?;
        let test = Upstream::start("test", ports.test.number())?;

        let control_plane = ControlPlane::start(ControlPlaneOptions {
            log: folder.path().join("control-plane.log"),
            arguments: [gateway_url(ports.envoy.number()), options.control_plane_arguments].concat(),
            environment: options.control_plane_environment,
            wrapper: options.control_plane_wrapper,
            ..ControlPlaneOptions::new(&folder.path().join("state"), ports.control_plane.number())
        })
        .await?;
        let token = control_plane.create_token("gateway of the stack", "gateway").await?;

        let envoy = Envoy::start(EnvoyOptions {
            gateway: GATEWAY.to_owned(),
            workers: options.workers,
            control_plane_port: ports.control_plane.number(),
            live_port: ports.live.number(),
            test_port: ports.test.number(),
            gateway_token: Some(token),
            trusted_hops: options.trusted_hops,
            plugin: options.plugin,
            log_level: options.log_level,
            edits: options.edits,
            environment: options.envoy_environment,
            hot_restart: options.hot_restart,
            ..EnvoyOptions::new(folder.path(), ports.envoy.number(), ports.admin.number())
        })
        .await?;
        // Every worker has a VM, and so has the main thread.
        let vms = usize::try_from(options.workers)? + 1;
        let stack = Self { envoy, control_plane, live, test, vms, folder, _ports: ports };
        stack.in_step().await?;
        Ok(stack)
    }

    /// Waits until every worker of the gateway enforces the newest version.
    pub async fn in_step(&self) -> Result<()> {
        self.control_plane.wait_in_step(GATEWAY, self.vms, IN_STEP).await
    }

    /// Creates a key and waits until the gateway accepts it.
    pub async fn key(&self, fields: Value) -> Result<NewKey> {
        let key = self.control_plane.create_key(fields).await?;
        self.in_step().await?;
        Ok(key)
    }

    /// Creates a live key with these scopes and waits until the gateway accepts it.
    pub async fn live_key(&self, name: &str, scopes: &[&str]) -> Result<NewKey> {
        let key = self.control_plane.create_live_key(name, scopes).await?;
        self.in_step().await?;
        Ok(key)
    }

    /// One call through Envoy, over a separate connection.
    pub async fn call(&self, call: Call) -> Result<Response> {
        self.envoy.call(call).await
    }

    /// The folder with its logs, databases and configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // The folder is removed, and with it the logs that could explain a failed test.
        if std::thread::panicking() {
            for process in [self.envoy.process(), self.control_plane.process()] {
                eprintln!("--- the end of the log of {}\n{}", process.name(), process.log_end(30));
            }
        }
    }
}

/// Sets the URL at which clients reach the gateway, for the example calls of the console.
fn gateway_url(port: u16) -> Vec<String> {
    vec!["--gateway-url".to_owned(), format!("http://127.0.0.1:{port}")]
}

// === impl Ports ===

impl Ports {
    fn reserve() -> Result<Self> {
        Ok(Self {
            envoy: Port::reserve()?,
            admin: Port::reserve()?,
            control_plane: Port::reserve()?,
            live: Port::reserve()?,
            test: Port::reserve()?,
        })
    }
}
