//! A revoked key that is still used is detected, listed by the command line, and sent to the webhook.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::ports::Port;
use omniflow_harness::{Stack, StackOptions, Upstream, eventually};
use serde_json::Value;

use crate::support::{contacts, omf, run};

const WAIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn use_after_revocation_is_found_and_sent() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("webhook-secret");
    fs::write(&secret, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDhoQFrQsZvKY=").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let port = Port::reserve().unwrap();
    let receiver = Upstream::start("webhook", port.number()).unwrap();
    let url = format!("http://127.0.0.1:{}/anomalies", port.number());
    let arguments = ["--webhook-url", &url, "--webhook-secret-file", secret.to_str().unwrap()];
    let stack = Stack::start(StackOptions {
        control_plane_arguments: arguments.map(str::to_owned).into(),
        ..StackOptions::default()
    })
    .await
    .unwrap();
    let key = stack.live_key("leaver", &["contacts:read"]).await.unwrap();
    assert_eq!(stack.call(contacts(&key.secret)).await.unwrap().status, 200);
    stack.control_plane.revoke(&key.id, Some(Duration::from_secs(10))).await.unwrap();
    for _ in 0..3 {
        assert_eq!(stack.call(contacts(&key.secret)).await.unwrap().status, 401);
    }
    let found = eventually(WAIT, || async {
        let found = stack.control_plane.list("/v1/anomalies?key=leaver").await?;
        ensure!(found.first().is_some_and(|one| one["evidence"]["observed"] == 3), "{found:?}");
        Ok(found)
    })
    .await
    .unwrap();
    assert_eq!((found.len(), &found[0]["kind"]), (1, &Value::from("used_after_end")));
    let shown = stack.control_plane.list(found[0]["query"].as_str().unwrap()).await.unwrap();
    assert_eq!(shown.len(), 3);
    let mut command = omf(&stack);
    command.args(["anomalies"]);
    let printed = String::from_utf8(run(command).await.stdout).unwrap();
    assert!(printed.contains("leaver was used 3 times after it was revoked"), "{printed}");
    let sent = eventually(WAIT, || async {
        let received = receiver.received();
        ensure!(received.len() == 1, "{} deliveries", received.len());
        Ok(received)
    })
    .await
    .unwrap();
    // The tests of outbound verify the signature. The upstream does not keep bodies.
    let header = |name| sent[0].header(name).unwrap();
    assert!(header("webhook-id").starts_with("msg_"), "{sent:?}");
    assert!(header("webhook-timestamp").parse::<u64>().is_ok(), "{sent:?}");
    assert!(header("webhook-signature").starts_with("v1,"), "{sent:?}");
    assert_eq!(sent[0].path, "/anomalies");
}
