//! What differs between two policies.
//!
//! The order in which a document lists scopes and routes has no meaning, so it makes no difference here. A route is
//! told apart by its path and one method selector: a definition with three methods is three routes.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::key::KeyPrefix;
use crate::payload::PayloadPolicy;
use crate::policy::{MethodSelector, PolicyDocument, ScopeDefinition, is_true, yes};
use crate::scope::Scope;

/// What differs between two documents. All lists are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDiff {
    /// How all keys begin, where it differs. Within one installation it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_prefix: Option<Change<KeyPrefix>>,
    /// Whether credentials of another form may be keys, where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_keys: Option<Change<bool>>,
    /// What is kept of the arguments of calls, where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payloads: Option<Change<PayloadPolicy>>,
    /// The scopes that differ, by name.
    pub scopes: ScopeDiff,
    /// The routes that differ, by path and method.
    pub routes: RouteDiff,
}

/// A value before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change<T> {
    /// In the earlier document.
    pub before: T,
    /// In the later document.
    pub after: T,
}

/// The scopes that differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeDiff {
    /// Those of the later document only.
    pub added: Vec<ScopeDefinition>,
    /// Those of the earlier document only.
    pub removed: Vec<ScopeDefinition>,
    /// Those with another description.
    pub changed: Vec<ChangedScope>,
}

/// A scope whose description differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedScope {
    /// Its name.
    pub name: Scope,
    /// Its description.
    pub description: Change<String>,
}

/// The routes that differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteDiff {
    /// Those of the later document only.
    pub added: Vec<MappedRoute>,
    /// Those of the earlier document only.
    pub removed: Vec<MappedRoute>,
    /// Those that need another scope, or whose arguments are kept otherwise.
    pub changed: Vec<ChangedRoute>,
}

/// A path with one method selector, and the scope that it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappedRoute {
    /// The path template.
    pub path: String,
    /// The method selector.
    pub method: MethodSelector,
    /// The scope that a key needs.
    pub scope: Scope,
    /// Whether the arguments of calls are kept. Not written where true.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub payload: bool,
}

/// A route that is there before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedRoute {
    /// The path template.
    pub path: String,
    /// The method selector.
    pub method: MethodSelector,
    /// The scope that a key needs, where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Change<Scope>>,
    /// Whether the arguments of calls are kept, where it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Change<bool>>,
}

/// What a policy says of one path and method.
#[derive(Clone, PartialEq)]
struct Mapping {
    scope: Scope,
    payload: bool,
}

/// What two maps differ in, sorted by key.
struct Differences<K, V> {
    added: Vec<(K, V)>,
    removed: Vec<(K, V)>,
    changed: Vec<(K, Change<V>)>,
}

// === impl PolicyDiff ===

impl PolicyDiff {
    /// What leads from one document to the other. Of a scope or route that stands in a document twice, which
    /// [`crate::policy::Policy::compile`] refuses, the last counts.
    pub fn between(before: &PolicyDocument, after: &PolicyDocument) -> Self {
        Self {
            key_prefix: change(&before.key_prefix, &after.key_prefix),
            imported_keys: change(&before.imported_keys, &after.imported_keys),
            payloads: change(&before.payloads, &after.payloads),
            scopes: ScopeDiff::between(before, after),
            routes: RouteDiff::between(before, after),
        }
    }

    /// Whether both documents say the same.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn change<T: Clone + PartialEq>(before: &T, after: &T) -> Option<Change<T>> {
    (before != after).then(|| Change { before: before.clone(), after: after.clone() })
}

// === impl ScopeDiff ===

impl ScopeDiff {
    fn between(before: &PolicyDocument, after: &PolicyDocument) -> Self {
        let Differences { added, removed, changed } = compare(scopes(before), scopes(after));
        let definition = |(name, description)| ScopeDefinition { name, description };
        Self {
            added: added.into_iter().map(definition).collect(),
            removed: removed.into_iter().map(definition).collect(),
            changed: changed
                .into_iter()
                .map(|(name, description)| ChangedScope { name, description })
                .collect(),
        }
    }
}

fn scopes(document: &PolicyDocument) -> BTreeMap<Scope, String> {
    document.scopes.iter().map(|scope| (scope.name.clone(), scope.description.clone())).collect()
}

// === impl RouteDiff ===

impl RouteDiff {
    fn between(before: &PolicyDocument, after: &PolicyDocument) -> Self {
        let Differences { added, removed, changed } = compare(routes(before), routes(after));
        let route =
            |((path, method), Mapping { scope, payload })| MappedRoute { path, method, scope, payload };
        Self {
            added: added.into_iter().map(route).collect(),
            removed: removed.into_iter().map(route).collect(),
            changed: changed
                .into_iter()
                .map(|((path, method), Change { before, after })| ChangedRoute {
                    path,
                    method,
                    scope: change(&before.scope, &after.scope),
                    payload: change(&before.payload, &after.payload),
                })
                .collect(),
        }
    }
}

