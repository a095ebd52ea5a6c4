//! The objects of the chart, converted into the configuration that istiod and Envoy Gateway generate, in a real Envoy.
//!
//! The table in `docs/guides/kubernetes.md` has the status of each case; `UPDATE_DOCS=1` writes it.

mod lab;
mod pulled_image;
mod second_plugin;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use omniflow_deploy_tests::chart::{Manifests, render};
use omniflow_deploy_tests::envoy_gateway::{self, Generated};
use omniflow_deploy_tests::istio::{self, Listener};
use omniflow_harness::bootstrap;
use omniflow_harness::paths;
use serde_json::{Value, json};

use self::lab::{Lab, set_filters};

/// The page and the markers of the table.
const PAGE: &str = "docs/guides/kubernetes.md";
const BEGIN: &str = "<!-- data plane: made by tests/deploy -->\n";
const END: &str = "<!-- end of data plane -->";

const COLUMNS: [&str; 5] = ["allowed", "revoked key", "filter absent", "pull failed", "second plugin"];

/// Without TLS to the control plane, and with the defaults of the filter: the connection of the filter is that of the lab.
fn manifests() -> Manifests {
    render(&["full"], &["tls.enabled=false", r#"filter.config={"credential_header":"any"}"#]).unwrap()
}

type Row = [String; 5];

#[tokio::test]
async fn every_data_plane_answers_as_documented() {
    let lab = Lab::start().await.unwrap();
    let set = manifests();
    let rows = BTreeMap::from([
        ("Istio, gateway", istio(&lab, &set, "public", Listener::Gateway).await.unwrap()),
        ("Istio, sidecar", istio(&lab, &set, "billing", Listener::Inbound).await.unwrap()),
        ("Istio, waypoint", istio(&lab, &set, "mesh", Listener::Inbound).await.unwrap()),
        ("Envoy Gateway", envoy_gateway(&lab, &set).await.unwrap()),
        ("plain Envoy", plain(&lab).await.unwrap()),
    ]);
    let expected: BTreeMap<&str, [&str; 5]> = BTreeMap::from([
        ("Istio, gateway", ["200", "401", "403", "403", "200"]),
        ("Istio, sidecar", ["200", "401", "403", "403", "200"]),
        ("Istio, waypoint", ["200", "401", "403", "403", "200"]),
        ("Envoy Gateway", ["200", "401", "403", "403", "200"]),
        ("plain Envoy", ["200", "401", "403", "does not start", "200"]),
    ]);
    let found: BTreeMap<&str, [&str; 5]> =
        rows.iter().map(|(name, row)| (*name, row.each_ref().map(String::as_str))).collect();
    assert_eq!(found, expected);
    check_page(&rows);
}

fn check_page(rows: &BTreeMap<&str, Row>) {
    let mut table = format!("\n| data plane | {} |\n|---|---|---|---|---|---|\n", COLUMNS.join(" | "));
    for name in ["Istio, gateway", "Istio, sidecar", "Istio, waypoint", "Envoy Gateway", "plain Envoy"] {
        table += &format!("| {name} | {} |\n", rows[name].join(" | "));
    }
    let path = paths::root().join(PAGE);
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (kept, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        fs::write(&path, format!("{before}{BEGIN}{table}\n{END}{after}")).unwrap();
    } else {
        assert_eq!(kept.trim(), table.trim(), "{PAGE} has another table: UPDATE_DOCS=1 writes it");
    }
}

/// The HTTP filters of a gateway of Istio: plugins of the phase AUTHN, then authorization, then the router.
fn istio_filters(plugins: Vec<Value>) -> Vec<Value> {
    let authorization = json!({
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "ALLOW", "policies": {"has-a-key": {
                "permissions": [{"any": true}],
                "principals": [{"header": {"name": "x-omniflow-key-id", "present_match": true}}],
            }}},
        },
    });
    [plugins, vec![authorization, lab::router()]].concat()
}

