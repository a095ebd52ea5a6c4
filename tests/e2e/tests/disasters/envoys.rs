//! Crashed VMs, restarted Envoys and replaced configurations, while clients keep calling.

use std::fs;

use omniflow_harness::{Stack, StackOptions, bootstrap, paths};

use super::observer::{Observer, SPENT, Seen, keys, nothing_lost};
use super::table::{note, note_seen};
use super::{SOME, writes_arrive};
use crate::drain::{Replaceable, flush};
use crate::support::{connections, contacts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vms_that_end_under_load() {
    let options = StackOptions::workers(2)
        .edit(|config| bootstrap::set_filter_code(config, &paths::faulty_filter_wasm()?));
    let stack = Stack::start(options).await.unwrap();
    let keys = keys(&stack).await;
    let observer = Observer::start(stack.envoy.port(), &keys);
    observer.passed(SOME).await.unwrap();
    for _ in 0..3 {
        // Enough connections for each worker to have some.
        for client in &mut connections(stack.envoy.port(), 8).await.unwrap() {
            let call = contacts(&keys.good).header("x-fault", "trap");
            assert_eq!(client.call(call).await.unwrap().status, 503);
        }
        observer.passed(SOME).await.unwrap();
    }
    writes_arrive(&stack, "later").await;
    let seen = observer.stop().await;
    seen.holds();
    assert!(
        seen.refused.keys().all(|what| what.starts_with("503") || what == "connection closed"),
        "{seen:?}"
    );
    let reloads = stack.envoy.stat("wasm.omniflow.vm_reload_success").await.unwrap();
    assert!(reloads >= 2, "{reloads} VMs were started anew");
    note_seen("VMs of workers crash under load", &seen);
}

/// A new process has no counters: a key that had used up its limit gets one full bucket.
fn full_buckets(fault: &str, seen: &Seen) {
    assert_eq!(seen.revoked, 0, "{seen:?}");
    // A process that starts waits for the current snapshot, and knows no key until then.
    assert!(!seen.refused.contains_key("401 unknown_key"), "{seen:?}");
    assert!(seen.spent <= SPENT + 1, "more than one full bucket: {seen:?}");
    let keys =
        format!("none accepted; one full bucket refilled: {} calls, with a limit of {SPENT}", seen.spent);
    note(fault, &seen.clients(), &keys);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_is_killed_and_started_again() {
    let mut stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let keys = keys(&stack).await;
    let observer = Observer::start(stack.envoy.port(), &keys);
    observer.passed(SOME).await.unwrap();
    stack.envoy.process().kill().unwrap();
    stack.envoy.restart().await.unwrap();
    stack.in_step().await.unwrap();
    observer.passed(SOME).await.unwrap();
    writes_arrive(&stack, "later").await;
    full_buckets("Envoy killed and restarted", &observer.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_is_restarted_hot() {
    let options = StackOptions { hot_restart: true, ..StackOptions::workers(2) };
    let mut stack = Stack::start(options).await.unwrap();
    let keys = keys(&stack).await;
    let observer = Observer::start(stack.envoy.port(), &keys);
    observer.passed(SOME).await.unwrap();
    stack.envoy.hot_restart().await.unwrap();
    stack.in_step().await.unwrap();
    observer.passed(SOME).await.unwrap();
    writes_arrive(&stack, "later").await;
    full_buckets("Envoy hot restart", &observer.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_is_replaced() {
    let gateway = Replaceable::start(StackOptions::workers(2)).await;
    let keys = keys(&gateway.stack).await;
    let observer = Observer::start(gateway.stack.envoy.port(), &keys);
    for ms in [400, 300, 200] {
        gateway.replace(|config| flush(config, ms)).await;
    }
    observer.passed(SOME).await.unwrap();
    let seen = observer.stop().await;
    seen.holds();
    nothing_lost(&gateway.stack).await;
    note_seen("Envoy configuration replaced under load", &seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_that_is_replaced() {
    let gateway = Replaceable::start(StackOptions::workers(2)).await;
    let keys = keys(&gateway.stack).await;
    let observer = Observer::start(gateway.stack.envoy.port(), &keys);
    let other = gateway.stack.folder().join("another_filter.wasm");
    fs::copy(paths::faulty_filter_wasm().unwrap(), &other).unwrap();
    gateway
        .replace(|config| {
            bootstrap::set_filter_code(config, &other)?;
            flush(config, 200)
        })
        .await;
    observer.passed(SOME).await.unwrap();
    let seen = observer.stop().await;
    seen.holds();
    nothing_lost(&gateway.stack).await;
    note_seen("filter replaced under load", &seen);
}