fn routes(document: &PolicyDocument) -> BTreeMap<(String, MethodSelector), Mapping> {
    let mapped = document.routes.iter().flat_map(|route| {
        let mapping = || Mapping { scope: route.scope.clone(), payload: route.payload };
        route.methods.iter().map(move |method| ((route.path.clone(), method.clone()), mapping()))
    });
    mapped.collect()
}

// === comparing ===

fn compare<K: Ord, V: PartialEq>(before: BTreeMap<K, V>, mut after: BTreeMap<K, V>) -> Differences<K, V> {
    let (mut removed, mut changed) = (Vec::new(), Vec::new());
    for (key, earlier) in before {
        match after.remove(&key) {
            None => removed.push((key, earlier)),
            Some(later) if later != earlier => {
                changed.push((key, Change { before: earlier, after: later }));
            }
            Some(_) => {}
        }
    }
    Differences { added: after.into_iter().collect(), removed, changed }
}

#[cfg(test)]
mod tests {
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
    fn every_kind_of_difference_is_told() {
        let before = document(json!({
            "scopes": [{"name": "c:read"}, {"name": "b:read", "description": "old"}, {"name": "a:read"}],
            "routes": [
                {"path": "/b", "methods": ["write", "GET"], "scope": "a:read"},
                {"path": "/a", "methods": ["any"], "scope": "a:read"},
                {"path": "/c", "methods": ["any"], "scope": "a:read"},
            ],
        }));
        let after = document(json!({
            "scopes": [{"name": "a:read"}, {"name": "b:read", "description": "new"}, {"name": "d:read"}],
            "routes": [
                {"path": "/b", "methods": ["GET"], "scope": "b:read"},
                {"path": "/b", "methods": ["read"], "scope": "b:read"},
                {"path": "/a", "methods": ["any"], "scope": "a:read"},
                {"path": "/c", "methods": ["any"], "scope": "a:read", "payload": false},
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
                ],
            },
        });
        assert_eq!(serde_json::to_value(&diff).unwrap(), expected);
        assert_eq!(serde_json::from_value::<PolicyDiff>(expected).unwrap(), diff);
    }

    #[test]
    fn other_settings_are_told() {
        let before = PolicyDocument::default();
        let key_prefix = KeyPrefix::parse("acme").unwrap();
        let payloads = PayloadPolicy { max_bytes: 0, redact: Vec::new() };
        let after = PolicyDocument { key_prefix, imported_keys: true, payloads, ..before.clone() };
        let diff = serde_json::to_value(PolicyDiff::between(&before, &after)).unwrap();
        assert_eq!(diff["key_prefix"], json!({"before": "omf", "after": "acme"}));
        assert_eq!(diff["imported_keys"], json!({"before": false, "after": true}));
        assert_eq!(diff["payloads"], json!({"before": {"max_bytes": 65_536}, "after": {"max_bytes": 0}}));
    }

    /// Small alphabets, so that two documents have much in common.
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
                    path: format!("/{path}"),
                    methods: vec![["read", "write", "any", "GET"][method].parse().unwrap()],
                    scope: scope(needed),
                })
                .collect(),
            ..PolicyDocument::default()
        })
    }

    fn turned<T: Clone>(change: &Option<Change<T>>) -> Option<Change<T>> {
        change.clone().map(|Change { before, after }| Change { before: after, after: before })
    }

    proptest! {
        #[test]
        fn a_document_does_not_differ_from_itself_in_any_order(document in documents()) {
            let mut reordered = document.clone();
            reordered.scopes.reverse();
            reordered.routes.reverse();
            prop_assert!(PolicyDiff::between(&document, &reordered).is_empty());
        }

        #[test]
        fn one_way_is_the_other_way_turned_round(before in documents(), after in documents()) {
            let there = PolicyDiff::between(&before, &after);
            let back = PolicyDiff::between(&after, &before);
            prop_assert_eq!(there.is_empty(), before == after);
            prop_assert_eq!(&there.routes.added, &back.routes.removed);
            prop_assert_eq!(&there.scopes.removed, &back.scopes.added);
            prop_assert_eq!(there.routes.changed.len(), back.routes.changed.len());
            for (one, other) in there.routes.changed.iter().zip(&back.routes.changed) {
                prop_assert_eq!((&one.path, &one.method), (&other.path, &other.method));
                prop_assert_eq!(&one.scope, &turned(&other.scope));
                prop_assert_eq!(&one.payload, &turned(&other.payload));
            }
            let added = there.routes.added.len();
            prop_assert_eq!(before.routes.len() + added - there.routes.removed.len(), after.routes.len());
        }
    }
}
