//! A key gets a new secret while calls continue.

use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use omniflow_harness::control_plane::NewKey;
use omniflow_harness::{Connection, Stack, StackOptions, eventually};
use serde_json::{Value, json};

use crate::support::{self, connections, contacts, refusal};

const WAIT: Duration = Duration::from_secs(20);
/// Enough for the kernel to assign some to each worker.
const CONNECTIONS: usize = 8;

async fn key(stack: &Stack, name: &str, per_minute: u32) -> NewKey {
    let fields = json!({
        "name": name, "environment": "live", "scopes": ["contacts:read"],
        "rate_limit": {"per_minute": per_minute},
    });
    stack.key(fields).await.unwrap()
}

/// Rotates, and waits until all workers enforce it.
async fn rotate(stack: &Stack, key: &NewKey, overlap: &str) -> NewKey {
    let rotated = stack.control_plane.rotate(&key.id, overlap).await.unwrap();
    assert_eq!(rotated.id, key.id);
    assert_ne!(rotated.secret, key.secret);
    stack.in_step().await.unwrap();
    rotated
}

/// The result on every connection with this secret: the code of a refusal, or `None` if all calls are allowed.
async fn answer(clients: &mut [Connection], secret: &str) -> Option<(u16, String)> {
    let mut answers = Vec::new();
    for client in clients {
        let response = client.call(contacts(secret)).await.unwrap();
        answers.push(match refusal(&response) {
            (200, _) => None,
            (status, code) => Some((status, code.unwrap_or_else(|| response.text()))),
        });
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "workers disagree: {answers:?}");
    answers.remove(0)
}

fn refused(status: u16, code: &str) -> Option<(u16, String)> {
    Some((status, code.to_owned()))
}

/// Waits for the first refusal of a secret; returns its time and its code.
async fn first_refusal(stack: &Stack, secret: &str) -> (Instant, (u16, Option<String>)) {
    eventually(WAIT, || async {
        let response = stack.call(contacts(secret)).await?;
        ensure!(response.status != 200, "still admitted");
        Ok((Instant::now(), refusal(&response)))
    })
    .await
    .unwrap()
}

/// Runs `omf` as an operator does.
async fn omf(stack: &Stack, arguments: &[&str]) -> Output {
    let mut command = support::omf(stack);
    command.args(arguments);
    support::run(command).await
}

#[tokio::test]
async fn both_secrets_pass_and_spend_one_limit_under_one_name() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let first = key(&stack, "shared", 5).await;
    let second = rotate(&stack, &first, "24h").await;
    assert_eq!(second.key["status"], "rotating");
    let mut clients = connections(stack.envoy.port(), CONNECTIONS).await.unwrap();
    let secrets = [&first, &second, &first, &second, &first].map(|key| &key.secret);
    for (client, (secret, left)) in clients.iter_mut().zip(secrets.into_iter().zip([4, 3, 2, 1, 0])) {
        let response = client.call(contacts(secret)).await.unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.number("x-ratelimit-remaining").unwrap(), left);
    }
    for key in [&first, &second] {
        assert_eq!(answer(&mut clients, &key.secret).await, refused(429, "rate_limited"));
    }

    let records = eventually(WAIT, || async {
        let records = stack.control_plane.audit("key=shared").await?;
        ensure!(records.len() == 5 + 2 * CONNECTIONS, "{} records", records.len());
        Ok(records)
    })
    .await
    .unwrap();
    let of = |version: u16, reason: &str| {
        let counted = |record: &&Value| record["version_id"] == version && record["reason"] == reason;
        records.iter().filter(counted).count()
    };
    assert_eq!((of(1, "allowed"), of(2, "allowed")), (3, 2));
    assert_eq!((of(1, "rate_limited"), of(2, "rate_limited")), (CONNECTIONS, CONNECTIONS));
    assert!(records.iter().all(|record| record["key_id"] == first.id.as_str()));
    let shown = stack.control_plane.get("/v1/keys/shared").await.unwrap();
    assert!(shown["versions"].as_array().unwrap().iter().all(|version| version["last_used_at"].is_string()));
    for file in ["access.log", "envoy.log", "control-plane.log", "state/audit.db", "state/omniflow.db-wal"] {
        let bytes = std::fs::read(stack.folder().join(file)).unwrap_or_default();
        for key in [&first, &second] {
            let found = bytes.windows(key.secret.len()).any(|window| window == key.secret.as_bytes());
            assert!(!found, "a secret is in {file}");
        }
    }
}

#[tokio::test]
async fn an_overlap_ends_on_time_without_the_control_plane() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let first = key(&stack, "short", 100_000).await;
    let asked = Instant::now();
    let second = rotate(&stack, &first, "2s").await;
    stack.control_plane.process().kill().unwrap();
    let (at, refusal) = first_refusal(&stack, &first.secret).await;
    assert_eq!(refusal, (401, Some("key_expired".to_owned())));
    assert!(at - asked >= Duration::from_secs(2), "refused {:?} after the rotation", at - asked);
    let mut clients = connections(stack.envoy.port(), CONNECTIONS).await.unwrap();
    assert_eq!(answer(&mut clients, &first.secret).await, refused(401, "key_expired"));
    assert_eq!(answer(&mut clients, &second.secret).await, None);
}

