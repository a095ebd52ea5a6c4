//! Keys of another system, of which only the digest is known, used through Envoy.

use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::{Call, EnvoyOptions, Stack, StackOptions, eventually};
use omniflow_policy::digest::Digest;
use omniflow_policy::policy::PolicyDocument;
use omniflow_policy::snapshot::{Credential, Delta, Image};
use omniflow_policy::time::UnixMillis;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::decisions::{Prepared, is_about_imports, run, table};
use crate::hostile::{Answer, Hostile};
use crate::support::{CONTACTS, Gateway, contacts, gateway, refusal};

const WAIT: Duration = Duration::from_secs(20);
const HERE: Uuid = Uuid::from_u128(1);
const VERSION: u64 = 100;

fn document(imported_keys: bool) -> PolicyDocument {
    PolicyDocument { imported_keys, ..PolicyDocument::default() }
}

/// The key of a case, as an import by its digest makes it.
fn credential(case: &Value, number: usize) -> Option<Credential> {
    let key = case["key"].as_object()?;
    let field = |name: &str, default: Value| key.get(name).cloned().unwrap_or(default);
    let state = field("state", json!("active"));
    Some(Credential {
        digest: Digest::of(key["imported_secret"].as_str()?.as_bytes()),
        key_id: Uuid::from_u128(1_000 + number as u128),
        version: 1,
        environment: serde_json::from_value(field("environment", json!("live"))).unwrap(),
        revoked: state == "revoked",
        not_after: (state == "expired").then_some(UnixMillis(1)),
        name: format!("case-{number}"),
        scopes: serde_json::from_value(field("scopes", json!([]))).unwrap(),
        rate_limit: serde_json::from_value(field("rate_limit", json!({"per_minute": 60}))).unwrap(),
        allowlist: serde_json::from_value(field("ip_allowlist", json!([]))).unwrap(),
    })
}

/// A gateway that holds these keys and takes imported ones.
async fn started(
    credentials: Vec<Credential>,
    change: impl FnOnce(EnvoyOptions) -> EnvoyOptions,
) -> (Hostile, Gateway) {
    let hostile = Hostile::start().await.unwrap();
    let gateway =
        gateway(hostile.port(), |options| change(EnvoyOptions { workers: 1, ..options })).await.unwrap();
    let image = Image::build(HERE, VERSION, &document(true), credentials).unwrap();
    hostile.answer(Answer::Image(image));
    eventually(WAIT, || async {
        let response = gateway.envoy.call(Call::get(CONTACTS)).await?;
        ensure!(response.status == 401, "{}", response.text());
        Ok(())
    })
    .await
    .unwrap();
    (hostile, gateway)
}

#[tokio::test]
async fn imported_keys_are_decided_as_the_table_says() {
    let table: Vec<Value> = table().into_iter().filter(is_about_imports).collect();
    let credentials =
        table.iter().enumerate().filter_map(|(number, case)| credential(case, number)).collect();
    let (hostile, gateway) =
        started(credentials, |options| EnvoyOptions { trusted_hops: 1, ..options }).await;
    let run_where = async |imported_keys: bool| {
        let cases = table.iter().enumerate();
        for (number, case) in cases.filter(|(_, case)| (case["imported_keys"] == true) == imported_keys) {
            let secret = case["key"]["imported_secret"].as_str().unwrap_or_default().to_owned();
            run(gateway.envoy.port(), &Prepared { case, secret }, number).await.unwrap();
        }
    };
    run_where(true).await;

    let accepted = table.iter().find(|case| case["reason"] == "allowed").unwrap();
    let secret = accepted["key"]["imported_secret"].as_str().unwrap();
    let policy = Some(document(false).to_json());
    let off = Delta { installation: HERE, from: VERSION, to: VERSION + 1, policy, changes: Vec::new() };
    hostile.answer(Answer::Delta(off.encode()));
    eventually(WAIT, || async {
        let response = gateway.envoy.call(contacts(secret)).await?;
        ensure!(refusal(&response) == (401, Some("malformed_key".to_owned())), "{}", response.text());
        Ok(())
    })
    .await
    .unwrap();
    run_where(false).await;
}

