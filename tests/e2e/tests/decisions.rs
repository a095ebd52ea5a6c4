//! The decision table of `policy/`, through Envoy: the filter decides every case like the pure core, and every response
//! has the status, headers and record that its reason requires.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use omniflow_harness::{RawConnection, Response, Stack, StackOptions, eventually};
use omniflow_policy::authorize::INTROSPECTION_PATH;
use omniflow_policy::denial::Outcome;
use omniflow_policy::digest::Digest;
use serde_json::{Value, json};

use crate::support::denial_status;

const TABLE: &str = include_str!("../../../policy/golden/decisions.json");
const WAIT: Duration = Duration::from_secs(15);

/// A case whose key exists.
pub(crate) struct Prepared<'t> {
    pub(crate) case: &'t Value,
    pub(crate) secret: String,
}

/// All cases of the decision table.
pub(crate) fn table() -> Vec<Value> {
    serde_json::from_str(TABLE).unwrap()
}

#[tokio::test]
async fn the_filter_decides_as_the_table_says() {
    // Imported keys have a separate policy: `imported_keys.rs`.
    let table: Vec<Value> = table().into_iter().filter(|case| !is_about_imports(case)).collect();
    // One trusted hop, so that each case can come from its own address.
    let stack = Stack::start(StackOptions { trusted_hops: 1, ..StackOptions::workers(2) }).await.unwrap();
    let mut prepared = Vec::new();
    for (number, case) in table.iter().enumerate() {
        prepared.push(prepare(&stack, case, number).await.unwrap());
    }
    stack.in_step().await.unwrap();
    let mut expected = HashMap::new();
    for (number, case) in prepared.iter().enumerate() {
        run(stack.envoy.port(), case, number).await.unwrap();
        expected.insert(format!("case-{number}"), case.case);
    }
    check_records(&stack, &expected).await.unwrap();
}

async fn prepare<'t>(stack: &Stack, case: &'t Value, number: usize) -> Result<Prepared<'t>> {
    let Some(key) = case["key"].as_object() else {
        return Ok(Prepared { case, secret: String::new() });
    };
    let mut fields = json!({
        "name": format!("case-{number}"),
        "environment": key.get("environment").unwrap_or(&json!("live")),
        "scopes": key["scopes"],
    });
    for field in ["ip_allowlist", "rate_limit"] {
        if let Some(value) = key.get(field) {
            fields[field] = value.clone();
        }
    }
    let state = key.get("state").and_then(Value::as_str).unwrap_or("active");
    match state {
        "expired" => fields["expires_at"] = json!(crate::support::rfc3339_in(Duration::from_millis(1500))),
        "expiring" => fields["expires_at"] = json!(crate::support::rfc3339_in(Duration::from_secs(3600))),
        _ => {}
    }
    let key = stack.control_plane.create_key(fields).await.with_context(|| case["name"].to_string())?;
    match state {
        "revoked" => drop(stack.control_plane.revoke(&key.id, None).await?),
        "expired" => {
            eventually(WAIT, || async {
                let status =
                    stack.control_plane.get(&format!("/v1/keys/{}", key.id)).await?["status"].clone();
                ensure!(status == "expired", "it is {status}");
                Ok(())
            })
            .await?;
        }
        _ => {}
    }
    Ok(Prepared { case, secret: key.secret })
}

/// Makes the calls of a case and checks the response to the last one.
pub(crate) async fn run(port: u16, prepared: &Prepared<'_>, number: usize) -> Result<()> {
    let case = prepared.case;
    for _ in 0..case["key"]["calls_before"].as_u64().unwrap_or(0) {
        let passed = send(port, prepared, "warm-up").await?;
        // The warm-up of a refused call is the same key on a route that it may call.
        ensure!(passed.status == 200 || passed.status == 403, "{}", case["name"]);
    }
    let response = send(port, prepared, &format!("case-{number}")).await?;
    check(case, &response);
    Ok(())
}

