//! The demo's key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::control_plane::NewKey;
use omniflow_harness::{Call, ControlPlane, Envoy, Response, eventually};
use serde_json::json;

/// Marks the demo's own keys, so that no other key is ever revoked.
const DESCRIPTION: &str = "Made by make run";
/// Every key with a read scope may call this.
pub(crate) const PATH: &str = "/api/v1/conversations";
const FIRST_CALL: Duration = Duration::from_secs(15);

/// Revokes the keys of earlier runs, whose secrets are lost, and creates a new one with all read scopes.
pub(crate) async fn renew(control_plane: &ControlPlane) -> Result<NewKey> {
    for key in control_plane.list("/v1/keys?q=demo-").await? {
        let ours = key["description"] == DESCRIPTION && key["status"] != "revoked";
        if let (true, Some(id)) = (ours, key["id"].as_str()) {
            control_plane.revoke(id, None).await?;
        }
    }
    let policy = control_plane.get("/v1/policy").await?;
    let scopes: Vec<&str> = policy["document"]["scopes"]
        .as_array()
        .context("the policy has no scopes")?
        .iter()
        .filter_map(|scope| scope["name"].as_str())
        .filter(|name| name.ends_with(":read"))
        .collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let fields = json!({
        "name": format!("demo-{now}"),
        "environment": "live",
        "scopes": scopes,
        "description": DESCRIPTION,
    });
    control_plane.create_key(fields).await
}

/// Repeats the call that the demo is about to recommend until the gateway accepts the key.
pub(crate) async fn first_call(envoy: &Envoy, key: &NewKey) -> Result<Response> {
    eventually(FIRST_CALL, || async {
        let response = envoy.call(Call::get(PATH).bearer(&key.secret)).await?;
        ensure!(response.status == 200, "{}: {}", response.status, response.text());
        Ok(response)
    })
    .await
    .context("the demo key does not get through")
}
