//! Headers that the upstream receives, and headers that the client gets back.

use std::time::Duration;

use anyhow::{Result, ensure};
use omniflow_harness::client::exchange;
use omniflow_harness::{Call, Connection, Stack, StackOptions, eventually};
use serde_json::json;

use crate::support::{CONTACTS, contacts, refusal};

const WAIT: Duration = Duration::from_secs(10);
const IDENTITY: [&str; 4] =
    ["x-omniflow-key-id", "x-omniflow-key-name", "x-omniflow-environment", "x-omniflow-scopes"];

async fn stack(options: StackOptions) -> (Stack, String) {
    let stack = Stack::start(options).await.unwrap();
    let key = stack.live_key("marked", &["contacts:read"]).await.unwrap();
    (stack, key.secret)
}

/// Envoy itself refuses names with underscores as shipped; here it lets them through, for the filter to remove.
fn allow_underscores(options: StackOptions) -> StackOptions {
    options.edit(|config| {
        let manager = omniflow_harness::bootstrap::connection_manager(config)?;
        manager.insert(
            "common_http_protocol_options".to_owned(),
            json!({"headers_with_underscores_action": "ALLOW"}),
        );
        Ok(())
    })
}

#[tokio::test]
async fn a_client_cannot_speak_for_the_filter() {
    let (stack, secret) = stack(allow_underscores(StackOptions::workers(2))).await;
    let mut call = contacts(&secret);
    for name in [
        "x-omniflow-key-id",
        "X-Omniflow-Key-Name",
        "x-omniflow-environment",
        "x_omniflow_scopes",
        "x-omniflow-admin",
        "x+omniflow+scopes",
        "x!omniflow!key!id",
    ] {
        call = call.header(name, "test").header(name, "forged");
    }
    for name in [
        "x-original-method",
        "x-original-url",
        "x-rewrite-url",
        "x-script-name",
        "x-forwarded-path",
        "x-original-path",
        "x_ms_original_url",
        "x-waws-unencoded-url",
        "x-http-path-override",
    ] {
        call = call.header(name, "DELETE");
    }
    assert_eq!(stack.call(call).await.unwrap().status, 200);
    let received = stack.live.received();
    assert_eq!(received.len(), 1, "the key is live, whatever the client says");
    for name in IDENTITY {
        let values = received[0].headers.iter().filter(|(known, _)| known.replace('_', "-") == name).count();
        assert_eq!(values, 1, "{name}");
    }
    assert_eq!(received[0].header("x-omniflow-environment"), Some("live"));
    assert_eq!(received[0].header("x-omniflow-key-name"), Some("marked"));
    let text = format!("{:?}", received[0].headers);
    assert!(
        !text.contains("forged") && !text.contains("DELETE") && !text.contains("x-omniflow-admin"),
        "{text}"
    );
    assert!(!text.contains(&secret), "the credential does not go on");
}

