//! A control plane, upstreams and keys, for Envoys with different configurations.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::control_plane::ControlPlaneOptions;
use omniflow_harness::ports::Port;
use omniflow_harness::{Call, ControlPlane, Envoy, EnvoyOptions, Upstream, bootstrap, eventually};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

const WAIT: Duration = Duration::from_secs(20);
const GATEWAY: &str = "lab";
const CONTACTS: &str = "/api/v1/contacts";

/// What all cases share. Each Envoy runs after the other, on the same ports.
pub(super) struct Lab {
    pub(super) key: String,
    pub(super) revoked: String,
    token: String,
    control_plane: ControlPlane,
    live: Upstream,
    test: Upstream,
    folder: TempDir,
    ports: [Port; 5],
}

impl Lab {
    pub(super) async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let ports =
            [Port::reserve()?, Port::reserve()?, Port::reserve()?, Port::reserve()?, Port::reserve()?];
        let [_, _, control_plane, live, test] = ports.each_ref().map(Port::number);
        let state = folder.path().join("state");
        let control_plane = ControlPlane::start(ControlPlaneOptions::new(&state, control_plane)).await?;
        let token = control_plane.create_token("lab", "gateway").await?;
        let key = control_plane.create_live_key("valid", &["contacts:read"]).await?;
        let revoked = control_plane.create_live_key("revoked", &["contacts:read"]).await?;
        control_plane.revoke(&revoked.id, None).await?;
        Ok(Self {
            key: key.secret,
            revoked: revoked.secret,
            token,
            control_plane,
            live: Upstream::start("live", live)?,
            test: Upstream::start("test", test)?,
            folder,
            ports,
        })
    }

    fn options(&self, edit: impl FnOnce(&mut Value) -> Result<()> + Send + 'static) -> EnvoyOptions {
        let [port, admin, ..] = self.ports.each_ref().map(Port::number);
        let options = EnvoyOptions {
            gateway: GATEWAY.to_owned(),
            workers: 2,
            control_plane_port: self.control_plane.port(),
            live_port: self.live.port(),
            test_port: self.test.port(),
            gateway_token: Some(self.token.clone()),
            ..EnvoyOptions::new(self.folder.path(), port, admin)
        };
        options.edit(edit)
    }

    /// Starts an Envoy with this change to its configuration.
    pub(super) async fn envoy(
        &self,
        edit: impl FnOnce(&mut Value) -> Result<()> + Send + 'static,
    ) -> Result<Envoy> {
        self.live.clear();
        Envoy::start(self.options(edit)).await
    }

    /// Whether Envoy accepts the configuration.
    pub(super) fn validate(
        &self,
        edit: impl FnOnce(&mut Value) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        self.options(edit).validate()
    }

    /// Waits until all VMs of the Envoy that was started last enforce the newest snapshot.
    pub(super) async fn wait_in_step(&self) -> Result<()> {
        // Another change, which only a running Envoy can confirm.
        let name = format!("step-{}", self.control_plane.list("/v1/keys").await?.len());
        self.control_plane.create_live_key(&name, &["contacts:read"]).await?;
        self.control_plane.wait_in_step(GATEWAY, 3, WAIT).await
    }

    /// The status of a call with a key. Only a call that was allowed reaches the upstream, without the key.
    pub(super) async fn status(&self, envoy: &Envoy, key: &str) -> Result<u16> {
        self.live.clear();
        let forged = Call::get(CONTACTS).bearer(key).header("x-omniflow-key-id", "forged");
        let status = envoy.call(forged).await?.status;
        let received = self.live.take();
        ensure!(received.len() == usize::from(status == 200), "{status}, and {} arrived", received.len());
        for request in received {
            ensure!(request.header("authorization").is_none(), "the key reached the upstream");
            let id = request.header("x-omniflow-key-id").context("no identity")?;
            ensure!(id != "forged", "a header of the client reached the upstream");
        }
        Ok(status)
    }

    /// Waits until calls get another status than this one.
    pub(super) async fn wait_for_change(&self, envoy: &Envoy, key: &str, before: u16) -> Result<u16> {
        eventually(WAIT, || async {
            let status = self.status(envoy, key).await?;
            ensure!(status != before, "still {status}");
            Ok(status)
        })
        .await
    }
}

