//! A graceful shutdown loses no record, whether of a configuration, of a filter, or of Envoy.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::{Stack, StackOptions, bootstrap, eventually, paths};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::disasters::table::note;
use crate::gateway_loss;
use crate::load::Load;
use crate::support::{contacts, now_millis, run};

const WAIT: Duration = Duration::from_secs(60);
/// So long that nothing but a hand-over sends what a test makes.
const NEVER_MS: u64 = 60_000;
const SOON_MS: u64 = 50;
/// As it is by default.
const FLUSH_MS: u64 = 500;
/// A tick, the call itself, and the way to the control plane of a machine that is busy.
const MARGIN_MS: u64 = 1_000;
const REQUESTS: &str = "http.ingress.downstream_rq_total";
/// Attempts to reach a control plane that is not there.
const REFUSED: &str = "cluster.omniflow_control_plane.upstream_cx_connect_fail";
/// Envoy's name for an update that replaces only the filter chain of a listener.
const REPLACED: &str = "listener_manager.listener_in_place_updated";

/// A stack whose listener is in a separate file, which Envoy reads again when it is replaced.
pub(crate) struct Replaceable {
    pub(crate) stack: Stack,
    secret: String,
    folder: TempDir,
}

impl Replaceable {
    pub(crate) async fn start(options: StackOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = listener_file(folder.path());
        let options = options.plugin("audit_flush_ms", NEVER_MS).edit(move |config| {
            let listener = config["static_resources"]["listeners"][0].take();
            config["static_resources"]["listeners"] = json!([]);
            config["dynamic_resources"] =
                json!({"lds_config": {"path_config_source": {"path": file.display().to_string()}}});
            write_listener(&file, listener)
        });
        let stack = Stack::start(options).await.unwrap();
        let secret = unlimited(&stack).await;
        Self { stack, secret, folder }
    }

    /// Replaces the listener under load, and waits until the old one is gone.
    pub(crate) async fn replace(&self, change: impl FnOnce(&mut Value) -> Result<()>) {
        let file = listener_file(self.folder.path());
        let mut discovered: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let listener = discovered["resources"][0].take();
        let mut config = json!({"static_resources": {"listeners": [listener]}});
        change(&mut config).unwrap();
        self.hear(500).await;
        let before = self.stat(REPLACED).await;
        write_listener(&file, config["static_resources"]["listeners"][0].take()).unwrap();
        eventually(WAIT, || async {
            let replaced = self.stat(REPLACED).await;
            let draining = self.stat("listener_manager.total_filter_chains_draining").await;
            ensure!(replaced > before && draining == 0, "{replaced} replaced, {draining} draining");
            Ok(())
        })
        .await
        .unwrap();
    }

    /// Waits for this many more requests.
    async fn hear(&self, requests: u64) {
        let enough = self.stat(REQUESTS).await + requests;
        eventually(WAIT, || async {
            let now = self.stat(REQUESTS).await;
            ensure!(now >= enough, "{now} of {enough} requests");
            Ok(())
        })
        .await
        .unwrap();
    }

    async fn stat(&self, name: &str) -> u64 {
        self.stack.envoy.stat(name).await.unwrap()
    }
}

fn listener_file(folder: &Path) -> PathBuf {
    folder.join("listeners.json")
}

/// Envoy looks when a file is moved into place.
fn write_listener(file: &Path, mut listener: Value) -> Result<()> {
    listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    let next = file.with_extension("next");
    fs::write(&next, json!({"resources": [listener]}).to_string())?;
    Ok(fs::rename(&next, file)?)
}

pub(crate) fn flush(config: &mut Value, ms: u64) -> Result<()> {
    let fields = json!({"audit_flush_ms": ms});
    bootstrap::merge_plugin_configuration(config, fields.as_object().context("an object")?)
}

async fn unlimited(stack: &Stack) -> String {
    let fields = json!({
        "name": "busy", "environment": "live", "scopes": ["contacts:read"], "rate_limit": {"per_minute": 1_000_000},
    });
    stack.key(fields).await.unwrap().secret
}

