//! The headers that the filter adds to responses, and the interruptions that it records.

use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::{Call, Connection, Response, Stack, StackOptions, eventually};
use serde_json::{Value, json};

use crate::support::{CONTACTS, contacts, refusal};

const WAIT: Duration = Duration::from_secs(30);
const WRITES: &str = "contacts:write";

async fn record(stack: &Stack, path: &str) -> Value {
    eventually(WAIT, || async {
        let records = stack.control_plane.audit("limit=500").await?;
        let found = records.into_iter().find(|record| record["path"] == path);
        ensure!(found.is_some(), "no record of {path}");
        Ok(found.unwrap_or_default())
    })
    .await
    .unwrap()
}

/// The items of a list in a header, which Envoy may join from several.
fn all(response: &Response, name: &str) -> Vec<String> {
    let of_name = response.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    let values = of_name.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
    values.flat_map(|value| value.split(',').map(|item| item.trim().to_owned()).collect::<Vec<_>>()).collect()
}

/// A cache that only considers Authorization would serve a response to a client without a key.
#[tokio::test]
async fn responses_to_a_key_are_marked_for_shared_caches() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let key = stack.live_key("cached", &["contacts:read"]).await.unwrap();
    for (upstream, vary, cache_control) in [
        ("", &["Authorization", "X-API-Key"][..], &["private"][..]),
        (
            "vary=Accept-Encoding; cache-control=max-age=60",
            &["Accept-Encoding", "Authorization", "X-API-Key"],
            &["max-age=60", "private"],
        ),
        ("cache-control=public, max-age=60", &["Authorization", "X-API-Key"], &["public", "max-age=60"]),
        (
            "cache-control=no-store; vary=x-api-key, authorization",
            &["x-api-key", "authorization"],
            &["no-store"],
        ),
    ] {
        let response = stack.call(contacts(&key.secret).header("x-echo-headers", upstream)).await.unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(
            (all(&response, "vary"), all(&response, "cache-control")),
            (
                vary.iter().map(ToString::to_string).collect(),
                cache_control.iter().map(ToString::to_string).collect(),
            ),
            "{upstream}"
        );
    }
    let refused = stack.call(Call::get(CONTACTS)).await.unwrap();
    assert_eq!(
        (all(&refused, "cache-control"), all(&refused, "vary").len()),
        (vec!["no-store".to_owned()], 0)
    );

    let stack = Stack::start(StackOptions::default().plugin("private_responses", false)).await.unwrap();
    let key = stack.live_key("cached", &["contacts:read"]).await.unwrap();
    let response = stack.call(contacts(&key.secret)).await.unwrap();
    assert_eq!((all(&response, "vary").len(), all(&response, "cache-control").len()), (0, 0));
}

#[tokio::test]
async fn remaining_calls_never_exceed_the_limit_in_the_headers() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    for (name, limit, expected) in [
        ("large-burst", json!({"per_minute": 60, "burst": 1000}), [1000, 999]),
        ("small-burst", json!({"per_minute": 60, "burst": 3}), [3, 2]),
        ("no-burst", json!({"per_minute": 60}), [60, 59]),
        ("hour", json!({"per_hour": 7}), [7, 6]),
    ] {
        let fields =
            json!({"name": name, "environment": "live", "scopes": ["contacts:read"], "rate_limit": limit});
        let key = stack.key(fields).await.unwrap();
        let response = stack.call(contacts(&key.secret)).await.unwrap();
        let found = ["x-ratelimit-limit", "x-ratelimit-remaining"].map(|name| response.number(name).unwrap());
        assert_eq!(found, expected, "{name}");
    }
}

#[tokio::test]
async fn an_upstream_that_limits_the_client_keeps_its_own_headers() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let key = stack.live_key("limited", &["contacts:read"]).await.unwrap();
    const OWN: &str = "x-ratelimit-limit=5; x-ratelimit-remaining=0; x-ratelimit-reset=9; retry-after=9";
    let call = |status: &str, headers: &str| {
        contacts(&key.secret).header("x-echo-status", status).header("x-echo-headers", headers)
    };
    let names = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after"];
    let response = stack.call(call("429", OWN)).await.unwrap();
    assert_eq!(names.map(|name| response.number(name).unwrap()), [5, 0, 9, 9]);
    let response = stack.call(call("429", "retry-after=9")).await.unwrap();
    assert_eq!(names.map(|name| response.number(name).ok()), [None, None, None, Some(9)]);
    let response = stack.call(call("200", OWN)).await.unwrap();
    assert_eq!(response.number("x-ratelimit-limit").unwrap(), 60, "any other response has those of the key");
}

