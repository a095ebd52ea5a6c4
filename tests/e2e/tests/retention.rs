//! Data older than the retention period is purged automatically.

use std::time::Duration;

use anyhow::ensure;
use omniflow_domain::time::DAY_MS;
use omniflow_harness::control_plane::{ControlPlane, ControlPlaneOptions};
use omniflow_harness::ports::Port;
use omniflow_harness::{Call, eventually};
use omniflow_policy::audit::{AuditBatch, AuditRecord, AuditSource};
use omniflow_policy::denial::{Denial, Outcome};
use omniflow_policy::digest::Digest;
use omniflow_policy::gateway::{AUDIT_MEDIA_TYPE, AUDIT_PATH, Incarnation};
use omniflow_policy::time::UnixMillis;

use crate::support::now_millis;

fn record(sequence: u64, time: u64) -> AuditRecord {
    AuditRecord {
        sequence,
        time: UnixMillis(time),
        key: None,
        method: "GET".to_owned(),
        endpoint: None,
        path: "/".to_owned(),
        status: 401,
        grpc_status: None,
        interruption: None,
        outcome: Outcome::Denied(Denial::UnknownKey),
        latency_us: 900,
        source_ip: None,
        request_id: format!("request-{sequence}"),
        request_bytes: 120,
        response_bytes: 340,
        argument_hash: Digest::of(b"\n"),
        argument_hash_partial: false,
    }
}

#[tokio::test]
async fn a_server_purges_what_its_setting_says() {
    let folder = tempfile::tempdir().unwrap();
    let port = Port::reserve().unwrap();
    let server = ControlPlane::start(ControlPlaneOptions::new(folder.path(), port.number())).await.unwrap();
    let token = server.create_token("edge", "gateway").await.unwrap();
    let source = AuditSource { gateway: "edge".to_owned(), incarnation: Incarnation(1), vm: Incarnation(2) };
    let now = now_millis();
    let records = vec![record(0, now - 89 * DAY_MS), record(1, now - 8 * DAY_MS), record(2, now)];
    let call = Call::new("POST", AUDIT_PATH).header("content-type", AUDIT_MEDIA_TYPE).bearer(&token);
    let call = call.body(AuditBatch::from_records(source, records).encode());
    assert_eq!(server.call(call).await.unwrap().status, 204);
    assert_eq!(server.audit("").await.unwrap().len(), 3, "90 days");

    server.stop().unwrap();
    let mut options = ControlPlaneOptions::new(folder.path(), port.number());
    options.arguments = vec!["--audit-days".to_owned(), "7".to_owned()];
    let server = ControlPlane::start(options).await.unwrap();
    eventually(Duration::from_secs(30), || async {
        let left = server.audit("").await?;
        ensure!(left.len() == 1 && left[0]["request_id"] == "request-2", "{left:?}");
        Ok(())
    })
    .await
    .unwrap();
}
