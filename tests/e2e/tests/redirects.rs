//! Redirects that Envoy follows itself.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use omniflow_harness::bootstrap::connection_manager;
use omniflow_harness::control_plane::NewKey;
use omniflow_harness::{Call, Stack, StackOptions, eventually};
use serde_json::{Value, json};

use crate::support::{CONTACTS, refusal};

const WAIT: Duration = Duration::from_secs(30);
const OTHER: &str = "/api/v1/conversations";

async fn stack(options: StackOptions) -> Stack {
    let options = options.edit(|config| {
        let hosts = connection_manager(config)?
            .get_mut("route_config")
            .and_then(|routes| routes.pointer_mut("/virtual_hosts/0/routes").and_then(Value::as_array_mut));
        for route in hosts.context("no routes")? {
            route["route"]["internal_redirect_policy"] = json!({"redirect_response_codes": [302, 303]});
        }
        Ok(())
    });
    Stack::start(options).await.unwrap()
}

/// A call to which the upstream answers with a redirect.
fn redirected(stack: &Stack, key: &NewKey, target: &str) -> Call {
    Call::get(&format!("{CONTACTS}/status/302"))
        .bearer(&key.secret)
        .header("x-echo-headers", &location(stack, target))
}

fn location(stack: &Stack, target: &str) -> String {
    format!("location=http://127.0.0.1:{}{target}", stack.envoy.port())
}

async fn records(stack: &Stack) -> Vec<Value> {
    eventually(WAIT, || async {
        let records = stack.control_plane.audit("limit=500").await?;
        ensure!(!records.is_empty(), "no record");
        ensure!(
            stack.envoy.stat("wasmcustom.omniflow_audit_records_waiting").await? == 0,
            "records are waiting"
        );
        Ok(records)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_redirected_request_is_charged_once_and_recorded_once() {
    for strip_credential in [true, false] {
        let stack = stack(StackOptions::workers(2).plugin("strip_credential", strip_credential)).await;
        let key = stack.live_key("redirected", &["contacts:read"]).await.unwrap();
        let target = format!("{CONTACTS}/7");
        let response = stack.call(redirected(&stack, &key, &target)).await.unwrap();
        assert_eq!(
            (refusal(&response), response.number("x-ratelimit-remaining").unwrap()),
            ((200, None), 59)
        );
        let received = stack.live.take();
        let paths: Vec<_> = received.iter().map(|request| request.path.as_str()).collect();
        assert_eq!(paths, [&format!("{CONTACTS}/status/302"), &target]);
        for request in &received {
            assert_eq!(request.header("x-omniflow-key-id"), Some(key.id.as_str()), "{request:?}");
            assert_eq!(request.header("authorization").is_some(), !strip_credential, "{request:?}");
        }
        let records = records(&stack).await;
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!((&records[0]["path"], &records[0]["status"]), (&json!(target), &json!(200)));
        assert_eq!((&records[0]["key_id"], &records[0]["decision"]), (&json!(key.id), &json!("allowed")));
        assert_eq!(stack.envoy.stat("wasmcustom.omniflow_decisions_allowed").await.unwrap(), 1);
        assert!(stack.control_plane.list("/v1/audit/gaps").await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_redirect_needs_the_scope_of_its_target() {
    let stack = stack(StackOptions::workers(2)).await;
    let key = stack.live_key("redirected", &["contacts:read"]).await.unwrap();
    let response = stack.call(redirected(&stack, &key, OTHER)).await.unwrap();
    assert_eq!(refusal(&response), (403, Some("insufficient_scope".to_owned())));
    assert_eq!(stack.live.take().len(), 1);
    assert_eq!(
        recorded(&stack, &key).await,
        [
            ("GET".to_owned(), OTHER.to_owned(), 403, json!("insufficient_scope")),
            ("GET".to_owned(), format!("{CONTACTS}/status/302"), 302, json!("allowed")),
        ],
        "the refusal does not hide the call that the upstream has executed"
    );
}

/// Method, path, status and reason of each record, newest first. Asserts that all are of this key and none is missing.
async fn recorded(stack: &Stack, key: &NewKey) -> Vec<(String, String, u64, Value)> {
    let records = records(stack).await;
    assert!(records.iter().all(|record| record["key_id"] == json!(key.id)), "{records:?}");
    assert!(stack.control_plane.list("/v1/audit/gaps").await.unwrap().is_empty());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let shown = |record: &Value| {
        let status = record["status"].as_u64().unwrap_or_default();
        (text(&record["method"]), text(&record["path"]), status, record["reason"].clone())
    };
    records.iter().map(shown).collect()
}

#[tokio::test]
async fn a_redirect_to_another_method_leaves_a_record_of_both() {
    let stack = stack(StackOptions::workers(2)).await;
    let key = stack.live_key("redirected", &["contacts:read", "contacts:write"]).await.unwrap();
    let call = Call::new("POST", &format!("{CONTACTS}/status/303"))
        .bearer(&key.secret)
        .header("x-echo-headers", &location(&stack, CONTACTS));
    let response = stack.call(call).await.unwrap();
    assert_eq!((refusal(&response), response.number("x-ratelimit-remaining").unwrap()), ((200, None), 59));
    let methods: Vec<_> = stack.live.take().into_iter().map(|request| request.method).collect();
    assert_eq!(methods, ["POST", "GET"]);
    assert_eq!(
        recorded(&stack, &key).await,
        [
            ("GET".to_owned(), CONTACTS.to_owned(), 200, json!("allowed")),
            ("POST".to_owned(), format!("{CONTACTS}/status/303"), 303, json!("allowed")),
        ]
    );
}

#[tokio::test]
async fn a_client_cannot_claim_to_be_redirected() {
    let stack = stack(StackOptions::workers(1)).await;
    let key = stack.live_key("redirected", &["contacts:read"]).await.unwrap();
    let target = format!("{CONTACTS}/7");
    assert_eq!(stack.call(redirected(&stack, &key, &target)).await.unwrap().status, 200);
    stack.live.clear();
    let claims = Call::get(&target)
        .header("x-envoy-original-url", &format!("http://127.0.0.1{CONTACTS}"))
        .header("x-omniflow-key-id", &key.id)
        .header("x-envoy-internal", "true");
    let response = stack.call(claims).await.unwrap();
    assert_eq!(refusal(&response), (401, Some("missing_credentials".to_owned())));
    assert_eq!(stack.live.take().len(), 0);
}
