//! Helpers for several subjects.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use omniflow_harness::control_plane::NewKey;
use omniflow_harness::ports::Port;
use omniflow_harness::{Call, Connection, Envoy, EnvoyOptions, Response, Stack, Upstream, omf_command};
use omniflow_policy::denial::Denial;
use serde_json::json;
use tempfile::TempDir;

/// A route that every test with `contacts:read` may call.
pub(crate) const CONTACTS: &str = "/api/v1/contacts";

/// Envoy with the filter, its upstreams, and the control plane or its replacement.
pub(crate) struct Gateway {
    pub(crate) envoy: Envoy,
    pub(crate) live: Upstream,
    _test: Upstream,
    _folder: TempDir,
    _ports: [Port; 4],
}

/// Starts a gateway whose control plane listens on this port.
pub(crate) async fn gateway(
    control_plane: u16,
    change: impl FnOnce(EnvoyOptions) -> EnvoyOptions,
) -> Result<Gateway> {
    let folder = tempfile::tempdir()?;
    let ports = [Port::reserve()?, Port::reserve()?, Port::reserve()?, Port::reserve()?];
    let [port, admin, live_port, test_port] = ports.each_ref().map(Port::number);
    let live = Upstream::start("live", live_port)?;
    let test = Upstream::start("test", test_port)?;
    let options = EnvoyOptions {
        control_plane_port: control_plane,
        live_port,
        test_port,
        workers: 2,
        gateway_token: Some("omf_token_x".to_owned()),
        ..EnvoyOptions::new(folder.path(), port, admin)
    };
    let envoy = Envoy::start(change(options)).await?;
    Ok(Gateway { envoy, live, _test: test, _folder: folder, _ports: ports })
}

/// The `omf` command with the owner's token of this stack. Nothing else of the environment reaches it.
pub(crate) fn omf(stack: &Stack) -> Command {
    let mut command = omf_command().unwrap();
    command.env("OMF_URL", format!("http://127.0.0.1:{}", stack.control_plane.port()));
    command.env("OMF_TOKEN_FILE", stack.control_plane.folder().join("admin-token"));
    command
}

/// Runs a command to completion while other tasks continue.
pub(crate) async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// The status of a reason code.
pub(crate) fn denial_status(code: &str) -> u16 {
    Denial::ALL.iter().find(|denial| denial.code() == code).map_or(0, |denial| denial.status())
}

/// The current time in milliseconds since 1970.
pub(crate) fn now_millis() -> u64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(elapsed.as_millis()).unwrap()
}

/// A time in the future, in the format of the API.
pub(crate) fn rfc3339_in(ahead: Duration) -> String {
    let time = jiff::Timestamp::try_from(SystemTime::now() + ahead).unwrap();
    time.round(jiff::Unit::Millisecond).unwrap().to_string()
}

/// Connections that reach every worker of an Envoy: many, because the kernel spreads them as it likes.
pub(crate) async fn connections(port: u16, count: usize) -> Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(Connection::http1(port).await?);
    }
    Ok(connections)
}

/// A call to [`CONTACTS`] with a key.
pub(crate) fn contacts(secret: &str) -> Call {
    Call::get(CONTACTS).header("x-api-key", secret)
}

/// Status and problem code.
pub(crate) fn refusal(response: &Response) -> (u16, Option<String>) {
    (response.status, response.problem_code())
}

/// A call that creates a live key that may call [`CONTACTS`], for clients that run in parallel with the test.
pub(crate) fn create_call(name: &str, token: &str) -> Call {
    let fields = json!({"name": name, "environment": "live", "scopes": ["contacts:read"]});
    Call::post("/v1/keys", &fields).bearer(token)
}

/// The key that such a call has made.
pub(crate) fn created(response: &Response) -> Result<NewKey> {
    let answer = response.json()?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    Ok(NewKey {
        id: text(&answer["key"]["id"]).context("no id")?,
        secret: text(&answer["secret"]).context("no secret")?,
        key: answer["key"].clone(),
    })
}

/// All files below a folder that hold these bytes.
pub(crate) fn files_with(folder: &Path, bytes: impl AsRef<[u8]>) -> Vec<PathBuf> {
    let bytes = bytes.as_ref();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if path.is_file() {
            let content = fs::read(&path).unwrap();
            if content.windows(bytes.len()).any(|window| window == bytes) {
                found.push(path);
            }
        }
    }
    found
}
