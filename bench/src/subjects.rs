//! What is measured: Envoys that differ in what stands before their router, all started at once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::bootstrap::{Values, connection_manager, fill, parse};
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
/// Keys that the product knows beside the one that calls.
pub(crate) const KEYS: usize = 10_000;
const IN_STEP: Duration = Duration::from_secs(30);

/// One way of answering requests.
pub(crate) struct Subject {
    /// What it is called in the report.
    pub(crate) name: &'static str,
    /// What it consists of.
    pub(crate) what: &'static str,
    /// What is sent to it.
    pub(crate) request: Request,
    envoy: Envoy,
    helpers: Vec<Helper>,
    _ports: Vec<Port>,
}

/// A process that works for an Envoy.
struct Helper {
    /// Whether its processor time is the subject's: a request waits for it.
    counts: bool,
    process: HelperProcess,
}

enum HelperProcess {
    Authorizer(Process),
    ControlPlane(ControlPlane),
}

/// Processor time of the processes of a subject.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// Of Envoy and of what requests wait for.
    pub(crate) serving: Duration,
    /// Of the control plane, which works beside.
    pub(crate) beside: Duration,
}

// === impl Subject ===

impl Subject {
    pub(crate) async fn bare(folder: &Path) -> Result<Self> {
        let ports = reserve(2)?;
        let envoy = Envoy::start(options(folder, &ports)?).await?;
        Ok(Self {
            name: "bare",
            what: "Envoy and its router",
            request: Request::with_key(PATH, "none"),
            envoy,
            helpers: Vec::new(),
            _ports: ports,
        })
    }

    pub(crate) async fn empty(folder: &Path) -> Result<Self> {
        let ports = reserve(2)?;
        let wasm = empty_filter()?.display().to_string();
        let options = with(options(folder, &ports)?, "empty.yaml", Values::from([("EMPTY_WASM", wasm)]))?;
        Ok(Self {
            name: "empty",
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
            name: "native",
            what: "api_key_auth, rbac, local_ratelimit and an access log in JSON",
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
            name: "ext_authz",
            what: "ext_authz over HTTP with a minimal server, whose processor time counts",
            request: Request::with_key(PATH, key),
            envoy: Envoy::start(options).await?,
            helpers: vec![Helper { counts: true, process: HelperProcess::Authorizer(process) }],
            _ports: ports,
        })
    }

    /// The product in full: many keys, two limits, identity and limit headers, argument hash, audit records to a control
    /// plane. Gives the key that calls as well.
    pub(crate) async fn product(folder: &Path) -> Result<(Self, String)> {
        let ports = reserve(3)?;
        let port = ports.get(2).context("no port")?.number();
        let control_plane =
            ControlPlane::start(ControlPlaneOptions::new(&folder.join("state"), port)).await?;
        let fields = json!({"name": "bench", "environment": "live", "scopes": ["conversations:read"],
            "rate_limit": {"per_minute": 1_000_000, "per_hour": 1_000_000}});
        let key = control_plane.create_key(fields).await?.secret;
        others(&control_plane).await?;
        let token = control_plane.create_token("gateway", "gateway").await?;
        let options = EnvoyOptions {
            gateway_token: Some(token),
            control_plane_port: port,
            template: paths::configuration("demo.yaml"),
            plugin: without_log_state(),
            with_filter: true,
            ..options(folder, &ports)?
        };
        let envoy = Envoy::start(options.edit(answer_directly)).await?;
        control_plane.wait_in_step("bench", 2, IN_STEP).await?;
        let subject = Self {
            name: "Omniflow Keys",
            what: "10,000 keys, limits a minute and an hour, identity and X-RateLimit headers, argument hash, audit \
                   records to a running control plane in place of an access log, for which no filter state is set \
                   (`access_log_state: false`), the guard behind the filter",
            request: Request::with_key(PATH, &key),
            envoy,
            helpers: vec![Helper { counts: false, process: HelperProcess::ControlPlane(control_plane) }],
            _ports: ports,
        };
        Ok((subject, key))
    }

    pub(crate) fn port(&self) -> u16 {
        self.envoy.port()
    }

    /// What its processes have spent since they were started.
    pub(crate) fn spent(&self) -> Result<Spent> {
        let mut spent = Spent { serving: cpu::time_of(self.envoy.process().id())?, beside: Duration::ZERO };
        for helper in &self.helpers {
            let time = cpu::time_of(match &helper.process {
                HelperProcess::Authorizer(process) => process.id(),
                HelperProcess::ControlPlane(control_plane) => control_plane.process().id(),
            })?;
            *(if helper.counts { &mut spent.serving } else { &mut spent.beside }) += time;
        }
        Ok(spent)
    }
}

/// Keys that nobody uses, so that the one that calls is one of many.
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
                ensure!(answer.status == 201, "a key is refused: {}", answer.text());
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

/// Puts the filters of a file before the router, and its clusters and access log beside.
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

/// The product's shipped configuration with the answer that all subjects give, and without an access log: its records go
/// to the control plane.
pub(crate) fn answer_directly(config: &mut Value) -> Result<()> {
    let manager = connection_manager(config)?;
    manager.remove("access_log");
    let routes = json!({"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
        {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}]}]});
    manager.insert("route_config".to_owned(), routes);
    Ok(())
}

/// There is no access log that would print it.
pub(crate) fn without_log_state() -> Map<String, Value> {
    Map::from_iter([("access_log_state".to_owned(), Value::Bool(false))])
}

fn empty_filter() -> Result<PathBuf> {
    let path = paths::filter_wasm()?.with_file_name("omniflow_empty_filter.wasm");
    ensure!(path.is_file(), "{} is not there: run `make bench`", path.display());
    Ok(path)
}
