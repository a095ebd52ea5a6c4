//! Filters and cursors of every list: a result or a rejection with a reason, and never a failure.
#![no_main]

use libfuzzer_sys::fuzz_target;
use omniflow_fuzz::server::{Principal, server};
use serde_json::Value;

const LISTS: [&str; 12] = [
    "/v1/keys",
    "/v1/audit",
    "/v1/audit/stats",
    "/v1/audit/gaps",
    "/v1/anomalies",
    "/v1/audit/export",
    "/v1/audit/",
    "/v1/admin-log",
    "/v1/gateways",
    "/v1/tokens",
    "/v1/policy/versions",
    "/v1/policy/diff",
];

fuzz_target!(|input: (u8, &[u8])| {
    let (list, query) = input;
    let Ok(query) = core::str::from_utf8(query) else { return };
    let list = LISTS[usize::from(list) % LISTS.len()];
    // "/v1/audit/" is followed by the number of a record.
    let path = if list.ends_with('/') { format!("{list}{query}") } else { format!("{list}?{query}") };
    let Some(answer) = ask(&path) else { return };
    if let Some(cursor) = answer["next_cursor"].as_str() {
        assert!(ask(&format!("{list}?cursor={cursor}")).is_some_and(|page| page["items"].is_array()));
    }
});

/// The response, if there is one in JSON. `None` if no client could send this path, or for an export.
fn ask(path: &str) -> Option<Value> {
    if path.bytes().any(|byte| !byte.is_ascii_graphic()) || path.contains("/stream") {
        return None;
    }
    let (status, body) = server().try_call(Principal::Owner, "GET", path, "", Vec::new())?;
    assert!(matches!(status, 200 | 400 | 404), "{status} for {path}: {}", String::from_utf8_lossy(&body));
    let json: Option<Value> = serde_json::from_slice(&body).ok();
    if status != 200 {
        let json = json.as_ref().expect("a problem document");
        assert!(json["code"].is_string() && json["detail"].as_str().is_some_and(|text| !text.is_empty()));
    }
    json
}
