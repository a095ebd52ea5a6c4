//! The measured subjects: Envoys that differ in the filters before their router, all started together.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::bootstrap::{Values, connection_manager, fill, parse, set_filter_code};
use omniflow_harness::client::{self, Call};
use omniflow_harness::control_plane::{ControlPlane, ControlPlaneOptions};
use omniflow_harness::ports::Port;
use omniflow_harness::process::Process;
use omniflow_harness::{Envoy, EnvoyOptions, eventually, paths};
use serde_json::{Map, Value, json};

use crate::cpu;
use crate::load::Request;

/// The path of every request.
pub(crate) const PATH: &str = "/api/v1/conversations/7";
/// The number of unused keys in the product.
pub(crate) const KEYS: usize = 10_000;
const IN_STEP: Duration = Duration::from_secs(30);

/// An Envoy with its filters.
pub(crate) struct Subject {
    /// The name in the report.
    pub(crate) name: String,
    /// The description in the report.
    pub(crate) what: &'static str,
    /// The request that is sent to it.
    pub(crate) request: Request,
    envoy: Envoy,
    helpers: Vec<Helper>,
    _ports: Vec<Port>,
}

/// A process that serves an Envoy.
struct Helper {
    /// Whether requests wait for it, so that its CPU time counts for the subject.
    counts: bool,
    process: HelperProcess,
}

enum HelperProcess {
    Authorizer(Process),
    ControlPlane(Arc<Installation>),
}

/// A control plane with many keys, one of which is used.
pub(crate) struct Installation {
    control_plane: ControlPlane,
    gateway_token: String,
    /// The key that is used.
    pub(crate) key: String,
    _port: Port,
}

/// CPU time of the processes of a subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// Of Envoy and the processes that requests wait for.
    pub(crate) serving: Duration,
    /// Of the control plane, which requests do not wait for.
    pub(crate) beside: Duration,
}

// === impl Subject ===

impl Subject {
    pub(crate) async fn bare(folder: &Path) -> Result<Self> {
        let ports = reserve(2)?;
        let envoy = Envoy::start(options(folder, &ports)?).await?;
        Ok(Self {
            name: "bare".to_owned(),
            what: "Envoy and its router",
            request: Request::with_key(PATH, "none"),
            envoy,
            helpers: Vec::new(),
            _ports: ports,
        })
    }

    /// Bare Envoy with an upstream.
    pub(crate) async fn bare_before(folder: &Path, upstream: u16) -> Result<Self> {
        let ports = reserve(2)?;
        let options = options(folder, &ports)?.edit(move |config| route_to(config, upstream));
        Ok(Self {
            name: "bare".to_owned(),
            what: "Envoy and its router",
            request: Request::with_key(PATH, "none"),
            envoy: Envoy::start(options).await?,
            helpers: Vec::new(),
            _ports: ports,
        })
    }

    pub(crate) async fn empty(folder: &Path) -> Result<Self> {
        let ports = reserve(2)?;
        let wasm = empty_filter()?.display().to_string();
        let options = with(options(folder, &ports)?, "empty.yaml", Values::from([("EMPTY_WASM", wasm)]))?;
        Ok(Self {
            name: "empty".to_owned(),
            what: "a proxy-wasm filter that does nothing",
            request: Request::with_key(PATH, "none"),
            envoy: Envoy::start(options).await?,
            helpers: Vec::new(),
            _ports: ports,
        })
    }

    pub(crate) async fn native(folder: &Path, key: &str) -> Result<Self> {
        let ports = reserve(2)?;
        let values = Values::from([("KEY", key.to_owned())]);
        let options = with(options(folder, &ports)?, "native.yaml", values)?;
        Ok(Self {
            name: "native".to_owned(),
            what: "api_key_auth, rbac with the scopes and routes of the same policy, local_ratelimit and a JSON access log",
            request: Request::with_key(PATH, key),
            envoy: Envoy::start(options).await?,
            helpers: Vec::new(),
            _ports: ports,
        })
    }