/// The number of calls in the log, aggregated ones included, and the number of calls in its gaps.
async fn logged_and_missing_calls(stack: &Stack) -> Result<(u64, u64)> {
    let stats = stack.control_plane.get("/v1/audit/stats").await?;
    let calls = stats["total"]["calls"].as_u64().context("no total")?;
    let gaps = stack.control_plane.list("/v1/audit/gaps").await?;
    Ok((calls, gaps.iter().filter_map(|gap| gap["missing"].as_u64()).sum()))
}

/// Waits until each request that Envoy has counted is in the log, and no record is in transit or reported as lost.
async fn nothing_lost(stack: &Stack) -> u64 {
    eventually(WAIT, || async {
        let counted = stack.envoy.stat(REQUESTS).await?;
        let waiting = stack.envoy.stat("wasmcustom.omniflow_audit_records_waiting").await?;
        let (reported, lost) = logged_and_missing_calls(stack).await?;
        ensure!(
            (reported, lost, waiting) == (counted, 0, 0),
            "{counted} requests, {reported} reported, {lost} lost, {waiting} waiting"
        );
        Ok(counted)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_configuration_loses_no_record_of_the_old_one() {
    let gateway = Replaceable::start(StackOptions::workers(2)).await;
    let load = Load::start(gateway.stack.envoy.port(), 16, 1_000, &contacts(&gateway.secret));
    for ms in [NEVER_MS - 1, NEVER_MS - 2, SOON_MS] {
        gateway.replace(|config| flush(config, ms)).await;
    }
    let done = load.stop().await;
    assert!(done.answered > 1_000, "{done:?}");
    let counted = nothing_lost(&gateway.stack).await;
    assert!(counted >= done.answered, "{counted} of {done:?}");
    assert_eq!(gateway.stat("wasmcustom.omniflow_audit_records_lost").await, 0);
}

/// Another filter has its own VMs, and Envoy removes those of the old one with all their data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_filter_loses_no_record_of_the_old_one() {
    let gateway = Replaceable::start(StackOptions::workers(2)).await;
    let load = Load::start(gateway.stack.envoy.port(), 16, 1_000, &contacts(&gateway.secret));
    gateway
        .replace(|config| {
            bootstrap::set_filter_code(config, &paths::faulty_filter_wasm()?)?;
            flush(config, SOON_MS)
        })
        .await;
    let done = load.stop().await;
    assert!(done.answered > 500, "{done:?}");
    nothing_lost(&gateway.stack).await;
}

/// Records that were handed over wait for an unavailable control plane.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_handed_over_waits_for_the_control_plane() {
    let mut gateway = Replaceable::start(StackOptions::workers(2)).await;
    gateway.stack.control_plane.process().kill().unwrap();
    let load = Load::start(gateway.stack.envoy.port(), 16, 1_000, &contacts(&gateway.secret));
    gateway.replace(|config| flush(config, NEVER_MS - 1)).await;
    gateway.replace(|config| flush(config, SOON_MS)).await;
    load.stop().await;
    let waiting = gateway.stat("wasmcustom.omniflow_audit_records_waiting").await;
    assert!(waiting > 500, "{waiting} waiting");
    let before = gateway.stat(REFUSED).await;
    eventually(WAIT, || async {
        let refused = gateway.stat(REFUSED).await - before;
        ensure!(refused >= 5, "{refused} attempts");
        Ok(())
    })
    .await
    .unwrap();
    gateway.stack.control_plane.restart().await.unwrap();
    nothing_lost(&gateway.stack).await;
}

/// The VMs with the cluster of another control plane do not share state with the old ones: the last of the old ones
/// delivers its records itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_gets_another_cluster_loses_no_record_either() {
    let options = StackOptions::workers(2).edit(|config| {
        let clusters = config["static_resources"]["clusters"].as_array_mut().context("no clusters")?;
        let known = clusters.iter().find(|cluster| cluster["name"] == "omniflow_control_plane");
        let mut other = known.context("no cluster of the control plane")?.clone();
        other["name"] = json!("other");
        other["load_assignment"]["cluster_name"] = json!("other");
        clusters.push(other);
        Ok(())
    });
    let gateway = Replaceable::start(options).await;
    let load = Load::start(gateway.stack.envoy.port(), 16, 1_000, &contacts(&gateway.secret));
    gateway
        .replace(|config| {
            let fields = json!({"cluster": "other", "audit_flush_ms": SOON_MS});
            bootstrap::merge_plugin_configuration(config, fields.as_object().context("an object")?)
        })
        .await;
    load.stop().await;
    nothing_lost(&gateway.stack).await;
}