#[tokio::test]
async fn without_an_overlap_the_older_secret_ends_at_once() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let first = key(&stack, "abrupt", 100_000).await;
    let mut clients = connections(stack.envoy.port(), CONNECTIONS).await.unwrap();
    assert_eq!(answer(&mut clients, &first.secret).await, None);
    let second = rotate(&stack, &first, "0s").await;
    assert_eq!(second.key["status"], "active");
    assert_eq!(answer(&mut clients, &first.secret).await, refused(401, "key_expired"));
    assert_eq!(answer(&mut clients, &second.secret).await, None);
}

#[tokio::test]
async fn an_older_version_is_revoked_before_its_overlap_is_over() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let first = key(&stack, "early", 100_000).await;
    let second = rotate(&stack, &first, "24h").await;
    let mut clients = connections(stack.envoy.port(), CONNECTIONS).await.unwrap();
    for key in [&first, &second] {
        assert_eq!(answer(&mut clients, &key.secret).await, None);
    }
    let wait = Some(Duration::from_secs(5));
    let revoked = stack.control_plane.revoke_version(&first.id, 1, wait).await.unwrap();
    assert_eq!(revoked["enforcement"]["complete"], true, "{revoked}");
    assert_eq!(revoked["key"]["status"], "active");
    assert_eq!(answer(&mut clients, &first.secret).await, refused(401, "key_revoked"));
    assert_eq!(answer(&mut clients, &second.secret).await, None);
}

#[tokio::test]
async fn a_second_rotation_prolongs_no_overlap() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let first = key(&stack, "twice", 100_000).await;
    let asked = Instant::now();
    let second = stack.control_plane.rotate(&first.id, "3s").await.unwrap();
    let third = rotate(&stack, &first, "24h").await;
    let ends = |key: &NewKey| {
        let versions = key.key["versions"].as_array().unwrap();
        versions.iter().map(|version| version["expires_at"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(ends(&third)[0], ends(&second)[0], "the first keeps the end that it had");
    assert!(ends(&third)[1].is_string() && ends(&third)[2].is_null(), "{}", third.key);
    let mut clients = connections(stack.envoy.port(), CONNECTIONS).await.unwrap();
    let (at, refusal) = first_refusal(&stack, &first.secret).await;
    assert_eq!(refusal, (401, Some("key_expired".to_owned())));
    assert!(at - asked >= Duration::from_secs(3), "refused {:?} after the rotation", at - asked);
    assert_eq!(answer(&mut clients, &first.secret).await, refused(401, "key_expired"));
    for key in [&second, &third] {
        assert_eq!(answer(&mut clients, &key.secret).await, None);
    }
}

#[tokio::test]
async fn the_command_line_prints_the_secret_alone() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let first = key(&stack, "by hand", 100_000).await;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();

    let output = omf(&stack, &["key", "rotate", "by hand", "--overlap", "1h"]).await;
    let (printed, notes) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{notes}");
    let second = printed.strip_suffix('\n').context("one line").unwrap();
    assert_eq!((second.len(), second.starts_with("omf_live_")), (55, true), "the secret and nothing else");
    assert!(notes.contains("version 2 of key by hand") && !notes.contains(second), "{notes}");
    stack.in_step().await.unwrap();
    let mut clients = connections(stack.envoy.port(), CONNECTIONS).await.unwrap();
    for secret in [first.secret.as_str(), second] {
        assert_eq!(answer(&mut clients, secret).await, None);
    }

    let output = omf(&stack, &["--json", "key", "rotate", "by hand"]).await;
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    let rotated: Value = serde_json::from_slice(&output.stdout).unwrap();
    let third = rotated["secret"].as_str().unwrap();
    assert_eq!(rotated["key"]["versions"][2]["hint"], third[45..49]);

    let output = omf(&stack, &["key", "revoke", "by hand", "--version", "1", "--wait", "5s"]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(answer(&mut clients, &first.secret).await, refused(401, "key_revoked"));
    for secret in [second, third] {
        assert_eq!(answer(&mut clients, secret).await, None);
    }

    let shown = text(&omf(&stack, &["key", "show", "by hand"]).await.stdout);
    for secret in [first.secret.as_str(), second, third] {
        assert!(shown.contains(&secret[45..49]) && !shown.contains(secret), "{shown}");
    }
    let rotating = text(&omf(&stack, &["key", "list", "--status", "rotating"]).await.stdout);
    assert!(rotating.contains("by hand"), "{rotating}");
    let due = text(&omf(&stack, &["key", "list", "--rotation-due"]).await.stdout);
    assert!(!due.contains("by hand"), "{due}");
    let output = omf(&stack, &["key", "rotate", "by hand", "--overlap", "721h"]).await;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
}