    pub(crate) async fn ext_authz(folder: &Path, key: &str) -> Result<Self> {
        let ports = reserve(3)?;
        let authorizer = ports.get(2).context("no port")?.number();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["authorizer", &authorizer.to_string(), key]);
        let process = Process::spawn("authorizer", &mut command, &folder.join("authorizer.log"))?;
        eventually(IN_STEP, || async {
            client::call(authorizer, Call::get("/")).await?;
            Ok(())
        })
        .await?;
        let values = Values::from([("AUTHORIZER_PORT", authorizer.to_string())]);
        let options = with(options(folder, &ports)?, "ext_authz.yaml", values)?;
        Ok(Self {
            name: "ext_authz".to_owned(),
            what: "ext_authz over HTTP with a minimal server, whose CPU time is included",
            request: Request::with_key(PATH, key),
            envoy: Envoy::start(options).await?,
            helpers: vec![Helper { counts: true, process: HelperProcess::Authorizer(process) }],
            _ports: ports,
        })
    }

    /// The complete product: many keys, two limits, identity and limit headers, argument hash, audit records to a control
    /// plane.
    pub(crate) async fn product(folder: &Path, installation: &Arc<Installation>) -> Result<Self> {
        Self::with_filter("Omniflow Keys", "bench", folder, installation, |_| Ok(())).await
    }

    /// The complete product with an upstream.
    pub(crate) async fn product_before(
        folder: &Path,
        installation: &Arc<Installation>,
        upstream: u16,
    ) -> Result<Self> {
        let edit = move |config: &mut Value| route_to(config, upstream);
        Self::with_filter("Omniflow Keys", "bench-body", folder, installation, edit).await
    }

    /// The complete product with another build of the filter.
    pub(crate) async fn other_build(
        folder: &Path,
        installation: &Arc<Installation>,
        filter: &Path,
    ) -> Result<Self> {
        let filter = std::path::absolute(filter)?;
        ensure!(filter.is_file(), "{} does not exist", filter.display());
        let name = filter.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let gateway = format!("bench-{name}");
        let edit = move |config: &mut Value| set_filter_code(config, &filter);
        Self::with_filter(&name, &gateway, folder, installation, edit).await
    }

    async fn with_filter(
        name: &str,
        gateway: &str,
        folder: &Path,
        installation: &Arc<Installation>,
        edit: impl FnOnce(&mut Value) -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let ports = reserve(2)?;
        let options = EnvoyOptions {
            gateway: gateway.to_owned(),
            gateway_token: Some(installation.gateway_token.clone()),
            control_plane_port: installation.control_plane.port(),
            template: paths::configuration("demo.yaml"),
            plugin: without_log_state(),
            with_filter: true,
            ..options(folder, &ports)?
        };
        let options = options.edit(answer_directly).edit(edit);
        let envoy = Envoy::start(options).await?;
        installation.control_plane.wait_in_step(gateway, 2, IN_STEP).await?;
        Ok(Self {
            name: name.to_owned(),
            what: "10,000 keys, limits per minute and per hour, identity and X-RateLimit headers, argument hash, audit \
                   records sent to a running control plane instead of an access log (so no filter state is set: \
                   `access_log_state: false`), and the guard after the filter",
            request: Request::with_key(PATH, &installation.key),
            envoy,
            helpers: vec![Helper {
                counts: false,
                process: HelperProcess::ControlPlane(Arc::clone(installation)),
            }],
            _ports: ports,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.envoy.port()
    }

    /// Envoy's process.
    pub(crate) fn process(&self) -> u32 {
        self.envoy.process().id()
    }

    /// The CPU time that its processes have used since their start.
    pub(crate) fn spent(&self) -> Result<Spent> {
        let mut spent = Spent { serving: cpu::time_of(self.envoy.process().id())?, beside: Duration::ZERO };
        for helper in &self.helpers {
            let time = cpu::time_of(match &helper.process {
                HelperProcess::Authorizer(process) => process.id(),
                HelperProcess::ControlPlane(installation) => installation.control_plane.process().id(),
            })?;
            *(if helper.counts { &mut spent.serving } else { &mut spent.beside }) += time;
        }
        Ok(spent)
    }
}

// === impl Installation ===

impl Installation {
    pub(crate) async fn start(folder: &Path) -> Result<Arc<Self>> {
        let port = Port::reserve()?;
        let control_plane =
            ControlPlane::start(ControlPlaneOptions::new(&folder.join("state"), port.number())).await?;
        let fields = json!({"name": "bench", "environment": "live", "scopes": ["conversations:read", "conversations:write"],
            "rate_limit": {"per_minute": 1_000_000, "per_hour": 1_000_000}});
        let key = control_plane.create_key(fields).await?.secret;
        others(&control_plane).await?;
        let gateway_token = control_plane.create_token("gateway", "gateway").await?;
        Ok(Arc::new(Self { control_plane, gateway_token, key, _port: port }))
    }
}

/// Adds unused keys, so that the used key is one of many.
async fn others(control_plane: &ControlPlane) -> Result<()> {
    let mut tasks = Vec::new();
    let port = control_plane.port();
    for part in 0..8 {
        let token = control_plane.admin_token().to_owned();
        tasks.push(tokio::spawn(async move {
            let mut connection = client::Connection::http1(port).await?;
            for number in (part..KEYS).step_by(8) {
                let fields = json!({"name": format!("other-{number}"), "environment": "live",
                    "scopes": ["conversations:read"]});
                let answer = connection.call(Call::post("/v1/keys", &fields).bearer(&token)).await?;
                ensure!(answer.status == 201, "a key was not created: {}", answer.text());
            }
            anyhow::Ok(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

pub(crate) fn reserve(count: usize) -> Result<Vec<Port>> {
    (0..count).map(|_| Port::reserve()).collect()
}

pub(crate) fn options(folder: &Path, ports: &[Port]) -> Result<EnvoyOptions> {
    let number = |index: usize| ports.get(index).map(Port::number).context("no port");
    Ok(EnvoyOptions {
        template: configuration("bare.yaml"),
        gateway: "bench".to_owned(),
        with_filter: false,
        log_level: "error".to_owned(),
        ..EnvoyOptions::new(folder, number(0)?, number(1)?)
    })
}

fn configuration(name: &str) -> PathBuf {
    paths::root().join("bench/envoy").join(name)
}

/// Adds the filters of a file before the router, and its clusters and access log.
fn with(options: EnvoyOptions, name: &str, values: Values) -> Result<EnvoyOptions> {
    let text = std::fs::read_to_string(configuration(name))?;
    let mut added = parse(&fill(&text, &values)?)?;
    Ok(options.edit(move |config| {
        if let Some(Value::Array(clusters)) = config.pointer_mut("/static_resources/clusters") {
            clusters.extend(added["clusters"].as_array().cloned().unwrap_or_default());
        }
        let manager = connection_manager(config)?;
        if !added["access_log"].is_null() {
            manager.insert("access_log".to_owned(), added["access_log"].take());
        }
        if let (Some(Value::Array(filters)), Value::Array(first)) =
            (manager.get_mut("http_filters"), added["http_filters"].take())
        {
            filters.splice(0..0, first);
        }
        Ok(())
    }))
}

/// The filters and clusters of the shipped configuration. The rest is the same for all subjects.
pub(crate) fn answer_directly(config: &mut Value) -> Result<()> {
    let mut plain = parse(&std::fs::read_to_string(configuration("bare.yaml"))?)?;
    let mut manager = std::mem::take(connection_manager(&mut plain)?);
    let shipped = connection_manager(config)?;
    manager.insert("http_filters".to_owned(), shipped.remove("http_filters").context("no filters")?);
    *shipped = manager;
    if let Some(config) = config.as_object_mut() {
        config.remove("overload_manager");
    }
    if let Some(listener) = config.pointer_mut("/static_resources/listeners/0").and_then(Value::as_object_mut)
    {
        listener.remove("per_connection_buffer_limit_bytes");
    }
    Ok(())
}

/// Sends all requests to an upstream.
fn route_to(config: &mut Value, port: u16) -> Result<()> {
    let manager = connection_manager(config)?;
    let routes = json!({"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
        {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s"}}]}]});
    manager.insert("route_config".to_owned(), routes);
    let clusters = config.pointer_mut("/static_resources/clusters").and_then(Value::as_array_mut);
    clusters.context("no clusters")?.push(json!({
        "name": "upstream", "type": "STATIC", "connect_timeout": "1s", "load_assignment": {"cluster_name": "upstream",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address":
                {"address": "127.0.0.1", "port_value": port}}}}]}]}}));
    Ok(())
}

/// Disables the filter state, because there is no access log.
pub(crate) fn without_log_state() -> Map<String, Value> {
    Map::from_iter([("access_log_state".to_owned(), Value::Bool(false))])
}

fn empty_filter() -> Result<PathBuf> {
    let path = paths::filter_wasm()?.with_file_name("omniflow_empty_filter.wasm");
    ensure!(path.is_file(), "{} does not exist: run `make bench`", path.display());
    Ok(path)
}
