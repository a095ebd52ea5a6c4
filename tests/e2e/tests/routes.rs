//! Every default route, with every method, against every scope: a key reaches a route with its scope and with no
//! other.

use omniflow_harness::{Call, Connection, Stack, StackOptions};
use omniflow_policy::policy::PolicyDocument;
use serde_json::json;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The scope that the design defines for reading and for writing a resource. It is repeated here on purpose.
const SCOPES: [(&str, Option<&str>, Option<&str>); 7] = [
    ("conversations", Some("conversations:read"), Some("conversations:write")),
    ("traces", Some("conversations:read"), None),
    ("contacts", Some("contacts:read"), Some("contacts:write")),
    ("tickets", Some("tickets:read"), Some("tickets:write")),
    ("scorecards", Some("scorecards:read"), None),
    ("agents", Some("agents:read"), None),
    ("webhooks", Some("webhooks:manage"), Some("webhooks:manage")),
];

#[tokio::test]
async fn a_key_reaches_the_routes_of_its_scope_and_no_others() {
    let stack = Stack::start(StackOptions::workers(2)).await.unwrap();
    let document = PolicyDocument::default();
    assert_eq!(document.scopes.len(), 9);
    let mut keys = Vec::new();
    for scope in &document.scopes {
        let name = scope.name.as_str().replace(':', "-");
        let fields = json!({
            "name": name, "environment": "live", "scopes": [scope.name], "rate_limit": {"per_minute": 100_000},
        });
        keys.push((scope.name.as_str(), stack.control_plane.create_key(fields).await.unwrap().secret));
    }
    stack.in_step().await.unwrap();
    let mut connection = Connection::http1(stack.envoy.port()).await.unwrap();
    let (mut passed, mut refused) = (0, 0);
    for (resource, read, write) in SCOPES {
        for below in ["", "/7", "/7/parts/8"] {
            for method in METHODS {
                let reads = matches!(method, "GET" | "HEAD");
                let required = if reads { read } else { write };
                for (scope, secret) in &keys {
                    let call = Call::new(method, &format!("/api/v1/{resource}{below}")).bearer(secret);
                    let response = connection.call(call).await.unwrap();
                    let expected = match required {
                        Some(required) if required == *scope => (200, None),
                        Some(_) => (403, Some("insufficient_scope")),
                        None => (403, Some("route_not_mapped")),
                    };
                    let code = response.problem_code();
                    let code = code.as_deref().filter(|_| method != "HEAD");
                    let what = format!("{method} {resource}{below} with {scope}");
                    assert_eq!(response.status, expected.0, "{what}");
                    assert_eq!(code, expected.1.filter(|_| method != "HEAD"), "{what}");
                    if expected.0 == 200 { passed += 1 } else { refused += 1 }
                }
            }
        }
    }
    // Of 7 resources, 3 paths each, 7 methods and 9 scopes: (4 * 7 + 3 * 2) methods on 3 paths have a scope that opens
    // them, and each is opened by that scope only.
    assert_eq!((passed, refused), (102, 1_221));
    assert_eq!(stack.live.received().len(), passed);
}
