//! The life of one key: created, used, revoked, refused, with all calls in the audit log.

use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::{Call, Stack, StackOptions, eventually};
use serde_json::json;

const PATH: &str = "/api/v1/conversations";
const WAIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_key_from_creation_to_revocation() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let key = stack
        .key(json!({
            "name": "crm-sync",
            "environment": "live",
            "scopes": ["conversations:read", "contacts:read"],
            "rate_limit": {"per_minute": 100},
        }))
        .await
        .unwrap();

    let response = stack.call(Call::get(PATH).bearer(&key.secret)).await.unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.number("x-ratelimit-limit").unwrap(), 100);
    assert_eq!(response.number("x-ratelimit-remaining").unwrap(), 99);
    assert!(response.number("x-ratelimit-reset").unwrap() <= 60);

    let received = stack.live.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].path, PATH);
    assert_eq!(received[0].header("x-omniflow-key-id"), Some(key.id.as_str()));
    assert_eq!(received[0].header("x-omniflow-key-name"), Some("crm-sync"));
    assert_eq!(received[0].header("x-omniflow-environment"), Some("live"));
    assert_eq!(received[0].header("x-omniflow-scopes"), Some("contacts:read conversations:read"));
    assert_eq!(received[0].header("authorization"), None, "the secret is not for the upstream");

    let response = stack.call(Call::get("/api/v1/tickets").header("x-api-key", &key.secret)).await.unwrap();
    assert_eq!((response.status, response.problem_code().as_deref()), (403, Some("insufficient_scope")));

    let answer = stack.control_plane.revoke(&key.id, Some(Duration::from_secs(5))).await.unwrap();
    assert_eq!(answer["enforcement"]["complete"], true, "{answer}");
    let response = stack.call(Call::get(PATH).bearer(&key.secret)).await.unwrap();
    assert_eq!((response.status, response.problem_code().as_deref()), (401, Some("key_revoked")));
    assert_eq!(stack.live.received().len(), 1, "only the first call passed");

    let records = eventually(WAIT, || async {
        let records = stack.control_plane.audit("key=crm-sync").await?;
        ensure!(records.len() == 3, "{} of 3 records", records.len());
        Ok(records)
    })
    .await
    .unwrap();
    let mut outcomes: Vec<_> = records
        .iter()
        .map(|record| (record["status"].as_u64(), record["decision"].as_str(), record["reason"].as_str()))
        .collect();
    outcomes.sort_unstable();
    let expected = [
        (Some(200), Some("allowed"), Some("allowed")),
        (Some(401), Some("denied"), Some("key_revoked")),
        (Some(403), Some("denied"), Some("insufficient_scope")),
    ];
    assert_eq!(outcomes, expected);
    assert!(!json!(records).to_string().contains(&key.secret));
}

#[tokio::test]
async fn a_test_key_sees_the_test_view() {
    let stack = Stack::start(StackOptions::default()).await.unwrap();
    let key = stack
        .key(json!({"name": "sandbox", "environment": "test", "scopes": ["conversations:read"]}))
        .await
        .unwrap();
    let echo = stack.call(Call::get(PATH).bearer(&key.secret)).await.unwrap().json().unwrap();
    assert_eq!(echo["upstream"], "test");
    assert!(stack.live.received().is_empty());
}

#[tokio::test]
async fn who_has_no_key_gets_nothing() {
    let stack = Stack::start(StackOptions::default()).await.unwrap();
    // Grammar and checksum are valid, but the key was never issued.
    let unknown = "omf_live_00000000000000000000000000000000000000003QOQbO";
    for (call, code) in [
        (Call::get(PATH), "missing_credentials"),
        (Call::get(PATH).bearer("omf_live_short"), "malformed_key"),
        (Call::get(PATH).bearer(unknown), "unknown_key"),
        (Call::get(PATH).bearer(unknown).header("x-api-key", unknown), "ambiguous_credentials"),
    ] {
        let response = stack.call(call).await.unwrap();
        assert_eq!((response.status, response.problem_code().as_deref()), (401, Some(code)));
        assert!(response.header("www-authenticate").is_some(), "{code}");
    }
    assert!(stack.live.received().is_empty() && stack.test.received().is_empty());
}
