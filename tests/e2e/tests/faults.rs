//! Faults that must not break the gateway: an invalid configuration, or a control plane that is faulty or missing.

use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::{Call, EnvoyOptions, eventually};
use omniflow_policy::key::{Environment, KeyPrefix, Secret, compose_key};
use omniflow_policy::policy::PolicyDocument;
use omniflow_policy::snapshot::{Change, Credential, Delta, Image};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::hostile::{Answer, Hostile};
use crate::support::{CONTACTS, contacts, gateway, refusal};

const WAIT: Duration = Duration::from_secs(20);
const HERE: Uuid = Uuid::from_u128(1);

fn secret(seed: u8) -> Secret {
    let mut byte = seed;
    compose_key(&KeyPrefix::default(), Environment::Live, &mut || {
        byte = byte.wrapping_mul(5).wrapping_add(37);
        byte
    })
}

fn credential(secret: &Secret) -> Credential {
    Credential {
        digest: secret.digest(),
        key_id: Uuid::from_u128(9),
        version: 1,
        environment: Environment::Live,
        revoked: false,
        not_after: None,
        name: "hostile".to_owned(),
        scopes: serde_json::from_value(json!(["contacts:read"])).unwrap(),
        rate_limit: serde_json::from_value(json!({"per_minute": 1_000_000})).unwrap(),
        allowlist: omniflow_policy::address::Allowlist::default(),
    }
}

fn image(installation: Uuid, version: u64, secret: &Secret) -> Image {
    Image::build(installation, version, &PolicyDocument::default(), vec![credential(secret)]).unwrap()
}

fn delta(from: u64, to: u64, changes: Vec<Change>) -> Delta {
    Delta { installation: HERE, from, to, policy: None, changes }
}

#[tokio::test]
async fn a_bad_plugin_configuration_is_rejected_and_named() {
    for (field, value, said) in [
        ("strip_credentials", json!(true), "unknown field `strip_credentials`"),
        ("cluster", json!(""), "cluster: set it to the Envoy cluster"),
        ("non_key_credentials", json!("allow"), "unknown variant `allow`"),
        ("max_snapshot_age_seconds", json!(1), "max_snapshot_age_seconds:"),
        ("audit_flush_ms", json!("soon"), "invalid type"),
    ] {
        let started = gateway(1, |mut options| {
            options.plugin.insert(field.to_owned(), value);
            options
        })
        .await;
        let Err(error) = started else { panic!("{field}: Envoy has started") };
        let error = format!("{error:#}");
        assert!(error.contains("plugin configuration rejected") && error.contains(said), "{field}: {error}");
    }
}

#[tokio::test]
async fn a_missing_token_is_rejected_and_named() {
    let started = gateway(1, |options| EnvoyOptions { gateway_token: None, ..options }).await;
    let Err(error) = started else { panic!("Envoy has started") };
    assert!(format!("{error:#}").contains("gateway_token: missing"), "{error:#}");
}

