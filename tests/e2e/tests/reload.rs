//! A VM that crashes, and its replacement.

use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::{Stack, StackOptions, bootstrap, eventually, paths};
use serde_json::json;

use crate::support::{connections, contacts, refusal};

const WAIT: Duration = Duration::from_secs(20);

/// With the filter that a request can crash.
fn faulty(options: StackOptions) -> StackOptions {
    options.edit(|config| bootstrap::set_filter_code(config, &paths::faulty_filter_wasm()?))
}

/// The new VM starts from shared data: the control plane is not there, keys are known, and no limit is refilled.
#[tokio::test]
async fn a_reloaded_vm_starts_from_shared_data_and_refills_nothing() {
    let stack = Stack::start(faulty(StackOptions::workers(2))).await.unwrap();
    let fields = json!({
        "name": "spent", "environment": "live", "scopes": ["contacts:read"], "rate_limit": {"per_hour": 20},
    });
    let spent = stack.key(fields).await.unwrap();
    let revoked = stack.live_key("revoked", &["contacts:read"]).await.unwrap();
    stack.control_plane.revoke(&revoked.id, Some(Duration::from_secs(5))).await.unwrap();
    for _ in 0..20 {
        assert_eq!(stack.call(contacts(&spent.secret)).await.unwrap().status, 200);
    }
    stack.control_plane.process().kill().unwrap();

    // Every worker's VM crashes: the connection identifies the worker.
    let mut clients = connections(stack.envoy.port(), 8).await.unwrap();
    for client in &mut clients {
        let response = client.call(contacts(&spent.secret).header("x-fault", "trap")).await.unwrap();
        assert_eq!(response.status, 503, "{}", response.text());
    }
    assert!(stack.live.received().len() == 20, "a request that ended its VM did not pass");
    for client in &mut clients {
        eventually_answers(client, &spent.secret).await;
        let response = client.call(contacts(&spent.secret)).await.unwrap();
        assert_eq!(refusal(&response), (429, Some("rate_limited".to_owned())), "the limit is still spent");
        let response = client.call(contacts(&revoked.secret)).await.unwrap();
        assert_eq!(refusal(&response), (401, Some("key_revoked".to_owned())));
    }
    assert!(stack.envoy.stat("wasm.omniflow.vm_reload_success").await.unwrap() >= 2);
    assert_eq!(stack.live.received().len(), 20);
}

async fn eventually_answers(client: &mut omniflow_harness::Connection, secret: &str) {
    let deadline = std::time::Instant::now() + WAIT;
    loop {
        // Until the new VM is ready, Envoy itself responds, and no request passes.
        let response = client.call(contacts(secret)).await.unwrap();
        if response.problem_code().is_some_and(|code| code != "policy_unavailable") {
            return;
        }
        assert_eq!(response.status, 503, "{}", response.text());
        assert!(std::time::Instant::now() < deadline, "no new VM");
    }
}

/// Whichever VM leads, its end does not keep changes from arriving.
#[tokio::test]
async fn changes_arrive_after_any_vm_has_ended() {
    let stack = Stack::start(faulty(StackOptions::workers(2))).await.unwrap();
    let keys = [
        stack.live_key("first", &["contacts:read"]).await.unwrap(),
        stack.live_key("second", &["contacts:read"]).await.unwrap(),
    ];
    for key in &keys {
        for client in &mut connections(stack.envoy.port(), 8).await.unwrap() {
            client.call(contacts(&key.secret).header("x-fault", "trap")).await.unwrap();
        }
        stack.control_plane.revoke(&key.id, None).await.unwrap();
        eventually(WAIT, || async {
            for _ in 0..8 {
                let response = stack.call(contacts(&key.secret)).await?;
                ensure!(refusal(&response) == (401, Some("key_revoked".to_owned())), "{}", response.text());
            }
            Ok(())
        })
        .await
        .unwrap();
        stack.in_step().await.unwrap();
    }
}
