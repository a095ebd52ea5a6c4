//! The filter from its image, as a gateway gets it.

use omniflow_deploy_tests::oci::{Images, LocalRegistry};
use omniflow_harness::bootstrap;
use omniflow_oci::image::VERSION;
use omniflow_oci::registry::Registry;

use super::lab::Lab;

#[tokio::test]
async fn pulled_filter_runs_in_envoy() {
    let images = Images::get().unwrap();
    let registry = LocalRegistry::start().await.unwrap();
    let reference = registry.reference("keys/filter", VERSION).parse().unwrap();
    let client = Registry::new(oci_client::secrets::RegistryAuth::Anonymous, true).unwrap();
    let digest = client.push(&images.filter, &reference).await.unwrap();
    let sha256 = digest.strip_prefix("sha256:").unwrap();
    let module = registry.fetch_filter("keys/filter", VERSION, sha256).await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plugin.wasm");
    std::fs::write(&file, module).unwrap();
    let lab = Lab::start().await.unwrap();
    let envoy = lab.envoy(move |config| bootstrap::set_filter_code(config, &file)).await.unwrap();
    lab.wait_in_step().await.unwrap();
    assert_eq!(lab.status(&envoy, &lab.key).await.unwrap(), 200);
    assert_eq!(lab.status(&envoy, &lab.revoked).await.unwrap(), 401);
}