#[tokio::test]
async fn an_imported_key_is_stripped_and_marked_and_an_oauth_token_goes_on_as_it_is() {
    let secret = "sk_live_4eC39HqLyjWDarjtT1zdp7dc";
    let case = json!({"key": {"imported_secret": secret, "scopes": ["contacts:read"]}});
    let (_hostile, gateway) = started(credential(&case, 0).into_iter().collect(), |mut options| {
        options.plugin.insert("non_key_credentials".to_owned(), json!("passthrough"));
        options
    })
    .await;
    for call in [contacts(secret), Call::get(CONTACTS).bearer(secret)] {
        gateway.live.clear();
        let response = gateway.envoy.call(call).await.unwrap();
        assert_eq!((response.status, response.number("x-ratelimit-limit").unwrap()), (200, 60));
        let received = &gateway.live.received()[0];
        assert_eq!(received.header("x-omniflow-key-name"), Some("case-0"));
        assert_eq!(received.header("x-omniflow-scopes"), Some("contacts:read"));
        assert!(!format!("{:?}", received.headers).contains(secret), "{received:?}");
    }
    gateway.live.clear();
    let response = gateway.envoy.call(Call::get(CONTACTS).bearer("eyJ.e30.x")).await.unwrap();
    assert_eq!((response.status, response.header("x-ratelimit-limit")), (200, None));
    let received = &gateway.live.received()[0];
    assert_eq!(received.header("authorization"), Some("Bearer eyJ.e30.x"));
    assert_eq!(received.header("x-omniflow-key-name"), None);
    let other = gateway.envoy.call(contacts("sk_live_000000000000000000000000")).await.unwrap();
    assert_eq!(refusal(&other), (401, Some("malformed_key".to_owned())));
}

#[tokio::test]
async fn a_policy_that_takes_imported_keys_reaches_the_gateways_and_is_taken_back() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let own = stack.live_key("own", &["contacts:read"]).await.unwrap();
    for imported_keys in [true, false] {
        let call = Call::new("PUT", "/v1/policy?wait=5s").json(&json!(document(imported_keys)));
        let answer = stack.control_plane.expect(200, call).await.unwrap().json().unwrap();
        assert_eq!(answer["enforcement"]["complete"], true, "{answer}");
        assert_eq!(answer["enforcement"]["gateways"].as_array().unwrap().len(), 1);
        let shown = stack.control_plane.get("/v1/policy").await.unwrap();
        assert_eq!(shown["document"].get("imported_keys"), imported_keys.then_some(&json!(true)));
        assert_eq!(stack.call(contacts(&own.secret)).await.unwrap().status, 200);
        let foreign = stack.call(contacts("sk_live_4eC39HqLyjWDarjtT1zdp7dc")).await.unwrap();
        assert_eq!(refusal(&foreign), (401, Some("malformed_key".to_owned())));
    }
}

/// The upstream receives a bearer token that is sent beside a key in X-API-Key. It must not receive a key.
#[tokio::test]
async fn an_imported_key_beside_another_key_does_not_reach_the_upstream() {
    let [first, second] = ["sk_live_4eC39HqLyjWDarjtT1zdp7dc", "sk_live_26PHem9AhJZvU623DfE1x4sd"];
    let keys = [first, second].into_iter().enumerate().filter_map(|(number, secret)| {
        credential(&json!({"key": {"imported_secret": secret, "scopes": ["contacts:read"]}}), number)
    });
    let (_hostile, gateway) = started(keys.collect(), |mut options| {
        options.plugin.insert("credential_header".to_owned(), json!("x-api-key"));
        options
    })
    .await;
    gateway.live.clear();
    for beside in [first, second] {
        let response = gateway.envoy.call(contacts(first).bearer(beside)).await.unwrap();
        assert_eq!(refusal(&response), (401, Some("ambiguous_credentials".to_owned())), "{beside}");
    }
    assert_eq!(gateway.live.take().len(), 0);
    let response = gateway.envoy.call(contacts(first).bearer("an-oauth-token")).await.unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    let received = gateway.live.take();
    assert_eq!(received[0].header("authorization"), Some("Bearer an-oauth-token"));
    assert_eq!(received[0].header("x-omniflow-key-name"), Some("case-0"));
}
