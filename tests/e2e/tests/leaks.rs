//! A leaked key is refused everywhere once the report is acknowledged, and its usage is reported.

use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::{Call, Stack, StackOptions, eventually};
use serde_json::{Value, json};

use crate::support::{CONTACTS, connections, contacts, files_with, refusal};

const WAIT: Duration = Duration::from_secs(30);

/// How often each address calls, and with what: the last of a list behind one trusted proxy.
const CALLS: &[(&str, &str, &str, u16, usize)] = &[
    ("203.0.113.7", "GET", CONTACTS, 200, 5),
    ("203.0.113.7", "POST", CONTACTS, 403, 2),
    ("198.51.100.9", "GET", CONTACTS, 200, 3),
    ("2001:db8::7", "GET", "/nowhere", 403, 1),
];

async fn use_key(stack: &Stack, secret: &str) {
    for (address, method, path, status, times) in CALLS {
        for _ in 0..*times {
            let call = Call::new(method, path).header("x-api-key", secret);
            let response = stack.call(call.header("x-forwarded-for", address)).await.unwrap();
            assert_eq!(response.status, *status, "{method} {path} from {address}: {}", response.text());
        }
    }
    let all: usize = CALLS.iter().map(|(.., times)| times).sum();
    eventually(WAIT, || async {
        let records = stack.control_plane.audit("key=crm-sync").await?;
        ensure!(records.len() == all, "{} of {all} records", records.len());
        Ok(())
    })
    .await
    .unwrap();
}

async fn report(stack: &Stack, query: &str, body: &Value) -> Value {
    let call = Call::post(&format!("/v1/leaks{query}"), body).within(WAIT);
    stack.control_plane.expect(200, call).await.unwrap().json().unwrap()
}

/// `(name, calls, refused)` of each row of a list.
fn rows(used: &Value, list: &str, name: &str) -> Vec<(String, u64, u64)> {
    let rows = used[list].as_array().unwrap().iter();
    let row = |row: &Value| {
        let number = |name: &str| row[name].as_u64().unwrap();
        (row[name].as_str().unwrap_or_default().to_owned(), number("calls"), number("refused"))
    };
    rows.map(row).collect()
}

fn check_usage(used: &Value) {
    let row = |name: &str, calls, refused| (name.to_owned(), calls, refused);
    assert_eq!((&used["calls"], &used["refused"], &used["complete"]), (&json!(11), &json!(3), &json!(true)));
    assert_eq!(
        rows(used, "addresses", "address"),
        [row("203.0.113.7", 7, 2), row("198.51.100.9", 3, 0), row("2001:db8::7", 1, 1)]
    );
    let addresses = used["addresses"].as_array().unwrap();
    assert!(addresses.iter().all(|one| one["new"] == true), "nobody called before today: {used}");
    assert!(addresses[0]["first_call_at"].as_str() <= addresses[0]["last_call_at"].as_str());
    let endpoints = [row(CONTACTS, 8, 0), row(CONTACTS, 2, 2), row("", 1, 1)];
    assert_eq!(rows(used, "endpoints", "endpoint"), endpoints);
    assert_eq!((&used["new_addresses"], &used["calls_after_revocation"]), (&json!(3), &json!(0)));
    assert_eq!(
        used["refusals"],
        json!([{"reason": "insufficient_scope", "calls": 2}, {"reason": "route_not_mapped", "calls": 1}])
    );
    assert!(used["last_allowed_at"].as_str() <= used["last_call_at"].as_str());
}

#[tokio::test]
async fn a_key_in_a_log_is_refused_everywhere_and_its_use_is_reported() {
    let stack = Stack::start(StackOptions { trusted_hops: 1, ..StackOptions::workers(2) }).await.unwrap();
    let leaked = stack.live_key("crm-sync", &["contacts:read"]).await.unwrap();
    let bystander = stack.live_key("bystander", &["contacts:read"]).await.unwrap();
    use_key(&stack, &leaked.secret).await;

    let log = format!(
        "10:00:01 starting, see https://example.com/omf_live_keys\n10:00:02 GET {CONTACTS}?key={} 200\n\
         10:00:03 wrote {} rows to omf_live_{}\n",
        leaked.secret,
        "9".repeat(30),
        "x".repeat(12)
    );
    let look = report(&stack, "", &json!({"text": log, "revoke": false})).await;
    check_usage(&look["keys"][0]["usage"]);
    assert_eq!(stack.call(contacts(&leaked.secret)).await.unwrap().status, 200, "a look changes nothing");

    let mut everywhere = connections(stack.envoy.port(), 16).await.unwrap();
    let answer = report(&stack, "?wait=5s", &json!({"text": log, "replacement": true})).await;
    for connection in &mut everywhere {
        let refused = connection.call(contacts(&leaked.secret)).await.unwrap();
        assert_eq!(refusal(&refused), (401, Some("key_revoked".to_owned())));
    }
    let keys = answer["keys"].as_array().unwrap();
    assert_eq!((keys.len(), &answer["unknown"], &answer["malformed"]), (1, &json!(0), &json!(0)));
    assert_eq!(keys[0]["versions"], json!([{"id": 1, "was": "active"}]));
    let enforcement = &answer["enforcement"];
    assert_eq!(
        (&enforcement["complete"], &enforcement["gateways"][0]["enforced_workers"]),
        (&json!(true), &json!(3))
    );

    let replacement = &keys[0]["replacement"];
    assert_eq!(replacement["key"]["name"], "crm-sync-2");
    let secret = replacement["secret"].as_str().unwrap();
    for connection in &mut everywhere {
        assert_eq!(connection.call(contacts(secret)).await.unwrap().status, 200);
    }
    assert_eq!(stack.call(contacts(&bystander.secret)).await.unwrap().status, 200);
    for secret in [leaked.secret.as_str(), secret] {
        assert!(files_with(stack.folder(), secret).is_empty(), "a secret is in what was written");
    }

    // The finder of the key keeps trying.
    let after = eventually(WAIT, || async {
        let answer = report(&stack, "", &json!({"secret": leaked.secret})).await;
        let used = answer["keys"][0]["usage"].clone();
        ensure!(used["calls_after_revocation"] == 16, "{used}");
        Ok(answer)
    })
    .await
    .unwrap();
    assert_eq!(
        (&after["keys"][0]["revoked"], &after["keys"][0]["versions"][0]["was"]),
        (&json!(false), &json!("revoked"))
    );
}
