//! An operator sets routes and scopes while calls continue.

use std::fs;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::ensure;
use omniflow_harness::{Call, Connection, Stack, StackOptions, eventually};
use omniflow_policy::policy::{MAX_ROUTES, MAX_SCOPES};
use serde_json::{Value, json};

use crate::support::{self, connections, contacts, refusal};

const WAIT: Duration = Duration::from_secs(20);
/// Enough for the kernel to assign some to each worker.
const CONNECTIONS: usize = 8;
const ORDER: &str = "/shop/orders/7";

/// The effective document.
async fn document(stack: &Stack) -> Value {
    stack.control_plane.get("/v1/policy").await.unwrap()["document"].take()
}

/// The same with the scope `orders:read`, and with these routes.
fn with_orders(mut document: Value, routes: &[Value]) -> Value {
    let scope = json!({"name": "orders:read", "description": "Read orders"});
    document["scopes"].as_array_mut().unwrap().push(scope);
    document["routes"].as_array_mut().unwrap().extend_from_slice(routes);
    document
}

fn order_route() -> Value {
    json!({"path": "/shop/orders/{id}", "methods": ["read"], "scope": "orders:read"})
}

async fn put(stack: &Stack, status: u16, path: &str, document: &Value) -> Value {
    let call = Call::new("PUT", path).json(document).within(WAIT);
    stack.control_plane.expect(status, call).await.unwrap().json().unwrap()
}

/// The response on every connection: status, and the code of a refusal.
async fn answer(clients: &mut [Connection], path: &str, secret: &str) -> (u16, Option<String>) {
    let mut answers = Vec::new();
    for client in clients {
        answers.push(refusal(&client.call(Call::get(path).bearer(secret)).await.unwrap()));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "workers disagree: {answers:?}");
    answers.remove(0)
}

fn not_mapped() -> (u16, Option<String>) {
    (403, Some("route_not_mapped".to_owned()))
}

/// Runs `omf` as an operator does, with this on its standard input.
async fn omf(stack: &Stack, arguments: &[&str], input: Option<&std::path::Path>) -> Output {
    let mut command = support::omf(stack);
    command
        .args(arguments)
        .stdin(input.map_or_else(Stdio::null, |path| fs::File::open(path).unwrap().into()));
    support::run(command).await
}

#[tokio::test]
async fn a_route_is_added_and_removed_while_calls_go_on() {
    let mut stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let contacts_key = stack.live_key("contacts", &["contacts:read"]).await.unwrap();
    let refused = stack.control_plane.create_live_key("shop", &["orders:read"]).await.unwrap_err();
    assert!(format!("{refused:#}").contains("/scopes/0"), "{refused:#}");
    let before = document(&stack).await;

    // The scope alone opens nothing.
    put(&stack, 200, "/v1/policy", &with_orders(before.clone(), &[])).await;
    let key = stack.control_plane.create_key(json!({
        "name": "shop", "environment": "live", "scopes": ["orders:read"], "rate_limit": {"per_minute": 100_000},
    }));
    let key = key.await.unwrap();
    stack.in_step().await.unwrap();
    let mut clients = connections(stack.envoy.port(), CONNECTIONS).await.unwrap();
    assert_eq!(answer(&mut clients, ORDER, &key.secret).await, not_mapped());

    // A waiting PUT responds once every worker enforces the policy.
    let opened = with_orders(before.clone(), &[order_route()]);
    let set = put(&stack, 200, "/v1/policy?wait=10s", &opened).await;
    assert_eq!((&set["version"], &set["enforcement"]["complete"]), (&json!(3), &json!(true)), "{set}");
    assert_eq!(answer(&mut clients, ORDER, &key.secret).await, (200, None));
    assert_eq!(answer(&mut clients, "/shop/orders", &key.secret).await, not_mapped());
    let other = answer(&mut clients, ORDER, &contacts_key.secret).await;
    assert_eq!(other, (403, Some("insufficient_scope".to_owned())));
    assert_eq!(stack.call(contacts(&contacts_key.secret)).await.unwrap().status, 200);
    eventually(WAIT, || async {
        let records = stack.control_plane.audit("key=shop&decision=allowed").await?;
        ensure!(records.len() == CONNECTIONS, "{} records", records.len());
        for record in &records {
            assert_eq!((&record["endpoint"], &record["path"]), (&json!("/shop/orders/{id}"), &json!(ORDER)));
        }
        Ok(())
    })
    .await
    .unwrap();

    // A bad document changes nothing, and neither does one that takes a scope away from a key.
    let mut bad = opened.clone();
    bad["routes"][0]["scope"] = json!("nobody:read");
    let problem = put(&stack, 422, "/v1/policy", &bad).await;
    assert_eq!((&problem["code"], &problem["field"]), (&json!("invalid_field"), &json!("/routes/0/scope")));
    let problem = put(&stack, 409, "/v1/policy", &before).await;
    assert_eq!(problem["code"], "scope_in_use");
    assert!(problem["detail"].as_str().unwrap().contains("orders:read (shop)."), "{problem}");
    assert_eq!(document(&stack).await, opened);
    assert_eq!(answer(&mut clients, ORDER, &key.secret).await, (200, None));

    // A restart keeps it, also for a gateway that takes the whole image.
    stack.control_plane.restart().await.unwrap();
    stack.in_step().await.unwrap();
    assert_eq!(document(&stack).await, opened);
    assert_eq!(answer(&mut clients, ORDER, &key.secret).await, (200, None));

    put(&stack, 200, "/v1/policy", &with_orders(before, &[])).await;
    eventually(WAIT, || async {
        let response = stack.call(Call::get(ORDER).bearer(&key.secret)).await?;
        ensure!(refusal(&response) == not_mapped(), "still {}", response.status);
        Ok(())
    })
    .await
    .unwrap();
    stack.in_step().await.unwrap();
    assert_eq!(answer(&mut clients, ORDER, &key.secret).await, not_mapped());
    assert_eq!(stack.call(contacts(&contacts_key.secret)).await.unwrap().status, 200);
}

