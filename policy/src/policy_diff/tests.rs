#[cfg(target_family = "wasm")]
use wasm_bindgen_test::wasm_bindgen_test as test;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::policy::RouteDefinition;

fn document(json: serde_json::Value) -> PolicyDocument {
    serde_json::from_value(json).unwrap()
}

#[test]
fn every_kind_of_difference_is_reported() {
    let before = document(json!({
        "scopes": [{"name": "c:read"}, {"name": "b:read", "description": "old"}, {"name": "a:read"}],
        "routes": [
            {"path": "/b", "methods": ["write", "GET"], "scope": "a:read"},
            {"path": "/a", "methods": ["any"], "scope": "a:read"},
            {"path": "/c", "methods": ["any"], "scope": "a:read"},
            {"path": "/d/{x}/{y}", "methods": ["any"], "scope": "a:read", "redact": ["y", "x"]},
            {"path": "/e/{x}", "methods": ["any"], "scope": "a:read"},
        ],
    }));
    let after = document(json!({
        "scopes": [{"name": "a:read"}, {"name": "b:read", "description": "new"}, {"name": "d:read"}],
        "routes": [
            {"path": "/b", "methods": ["GET"], "scope": "b:read"},
            {"path": "/b", "methods": ["read"], "scope": "b:read"},
            {"path": "/a", "methods": ["any"], "scope": "a:read"},
            {"path": "/c", "methods": ["any"], "scope": "a:read", "payload": false},
            {"path": "/d/{x}/{y}", "methods": ["any"], "scope": "a:read", "redact": ["x", "y"]},
            {"path": "/e/{x}", "methods": ["any"], "scope": "a:read", "redact": ["x"]},
        ],
    }));
    let diff = PolicyDiff::between(&before, &after);
    let expected = json!({
        "scopes": {
            "added": [{"name": "d:read", "description": ""}],
            "removed": [{"name": "c:read", "description": ""}],
            "changed": [{"name": "b:read", "description": {"before": "old", "after": "new"}}],
        },
        "routes": {
            "added": [{"path": "/b", "method": "read", "scope": "b:read"}],
            "removed": [{"path": "/b", "method": "write", "scope": "a:read"}],
            "changed": [
                {"path": "/b", "method": "GET", "scope": {"before": "a:read", "after": "b:read"}},
                {"path": "/c", "method": "any", "payload": {"before": true, "after": false}},
                {"path": "/e/{x}", "method": "any", "redact": {"before": [], "after": ["x"]}},
            ],
        },
    });
    assert_eq!(serde_json::to_value(&diff).unwrap(), expected);
    assert_eq!(serde_json::from_value::<PolicyDiff>(expected).unwrap(), diff);
}

#[test]
fn differences_of_settings_are_reported() {
    let before = PolicyDocument::default();
    let key_prefix = KeyPrefix::parse("acme").unwrap();
    let payloads = PayloadPolicy { max_bytes: 0, redact: Vec::new() };
    let after = PolicyDocument { key_prefix, imported_keys: true, payloads, ..before.clone() };
    let diff = serde_json::to_value(PolicyDiff::between(&before, &after)).unwrap();
    assert_eq!(diff["key_prefix"], json!({"before": "omf", "after": "acme"}));
    assert_eq!(diff["imported_keys"], json!({"before": false, "after": true}));
    assert_eq!(diff["payloads"], json!({"before": {"max_bytes": 65_536}, "after": {"max_bytes": 0}}));
}

/// Documents from small alphabets, so that two of them have much in common.
fn documents() -> impl Strategy<Value = PolicyDocument> {
    let scope = |number: u8| format!("s{number}:read").parse::<Scope>().unwrap();
    let scopes = prop::collection::btree_map(0u8..5, 0u8..2, 0..5);
    let routes = prop::collection::btree_map((0u8..4, 0usize..4), (0u8..3, any::<bool>()), 0..8);
    (scopes, routes, any::<bool>()).prop_map(move |(scopes, routes, imported_keys)| PolicyDocument {
        imported_keys,
        scopes: scopes
            .into_iter()
            .map(|(name, text)| ScopeDefinition { name: scope(name), description: format!("{text}") })
            .collect(),
        routes: routes
            .into_iter()
            .map(|((path, method), (needed, payload))| RouteDefinition {
                payload,
                redact: Vec::new(),
                path: format!("/{path}"),
                methods: vec![["read", "write", "any", "GET"][method].parse().unwrap()],
                scope: scope(needed),
            })
            .collect(),
        ..PolicyDocument::default()
    })
}

fn reversed<T: Clone>(change: &Option<Change<T>>) -> Option<Change<T>> {
    change.clone().map(|Change { before, after }| Change { before: after, after: before })
}

proptest! {
    #[test]
    fn the_order_of_scopes_and_routes_is_no_difference(document in documents()) {
        let mut reordered = document.clone();
        reordered.scopes.reverse();
        reordered.routes.reverse();
        prop_assert!(PolicyDiff::between(&document, &reordered).is_empty());
    }

    #[test]
    fn the_reverse_difference_has_before_and_after_swapped(before in documents(), after in documents()) {
        let there = PolicyDiff::between(&before, &after);
        let back = PolicyDiff::between(&after, &before);
        prop_assert_eq!(there.is_empty(), before == after);
        prop_assert_eq!(&there.routes.added, &back.routes.removed);
        prop_assert_eq!(&there.scopes.removed, &back.scopes.added);
        prop_assert_eq!(there.routes.changed.len(), back.routes.changed.len());
        for (one, other) in there.routes.changed.iter().zip(&back.routes.changed) {
            prop_assert_eq!((&one.path, &one.method), (&other.path, &other.method));
            prop_assert_eq!(&one.scope, &reversed(&other.scope));
            prop_assert_eq!(&one.payload, &reversed(&other.payload));
        }
        let added = there.routes.added.len();
        prop_assert_eq!(before.routes.len() + added - there.routes.removed.len(), after.routes.len());
    }
}