async fn send(port: u16, prepared: &Prepared<'_>, agent: &str) -> Result<Response> {
    let case = prepared.case;
    let text = |field: &str| case[field].as_str().unwrap_or_default();
    let mut request = format!("{} {} HTTP/1.1\r\nhost: api.example\r\n", text("method"), text("target"));
    request += &format!("x-forwarded-for: {}\r\nuser-agent: {agent}\r\n", text("source_ip"));
    let digest = Digest::of(prepared.secret.as_bytes()).to_hex();
    for header in case["headers"].as_array().into_iter().flatten() {
        let (name, value) = (header[0].as_str().unwrap_or_default(), header[1].as_str().unwrap_or_default());
        let value = value.replace("{key}", &prepared.secret).replace("{digest}", &digest);
        request += &format!("{name}: {value}\r\n");
    }
    if matches!(text("method"), "POST" | "PURGE") {
        request += "content-length: 0\r\n";
    }
    request += "\r\n";
    let mut connection = RawConnection::open(port).await?;
    connection.send(request.as_bytes()).await?;
    if text("method") == "HEAD" { connection.receive_head().await } else { connection.receive().await }
}

/// Whether a case has a key, or a policy, of the kind that keys of another system need.
pub(crate) fn is_about_imports(case: &Value) -> bool {
    case["imported_keys"] == true || case["key"]["imported_secret"].is_string()
}

fn check(case: &Value, response: &Response) {
    let name = &case["name"];
    let reason = case["reason"].as_str().unwrap();
    let identified = is_identified(case);
    for header in ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"] {
        assert_eq!(response.number(header).is_ok(), identified, "{name}: {header} in {response:?}");
    }
    if reason == "allowed" {
        assert_eq!(response.status, 200, "{name}");
        if case["endpoint"] == INTROSPECTION_PATH {
            let info = response.json().unwrap();
            assert_eq!(info["scopes"], case["key"]["scopes"], "{name}");
            assert_eq!(
                info["remaining"]["remaining"],
                response.number("x-ratelimit-remaining").unwrap(),
                "{name}"
            );
            return;
        }
        if case["method"] != "HEAD" {
            let upstream = case["key"]["environment"].as_str().unwrap_or("live");
            assert_eq!(response.json().unwrap()["upstream"], upstream, "{name}");
        }
        return;
    }
    assert_eq!(response.status, denial_status(reason), "{name}: {}", response.text());
    assert_eq!(response.header("content-type"), Some("application/problem+json"), "{name}");
    assert_eq!(response.header("cache-control"), Some("no-store"), "{name}");
    assert_eq!(response.header("www-authenticate").is_some(), response.status == 401, "{name}");
    assert_eq!(response.header("retry-after").is_some(), response.status == 429, "{name}");
    let problem = response.json().unwrap();
    assert_eq!(problem["code"], reason, "{name}");
    assert_eq!(problem["status"], response.status, "{name}");
    for member in ["required_scope", "limit"] {
        assert_eq!(problem.get(member), case.get(member), "{name}: {member}");
    }
}

/// Whether the client of a case has shown a key that exists.
fn is_identified(case: &Value) -> bool {
    let reason = case["reason"].as_str().unwrap_or_default();
    case["key"].is_object()
        && !matches!(reason, "missing_credentials" | "malformed_key" | "ambiguous_credentials")
}

fn canonical(address: &str) -> String {
    address.trim_start_matches("::ffff:").to_owned()
}

/// Every call is in the audit log, with the same reason and endpoint.
async fn check_records(stack: &Stack, expected: &HashMap<String, &Value>) -> Result<()> {
    let records = eventually(WAIT, || async {
        let records = stack.control_plane.audit("limit=500").await?;
        ensure!(records.len() >= expected.len(), "{} of {} records", records.len(), expected.len());
        Ok(records)
    })
    .await?;
    for (name, case) in expected {
        let identified = is_identified(case);
        let found = records.iter().any(|record| {
            record["reason"] == case["reason"]
                && record["endpoint"] == case["endpoint"]
                && record["method"] == case["method"]
                && record["source_ip"] == canonical(case["source_ip"].as_str().unwrap_or_default())
                && record["key_name"].as_str() == identified.then_some(name.as_str())
                && record["decision"]
                    == Outcome::from_reason(case["reason"].as_str().unwrap_or_default())
                        .map_or("", Outcome::decision)
        });
        ensure!(found, "no record of {case}");
    }
    Ok(())
}
