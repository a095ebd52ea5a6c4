//! A running control plane, `omf serve`, with its API for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::client::{self, Call, Response};
use crate::deadline::eventually;
use crate::paths;
use crate::process::Process;

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(10);
/// `?wait=` delays a response; the deadline of such a call is this much later.
const BEYOND_WAIT: Duration = Duration::from_secs(20);

/// A running `omf serve`. Dropping it stops the process; its folder stays.
#[derive(Debug)]
pub struct ControlPlane {
    process: Process,
    options: ControlPlaneOptions,
    admin_token: String,
}

/// Options of a control plane.
#[derive(Debug, Clone)]
pub struct ControlPlaneOptions {
    /// Its databases and `admin-token`.
    pub folder: PathBuf,
    /// The file for its output.
    pub log: PathBuf,
    /// The port of its API.
    pub port: u16,
    /// Further arguments of `omf serve`.
    pub arguments: Vec<String>,
    /// Further environment variables.
    pub environment: Vec<(String, String)>,
    /// The program, with arguments, that starts the `omf` command appended to it; empty to start `omf` directly.
    pub wrapper: Vec<String>,
}

/// A new key, or a new version of one.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The key's id.
    pub id: String,
    /// The secret, shown this once.
    pub secret: String,
    /// The key, as returned by the API.
    pub key: Value,
}

/// The command `omf`, without the settings of the user who runs the tests, except for the log level.
pub fn omf_command() -> Result<Command> {
    let mut command = Command::new(paths::omf()?);
    let theirs = std::env::vars_os().map(|(name, _)| name);
    for name in theirs.filter(|name| name.to_string_lossy().starts_with("OMF_") && name != "OMF_LOG") {
        command.env_remove(name);
    }
    Ok(command)
}

// === impl ControlPlaneOptions ===

impl ControlPlaneOptions {
    /// Options with the state and the log in `folder`.
    pub fn new(folder: &Path, port: u16) -> Self {
        Self {
            folder: folder.to_owned(),
            log: folder.join("control-plane.log"),
            port,
            arguments: Vec::new(),
            environment: Vec::new(),
            wrapper: Vec::new(),
        }
    }

    fn command(&self) -> Result<Command> {
        let mut command = wrapped(omf_command()?, &self.wrapper);
        command.arg("serve").arg("--data-dir").arg(&self.folder);
        command.arg("--listen").arg(client::local(self.port).to_string()).args(&self.arguments);
        command.envs(self.environment.iter().cloned());
        Ok(command)
    }
}