async fn istio(lab: &Lab, set: &Manifests, name: &str, listener: Listener) -> Result<Row> {
    let plugin = set.find("WasmPlugin", &format!("omniflow-{name}"))?.clone();
    let guard = set.find("EnvoyFilter", &format!("omniflow-{name}-guard"))?.clone();
    let cluster = plugin["spec"]["pluginConfig"]["cluster"].as_str().context("no cluster")?.to_owned();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("plugin.json");
    let second = folder.path().join("second.json");
    istio::deliver(&file, &istio::resource(&plugin, &paths::filter_wasm()?)?)?;
    let filters = |plugins: Vec<Value>| {
        let (guard, cluster) = (guard.clone(), cluster.clone());
        move |config: &mut Value| {
            lab::rename_control_plane(config, &cluster)?;
            set_filters(config, istio_filters(plugins))?;
            let mut manager = Value::Object(bootstrap::connection_manager(config)?.clone());
            istio::patch(&guard, listener, &mut manager)?;
            *bootstrap::connection_manager(config)? = manager.as_object().cloned().context("no manager")?;
            Ok(())
        }
    };
    let attached = |plugin: &Value| {
        if istio::matches(plugin, listener) { vec![istio::filter(plugin, &file)] } else { Vec::new() }
    };

    let envoy = lab.envoy(filters(attached(&plugin))).await?;
    lab.wait_in_step().await?;
    let allowed = lab.status(&envoy, &lab.key).await?;
    let revoked = lab.status(&envoy, &lab.revoked).await?;
    istio::deliver(&file, &istio::failed_pull(&plugin))?;
    let pull_failed = lab.wait_for_change(&envoy, &lab.key, allowed).await?;
    drop(envoy);

    // A plugin for the other class of listeners, as `match` with SERVER is at a gateway.
    let mut elsewhere = plugin.clone();
    let mode = if listener == Listener::Gateway { "SERVER" } else { "CLIENT" };
    elsewhere["spec"]["match"] = json!([{"mode": mode}]);
    let envoy = lab.envoy(filters(attached(&elsewhere))).await?;
    let absent = lab.status(&envoy, &lab.key).await?;
    drop(envoy);

    istio::deliver(&file, &istio::resource(&plugin, &paths::filter_wasm()?)?)?;
    let mut other = plugin.clone();
    other["metadata"]["name"] = json!("other");
    let wasm = folder.path().join("other.wasm");
    fs::write(&wasm, second_plugin::module())?;
    istio::deliver(&second, &istio::resource(&other, &wasm)?)?;
    let envoy =
        lab.envoy(filters(vec![istio::filter(&other, &second), istio::filter(&plugin, &file)])).await?;
    lab.wait_in_step().await?;
    let with_second = lab.status(&envoy, &lab.key).await?;
    ensure!(lab.status(&envoy, &lab.revoked).await? == revoked, "with a second plugin");
    Ok([allowed, revoked, absent, pull_failed, with_second].map(|status| status.to_string()))
}

