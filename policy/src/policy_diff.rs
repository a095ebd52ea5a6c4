//! The differences between two policies.
//!
//! The order of scopes and routes in a document has no meaning, so it is ignored here. A route is identified
//! by its path and one method selector: a definition with three methods is three routes.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::key::KeyPrefix;
use crate::payload::PayloadPolicy;
use crate::policy::{MethodSelector, PolicyDocument, ScopeDefinition, default_true, is_true};
use crate::scope::Scope;

/// The differences between two documents. All lists are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyDiff {
    /// The prefix of all keys, if it differs. Within one installation it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_prefix: Option<Change<KeyPrefix>>,
    /// Whether imported keys are accepted, if it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_keys: Option<Change<bool>>,
    /// How the arguments of calls are recorded, if it differs.
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
    /// Entries that are only in the later document.
    pub added: Vec<ScopeDefinition>,
    /// Entries that are only in the earlier document.
    pub removed: Vec<ScopeDefinition>,
    /// Scopes whose description differs.
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
    /// Entries that are only in the later document.
    pub added: Vec<MappedRoute>,
    /// Entries that are only in the earlier document.
    pub removed: Vec<MappedRoute>,
    /// Those whose required scope, recording of arguments or redaction differs.
    pub changed: Vec<ChangedRoute>,
}

/// A path with one method selector, and the scope that it requires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappedRoute {
    /// The path template.
    pub path: String,
    /// The method selector.
    pub method: MethodSelector,
    /// The scope that a key requires.
    pub scope: Scope,
    /// Whether the arguments of calls are recorded. Omitted if true.
    #[serde(default = "default_true", skip_serializing_if = "is_true")]
    pub payload: bool,
    /// Parameters of the path that are redacted in records. Omitted if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redact: Vec<String>,
}

/// A route that is in both documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangedRoute {
    /// The path template.
    pub path: String,
    /// The method selector.
    pub method: MethodSelector,
    /// The scope that a key requires, if it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Change<Scope>>,
    /// Whether the arguments of calls are recorded, if it differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Change<bool>>,
    /// Parameters of the path that are redacted in records, if they differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redact: Option<Change<Vec<String>>>,
}

/// The mapping of one path and method in a policy.
#[derive(Clone, PartialEq)]
struct Mapping {
    scope: Scope,
    payload: bool,
    /// Sorted.
    redact: Vec<String>,
}

/// The differences between two maps, sorted by key.
struct Differences<K, V> {
    added: Vec<(K, V)>,
    removed: Vec<(K, V)>,
    changed: Vec<(K, Change<V>)>,
}

// === impl PolicyDiff ===

impl PolicyDiff {
    /// Compares two documents. Of a duplicate scope or route, which [`crate::policy::Policy::compile`]
    /// rejects, the last one counts.
    pub fn between(before: &PolicyDocument, after: &PolicyDocument) -> Self {
        Self {
            key_prefix: change(&before.key_prefix, &after.key_prefix),
            imported_keys: change(&before.imported_keys, &after.imported_keys),
            payloads: change(&before.payloads, &after.payloads),
            scopes: ScopeDiff::between(before, after),
            routes: RouteDiff::between(before, after),
        }
    }

    /// Whether the documents are equivalent.
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
        let route = |((path, method), Mapping { scope, payload, redact })| MappedRoute {
            path,
            method,
            scope,
            payload,
            redact,
        };
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
                    redact: change(&before.redact, &after.redact),
                })
                .collect(),
        }
    }
}

fn routes(document: &PolicyDocument) -> BTreeMap<(String, MethodSelector), Mapping> {
    let mapped = document.routes.iter().flat_map(|route| {
        let mut redact = route.redact.clone();
        redact.sort_unstable();
        redact.dedup();
        let mapping =
            move || Mapping { scope: route.scope.clone(), payload: route.payload, redact: redact.clone() };
        route.methods.iter().map(move |method| ((route.path.clone(), method.clone()), mapping()))
    });
    mapped.collect()
}

// === comparison ===

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
mod tests;