/// The command, started through another one.
fn wrapped(command: Command, wrapper: &[String]) -> Command {
    let Some((program, arguments)) = wrapper.split_first() else { return command };
    let mut outer = Command::new(program);
    outer.args(arguments).arg(command.get_program());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Starts `omf serve` and waits until it is ready.
    pub async fn start(options: ControlPlaneOptions) -> Result<Self> {
        fs::create_dir_all(&options.folder)?;
        let process = launch(&options).await?;
        // The wrapper may have mounted another file system there.
        let token = process.path(&options.folder.join("admin-token"));
        let admin_token =
            fs::read_to_string(&token).with_context(|| format!("cannot read {}", token.display()))?;
        Ok(Self { process, options, admin_token: admin_token.trim().to_owned() })
    }

    /// The port of its API.
    pub fn port(&self) -> u16 {
        self.options.port
    }

    /// The folder with its databases.
    pub fn folder(&self) -> &Path {
        &self.options.folder
    }

    /// The owner's token, made at the first start.
    pub fn admin_token(&self) -> &str {
        &self.admin_token
    }

    /// Changes the options of the next start.
    pub fn options_mut(&mut self) -> &mut ControlPlaneOptions {
        &mut self.options
    }

    /// The process, for pausing or killing it or reading its log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Stops it gracefully.
    pub fn stop(&self) -> Result<ExitStatus> {
        self.process.stop(STOP)
    }

    /// Restarts it with the same state, after a graceful stop unless it has already ended.
    pub async fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.process = launch(&self.options).await?;
        Ok(())
    }

    /// One call with exactly the given headers.
    pub async fn call(&self, call: Call) -> Result<Response> {
        client::call(self.port(), call).await
    }

    /// One call as the owner, whose response must have this status.
    pub async fn expect(&self, status: u16, call: Call) -> Result<Response> {
        let what = format!("{} {}", call.method, call.path);
        let response = self.call(call.bearer(&self.admin_token)).await?;
        ensure!(
            response.status == status,
            "{what}: {} instead of {status}: {}",
            response.status,
            response.text()
        );
        Ok(response)
    }

    /// One GET as the owner: 200 and JSON.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.expect(200, Call::get(path)).await?.json()
    }

    /// All items of a list, over all its pages. `path` may have a query string.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let mut page = self.get(&with_cursor(path, cursor.as_deref())).await?;
            match page["items"].take() {
                Value::Array(page) => items.extend(page),
                other => return Err(anyhow!("{path}: items is {other}")),
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(items),
            }
        }
    }

    /// Creates a key from the fields of `POST /v1/keys`.
    pub async fn create_key(&self, fields: Value) -> Result<NewKey> {
        new_key(&self.expect(201, Call::post("/v1/keys", &fields)).await?.json()?)
    }

    /// Creates a live key with these scopes and otherwise default settings.
    pub async fn create_live_key(&self, name: &str, scopes: &[&str]) -> Result<NewKey> {
        self.create_key(json!({"name": name, "environment": "live", "scopes": scopes})).await
    }

    /// Changes these fields of a key.
    pub async fn change_key(&self, id: &str, fields: &Value) -> Result<Value> {
        let call = Call::new("PATCH", &format!("/v1/keys/{id}")).json(fields);
        self.expect(200, call).await?.json()
    }

    /// Adds a version to a key; the earlier versions are accepted for `overlap`, such as `24h`.
    pub async fn rotate(&self, id: &str, overlap: &str) -> Result<NewKey> {
        let call = Call::post(&format!("/v1/keys/{id}/rotate"), &json!({"overlap": overlap}));
        new_key(&self.expect(201, call).await?.json()?)
    }

    /// Revokes a key. With `wait`, the response is sent once all gateways enforce the revocation, or when that time is
    /// over.
    pub async fn revoke(&self, id: &str, wait: Option<Duration>) -> Result<Value> {
        self.revoke_at(&format!("/v1/keys/{id}/revoke"), wait).await
    }

    /// Revokes one version of a key, as [`Self::revoke`] does with all of them.
    pub async fn revoke_version(&self, id: &str, version: u16, wait: Option<Duration>) -> Result<Value> {
        self.revoke_at(&format!("/v1/keys/{id}/versions/{version}/revoke"), wait).await
    }

    async fn revoke_at(&self, path: &str, wait: Option<Duration>) -> Result<Value> {
        let query = wait.map(|wait| format!("?wait={}ms", wait.as_millis())).unwrap_or_default();
        let call =
            Call::new("POST", &format!("{path}{query}")).within(wait.unwrap_or_default() + BEYOND_WAIT);
        self.expect(200, call).await?.json()
    }

    /// Creates a token with this role and returns its secret.
    pub async fn create_token(&self, name: &str, role: &str) -> Result<String> {
        let call = Call::post("/v1/tokens", &json!({"name": name, "role": role}));
        let answer = self.expect(201, call).await?.json()?;
        Ok(answer["secret"].as_str().context("a new token without its secret")?.to_owned())
    }

    /// Revokes a token.
    pub async fn delete_token(&self, id: &str) -> Result<()> {
        let path = format!("/v1/tokens/{id}");
        let response = self.call(Call::new("DELETE", &path).bearer(&self.admin_token)).await?;
        ensure!(response.status == 204, "{path}: {} {}", response.status, response.text());
        Ok(())
    }

    /// The audit records that match this query string, in the order of the API.
    pub async fn audit(&self, query: &str) -> Result<Vec<Value>> {
        self.list(&format!("/v1/audit?{query}")).await
    }

    /// Waits until this gateway, with at least this many VMs, enforces the newest version.
    pub async fn wait_in_step(&self, gateway: &str, vms: usize, within: Duration) -> Result<()> {
        eventually(within, || async {
            let answer = self.get("/v1/gateways").await?;
            let newest = answer["version"].as_u64().context("no current version")?;
            let seen = answer["items"].as_array().into_iter().flatten().find(|item| {
                let seen = item["workers"].as_array();
                // A gateway of the same name that has ended is still listed for a while.
                item["gateway"] == gateway
                    && item["connected"] == true
                    && seen.is_some_and(|seen| {
                        seen.len() >= vms && seen.iter().all(|vm| vm["version"].as_u64() >= Some(newest))
                    })
            });
            ensure!(seen.is_some(), "the control plane at version {newest} knows of {}", answer["items"]);
            Ok(())
        })
        .await
        .with_context(|| format!("the gateway {gateway} is not in step"))
    }
}

async fn launch(options: &ControlPlaneOptions) -> Result<Process> {
    let process = Process::spawn("the control plane", &mut options.command()?, &options.log)?;
    eventually(START, || async {
        if let Some(status) = process.exit_status() {
            return Ok(Err(status));
        }
        let response = client::call(options.port, Call::get("/readyz")).await?;
        ensure!(response.status == 200, "/readyz: {} {}", response.status, response.text());
        Ok(Ok(()))
    })
    .await
    .and_then(|ended| ended.map_err(|status| anyhow!("it ended with {status}")))
    .with_context(|| {
        format!("the control plane is not ready. The end of its log:\n{}", process.log_end(20))
    })?;
    Ok(process)
}

fn new_key(answer: &Value) -> Result<NewKey> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let id = text(&answer["key"]["id"]).context("a new key without its id")?;
    let secret = text(&answer["secret"]).context("a new key without its secret")?;
    Ok(NewKey { id, secret, key: answer["key"].clone() })
}

/// Cursors are made of characters that need no escaping in a query string.
fn with_cursor(path: &str, cursor: Option<&str>) -> String {
    match cursor {
        None => path.to_owned(),
        Some(cursor) => format!("{path}{}cursor={cursor}", if path.contains('?') { '&' } else { '?' }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_join_a_query_string_or_begin_one() {
        assert_eq!(with_cursor("/v1/keys", None), "/v1/keys");
        assert_eq!(with_cursor("/v1/keys", Some("c")), "/v1/keys?cursor=c");
        assert_eq!(with_cursor("/v1/keys?q=a", Some("c")), "/v1/keys?q=a&cursor=c");
    }
}
