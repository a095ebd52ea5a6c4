//! The OCI images: what a registry and its clients get, and `omf` in a sandbox like its container.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use omniflow_deploy_tests::chart::{containers, render};
use omniflow_deploy_tests::debian::output;
use omniflow_deploy_tests::oci::{Images, LocalRegistry, plugin_layer};
use omniflow_harness::ports::Port;
use omniflow_harness::process::Process;
use omniflow_harness::{Call, client, eventually};
use omniflow_oci::image::{SBOM_MEDIA_TYPE, VERSION};
use omniflow_oci::layout::Layout;
use omniflow_oci::registry::Registry;
use serde_json::{Value, json};

const WAIT: Duration = Duration::from_secs(30);

async fn push(registry: &LocalRegistry, layout: &Layout, repository: &str) -> String {
    let reference = registry.reference(repository, VERSION).parse().unwrap();
    let client = Registry::new(oci_client::secrets::RegistryAuth::Anonymous, true).unwrap();
    client.push(layout, &reference).await.unwrap()
}

fn config(layout: &Layout) -> Value {
    let manifest = layout.image().unwrap().parsed;
    serde_json::from_slice(&layout.blob(&manifest.config.digest).unwrap()).unwrap()
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[tokio::test]
async fn registry_stores_images_with_their_sboms() {
    let images = Images::get().unwrap();
    let registry = LocalRegistry::start().await.unwrap();
    for (layout, name) in [(&images.omf, "keys/omf"), (&images.filter, "keys/filter")] {
        let digest = push(&registry, layout, name).await;
        // Again, which changes nothing.
        assert_eq!(push(&registry, layout, name).await, digest);
        assert_eq!(registry.manifest(name, VERSION).await.unwrap(), layout.image().unwrap().bytes);

        let tag = digest.replace(':', "-");
        let referrers = json(&registry.manifest(name, &tag).await.unwrap());
        let [entry] = &referrers["manifests"].as_array().unwrap()[..] else { panic!("{referrers}") };
        assert_eq!(entry["artifactType"], SBOM_MEDIA_TYPE);
        let sbom = registry.manifest(name, entry["digest"].as_str().unwrap()).await.unwrap();
        let sbom = json(&sbom);
        assert_eq!(sbom["subject"]["digest"], digest.as_str());
        let document = registry.blob(name, sbom["layers"][0]["digest"].as_str().unwrap()).await.unwrap();
        assert_eq!(json(&document)["bomFormat"], "CycloneDX");
    }
}

#[tokio::test]
async fn fetchers_refuse_other_images() {
    let images = Images::get().unwrap();
    let registry = LocalRegistry::start().await.unwrap();
    let digest = push(&registry, &images.omf, "keys/omf").await;
    let sha256 = digest.strip_prefix("sha256:").unwrap();
    let error = registry.fetch_filter("keys/omf", VERSION, sha256).await.unwrap_err();
    assert!(error.to_string().contains("no plugin.wasm"), "{error}");

    let digest = push(&registry, &images.filter, "keys/filter").await;
    let error = registry.fetch_filter("keys/filter", VERSION, sha256).await.unwrap_err();
    assert!(error.to_string().contains(&digest), "{error}");

    let layer = |media_type: &str| json!({"mediaType": media_type, "digest": "sha256:00"});
    let module = layer("application/vnd.module.wasm.content.layer.v1+wasm");
    assert!(plugin_layer(&json!({"layers": [module, layer("text/plain")]})).is_ok());
    assert!(plugin_layer(&json!({"layers": [module]})).is_err());
    assert!(plugin_layer(&json!({"layers": [layer("application/wasm")]})).is_err());
    assert!(plugin_layer(&json!({"manifests": []})).is_err());
}

#[test]
fn chart_agrees_with_the_image() {
    let images = Images::get().unwrap();
    let config = config(&images.omf);
    let set = render(&["minimal"], &[]).unwrap();
    let pod = &set.of_kind("StatefulSet").next().unwrap()["spec"]["template"]["spec"];
    let container = containers(pod).find(|container| container["name"] == "omf").unwrap();
    assert!(container["image"].as_str().unwrap().ends_with(&format!(":{VERSION}")), "{}", container["image"]);
    assert_eq!(container["args"], config["config"]["Cmd"]);
    let user = &pod["securityContext"];
    let user = format!("{}:{}", user["runAsUser"], user["runAsGroup"]);
    assert_eq!(config["config"]["User"], user);
    let variables = config["config"]["Env"].as_array().unwrap();
    let data = omniflow_deploy_tests::chart::env(container, "OMF_DATA_DIR").unwrap();
    assert!(variables.contains(&json!(format!("OMF_DATA_DIR={data}"))), "{variables:?}");
}

/// The words and the environment of a container of the image, with these arguments.
fn add_words(command: &mut std::process::Command, config: &Value, arguments: &[&str]) {
    let texts = |name: &str| {
        config["config"][name].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned())
    };
    for variable in texts("Env") {
        let (name, value) = variable.split_once('=').unwrap();
        command.env(name, value);
    }
    command.args(texts("Entrypoint")).args(arguments);
}

#[tokio::test]
async fn omf_serves_with_a_read_only_root() {
    let images = Images::get().unwrap();
    let config = config(&images.omf);
    let folder = tempfile::tempdir().unwrap();
    let [root, volume] = ["root", "volume"].map(|name| folder.path().join(name));
    images.omf.unpack(&root).unwrap();
    fs::create_dir(&volume).unwrap();
    let sandbox = |arguments: &[&str]| {
        let mut command = images.sandbox(&root, &volume).unwrap();
        add_words(&mut command, &config, arguments);
        command
    };
    assert_eq!(output(&mut sandbox(&["--version"])).unwrap().trim(), format!("omf {VERSION}"));

    let written = sandbox(&["man", "/manual"]).output().unwrap();
    assert!(!written.status.success());
    let message = String::from_utf8(written.stderr).unwrap();
    assert!(message.contains("Read-only file system"), "{message}");

    let port = Port::reserve().unwrap();
    let address = client::local(port.number());
    let mut command = sandbox(&["serve"]);
    command.env("OMF_LISTEN", address.to_string());
    let process = Process::spawn("omf", &mut command, &folder.path().join("log")).unwrap();
    eventually(WAIT, || async {
        let ready = client::call(port.number(), Call::get("/readyz")).await?;
        ensure!(ready.status == 200, "{}", process.log_end(5));
        Ok(())
    })
    .await
    .unwrap();
    let mut command = sandbox(&["key", "list"]);
    command.env("OMF_URL", format!("http://{address}"));
    command.env("OMF_TOKEN_FILE", "/var/lib/omniflow/data/admin-token");
    output(&mut command).unwrap();
    assert!(Path::new(&volume).join("data").is_dir());
}