/// The last HTTP filter.
pub(super) fn router() -> Value {
    json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    })
}

/// Replaces all HTTP filters.
pub(super) fn set_filters(config: &mut Value, filters: Vec<Value>) -> Result<()> {
    bootstrap::connection_manager(config)?.insert("http_filters".to_owned(), Value::Array(filters));
    Ok(())
}

fn filters(config: &mut Value) -> Result<&mut Vec<Value>> {
    let manager = bootstrap::connection_manager(config)?;
    manager.get_mut("http_filters").and_then(Value::as_array_mut).context("no http_filters")
}

/// Removes the Wasm filter, and keeps the guard.
pub(super) fn remove_wasm(config: &mut Value) -> Result<()> {
    filters(config)?.retain(|filter| filter["name"] != "omniflow.keys");
    Ok(())
}

/// Inserts another module in front, with the same `vm_id`.
pub(super) fn insert_copy_of_wasm(config: &mut Value, module: &Path) -> Result<()> {
    let filters = filters(config)?;
    let mut copy = filters.first().context("no filter")?.clone();
    copy["name"] = json!("other");
    copy["typed_config"]["config"]["name"] = json!("other");
    copy["typed_config"]["config"]["vm_config"]["code"]["local"]["filename"] = json!(module);
    filters.insert(0, copy);
    Ok(())
}

fn clusters(config: &mut Value) -> Result<&mut Vec<Value>> {
    config["static_resources"]["clusters"].as_array_mut().context("no clusters")
}

fn control_plane(config: &mut Value) -> Result<&mut Value> {
    let found = clusters(config)?.iter_mut().find(|cluster| cluster["name"] == "omniflow_control_plane");
    found.context("no cluster of the control plane")
}

/// Gives the cluster of the control plane another name.
pub(super) fn rename_control_plane(config: &mut Value, name: &str) -> Result<()> {
    let cluster = control_plane(config)?;
    cluster["name"] = json!(name);
    cluster["load_assignment"]["cluster_name"] = json!(name);
    Ok(())
}

/// Replaces the cluster with this name.
pub(super) fn replace_cluster(config: &mut Value, name: &str, with: Value) -> Result<()> {
    let found = clusters(config)?.iter_mut().find(|cluster| cluster["name"] == name);
    *found.context("no such cluster")? = with;
    Ok(())
}

/// Replaces the cluster of the control plane by these, with the address of the lab's control plane.
pub(super) fn add_clusters(config: &mut Value, added: &[Value]) -> Result<()> {
    let endpoints = control_plane(config)?["load_assignment"]["endpoints"].clone();
    clusters(config)?.retain(|cluster| cluster["name"] != "omniflow_control_plane");
    for cluster in added {
        let mut cluster = cluster.clone();
        cluster["load_assignment"]["endpoints"] = endpoints.clone();
        clusters(config)?.push(cluster);
    }
    Ok(())
}

/// Adds the configuration of filters to every route. With a status, routes answer themselves.
pub(super) fn configure_routes(
    config: &mut Value,
    filters: &Map<String, Value>,
    answer: Option<u16>,
) -> Result<()> {
    let manager = bootstrap::connection_manager(config)?;
    let hosts = manager.get_mut("route_config").and_then(|routes| routes["virtual_hosts"].as_array_mut());
    for host in hosts.context("no virtual_hosts")? {
        for route in host["routes"].as_array_mut().context("no routes")? {
            let route = route.as_object_mut().context("no route")?;
            route.insert("typed_per_filter_config".to_owned(), Value::Object(filters.clone()));
            if let Some(status) = answer {
                route.remove("route");
                route.insert("direct_response".to_owned(), json!({"status": status}));
            }
        }
    }
    Ok(())
}