#[tokio::test]
async fn the_largest_policy_reaches_every_worker() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let mut large = document(&stack).await;
    let scopes =
        (0..MAX_SCOPES).map(|n| json!({"name": format!("s{n}:read"), "description": "x".repeat(100)}));
    let long = "x".repeat(300);
    let routes = (0..MAX_ROUTES).map(|n| {
        let path = format!("/{long}/{n}/{{id}}");
        json!({"path": path, "methods": ["GET", "HEAD", "write"], "scope": format!("s{}:read", n % MAX_SCOPES)})
    });
    (large["scopes"], large["routes"]) = (scopes.collect(), routes.collect());
    let set = put(&stack, 200, "/v1/policy?wait=15s", &large).await;
    assert_eq!(set["enforcement"]["complete"], true, "{}", set["enforcement"]);
    let key = stack.live_key("last", &[&format!("s{}:read", MAX_SCOPES - 1)]).await.unwrap();
    let mut clients = connections(stack.envoy.port(), CONNECTIONS).await.unwrap();
    let last = format!("/{long}/{}/7", MAX_ROUTES - 1);
    assert_eq!(answer(&mut clients, &last, &key.secret).await, (200, None));
}

#[tokio::test]
async fn the_command_line_shows_what_it_can_set() {
    let stack = Stack::start(StackOptions::workers(1)).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let file = stack.folder().join("policy.json");
    let path = file.to_str().unwrap();

    let shown = omf(&stack, &["policy", "show", "--json"], None).await;
    fs::write(&file, &shown.stdout).unwrap();
    let set = omf(&stack, &["policy", "set", path], None).await;
    assert_eq!(
        (set.status.code(), text(&set.stdout).as_str()),
        (Some(0), "Version 1 is effective.\n"),
        "the same"
    );

    let edited = with_orders(serde_json::from_slice(&shown.stdout).unwrap(), &[order_route()]);
    fs::write(&file, serde_json::to_string_pretty(&edited).unwrap()).unwrap();
    let set = omf(&stack, &["policy", "set", "-", "--wait", "10s"], Some(&file)).await;
    assert!(set.status.success(), "{}", text(&set.stderr));
    assert!(text(&set.stdout).starts_with("Version 2 is effective.\n"), "{}", text(&set.stdout));
    let key = stack.live_key("shop", &["orders:read"]).await.unwrap();
    assert_eq!(stack.call(Call::get(ORDER).bearer(&key.secret)).await.unwrap().status, 200);
    assert!(text(&omf(&stack, &["policy", "show"], None).await.stdout).contains("/shop/orders/{id}"));

    fs::write(&file, text(&shown.stdout).replacen("/api/v1", "api/v1", 1)).unwrap();
    let set = omf(&stack, &["policy", "set", path], None).await;
    let said = text(&set.stderr);
    assert_eq!((set.status.code(), set.stdout.len()), (Some(1), 0));
    assert!(said.starts_with(&format!("omf: {path}: line 8: /routes/0/path: ")), "{said}");
    assert_eq!(document(&stack).await, edited);
}

#[tokio::test]
async fn redacted_parameters_are_in_no_record() {
    let stack = Stack::start(StackOptions::workers(1)).await.unwrap();
    let route =
        json!({"path": "/people/{email}", "methods": ["read"], "scope": "orders:read", "redact": ["email"]});
    put(&stack, 200, "/v1/policy?wait=10s", &with_orders(document(&stack).await, &[route])).await;
    let key = stack.live_key("people", &["orders:read"]).await.unwrap();
    for (method, path, status) in [
        ("GET", "/people/zoe@example.com", 200),
        ("PUT", "/people/zoe@example.com", 403),
        ("GET", "/people/zoe@example.com/", 403),
        ("GET", "/people//zoe%40example.com", 400),
    ] {
        let answer = stack.call(Call::new(method, path).bearer(&key.secret)).await.unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    }
    let records = eventually(WAIT, || async {
        let records = stack.control_plane.audit("key=people").await?;
        ensure!(records.len() == 4, "{} of 4 records", records.len());
        Ok(records)
    })
    .await
    .unwrap();
    assert!(records.iter().all(|record| record["path"] == "/people/***"), "{records:?}");
}