#[tokio::test]
async fn grpc_statuses_are_recorded() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let key = stack.live_key("client", &[WRITES]).await.unwrap();
    let mut connection = Connection::http2(stack.envoy.port()).await.unwrap();
    for (name, steer, status) in [
        ("ok", &[][..], json!(0)),
        ("trailers", &[("x-echo-grpc-status", "14")][..], json!(14)),
        ("only", &[("x-echo-grpc-status", "5"), ("x-echo-trailers-only", "1")], json!(5)),
    ] {
        let path = format!("{CONTACTS}/{name}");
        let mut call = Call::grpc(&path, b"x").bearer(&key.secret);
        for (header, value) in steer {
            call = call.header(header, value);
        }
        let response = connection.call(call).await.unwrap();
        assert_eq!((response.status, json!(response.grpc_status())), (200, status.clone()), "{name}");
        let record = record(&stack, &path).await;
        assert_eq!((&record["grpc_status"], &record["interruption"]), (&status, &Value::Null), "{record}");
    }
    let count = async |query: &str| {
        let records = stack.control_plane.audit(&format!("key={}&{query}", key.id)).await.unwrap();
        let stats =
            stack.control_plane.get(&format!("/v1/audit/stats?key={}&{query}", key.id)).await.unwrap();
        assert_eq!(stats["total"]["calls"], records.len(), "{query}");
        (records.len(), stats["total"]["grpc_errors"].clone())
    };
    assert_eq!(count("grpc_status=14").await, (1, json!(1)));
    assert_eq!(count("grpc_status=error").await, (2, json!(2)));
    let refused = connection.call(Call::grpc(&format!("{CONTACTS}/refused"), b"x")).await.unwrap();
    assert_eq!(refused.grpc_status(), Some(16));
    assert_eq!(record(&stack, &format!("{CONTACTS}/refused")).await["grpc_status"], 16);
    stack.call(Call::new("POST", &format!("{CONTACTS}/plain")).bearer(&key.secret)).await.unwrap();
    assert_eq!(record(&stack, &format!("{CONTACTS}/plain")).await["grpc_status"], Value::Null);
}

#[tokio::test]
async fn responses_that_end_early_are_recorded_as_such() {
    // The shipped timeout of a route is longer than a test.
    let options = StackOptions::workers(2).edit(|config| {
        let manager = omniflow_harness::bootstrap::connection_manager(config)?;
        manager.insert("stream_idle_timeout".to_owned(), json!("1s"));
        Ok(())
    });
    let stack = Stack::start(options).await.unwrap();
    let key = stack.live_key("client", &["contacts:read"]).await.unwrap();
    for (name, steer, interruption) in
        [("broken", "x-echo-break", "upstream_reset"), ("stalled", "x-echo-stall", "timeout")]
    {
        let path = format!("{CONTACTS}/{name}");
        let call = Call::get(&path).bearer(&key.secret).header(steer, "1");
        assert!(stack.call(call).await.is_err(), "{name}: the body is not whole");
        let record = record(&stack, &path).await;
        assert_eq!(
            (&record["status"], &record["interruption"]),
            (&json!(200), &json!(interruption)),
            "{record}"
        );
    }
    let path = format!("{CONTACTS}/left");
    let call = Call::get(&path).bearer(&key.secret).header("x-echo-delay-ms", "600");
    assert!(stack.call(call.within(Duration::from_millis(200))).await.is_err(), "the client does not wait");
    let record = record(&stack, &path).await;
    assert_eq!(
        (&record["status"], &record["interruption"]),
        (&json!(0), &json!("client_disconnected")),
        "{record}"
    );
    let whole = stack.call(contacts(&key.secret)).await.unwrap();
    assert_eq!(refusal(&whole), (200, None));
    assert_eq!(self::record(&stack, CONTACTS).await["interruption"], Value::Null);
}