#[tokio::test]
async fn a_cluster_that_does_not_exist_is_named_and_refuses_all_calls() {
    let gateway = gateway(1, |mut options| {
        options.plugin.insert("cluster".to_owned(), json!("nowhere"));
        options
    })
    .await
    .unwrap();
    for _ in 0..20 {
        let response = gateway.envoy.call(contacts(secret(1).expose())).await.unwrap();
        assert_eq!(refusal(&response), (503, Some("policy_unavailable".to_owned())));
    }
    eventually(WAIT, || async {
        let log = gateway.envoy.process().log();
        ensure!(log.contains("Envoy has no cluster \"nowhere\"; check \"cluster\""), "{log}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(gateway.envoy.stat("wasm.omniflow.vm_reload").await.unwrap(), 0);
}

#[tokio::test]
async fn a_grpc_client_without_a_policy_gets_unavailable() {
    let gateway = gateway(1, |options| options).await.unwrap();
    let mut connection = omniflow_harness::Connection::http2(gateway.envoy.port()).await.unwrap();
    let response = connection.call(Call::grpc(CONTACTS, b"").bearer(secret(1).expose())).await.unwrap();
    assert_eq!((response.status, response.grpc_status()), (200, Some(14)));
}

/// If Envoy skips the filter, for whatever reason, the guard refuses all requests.
#[tokio::test]
async fn without_the_filter_the_guard_refuses() {
    let gateway = gateway(1, |options| {
        options.edit(|config| {
            let manager = omniflow_harness::bootstrap::connection_manager(config)?;
            let filters = manager.get_mut("http_filters").and_then(Value::as_array_mut).unwrap();
            filters.retain(|filter| filter["name"] != "omniflow.keys");
            Ok(())
        })
    })
    .await
    .unwrap();
    for call in
        [contacts(secret(1).expose()), Call::get("/"), Call::get(CONTACTS).header("x-omniflow-key-id", "1")]
    {
        assert_eq!(gateway.envoy.call(call).await.unwrap().status, 403);
    }
}

#[tokio::test]
async fn a_wrong_control_plane_leaves_the_last_good_snapshot_effective() {
    let hostile = Hostile::start().await.unwrap();
    let gateway = gateway(hostile.port(), |options| options).await.unwrap();
    let key = secret(1);
    let good = image(HERE, 100, &key);
    hostile.answer(Answer::Image(good.clone()));
    eventually(WAIT, || async {
        let response = gateway.envoy.call(contacts(key.expose())).await?;
        ensure!(response.status == 200, "{}", response.text());
        Ok(())
    })
    .await
    .unwrap();

    let other = secret(2);
    let manifest = good.manifest().encode();
    let newer = image(HERE, 200, &other);
    let chunk = newer.chunk_bytes(0).unwrap();
    let revoke = |from, to| delta(from, to, vec![Change::Revoke(key.digest())]).encode();
    let mut damaged = revoke(100, 101);
    *damaged.last_mut().unwrap() ^= 1;
    let mut damaged_chunk = chunk.clone();
    damaged_chunk[100] ^= 1;
    let foreign =
        Delta { installation: Uuid::from_u128(2), ..delta(100, 101, vec![Change::Revoke(key.digest())]) };
    let wrong: Vec<(&str, Answer)> = vec![
        ("a truncated manifest", Answer::Manifest(manifest[..manifest.len() - 1].to_vec())),
        ("an empty manifest", Answer::Manifest(Vec::new())),
        ("another installation", Answer::Image(image(Uuid::from_u128(2), 200, &other))),
        ("an older version", Answer::Image(image(HERE, 99, &other))),
        ("the same version", Answer::Image(image(HERE, 100, &other))),
        ("a truncated chunk", Answer::Chunks(newer.clone(), chunk[..chunk.len() - 1].to_vec())),
        ("a damaged chunk", Answer::Chunks(newer.clone(), damaged_chunk)),
        ("an empty chunk", Answer::Chunks(newer.clone(), Vec::new())),
        (
            "pages of another image",
            Answer::Chunks(newer.clone(), image(Uuid::from_u128(2), 200, &other).chunk_bytes(0).unwrap()),
        ),
        ("pages of another version", Answer::Chunks(newer, image(HERE, 150, &other).chunk_bytes(0).unwrap())),
        ("a damaged delta", Answer::Delta(damaged)),
        ("a truncated delta", Answer::Delta(revoke(100, 101)[..30].to_vec())),
        ("a delta from another version", Answer::Delta(revoke(99, 101))),
        ("a delta of another installation", Answer::Delta(foreign.encode())),
        ("another format", Answer::Delta(b"OMFD\x09\x00garbage".to_vec())),
        ("another type", Answer::Other(200, "text/html", b"<html>".to_vec())),
        ("a refused token", Answer::Other(401, "application/problem+json", b"{}".to_vec())),
        ("an error", Answer::Other(500, "text/plain", b"oops".to_vec())),
        ("half an answer", Answer::Half),
        ("40 MB", Answer::Other(200, DELTA, vec![b'x'; 40_000_000])),
    ];
    for (what, answer) in wrong {
        let polls = hostile.polls();
        hostile.answer(answer);
        eventually(WAIT, || async {
            // The response was sent, and another poll followed: the gateway has finished processing it.
            ensure!(hostile.is_drained() && hostile.polls() >= polls + 2, "not polled again");
            ensure!(hostile.polled_version() == 100, "at {}", hostile.polled_version());
            Ok(())
        })
        .await
        .unwrap_or_else(|error| panic!("{what}: {error:#}"));
        assert_eq!(gateway.envoy.call(contacts(key.expose())).await.unwrap().status, 200, "{what}");
        assert_eq!(gateway.envoy.call(contacts(other.expose())).await.unwrap().status, 401, "{what}");
    }
    assert!(gateway.envoy.stat("wasmcustom.omniflow_snapshots_rejected").await.unwrap() >= 15);
    assert_eq!(gateway.envoy.stat("wasm.omniflow.vm_reload").await.unwrap(), 0, "no VM has ended");

    // After all that, a valid response is accepted.
    hostile.answer(Answer::Delta(revoke(100, 101)));
    eventually(WAIT, || async {
        let response = gateway.envoy.call(contacts(key.expose())).await?;
        ensure!(refusal(&response) == (401, Some("key_revoked".to_owned())), "{}", response.text());
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(hostile.polled_version().max(101), 101);
}

const DELTA: &str = omniflow_policy::gateway::DELTA_MEDIA_TYPE;
