#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use super::*;
use crate::payload::{MAX_REDACTED_FIELDS, PayloadPolicy};

fn policy() -> Policy {
    Policy::compile(PolicyDocument::default()).unwrap()
}

fn scope_of(policy: &Policy, method: &str, path: &str) -> Option<String> {
    let target = Target::parse(path.as_bytes()).unwrap();
    policy.route(method.as_bytes(), &target).unwrap()?.scope.map(ToString::to_string)
}

fn compile(routes: &str) -> Result<Policy, PolicyError> {
    let json = format!(r#"{{"scopes": [{{"name": "a:read"}}, {{"name": "a:write"}}], "routes": {routes}}}"#);
    PolicyDocument::from_json(json.as_bytes()).and_then(Policy::compile)
}

#[test]
fn the_default_document_is_valid_and_round_trips() {
    let document = PolicyDocument::default();
    assert_eq!((document.scopes.len(), document.routes.len()), (9, 30));
    assert_eq!(PolicyDocument::from_json(document.to_json().as_bytes()), Ok(document));
}

#[test]
fn imported_keys_are_omitted_if_false() {
    let without = PolicyDocument::default();
    assert!(!without.to_json().contains("imported_keys"));
    let with = PolicyDocument { imported_keys: true, ..without };
    assert!(with.to_json().contains(r#""imported_keys":true"#));
    assert_eq!(PolicyDocument::from_json(with.to_json().as_bytes()), Ok(with));
}

#[test]
fn payload_settings_are_omitted_if_default() {
    let plain = PolicyDocument::default();
    assert!(!plain.to_json().contains("payload"));
    let payloads = PayloadPolicy { max_bytes: 9, redact: vec!["/password".parse().unwrap()] };
    let mut unusual = PolicyDocument { payloads, ..plain };
    unusual.routes[0].payload = false;
    let json = unusual.to_json();
    assert!(json.contains(r#""payloads":{"max_bytes":9,"redact":["/password"]}"#), "{json}");
    assert_eq!(json.matches(r#""payload":false"#).count(), 1);
    assert_eq!(PolicyDocument::from_json(json.as_bytes()), Ok(unusual.clone()));

    let policy = Policy::compile(unusual).unwrap();
    let bytes = |method: &[u8], path: &str| {
        policy.payload_bytes(policy.route(method, &Target::parse(path.as_bytes()).unwrap()).unwrap())
    };
    assert_eq!(bytes(b"GET", "/api/v1/conversations"), 0);
    assert_eq!(bytes(b"POST", "/api/v1/conversations"), 9);
    assert_eq!(bytes(b"GET", "/api/v1/conversations/7"), 9);
    assert_eq!(bytes(b"POST", "/api/v1/agents"), 0, "the route is not for this method");
    assert_eq!(bytes(b"GET", "/elsewhere"), 0);
    assert_eq!(policy.recorded_payload_bytes(Some("/api/v1/conversations"), "GET"), 0);
    assert_eq!(policy.recorded_payload_bytes(Some("/api/v1/conversations"), "POST"), 9);
    assert_eq!(policy.recorded_payload_bytes(Some("/elsewhere"), "GET"), 0);
    assert_eq!(policy.recorded_payload_bytes(None, "GET"), 0);
    assert_eq!(PayloadPolicy::default().max_bytes, 65_536);
}

#[test]
fn only_foreign_credentials_of_limited_length_may_be_imported() {
    let on = Policy::compile(PolicyDocument { imported_keys: true, ..PolicyDocument::default() }).unwrap();
    let longest = vec![b'k'; MAX_IMPORTED_KEY_LENGTH];
    let longer = vec![b'k'; MAX_IMPORTED_KEY_LENGTH + 1];
    for (credential, may) in [
        (&b"sk_live_4eC39HqLyjWDarjtT1zdp7dc"[..], true),
        (b"omf", true),
        (b"\xff k", true),
        (&longest, true),
        (&longer, false),
        (b"", false),
        (b"omf_live_x", false),
        (b"omf_", false),
    ] {
        assert_eq!(on.may_be_imported(credential), may, "{credential:?}");
        assert!(!policy().may_be_imported(credential));
    }
}

#[test]
fn a_path_that_matches_another_route_once_decoded_is_ambiguous() {
    let policy = compile(
        r#"[{"path": "/c/{id}", "methods": ["any"], "scope": "a:read"},
            {"path": "/c:merge", "methods": ["any"], "scope": "a:write"},
            {"path": "/c/all:drop", "methods": ["any"], "scope": "a:write"},
            {"path": "/c/caf%C3%A9", "methods": ["any"], "scope": "a:write"},
            {"path": "/c/%7Bid%7D", "methods": ["any"], "scope": "a:write"},
            {"path": "/d%3Ae", "methods": ["any"], "scope": "a:write"},
            {"path": "/{any}", "methods": ["any"], "scope": "a:read"}]"#,
    )
    .unwrap();
    let route = |path: &str| {
        let target = Target::parse(path.as_bytes()).unwrap();
        policy.route(b"GET", &target).map(|route| route.map(|route| route.template.to_owned()))
    };
    for (path, template) in [
        ("/c/a%3Ab", "/c/{id}"),
        ("/c/all:drop", "/c/all:drop"),
        ("/c/caf%C3%A9", "/c/caf%C3%A9"),
        ("/c/%7Bid%7D", "/c/%7Bid%7D"),
        ("/c/me%40example.com", "/c/{id}"),
        ("/caf%C3%A9", "/{any}"),
    ] {
        assert_eq!(route(path), Ok(Some(template.to_owned())), "{path}");
    }
    for path in ["/c%3Amerge", "/c/all%3adrop", "/c/caf%c3%a9", "/c/%7bid%7D", "/d:e"] {
        assert_eq!(route(path), Err(AmbiguousPath), "{path}");
    }
    let twice = r#"[{"path": "/c:d", "methods": ["any"], "scope": "a:read"},
                    {"path": "/c%3Ad", "methods": ["any"], "scope": "a:read"}]"#;
    assert_eq!(compile(twice).err().map(|error| error.pointer).as_deref(), Some("/routes/1/path"));
}

#[test]
fn default_routes_map_methods_to_scopes() {
    let policy = policy();
    let scope = |method, path| scope_of(&policy, method, path);
    assert_eq!(scope("GET", "/api/v1/conversations").as_deref(), Some("conversations:read"));
    assert_eq!(scope("HEAD", "/api/v1/conversations/7").as_deref(), Some("conversations:read"));
    assert_eq!(scope("PATCH", "/api/v1/conversations/7/messages/8").as_deref(), Some("conversations:write"));
    assert_eq!(scope("GET", "/api/v1/traces/9").as_deref(), Some("conversations:read"));
    assert_eq!(scope("DELETE", "/api/v1/traces/9"), None);
    assert_eq!(scope("POST", "/api/v1/agents"), None);
    assert_eq!(scope("GET", "/api/v1/webhooks").as_deref(), Some("webhooks:manage"));
    assert_eq!(scope("DELETE", "/api/v1/webhooks/1").as_deref(), Some("webhooks:manage"));
    for method in ["get", "Get", "head", "", "GE T", "omf_live_x"] {
        assert_eq!(scope(method, "/api/v1/contacts"), None, "{method}");
    }
    for path in
        ["/", "/api/v1", "/api/v1/contacts/", "/API/v1/contacts", "/api/v1/contactsx", "/api/v2/contacts"]
    {
        assert_eq!(scope("GET", path), None, "{path}");
    }
}

#[test]
fn the_most_specific_template_and_selector_win() {
    let policy = compile(
        r#"[{"path": "/a/{id}", "methods": ["any"], "scope": "a:write"},
            {"path": "/a/{id}", "methods": ["GET"], "scope": "a:read"},
            {"path": "/a/list", "methods": ["read"], "scope": "a:read"}]"#,
    )
    .unwrap();
    assert_eq!(scope_of(&policy, "GET", "/a/1").as_deref(), Some("a:read"));
    assert_eq!(scope_of(&policy, "PUT", "/a/1").as_deref(), Some("a:write"));
    assert_eq!(scope_of(&policy, "PUT", "/a/list"), None, "the literal template has precedence");
}

#[test]
fn payload_settings_above_the_maximum_are_rejected() {
    let pointer = |payloads: PayloadPolicy| {
        Policy::compile(PolicyDocument { payloads, ..PolicyDocument::default() })
            .map(|_| ())
            .unwrap_err()
            .pointer
    };
    assert_eq!(pointer(PayloadPolicy { max_bytes: 262_145, redact: vec![] }), "/payloads/max_bytes");
    let redact = vec!["/a".parse().unwrap(); MAX_REDACTED_FIELDS + 1];
    assert_eq!(pointer(PayloadPolicy { max_bytes: 1, redact }), "/payloads/redact");
}

#[test]
fn errors_point_to_the_invalid_field() {
    let cases = [
        (r#"[{"path": "a", "methods": ["any"], "scope": "a:read"}]"#, "/routes/0/path"),
        (r#"[{"path": "/a//b", "methods": ["any"], "scope": "a:read"}]"#, "/routes/0/path"),
        (r#"[{"path": "/a/../b", "methods": ["any"], "scope": "a:read"}]"#, "/routes/0/path"),
        (r#"[{"path": "/a?b", "methods": ["any"], "scope": "a:read"}]"#, "/routes/0/path"),
        (r#"[{"path": "/{*a}/b", "methods": ["any"], "scope": "a:read"}]"#, "/routes/0/path"),
        (r#"[{"path": "/x{a}", "methods": ["any"], "scope": "a:read"}]"#, "/routes/0/path"),
        (r#"[{"path": "/{}", "methods": ["any"], "scope": "a:read"}]"#, "/routes/0/path"),
        (r#"[{"path": "/a", "methods": [], "scope": "a:read"}]"#, "/routes/0/methods"),
        (r#"[{"path": "/a", "methods": ["GET", "GET"], "scope": "a:read"}]"#, "/routes/0/methods"),
        (r#"[{"path": "/a", "methods": ["any"], "scope": "b:read"}]"#, "/routes/0/scope"),
        (
            r#"[{"path": "/a/{b}", "methods": ["any"], "scope": "a:read", "redact": ["c"]}]"#,
            "/routes/0/redact",
        ),
        (
            r#"[{"path": "/a/{b}", "methods": ["GET"], "scope": "a:read"},
                {"path": "/a/{c}", "methods": ["PUT"], "scope": "a:write"}]"#,
            "/routes/1/path",
        ),
    ];
    for (routes, pointer) in cases {
        assert_eq!(compile(routes).map(|_| ()).unwrap_err().pointer, pointer, "{routes}");
    }
    let error =
        compile(r#"[{"path": "/a", "methods": ["get"], "scope": "a:read"}]"#).map(|_| ()).unwrap_err();
    assert!(
        error.message.contains("is not a method selector") && error.message.contains("line 1"),
        "{error}"
    );
    assert!(compile(r#"[{"path": "/a", "method": ["GET"], "scope": "a:read"}]"#).is_err(), "unknown field");
}
