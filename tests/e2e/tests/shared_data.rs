//! Another plugin of the same proxy shares its data with the filter, as all plugins do under Istio.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::{Call, Stack, StackOptions, bootstrap, eventually, paths};
use omniflow_policy::digest::Digest;
use serde_json::{Value, json};

use crate::support::{contacts, refusal};

const WAIT: Duration = Duration::from_secs(30);
const REJECTED: &str = "wasmcustom.omniflow_shared_data_rejected";

/// Puts the probe before the filter, with an empty `vm_id` for both. On each request, it reads the entry that `x-entry` names, or writes
/// back what it has read first.
fn add_plugin(config: &mut Value, probe: &Path) -> Result<()> {
    let filters = bootstrap::connection_manager(config)?.get_mut("http_filters");
    let filters = filters.and_then(Value::as_array_mut).context("no filters")?;
    let is_wasm =
        |filter: &Value| filter["typed_config"]["@type"].as_str().is_some_and(|kind| kind.ends_with(".Wasm"));
    let place = filters.iter().position(is_wasm).context("no Wasm filter")?;
    filters[place]["typed_config"]["config"]["vm_config"]["vm_id"] = json!("");
    let mut plugin = filters[place].clone();
    plugin["name"] = json!("probe");
    let settings = &mut plugin["typed_config"]["config"];
    settings["name"] = json!("probe");
    settings["root_id"] = json!("probe");
    settings["vm_config"]["code"]["local"]["filename"] = json!(probe.display().to_string());
    settings["configuration"]["value"] = json!("write_back 1");
    filters.insert(place, plugin);
    Ok(())
}

/// The name of the only segment of a small image. A plugin cannot know it without the token.
fn segment_name(token: &str) -> String {
    let digest = Digest::of(format!("omniflow shared data 1\0Bearer {token}").as_bytes());
    let id: [u8; 8] = digest.as_bytes()[16..24].try_into().unwrap();
    format!("omniflow/omniflow_control_plane/{:016x}/0/segment/0", u64::from_le_bytes(id))
}

#[tokio::test]
async fn a_plugin_that_writes_an_earlier_segment_back_revives_no_key() {
    let probe = paths::probe_filter_wasm().unwrap();
    let options = StackOptions::workers(1).edit(move |config| add_plugin(config, &probe));
    let mut stack = Stack::start(options).await.unwrap();
    let token = stack.control_plane.create_token("known", "gateway").await.unwrap();
    stack.envoy.restart_with_token(token.clone()).await.unwrap();
    stack.in_step().await.unwrap();
    let key = stack.live_key("crm-sync", &["contacts:read"]).await.unwrap();
    let entry = segment_name(&token);
    let call = || contacts(&key.secret).header("x-entry", &entry);
    assert_eq!(stack.call(call()).await.unwrap().status, 200, "the plugin reads the segment");

    let revoke = Call::new("POST", &format!("/v1/keys/{}/revoke?wait=10s", key.id)).within(WAIT);
    stack.control_plane.expect(200, revoke).await.unwrap();
    let mut statuses = Vec::new();
    eventually(WAIT, || {
        let call = stack.call(call());
        async move {
            let answer = call.await?;
            let refused = refusal(&answer);
            ensure!(answer.status != 200, "the revoked key passes");
            ensure!(refused == (401, Some("key_revoked".to_owned())), "{refused:?}");
            Ok(())
        }
    })
    .await
    .unwrap();
    for _ in 0..20 {
        statuses.push(stack.call(call()).await.unwrap().status);
    }
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    assert!(stack.envoy.stat(REJECTED).await.unwrap() >= 1);
    let log = std::fs::read_to_string(stack.folder().join("envoy.log")).unwrap();
    assert!(log.contains("entries of shared data rejected") && log.contains("a new image is requested"));
    let other = stack.live_key("other", &["contacts:read"]).await.unwrap();
    assert_eq!(stack.call(contacts(&other.secret)).await.unwrap().status, 200, "later changes arrive");
}