async fn envoy_gateway(lab: &Lab, set: &Manifests) -> Result<Row> {
    let extension = set.find("EnvoyExtensionPolicy", "omniflow-edge")?.clone();
    let security = set.find("SecurityPolicy", "omniflow-edge-guard")?.clone();
    let proxy = set.find("EnvoyProxy", "omniflow-edge")?.clone();
    let wasm = paths::filter_wasm()?;
    let folder = tempfile::tempdir()?;
    let other = folder.path().join("other.wasm");
    fs::write(&other, second_plugin::module())?;

    let with = |extension: &Value, security: &Value, files: &[&Path]| -> Result<Generated> {
        let mut generated = Generated::default();
        envoy_gateway::add_extensions(extension, files, &mut generated);
        envoy_gateway::add_authorization(security, &mut generated)?;
        Ok(generated)
    };
    let edit = |generated: Generated, answer: Option<u16>| {
        let proxy = proxy.clone();
        move |config: &mut Value| {
            lab::add_clusters(config, &envoy_gateway::clusters(&proxy)?)?;
            set_filters(config, [generated.filters, vec![lab::router()]].concat())?;
            lab::configure_routes(config, &generated.routes, answer)
        }
    };

    let envoy = lab.envoy(edit(with(&extension, &security, &[&wasm])?, None)).await?;
    lab.wait_in_step().await?;
    let allowed = lab.status(&envoy, &lab.key).await?;
    let revoked = lab.status(&envoy, &lab.revoked).await?;
    drop(envoy);

    // A route with an extension policy of its own, without the plugin.
    let envoy = lab.envoy(edit(with(&json!({}), &security, &[])?, None)).await?;
    let absent = lab.status(&envoy, &lab.key).await?;
    drop(envoy);
    // Routes then answer 500 themselves. The guard comes first.
    let envoy = lab.envoy(edit(with(&json!({}), &security, &[])?, Some(500))).await?;
    let pull_failed = lab.status(&envoy, &lab.key).await?;
    drop(envoy);

    let mut two = extension.clone();
    let mut second = two["spec"]["wasm"][0].clone();
    second["name"] = json!("other");
    two["spec"]["wasm"].as_array_mut().context("no plugins")?.insert(0, second);
    let envoy = lab.envoy(edit(with(&two, &security, &[&other, &wasm])?, None)).await?;
    lab.wait_in_step().await?;
    let with_second = lab.status(&envoy, &lab.key).await?;
    ensure!(lab.status(&envoy, &lab.revoked).await? == revoked, "with a second plugin");
    drop(envoy);

    // A string is never equal to the bytes of filter state: with it, every request would be refused.
    let mut text = security.clone();
    text["spec"]["authorization"]["rules"][0]["cel"] = json!("filter_state['wasm.omf_ok'] == '1'");
    let envoy = lab.envoy(edit(with(&extension, &text, &[&wasm])?, None)).await?;
    lab.wait_in_step().await?;
    assert_eq!(lab.status(&envoy, &lab.key).await?, 403);
    Ok([allowed, revoked, absent, pull_failed, with_second].map(|status| status.to_string()))
}

/// The configuration that `envoy/operator.yaml` and the demo share.
async fn plain(lab: &Lab) -> Result<Row> {
    let envoy = lab.envoy(|_: &mut Value| Ok(())).await?;
    lab.wait_in_step().await?;
    let allowed = lab.status(&envoy, &lab.key).await?;
    let revoked = lab.status(&envoy, &lab.revoked).await?;
    drop(envoy);
    let envoy = lab.envoy(lab::remove_wasm).await?;
    let absent = lab.status(&envoy, &lab.key).await?;
    drop(envoy);
    let missing =
        lab.validate(|config| bootstrap::set_filter_code(config, Path::new("/does/not/exist.wasm")));
    let pull_failed = if missing.is_err() { "does not start" } else { "starts" };
    let folder = tempfile::tempdir()?;
    let other = folder.path().join("other.wasm");
    fs::write(&other, second_plugin::module())?;
    let envoy = lab.envoy(move |config| lab::insert_copy_of_wasm(config, &other)).await?;
    lab.wait_in_step().await?;
    let with_second = lab.status(&envoy, &lab.key).await?.to_string();
    ensure!(lab.status(&envoy, &lab.revoked).await? == revoked, "with a second plugin");
    let row =
        [allowed.to_string(), revoked.to_string(), absent.to_string(), pull_failed.to_owned(), with_second];
    Ok(row)
}

/// The clusters of Envoy Gateway and the listeners of the guards, with TLS as the chart renders them.
#[tokio::test]
async fn envoy_accepts_the_cluster_with_tls() {
    let lab = Lab::start().await.unwrap();
    let set = render(&["full"], &[]).unwrap();
    let proxy = set.find("EnvoyProxy", "omniflow-edge").unwrap().clone();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.crt");
    fs::write(&ca, rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap().cert.pem()).unwrap();
    let text = envoy_gateway::clusters(&proxy).unwrap()[0].to_string();
    assert!(text.contains("/etc/omniflow/ca/ca.crt"));
    let add = |text: String| {
        move |config: &mut Value| {
            let cluster: Value = serde_json::from_str(&text)?;
            lab::replace_cluster(config, "omniflow_control_plane", cluster)
        }
    };
    lab.validate(add(text.replace("/etc/omniflow/ca/ca.crt", ca.to_str().unwrap()))).unwrap();
    let error = lab.validate(add(text)).unwrap_err();
    assert!(error.to_string().contains("/etc/omniflow/ca/ca.crt"), "{error}");
}