/// The procedure of `docs/guides/draining.md`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_is_drained_before_it_ends_loses_no_record() {
    let mut options = StackOptions::workers(2);
    options.control_plane_arguments = vec!["--gateway-lease".to_owned(), "2".to_owned()];
    let stack = Stack::start(options).await.unwrap();
    let secret = unlimited(&stack).await;
    let incarnation = gateway_loss::incarnation(&stack).await;
    let load = Load::start(stack.envoy.port(), 16, 1_000, &contacts(&secret));
    eventually(WAIT, || async {
        let (reported, _) = logged_and_missing_calls(&stack).await?;
        ensure!(reported > 500, "{reported} reported");
        Ok(())
    })
    .await
    .unwrap();
    let mut drain = Command::new(paths::root().join("scripts/drain-envoy.sh"));
    drain.arg(format!("127.0.0.1:{}", stack.envoy.admin_port())).arg("30");
    let output = run(drain).await;
    assert!(output.status.success(), "{output:?}");
    let status = stack.envoy.process().wait(WAIT).unwrap();
    let done = load.stop().await;
    assert!(status.success(), "{status}");

    // No VM delivers records anymore, so the log is complete.
    let counted = stack.envoy.access_log().unwrap().len() as u64;
    assert!(counted >= done.answered && counted > 1_000, "{counted} of {done:?}");
    assert_eq!(logged_and_missing_calls(&stack).await.unwrap(), (counted, 0));
    note(
        "Envoy drained",
        &format!("all {counted} calls got a response before Envoy exited"),
        "as before, until the process exits",
    );
    gateway_loss::silent_for_long(&stack, &incarnation).await;
    let gaps = stack.control_plane.list("/v1/audit/gaps").await.unwrap();
    assert_eq!(gaps, [] as [Value; 0], "the control plane knows that it took nothing along");
}

/// Without the drain, the calls of the last moments have no record; `gateway_loss` has the gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_is_just_stopped_loses_the_last_moments_only() {
    let options = StackOptions::workers(2).plugin("audit_flush_ms", FLUSH_MS);
    let stack = Stack::start(options).await.unwrap();
    let secret = unlimited(&stack).await;
    let load = Load::start(stack.envoy.port(), 16, 1_000, &contacts(&secret));
    // Eight seconds: several times as long as what may be missing.
    eventually(WAIT, || async {
        let requests = stack.envoy.stat(REQUESTS).await?;
        ensure!(requests > 8_000, "{requests} requests");
        Ok(())
    })
    .await
    .unwrap();
    let stopped = now_millis();
    assert!(stack.envoy.stop().unwrap().success());
    load.stop().await;

    let records = stack.control_plane.audit("limit=500").await.unwrap();
    let recorded: HashSet<&str> = records.iter().filter_map(|record| record["request_id"].as_str()).collect();
    let calls = stack.envoy.access_log().unwrap();
    let missing: Vec<u64> = calls
        .iter()
        .filter(|call| !recorded.contains(call["request_id"].as_str().unwrap_or_default()))
        .map(|call| {
            let time: jiff::Timestamp = call["time"].as_str().unwrap().parse().unwrap();
            stopped.saturating_sub(u64::try_from(time.as_millisecond()).unwrap())
        })
        .collect();
    let oldest = missing.iter().max().copied().unwrap_or(0);
    println!("{} of {} calls have no record, the oldest of {oldest} ms before", missing.len(), calls.len());
    assert!(oldest < FLUSH_MS + MARGIN_MS, "a call of {oldest} ms before the end has no record");
}