/// Removing such a header would turn a PATCH into a POST.
#[tokio::test]
async fn method_override_is_refused_or_applied_and_never_dropped() {
    const NAMES: [&str; 4] =
        ["x-http-method-override", "X-HTTP-Method", "x-method-override", "x.http.method.override"];
    let (stack, _) = stack(StackOptions::default()).await;
    let writer = stack.live_key("writer", &["contacts:write"]).await.unwrap();
    let call = |name: &str, method: &str| {
        Call::new("POST", CONTACTS).bearer(&writer.secret).header(name, method).body("x")
    };
    for name in NAMES {
        let refused = stack.call(call(name, "PATCH")).await.unwrap();
        assert_eq!(refusal(&refused), (400, Some("method_overridden".to_owned())), "{name}");
        assert_eq!(stack.call(call(name, "POST")).await.unwrap().status, 200, "{name}");
        let received = stack.live.take();
        assert_eq!((received.len(), received[0].header(name)), (1, None), "{name}");
    }
    let (stack, _) = self::stack(StackOptions::default().plugin("method_override", "apply")).await;
    let writer = stack.live_key("writer", &["contacts:write"]).await.unwrap();
    let reader = stack.live_key("reader", &["contacts:read"]).await.unwrap();
    let call = |secret: &str, path: &str, method: &str| {
        Call::new("POST", path).bearer(secret).header(NAMES[0], method).body("x")
    };
    let path = format!("{CONTACTS}/7");
    assert_eq!(stack.call(call(&writer.secret, &path, "PATCH")).await.unwrap().status, 200);
    let received = stack.live.take();
    assert_eq!((received[0].method.as_str(), received[0].header(NAMES[0])), ("PATCH", None));
    let refused = stack.call(call(&reader.secret, &path, "DELETE")).await.unwrap();
    assert_eq!(refusal(&refused), (403, Some("insufficient_scope".to_owned())));
    let unknown = stack.call(call(&writer.secret, &path, "patch")).await.unwrap();
    assert_eq!(refusal(&unknown), (400, Some("method_overridden".to_owned())));
    eventually(WAIT, || async {
        let records = stack.control_plane.audit("key=writer&method=PATCH").await?;
        ensure!(records.len() == 1, "{records:?}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn credentials_of_other_schemes_pass_where_the_operator_says_so() {
    let options = StackOptions::workers(2).plugin("non_key_credentials", "passthrough");
    let (stack, _) = stack(options.plugin("credential_header", "x-api-key")).await;
    let key = stack.live_key("both", &["contacts:read"]).await.unwrap();
    for value in [
        r#"Digest username="a, b", realm="x", nonce="abc", uri="/", response="6629""#,
        "AWS4-HMAC-SHA256 Credential=AKID/20130524/us-east-1/s3/aws4_request, SignedHeaders=host;range, Signature=fe5f",
        "Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
    ] {
        let call = Call::get("/any/where").header("authorization", value);
        assert_eq!(stack.call(call).await.unwrap().status, 200, "{value}");
        let both = contacts(&key.secret).header("authorization", value);
        assert_eq!(stack.call(both).await.unwrap().status, 200, "{value}");
        let received = stack.live.take();
        assert_eq!(received[0].header("authorization"), Some(value));
        assert_eq!(
            (received[1].header("authorization"), received[1].header("x-api-key")),
            (Some(value), None)
        );
        assert_eq!(received[1].header("x-omniflow-key-name"), Some("both"));
    }
    for value in [
        "Basic YTpi, Bearer omf_live_x",
        "Digest a=b, Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
        "Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln, Digest a=b",
    ] {
        let call = Call::get("/any/where").header("authorization", value);
        let refused = stack.call(call).await.unwrap();
        assert_eq!(refusal(&refused), (401, Some("ambiguous_credentials".to_owned())), "{value}");
    }
    let two_keys = contacts(&key.secret).bearer(&key.secret);
    let refused = stack.call(two_keys).await.unwrap();
    assert_eq!(refusal(&refused), (401, Some("ambiguous_credentials".to_owned())));
}

#[tokio::test]
async fn a_client_can_ask_about_its_own_key_for_nothing() {
    let (stack, _) = stack(StackOptions::default()).await;
    let fields = json!({
        "name": "curious", "environment": "test", "scopes": ["contacts:read", "agents:read"],
        "rate_limit": {"per_minute": 3, "per_hour": 100}, "expires_at": "2099-01-31T00:00:00Z",
    });
    let key = stack.key(fields).await.unwrap();
    stack.call(contacts(&key.secret)).await.unwrap();
    for _ in 0..5 {
        let response = stack.call(Call::get("/.well-known/omniflow/key").bearer(&key.secret)).await.unwrap();
        assert_eq!((response.status, response.header("cache-control")), (200, Some("no-store")));
        let info = response.json().unwrap();
        let remaining = info["remaining"].clone();
        assert_eq!((&remaining["window"], &remaining["limit"]), (&json!("minute"), &json!(3)));
        assert_eq!(remaining["remaining"], 2, "asking costs nothing");
        assert_eq!(info["name"], "curious");
        assert_eq!(info["key_id"], key.id.as_str());
        assert_eq!((&info["version"], &info["environment"]), (&json!(1), &json!("test")));
        assert_eq!(info["scopes"], json!(["agents:read", "contacts:read"]));
        assert_eq!(info["rate_limit"], json!({"per_minute": 3, "per_hour": 100, "burst": null}));
        assert_eq!(info["expires_at"], "2099-01-31T00:00:00.000Z");
        assert!(!response.text().contains(&key.secret));
    }
    assert_eq!(stack.test.received().len(), 1, "the gateway answers itself");
    let nobody = stack.call(Call::get("/.well-known/omniflow/key")).await.unwrap();
    assert_eq!(refusal(&nobody), (401, Some("missing_credentials".to_owned())));
}

/// The access log format of `docs/guides/monitoring.md`.
#[tokio::test]
async fn the_access_log_tells_who_called_and_what_became_of_it() {
    let (stack, _) = stack(StackOptions::workers(2)).await;
    let key = stack.live_key("reporting", &["agents:read", "contacts:read"]).await.unwrap();
    stack.call(contacts(&key.secret)).await.unwrap();
    stack.call(Call::get("/api/v1/tickets/7?a=1").bearer(&key.secret)).await.unwrap();
    stack.call(Call::get(CONTACTS)).await.unwrap();

    let lines = eventually(WAIT, || async {
        let lines = stack.envoy.access_log()?;
        ensure!(lines.len() == 3, "{} lines", lines.len());
        Ok(lines)
    })
    .await
    .unwrap();
    let (scopes, id) = ("agents:read contacts:read", key.id.as_str());
    for (reason, decision, status, endpoint, client) in [
        ("allowed", "allowed", 200, json!(CONTACTS), json!([id, "reporting", "live", scopes])),
        (
            "insufficient_scope",
            "denied",
            403,
            json!("/api/v1/tickets/{id}"),
            json!([id, "reporting", "live", scopes]),
        ),
        ("missing_credentials", "denied", 401, json!(CONTACTS), json!([null, null, null, null])),
    ] {
        let line = lines.iter().find(|line| line["reason"] == reason).unwrap_or_else(|| panic!("{lines:?}"));
        assert_eq!((&line["decision"], &line["status"]), (&json!(decision), &json!(status)), "{line}");
        assert_eq!(line["endpoint"], endpoint, "{line}");
        let found = json!([line["key_id"], line["key_name"], line["environment"], line["scopes"]]);
        assert_eq!(found, client, "{line}");
        assert!(!line.to_string().contains(&key.secret), "{line}");
    }
}

/// Some servers treat trailers as headers.
#[tokio::test]
async fn a_client_cannot_speak_for_the_filter_in_trailers_either() {
    let (stack, _) = stack(StackOptions::default()).await;
    let key = stack.live_key("trailing", &["contacts:write"]).await.unwrap();
    let mut connection = Connection::http2(stack.envoy.port()).await.unwrap();
    let call = Call::new("POST", CONTACTS)
        .bearer(&key.secret)
        .body("x")
        .trailer("x-omniflow-key-id", "forged")
        .trailer("x-api-key", "forged")
        .trailer("x-original-method", "DELETE")
        .trailer("x-checksum", "kept");
    assert_eq!(connection.call(call).await.unwrap().status, 200);
    assert_eq!(stack.live.received()[0].trailers, [("x-checksum".to_owned(), "kept".to_owned())]);
}

/// Over HTTP/2 any word can be a method, and some servers fold its case.
#[tokio::test]
async fn a_method_in_another_case_is_no_way_around_a_scope() {
    let (stack, _) = stack(StackOptions::default()).await;
    let key = stack.live_key("writer", &["contacts:write"]).await.unwrap();
    let mut connection = Connection::http2(stack.envoy.port()).await.unwrap();
    for method in ["get", "Get", "head", "post", "x"] {
        let response = connection.call(Call::new(method, CONTACTS).bearer(&key.secret)).await.unwrap();
        assert_eq!(refusal(&response), (403, Some("route_not_mapped".to_owned())), "{method}");
    }
    assert!(stack.live.received().is_empty());
}

#[tokio::test]
async fn the_credential_goes_on_where_the_operator_says_so() {
    let (stack, secret) = stack(StackOptions::default().plugin("strip_credential", false)).await;
    assert_eq!(stack.call(contacts(&secret)).await.unwrap().status, 200);
    assert_eq!(stack.live.received()[0].header("x-api-key"), Some(secret.as_str()));
}

#[tokio::test]
async fn clients_with_oauth_pass_untouched_and_unmarked_where_the_operator_says_so() {
    let (stack, secret) = stack(StackOptions::workers(2).plugin("non_key_credentials", "passthrough")).await;
    let token = "Bearer eyJhbGciOiJSUzI1NiJ9.e30.c2ln";
    let call = Call::get("/any/where").header("authorization", token).header("x-omniflow-key-id", "forged");
    let response = stack.call(call).await.unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(response.header("x-ratelimit-limit"), None);
    let received = stack.live.received();
    assert_eq!(received[0].header("authorization"), Some(token));
    for name in IDENTITY {
        assert_eq!(received[0].header(name), None, "{name}");
    }
    // A key is still treated as a key, and a mistyped one is not mistaken for another system's token.
    assert_eq!(stack.call(contacts(&secret)).await.unwrap().status, 200);
    let refused = stack.call(Call::get(CONTACTS).bearer("omf_live_x")).await.unwrap();
    assert_eq!(refusal(&refused), (401, Some("malformed_key".to_owned())));
    let both = stack.call(contacts(&secret).header("authorization", token)).await.unwrap();
    assert_eq!(refusal(&both), (401, Some("ambiguous_credentials".to_owned())));
    let none = stack.call(Call::get(CONTACTS)).await.unwrap();
    assert_eq!(refusal(&none), (401, Some("missing_credentials".to_owned())));
}

#[tokio::test]
async fn every_answer_to_a_key_tells_its_limits() {
    let (stack, secret) = stack(StackOptions::workers(2)).await;
    let limits = |response: &omniflow_harness::Response| -> Result<[u64; 3]> {
        Ok([
            response.number("x-ratelimit-limit")?,
            response.number("x-ratelimit-remaining")?,
            response.number("x-ratelimit-reset")?,
        ])
    };
    for status in ["200", "404", "503"] {
        let response = stack.call(contacts(&secret).header("x-echo-status", status)).await.unwrap();
        assert_eq!(response.status.to_string(), status);
        let [limit, remaining, reset] = limits(&response).unwrap();
        assert!(limit == 60 && remaining < 60 && (1..=60).contains(&reset), "{status}: {response:?}");
    }
    let before = limits(&stack.call(Call::get("/api/v1/tickets").bearer(&secret)).await.unwrap()).unwrap();
    let after = limits(&stack.call(Call::get("/nowhere").bearer(&secret)).await.unwrap()).unwrap();
    assert!(after[1] >= before[1], "refused calls cost nothing");
    let test = stack
        .key(json!({"name": "few", "environment": "live", "scopes": ["contacts:read"], "rate_limit": {"per_minute": 2}}))
        .await
        .unwrap();
    for left in [1, 0] {
        let response = stack.call(contacts(&test.secret)).await.unwrap();
        assert_eq!(limits(&response).unwrap()[..2], [2, left]);
    }
    let refused = stack.call(contacts(&test.secret)).await.unwrap();
    assert_eq!(refusal(&refused), (429, Some("rate_limited".to_owned())));
    assert_eq!(limits(&refused).unwrap()[..2], [2, 0]);
    assert_eq!(refused.json().unwrap()["retry_after"].as_u64(), refused.number("retry-after").ok());
}

#[tokio::test]
async fn a_dead_upstream_still_tells_the_limits() {
    // Port 1 (tcpmux) is never open.
    let options = StackOptions::default().edit(|config| {
        let clusters = config["static_resources"]["clusters"].as_array_mut().unwrap();
        let live = clusters.iter_mut().find(|cluster| cluster["name"] == "upstream_live").unwrap();
        *live
            .pointer_mut(
                "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address/port_value",
            )
            .unwrap() = json!(1);
        Ok(())
    });
    let (stack, secret) = stack(options).await;
    let response = stack.call(contacts(&secret)).await.unwrap();
    assert_eq!(response.status, 503);
    assert_eq!(response.number("x-ratelimit-limit").unwrap(), 60);
    assert_eq!(response.problem_code(), None, "this refusal is Envoy's, not the filter's");
}

#[tokio::test]
async fn grpc_clients_get_a_grpc_status() {
    let (stack, secret) = stack(StackOptions::workers(2)).await;
    let mut connection = Connection::http2(stack.envoy.port()).await.unwrap();
    let unknown = "omf_live_abcdefghijklmnopqrstuvwxyz0123456789ABCD2BjG4p";
    for (call, status) in [
        (Call::grpc(CONTACTS, b""), 16),
        (Call::grpc(CONTACTS, b"").bearer(unknown), 16),
        (Call::grpc("/package.Service/Method", b"").bearer(&secret), 7),
        (Call::grpc(CONTACTS, b"").bearer(&secret), 7),
        (Call::grpc("/api/v1//contacts", b"").bearer(&secret), 3),
    ] {
        let path = call.path.clone();
        let response = connection.call(call).await.unwrap();
        assert_eq!((response.status, response.grpc_status()), (200, Some(status)), "{path}: {response:?}");
        assert_eq!(response.header("content-type"), Some("application/grpc"));
        assert!(response.header("omniflow-code").is_some(), "{response:?}");
    }
    let writer = stack
        .key(json!({"name": "writer", "environment": "live", "scopes": ["contacts:write"], "rate_limit": {"per_minute": 1}}))
        .await
        .unwrap();
    let passed = connection.call(Call::grpc(CONTACTS, b"x").bearer(&writer.secret)).await.unwrap();
    assert_eq!((passed.status, passed.grpc_status()), (200, Some(0)));
    let limited = connection.call(Call::grpc(CONTACTS, b"x").bearer(&writer.secret)).await.unwrap();
    assert_eq!(limited.grpc_status(), Some(8));
    assert!(limited.number("retry-after").unwrap() >= 1);
    assert_eq!(limited.header("omniflow-code"), Some("rate_limited"));
}

#[tokio::test]
async fn odd_requests_get_an_answer_and_the_vm_lives() {
    let (stack, secret) = stack(allow_underscores(StackOptions::workers(2))).await;
    let port = stack.envoy.port();
    let many: String = (0..90).map(|n| format!("x-h{n}: {n}\r\n")).collect();
    let requests: Vec<Vec<u8>> = vec![
        [
            b"GET /api/v1/contacts HTTP/1.1\r\nhost: a\r\nx-odd: \xff\xfe\xc3\r\nx-api-key: ".as_slice(),
            secret.as_bytes(),
            b"\r\n\r\n",
        ]
        .concat(),
        b"GET /api/v1/contacts HTTP/1.1\r\nhost: a\r\nauthorization: Bearer \xff\xfe\r\n\r\n".to_vec(),
        b"GET /api/v1/contacts HTTP/1.1\r\nhost: a\r\nauthorization: \xff\r\n\r\n".to_vec(),
        b"GET /\xff\xfe HTTP/1.1\r\nhost: a\r\nx-api-key: x\r\n\r\n".to_vec(),
        b"GET /api/v1/contacts HTTP/1.1\r\nhost: a\r\nauthorization: Bearer\r\n\r\n".to_vec(),
        b"GET /api/v1/contacts HTTP/1.1\r\nhost: a\r\nx-api-key:\r\n\r\n".to_vec(),
        format!("GET /api/v1/contacts HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\n\r\n", "k".repeat(50_000))
            .into_bytes(),
        format!("GET /api/v1/contacts HTTP/1.1\r\nhost: a\r\n{many}x-api-key: {secret}\r\n\r\n").into_bytes(),
        format!("GET /{} HTTP/1.1\r\nhost: a\r\nx-api-key: {secret}\r\n\r\n", "a/".repeat(20_000))
            .into_bytes(),
        b"OPTIONS * HTTP/1.1\r\nhost: a\r\nx-api-key: x\r\n\r\n".to_vec(),
        b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\nx-api-key: x\r\n\r\n".to_vec(),
    ];
    for request in requests {
        let shown = String::from_utf8_lossy(&request[..request.len().min(90)]).into_owned();
        let response = exchange(port, &request).await.unwrap_or_else(|error| panic!("{shown}: {error:#}"));
        assert!((200..500).contains(&response.status), "{shown}: {response:?}");
    }
    assert_eq!(stack.call(contacts(&secret)).await.unwrap().status, 200);
    assert_eq!(stack.envoy.stat("wasm.omniflow.vm_reload").await.unwrap(), 0, "no VM has ended");
}
