//! A control plane that returns wrong responses, while clients keep calling.

use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::eventually;
use omniflow_harness::{Call, Stack, StackOptions, paths};
use omniflow_policy::address::Allowlist;
use omniflow_policy::audit::{AuditBatch, FORMAT};
use omniflow_policy::gateway::DELTA_MEDIA_TYPE;
use omniflow_policy::key::{Environment, KeyPrefix, Secret, compose_key};
use omniflow_policy::policy::PolicyDocument;
use omniflow_policy::snapshot::{Credential, Image};
use serde_json::json;
use uuid::Uuid;

use super::SOME;
use super::observer::{Keys, Observer, SPENT};
use super::table::{note, note_seen};
use crate::hostile::{Answer, Hostile};
use crate::support::{contacts, gateway};

const WAIT: Duration = Duration::from_secs(20);

fn secret(seed: u8) -> Secret {
    let mut byte = seed;
    compose_key(&KeyPrefix::default(), Environment::Live, &mut || {
        byte = byte.wrapping_mul(5).wrapping_add(37);
        byte
    })
}

fn credential(secret: &Secret, id: u128, revoked: bool, limit: serde_json::Value) -> Credential {
    Credential {
        digest: secret.digest(),
        key_id: Uuid::from_u128(id),
        version: 1,
        environment: Environment::Live,
        revoked,
        not_after: None,
        name: format!("key-{id}"),
        scopes: serde_json::from_value(json!(["contacts:read"])).unwrap(),
        rate_limit: serde_json::from_value(limit).unwrap(),
        allowlist: Allowlist::default(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_wrong() {
    let (good, revoked, spent) = (secret(1), secret(2), secret(3));
    let much = || json!({"per_minute": 1_000_000});
    let credentials = vec![
        credential(&good, 1, false, much()),
        credential(&revoked, 2, true, much()),
        credential(&spent, 3, false, json!({"per_hour": SPENT})),
    ];
    let image = Image::build(Uuid::from_u128(1), 100, &PolicyDocument::default(), credentials).unwrap();
    let text = |secret: &Secret| secret.expose().to_owned();
    let keys = Keys { good: text(&good), revoked: text(&revoked), spent: text(&spent) };
    for (fault, wrong) in [
        ("control plane returns garbage", Answer::Other(200, DELTA_MEDIA_TYPE, vec![0xa5; 5_000])),
        ("control plane returns half a response", Answer::Half),
        ("control plane returns 40 MB", Answer::Other(200, DELTA_MEDIA_TYPE, vec![b'x'; 40_000_000])),
        ("control plane returns an unknown snapshot format", Answer::Delta(b"OMFD\x09\x00later".to_vec())),
        (
            "control plane rejects the gateway's token",
            Answer::Other(401, "application/problem+json", b"{}".to_vec()),
        ),
    ] {
        let hostile = Hostile::start().await.unwrap();
        let gateway = gateway(hostile.port(), |options| options).await.unwrap();
        hostile.answer(Answer::Image(image.clone()));
        eventually(WAIT, || async {
            let response = gateway.envoy.call(contacts(&keys.good)).await?;
            ensure!(response.status == 200, "{}", response.text());
            Ok(())
        })
        .await
        .unwrap();
        for _ in 0..SPENT {
            gateway.envoy.call(contacts(&keys.spent)).await.unwrap();
        }
        let observer = Observer::start(gateway.envoy.port(), &keys);
        observer.passed(SOME).await.unwrap();
        for _ in 0..3 {
            let polls = hostile.polls();
            hostile.answer(wrong.clone());
            eventually(WAIT, || async {
                ensure!(hostile.is_drained() && hostile.polls() >= polls + 2, "not polled again");
                Ok(())
            })
            .await
            .unwrap();
        }
        observer.passed(SOME).await.unwrap();
        let seen = observer.stop().await;
        seen.holds().all_passed();
        assert_eq!(
            gateway.envoy.stat("wasm.omniflow.vm_reload").await.unwrap(),
            0,
            "{fault}: a VM has ended"
        );
        note_seen(fault, &seen);
    }
}

/// Sends a golden batch of every released format to the current control plane.
#[tokio::test]
async fn batches_of_released_formats_are_accepted() {
    // The golden batches are from 2023.
    let arguments = ["--audit-days", "3650"].map(str::to_owned).to_vec();
    let stack = Stack::start(StackOptions { control_plane_arguments: arguments, ..StackOptions::default() })
        .await
        .unwrap();
    let token = stack.control_plane.create_token("an older gateway", "gateway").await.unwrap();
    let mut calls = 0;
    for format in 1..=FORMAT {
        let file = paths::root().join(format!("policy/golden/audit-batch-{format}.hex"));
        let mut bytes = unhex(std::fs::read_to_string(file).unwrap().trim());
        let batch = AuditBatch::decode(&bytes).unwrap();
        calls += batch.items.iter().map(|item| item.calls()).sum::<u64>();
        // A different gateway name for each format, because all batches have the same sequence numbers.
        let name = batch.source.gateway.as_bytes();
        let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
        bytes[at] = b'a' + u8::try_from(format).unwrap();
        let call = Call::new("POST", "/gateway/v1/audit")
            .bearer(&token)
            .header("content-type", omniflow_policy::gateway::AUDIT_MEDIA_TYPE)
            .body(bytes);
        let answer = stack.control_plane.call(call).await.unwrap();
        assert_eq!(answer.status, 204, "format {format}: {}", answer.text());
    }
    let query = "/v1/audit/stats?from=2020-01-01T00:00:00Z";
    let reported = stack.control_plane.get(query).await.unwrap()["total"]["calls"].as_u64().unwrap();
    let gaps = stack.control_plane.list("/v1/audit/gaps").await.unwrap();
    let missing: u64 = gaps.iter().filter_map(|gap| gap["missing"].as_u64()).sum();
    assert!(
        reported + missing >= calls && reported >= 40,
        "{calls} calls, {reported} reported, {missing} missing"
    );
    note(
        "older gateways after an update of the control plane",
        "no effect: all filters read snapshot format 1",
        "as before",
    );
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
