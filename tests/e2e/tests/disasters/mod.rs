//! Fault injection with real processes, while clients keep calling: no revoked key is accepted, no limit is refilled, and no
//! acknowledged change is lost.

mod answers;
mod clocks;
mod envoys;
mod observer;
mod storage;
pub(crate) mod table;

use omniflow_harness::{Call, Stack, StackOptions};
use serde_json::json;

use self::observer::{Observer, keys, nothing_lost};
use self::table::note_seen;
use crate::support::{contacts, refusal};

/// The number of successful calls before, during and after a fault.
const SOME: u64 = 200;

/// Checks that changes work: a new key is accepted by the gateway, and refused once it is revoked.
async fn writes_arrive(stack: &Stack, name: &str) {
    stack.in_step().await.unwrap();
    let key = stack.live_key(name, &["contacts:read"]).await.unwrap();
    assert_eq!(stack.call(contacts(&key.secret)).await.unwrap().status, 200);
    stack.control_plane.revoke(&key.id, Some(std::time::Duration::from_secs(10))).await.unwrap();
    let response = stack.call(contacts(&key.secret)).await.unwrap();
    assert_eq!(refusal(&response), (401, Some("key_revoked".to_owned())));
}

/// Attempts a change that must fail, and returns its status.
async fn refused_write(stack: &Stack, name: &str) -> u16 {
    let fields = json!({"name": name, "environment": "live", "scopes": ["contacts:read"]});
    let call = Call::post("/v1/keys", &fields).bearer(stack.control_plane.admin_token());
    stack.control_plane.call(call.within(std::time::Duration::from_secs(20))).await.unwrap().status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_is_killed() {
    let mut stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let keys = keys(&stack).await;
    let observer = Observer::start(stack.envoy.port(), &keys);
    observer.passed(SOME).await.unwrap();
    let acknowledged = stack.control_plane.create_live_key("acknowledged", &["contacts:read"]).await.unwrap();
    stack.control_plane.process().kill().unwrap();
    observer.passed(SOME).await.unwrap();
    stack.control_plane.restart().await.unwrap();
    stack.in_step().await.unwrap();
    assert_eq!(stack.call(contacts(&acknowledged.secret)).await.unwrap().status, 200);
    writes_arrive(&stack, "later").await;
    observer.passed(SOME).await.unwrap();
    let seen = observer.stop().await;
    seen.holds().all_passed();
    nothing_lost(&stack).await;
    note_seen("control plane killed", &seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_hangs() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let keys = keys(&stack).await;
    let observer = Observer::start(stack.envoy.port(), &keys);
    observer.passed(SOME).await.unwrap();
    stack.control_plane.process().pause().unwrap();
    observer.passed(3 * SOME).await.unwrap();
    stack.control_plane.process().resume().unwrap();
    writes_arrive(&stack, "later").await;
    observer.passed(SOME).await.unwrap();
    let seen = observer.stop().await;
    seen.holds().all_passed();
    nothing_lost(&stack).await;
    note_seen("control plane hangs", &seen);
}
